"""The compute-optimal big run: Chinchilla's closed form, limits along the way, and how flat the optimum is."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.advice.ask import ask
from mixlaw.advice.objective import Objective
from mixlaw.advice.recommend import recommend
from mixlaw.advice.recommendation import Recommendation
from mixlaw.cli.main import main
from mixlaw.counts import flops
from mixlaw.errors import ConfigError, FitError
from mixlaw.fitting.saved import FittedLaws
from mixlaw.laws.jacobian import Array
from mixlaw.mixture import Mixture
from mixlaw.report.answer_tables import sentences
from mixlaw.report.terminal import summary
from mixlaw.report.worth import optimal_size
from tests.marks import examples
from tests.mixlaw.synthetic import DOMAINS, TRUTHS, UNITS, fitted

C = 6e20


def additive(alpha: float = 0.35, beta: float = 0.3) -> Array:
    """Return parameters of the additive law with these exponents."""
    return np.array([0.5, *np.log([5.0, 4.0, 6.0, 0.5, 0.4, 0.6, 0.9, alpha, 1.2, beta])])


def chinchilla(compute: float, alpha: float = 0.35, beta: float = 0.3) -> float:
    """Return the N that minimises 0.9 / N^alpha + 1.2 / D^beta at 6 N D = C (Hoffmann et al. 2022, equation 4)."""
    reduced = compute / flops(UNITS.n_params, UNITS.n_tokens)
    return float(UNITS.n_params * (alpha * 0.9 / (beta * 1.2) * reduced**beta) ** (1 / (alpha + beta)))


def spread(alpha: float = 0.35) -> FittedLaws:
    """Return the additive law as it would be saved, with resamples around its parameters."""
    laws = fitted("additive", {"main": additive(alpha)}, n_draws=20, spread=0.02)
    return replace(laws, fits={"additive": replace(laws.best, settings={"law": "additive"})})


def profile(laws: FittedLaws, compute: float, n: float) -> float:
    """Return the lowest loss over mixtures of a run of N parameters at this compute."""
    question = ask(laws, n_params=n, n_tokens=compute / (6 * n), target="main")
    return Objective(laws.best, question, {}).at(recommend(laws, question).weights)


@examples(20)
@given(alpha=st.floats(0.2, 0.6), beta=st.floats(0.2, 0.6), log_c=st.floats(18, 23))
def test_the_optimal_size_is_chinchillas_closed_form_for_a_law_whose_mixture_does_not_interact(alpha, beta, log_c):
    laws = fitted("additive", {"main": additive(alpha, beta)}, spread=0.0)
    question = ask(laws, flops=10**log_c, target="main")
    exact = chinchilla(10**log_c, alpha, beta)
    middle = np.sqrt(10**log_c / flops(1.0, 100.0))
    if abs(np.log(exact / middle)) < 6:
        assert question.n_params == pytest.approx(exact, rel=5e-3)
        assert flops(question.n_params, question.n_tokens) == pytest.approx(10**log_c)


def test_no_other_size_has_a_lower_loss_and_the_flat_range_ends_where_the_noise_is_reached():
    laws = replace(fitted("joint", {"main": TRUTHS["joint"]}, spread=0.0), noise={"main": 0.01})
    answer = recommend(laws, flops=C, target="main")
    sizes = answer.sizes.set_index("count")
    n, least = sizes.loc["n_params", "value"], answer.outcomes["predicted"].iloc[0]
    assert least <= min(profile(laws, C, n * factor) for factor in (0.5, 0.8, 1.25, 2.0)) + 1e-7
    for end in ("flat_low", "flat_high"):
        assert profile(laws, C, sizes.loc["n_params", end]) - least == pytest.approx(answer.noise, rel=0.1)


def test_intervals_hold_the_optimum_of_every_resampled_law():
    laws = spread()
    rows = recommend(laws, flops=C, target="main").sizes.set_index("count")
    exact = [
        UNITS.n_params * (a * np.exp(big_a) / (b * np.exp(big_b)) * (C / flops(1e8, 1e10)) ** b) ** (1 / (a + b))
        for big_a, a, big_b, b in ((t[7], np.exp(t[8]), t[9], np.exp(t[10])) for t in laws.best.target("main").draws)
    ]
    low, high = np.percentile(exact, [5, 95])
    assert rows.loc["n_params", ["low", "high"]].tolist() == pytest.approx([low, high], rel=0.02)
    assert rows.loc["n_tokens", "low"] == pytest.approx(C / 6 / rows.loc["n_params", "high"])
    assert (rows["low"] <= rows["value"]).all()
    assert (rows["value"] <= rows["high"]).all()


def test_limits_of_epochs_bound_the_tokens_along_the_way():
    laws = fitted("additive", {"main": additive()}, spread=0.0)
    free = ask(laws, flops=C, target="main")
    available = dict.fromkeys(DOMAINS, free.n_tokens / 12)
    held = ask(laws, flops=C, target="main", max_epochs=2, available=available)
    assert held.n_tokens == pytest.approx(2 * sum(available.values()), rel=0.02)
    assert held.n_tokens <= 2 * sum(available.values())
    weights = recommend(laws, held).weights
    assert all(weights[d] * held.n_tokens <= 2 * available[d] * (1 + 1e-6) for d in DOMAINS)


def test_limits_that_no_size_can_meet_are_said_as_for_one_size():
    with pytest.raises(ConfigError, match="no mixture fits them"):
        ask(spread(), flops=C, target="main", max_epochs=1, available=dict.fromkeys(DOMAINS, 1.0))


@pytest.mark.parametrize(
    ("law", "theta", "words"),
    [
        ("additive-fixed-n", TRUTHS["additive-fixed-n"], "does not depend on both N and D"),
        ("additive", np.array([*additive()[:7], -16.0, *additive()[8:]]), "no optimal N"),
    ],
)
def test_a_law_without_an_optimal_size_says_so(law, theta, words):
    with pytest.raises(FitError, match=words):
        ask(fitted(law, {"main": theta}), flops=C, target="main")


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"n_params": 1e9},
        {"n_tokens": 1e9},
        {"n_params": 1e9, "flops": C},
        {"n_params": 1e9, "n_tokens": 1e9, "flops": C},
    ],
)
def test_exactly_one_way_to_give_the_size_is_accepted(sizes):
    with pytest.raises(ConfigError, match="--n-params and --n-tokens, or its --flops"):
        ask(spread(), target="main", **sizes)


@pytest.mark.parametrize("compute", [0.0, -1.0, float("inf"), float("nan"), "1e20"])
def test_compute_that_is_no_positive_number_is_refused(compute):
    with pytest.raises(ConfigError, match="flops must be a finite number above 0"):
        ask(spread(), target="main", flops=compute)


def test_the_answer_says_its_size_first_and_keeps_it_in_its_file(tmp_path):
    answer = recommend(spread(), flops=C, target="main")
    answer.save(tmp_path / "answer.json")
    loaded = Recommendation.load(tmp_path / "answer.json")
    assert loaded.question.flops == C
    assert loaded.sizes.to_dict() == answer.sizes.to_dict()
    (sentence,) = optimal_size(loaded)
    assert sentence.startswith("Compute-optimal at 6e+20 FLOPs: ")
    assert sentence in summary(answer).splitlines()[:3]
    assert sentence in sentences(answer)
    assert optimal_size(recommend(spread(), n_params=1e9, n_tokens=1e10, target="main")) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--flops", "6e20", "--n-params", "1e9"], "or its --flops instead of both"),
        ([], "or its --flops instead of both"),
        (["--flops", "0"], "not a number above 0"),
        (["--flops", "many"], "invalid number value"),
    ],
)
def test_the_command_line_refuses_other_sizes_in_a_sentence(tmp_path, capsys, options, words):
    spread().save(tmp_path / "laws.json")
    assert exit_code(["recommend", str(tmp_path / "laws.json"), *options]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said


def test_the_command_line_optimises_size_and_mixture_together(tmp_path, capsys):
    spread().save(tmp_path / "laws.json")
    assert exit_code(["recommend", str(tmp_path / "laws.json"), "--flops", "6e20", "--target", "main", "--json"]) == 0
    facts: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert facts["flops"] == C
    assert facts["n_params"] == pytest.approx(chinchilla(C), rel=0.05)
    assert [row["count"] for row in facts["sizes"]] == ["n_params", "n_tokens"]
    assert sum(Mixture.of(facts["weights"]).values()) == pytest.approx(1.0)


def exit_code(arguments: list[str]) -> int:
    try:
        return main(arguments)
    except SystemExit as left:
        return int(left.code or 0)
