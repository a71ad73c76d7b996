"""What the page computes beside the law: intervals, steps between mixtures, links, overrides, counts."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.benchmarks.saved import Benchmarks
from mixlaw.benchmarks.two_stages import predict_scores
from mixlaw.fileio import strict_json
from mixlaw.fitting.differences import Scatter
from mixlaw.fitting.fitted import as_table
from mixlaw.fitting.saved import FittedLaws
from mixlaw.fitting.widening import Widening
from mixlaw.mixture import Mixture, phases_override
from mixlaw.report.explore.payload import explorer_of
from mixlaw.report.material import Material
from mixlaw.text import count_text
from tests.browser import needs_browser
from tests.marks import examples
from tests.mixlaw.benchmarks.curves import curves
from tests.mixlaw.report.explore.javascript import Scripts
from tests.mixlaw.synthetic import TRUTHS, fitted

pytestmark = needs_browser
GAINS = """$0.targets.map((target) => unpacked(target, $0.draws)).map((target) => {
  const [there, here] = [$1, $2].map((run) => losses($0, target, run));
  return gainOver($0, there, here, scatterSd($0, target, there, here));
})"""
LOSSES = """$0.targets.map((target) => unpacked(target, $0.draws)).map((target) => {
  const {centre, runs} = losses($0, target, $1);
  return [centre, ...interval(runs, $0.level, centre)];
})"""
SCORES = """(() => {
  const targets = $0.targets.map((target) => unpacked(target, $0.draws));
  return $0.benchmarks.map((curve) => {
    const run = losses($0, targets[curve.target], $1);
    const score = scoreOf($0, curve, run);
    return [score, unpredictable(curve, run, score)];
  });
})()"""


NOISY = ((0.1, 0.2, 0.7), (0.6, 0.2, 0.2))  # mixtures with a seed noise of their own
HALVES = ((0.1, 0.1, 0.3, 0.0, 0.1, 0.4), (0.3, 0.1, 0.1, 0.3, 0.1, 0.1))  # such of runs with phases


def scatters_of(law: str) -> dict[str, Scatter]:
    """Return the scatter of both targets."""
    noisy = HALVES if "-phases" in law else NOISY
    return {"main": Scatter(0.003, 0.004, 0.2), "other": Scatter(0.003, 0.002, 0.4, noisy, (0.002, 0.01))}


def laws_with(law: str, n_draws: int = 60, logarithmic: bool = False, scattered: bool = True) -> FittedLaws:
    """Return a fitted law of two targets whose intervals are widened beyond the data."""
    laws = fitted(law, {"main": TRUTHS[law], "other": TRUTHS[law] + 0.01}, n_draws=n_draws)
    fit = laws.best
    wide = {"main": Widening(1.5, {"n_params": 0.01, "n_tokens": 0.02}), "other": Widening()}
    scatters = scatters_of(law) if scattered else dict.fromkeys(wide)
    targets = {n: replace(t, widening=wide[n], scatter=scatters[n]) for n, t in fit.targets.items()}
    settings = {"seed": 3} | ({"residuals": "log"} if logarithmic else {})
    ranges = {"n_params": (2e7, 5e8), "n_tokens": (2e9, 5e10)}
    return replace(laws, fits={law: replace(fit, targets=targets, settings=settings, ranges=ranges)})


def any_run(rng: np.random.Generator, phases: int = 1) -> dict[str, Any]:
    """Return N, D and the mixtures of the phases of a run, often beyond the data."""
    scale = {"n_params": 1e8 * np.exp(2 * rng.normal()), "n_tokens": 1e10 * np.exp(2 * rng.normal())}
    until = [*np.sort(rng.uniform(0.01, 0.99, phases - 1)).tolist(), 1.0]
    return scale | {"phases": rng.dirichlet(np.ones(3), phases).tolist(), "until": until}


def predicted(laws: FittedLaws, run: dict[str, Any], baseline: Mixture | None = None) -> pd.DataFrame:
    """Return what Python predicts of a run."""
    return laws.best.predict(frame_of(laws, run), baseline=baseline)


def frame_of(laws: FittedLaws, run: dict[str, Any]) -> pd.DataFrame:
    """Return a run as the row of a table."""
    ends, phases = np.array(run["until"]), np.array(run["phases"])
    row = {name: run[name] for name in ("n_params", "n_tokens")}
    for i, domain in enumerate(laws.best.domains):
        row |= {f"weight_{domain}": np.diff(ends, prepend=0) @ phases[:, i]}
        row |= {f"weight_{domain}@{p}": h[i] for p, h in enumerate(phases, 1) if len(phases) > 1}
    row |= {f"until@{p}": end for p, end in enumerate(ends, 1) if len(phases) > 1}
    return pd.DataFrame([row])


def page_of(laws: FittedLaws, room: float = np.inf, benchmarks: Benchmarks | None = None) -> dict[str, Any]:
    """Return what the scripts of a page read."""
    explorer = explorer_of(Material(laws, benchmarks=benchmarks or Benchmarks({})), room)
    assert explorer is not None
    return json.loads(strict_json(explorer.to_json()))


LAWS = st.sampled_from(
    [("multiplicative", 1), ("additive", 1), ("joint", 1), *(("multiplicative-phases", count) for count in (1, 2, 3))]
)  # and the number of phases of a run


@given(LAWS, st.booleans(), st.integers(0, 1000))
@examples(40)
def test_losses_and_intervals_are_those_of_predict(
    js: Scripts, law: tuple[str, int], logarithmic: bool, seed: int
) -> None:
    laws, run = laws_with(law[0], logarithmic=logarithmic), any_run(np.random.default_rng(seed), law[1])
    expected = predicted(laws, run)
    found = np.array(js.call(LOSSES, page_of(laws), run))
    np.testing.assert_allclose(found[:, 0], expected["predicted"], rtol=1e-9)
    width = (expected["high"] - expected["low"]).to_numpy()
    for i, end in ((1, "low"), (2, "high")):  # resampled parameters are rounded to 16 bits
        assert (np.abs(found[:, i] - expected[end]) < 1e-3 * width).all()


@given(LAWS, st.booleans(), st.booleans(), st.integers(0, 1000))
@examples(40)
def test_gains_are_those_of_predict(
    js: Scripts, law: tuple[str, int], logarithmic: bool, scattered: bool, seed: int
) -> None:
    rng, laws = np.random.default_rng(seed), laws_with(law[0], logarithmic=logarithmic, scattered=scattered)
    run, other = any_run(rng, law[1]), rng.dirichlet(np.ones(3)).tolist()
    expected = predicted(laws, run, Mixture(laws.best.domains, other))
    found = np.array(js.call(GAINS, page_of(laws), run | {"phases": [other], "until": [1.0]}, run))
    scale = expected["predicted"].to_numpy()
    np.testing.assert_allclose(found[:, 0] / scale, expected["gain"] / scale, atol=1e-9)
    width = (expected["gain_high"] - expected["gain_low"]).to_numpy()
    for i, end in ((1, "gain_low"), (2, "gain_high")):
        assert (np.abs(found[:, i] - expected[end]) < 1e-3 * width).all()


@given(st.integers(0, 1000))
@examples(20)
def test_scatter_of_several_targets_adds_up_with_its_correlations(js: Scripts, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sds, related = rng.uniform(0, 1, 4), np.corrcoef(rng.normal(size=(4, 9)))
    assert js.call("correlatedSd", {"correlations": related.tolist()}, sds.tolist()) == pytest.approx(
        np.sqrt(sds @ related @ sds)
    )
    assert js.call("correlatedSd", {"correlations": []}, sds.tolist()) == pytest.approx(sds.sum())


@given(LAWS, st.integers(0, 1000))
@examples(24)
def test_scores_and_verdicts_are_those_of_predict(js: Scripts, law: tuple[str, int], seed: int) -> None:
    laws, run = laws_with(law[0]), any_run(np.random.default_rng(seed), law[1])
    benchmarks = curves("other", "main", seed)
    page = page_of(laws, benchmarks=benchmarks)
    expected = predict_scores(benchmarks, laws.best, as_table(frame_of(laws, run), need_losses=False))
    found = js.call(SCORES, page, run)
    width = (expected["high"] - expected["low"]).to_numpy()
    numbers = np.array([scores for scores, _ in found])
    np.testing.assert_allclose(numbers[:, 0], expected["predicted"], rtol=1e-6)
    for i, end in ((1, "low"), (2, "high")):
        assert (np.abs(numbers[:, i] - expected[end]) < 2e-3 * width + 1e-5).all()
    assert [bool(reason) for _, reason in found] == [bool(reason) for reason in expected["reason"]]


def test_a_page_with_little_room_has_fewer_resamples_and_similar_intervals(js: Scripts) -> None:
    laws = laws_with("multiplicative", 200)
    run = {"n_params": 1e9, "n_tokens": 1e11, "phases": [[0.2, 0.3, 0.5]], "until": [1.0]}
    pages = [page_of(laws, room) for room in (np.inf, 10_000)]
    assert len(strict_json(pages[1])) < 14_000
    assert 50 < pages[1]["draws"] < pages[0]["draws"] == 200
    full, small = (np.array(js.call(LOSSES, page, run)) for page in pages)
    width = np.diff(full[:, 1:])
    assert (full[:, 0] == small[:, 0]).all()
    assert (np.abs(full - small) < 0.25 * width).all()


def mixtures(k: int) -> st.SearchStrategy[list[float]]:
    """Return mixtures of k domains, some without all of them."""
    parts = st.lists(st.integers(0, 100), min_size=k, max_size=k).filter(any)
    return parts.map(lambda units: [unit / sum(units) for unit in units])


@st.composite
def phases(draw: st.DrawFn, k: int) -> dict[str, Any]:
    """Return one to three phases of k domains, and their ends."""
    inner = draw(st.lists(st.integers(1, 99), max_size=2, unique=True))
    each = draw(st.lists(mixtures(k), min_size=len(inner) + 1, max_size=len(inner) + 1))
    return {"phases": each, "until": [*(end / 100 for end in sorted(inner)), 1.0]}


@given(st.data(), st.integers(2, 6))
@examples(60)
def test_moving_a_weight_is_the_smallest_step(js: Scripts, data: st.DataObject, k: int) -> None:
    h, i = data.draw(mixtures(k)), data.draw(st.integers(0, k - 1))
    weight = data.draw(st.floats(-0.5, 1.5))
    locked = data.draw(st.lists(st.booleans(), min_size=k, max_size=k))
    found = np.array(js.call("moved", h, i, weight, locked))
    fixed = [j for j in range(k) if locked[j] and j != i]
    free = [j for j in range(k) if j not in fixed and j != i]
    room = 1 - sum(h[j] for j in fixed)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1)
    np.testing.assert_array_equal(found[fixed], np.array(h)[fixed])
    assert found[i] == pytest.approx(np.clip(weight, 0, room) if free else room)
    steps = found[free] - np.array(h)[free]  # the nearest point: one shift for all that stay above zero
    above = found[free] > 1e-12
    if above.any():
        np.testing.assert_allclose(steps[above], steps[above][0], atol=1e-12)
        assert (steps[~above] >= steps[above][0] - 1e-12).all()


@given(st.lists(st.sampled_from(["web", "a b", "x:y", "q{}", "wé", "us$", "a,b"]), min_size=2, unique=True), st.data())
@examples(60)
def test_the_override_is_that_of_python(js: Scripts, names: list[str], data: st.DataObject) -> None:
    run = data.draw(phases(len(names)))
    (first, *_), mixed = run["phases"], [Mixture(names, h) for h in run["phases"]]
    expected = phases_override(zip(run["until"], mixed, strict=True))
    if len(mixed) == 1:
        expected = Mixture(names, first).hydra_override()
    assert js.call("hydraOverride", names, run) == expected


@given(st.lists(st.text(min_size=1), min_size=2, max_size=5, unique=True), st.data())
@examples(60)
def test_a_link_shows_the_run_that_it_was_made_from(js: Scripts, names: list[str], data: st.DataObject) -> None:
    run = {"n_params": data.draw(st.floats(1e3, 1e13)), "n_tokens": data.draw(st.floats(1e3, 1e15))}
    run |= data.draw(phases(len(names)))
    found = js.call("runOf(fragmentOf($0, $1), $0, $1)", names, run)
    for key, value in run.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-4, atol=1e-5)


ONE = {"phases": [[0.5, 0.5]], "until": [1.0]}
TWO = {"phases": [[0.5, 0.5], [0.2, 0.8]], "until": [0.8, 1.0]}


@pytest.mark.parametrize(
    ("fragment", "words"),
    [
        ("w.code@1=1&w.code@3=1", "a domain 'code@3'"),
        ("w.code=1&w.code@2=1", "a domain 'code'"),
        ("w.code@1=1&w.code@2=0.5", "sum to 1, not 0.5"),
        ("until@1=1.5", "rising shares of the run, not at 1.5, 1"),
        ("until@1=soon", "rising shares of the run, not at NaN, 1"),
    ],
)
def test_a_link_to_phases_that_cannot_be_shown_says_why(js: Scripts, fragment: str, words: str) -> None:
    assert words in js.call("runOf", fragment, ["code", "web"], TWO)["error"]


def test_a_link_to_one_mixture_shows_it_in_all_phases(js: Scripts) -> None:
    found = js.call("runOf", "w.code=0.3&w.web=0.7", ["code", "web"], TWO)
    assert found == {"phases": [[0.3, 0.7], [0.3, 0.7]], "until": [0.8, 1.0]}


@given(st.lists(st.integers(1, 49), min_size=1, max_size=3, unique=True), st.data(), st.floats(-0.5, 1.5))
@examples(60)
def test_a_moved_end_stays_between_those_beside_it(
    js: Scripts, inner: list[int], data: st.DataObject, wanted: float
) -> None:
    until = [*(end / 50 for end in sorted(inner)), 1.0]
    p = data.draw(st.integers(0, len(inner) - 1))
    low, high = (until[p - 1] if p else 0.0), until[p + 1]
    expected = [*until[:p], np.clip(wanted, low + 0.01, high - 0.01), *until[p + 1 :]]
    assert js.call("switched", until, p, wanted) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("fragment", "words"),
    [
        ("n=many", "n=many is not a number above 0"),
        ("d=-1", "d=-1 is not"),
        ("n=Infinity", "n=Infinity is not"),
        ("w.code=0.5&w.moon=0.5", "a domain 'moon'"),
        ("w.code=0.5", "sum to 1, not 0.5"),
        ("w.code=2&w.web=-1", "between 0 and 1"),
        ("w.code=half&w.web=0.5", "between 0 and 1"),
    ],
)
def test_a_link_that_cannot_be_shown_says_why(js: Scripts, fragment: str, words: str) -> None:
    assert words in js.call("runOf", fragment, ["code", "web"], ONE)["error"]


def test_the_anchor_of_a_section_is_no_link_to_a_run(js: Scripts) -> None:
    assert js.call("runOf", "the-recommendation", ["code"], ONE) is None


@given(st.floats(1, 9e14))
@examples(60)
def test_counts_read_as_in_python(js: Scripts, count: float) -> None:
    text = js.call("countText", count)
    assert text == count_text(count)
    assert js.call("countOf", text) == pytest.approx(count, rel=5.1e-3)


@pytest.mark.parametrize(("text", "count"), [("7e9", 7e9), ("7 b", 7e9), ("7,000,000", 7e6), ("1.5T", 1.5e12)])
def test_counts_can_be_written_in_many_ways(js: Scripts, text: str, count: float) -> None:
    assert js.call("countOf", text) == count


@pytest.mark.parametrize("text", ["", "many", "7x", "-3", "e9"])
def test_other_texts_are_no_counts(js: Scripts, text: str) -> None:
    assert js.call("String(countOf($0))", text) == "NaN"
