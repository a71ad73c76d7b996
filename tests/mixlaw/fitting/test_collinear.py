"""Collinear N and D: their separate effects are not identified; intervals and warnings show it."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.fitting import collinear
from mixlaw.fitting.estimator import LawFit
from mixlaw.laws.registry import LAWS
from mixlaw.selection.fit_laws import fit_and_choose
from mixlaw.tables.check import check_frame
from tests.marks import slow

SIZES = (4e7, 8e7, 1.6e8, 3.2e8)
OFF_THE_LINE = [(3.2e8, 6e8), (3.2e8, 2e11), (4e7, 4e11), (4e7, 6e9)]


def truth(n, d, h):
    return 1.7 + 380 / n**0.34 + 1500 / d**0.29 + 0.1 / np.sqrt(h + 0.1)


def runs(per_param, places, n_mixtures=10, seed=0, noise=0.003):
    """Runs on random mixtures of three domains at (N, D) places; D is jittered by a relative `per_param`."""
    rng = np.random.default_rng(seed)
    rows = []
    for i, h in enumerate(rng.dirichlet(np.ones(3), n_mixtures)):
        for n, d in places:
            d = d * (1 + per_param * rng.uniform(-1, 1))
            row = {"n_params": n, "n_tokens": d, "run_id": f"{i}-{n:.0e}-{d:.3e}"}
            row |= {f"weight_{name}": w for name, w in zip("abc", h, strict=True)}
            losses = {f"loss_{t}": truth(n, d, h[j]) * (1 + noise * rng.normal()) for j, t in enumerate("ab")}
            rows.append(row | losses)
    return check_frame(pd.DataFrame(rows), "made up")


@pytest.mark.parametrize("law", [slow("additive"), slow("joint"), "multiplicative"])
@pytest.mark.parametrize("jitter", [0.0, 0.05])
def test_intervals_hold_off_the_line_and_stay_narrow_on_it(law, jitter):
    table = runs(jitter, [(n, 20 * n) for n in SIZES])
    fit = LawFit(law, n_starts=8, n_bootstrap=40).fit(table).fitted_
    off, on = (runs(0.0, places, n_mixtures=6, seed=9, noise=0.0) for places in (OFF_THE_LINE, [(1.6e8, 3.2e9)]))
    found, near = fit.predict(off), fit.predict(on)
    assert found.eval("low <= observed <= high").mean() >= 0.85
    assert found.eval("high - low").mean() > 5 * near.eval("high - low").mean()
    assert near.eval("high - low").median() < 0.2
    assert any("N and D rise together in all runs (about D = 2" in warning for warning in fit.warnings)


def test_the_warning_names_runs_that_separate_n_and_d_and_they_do():
    line = [(n, 20 * n) for n in SIZES]
    said = collinear.warning(*np.array(line).T)
    assert said.endswith("for example N = 1.6e+08 with D = 8e+08 and 1.28e+10")
    more = runs(0.0, [*line, (1.6e8, 8e8), (1.6e8, 1.28e10)])
    assert collinear.warning(*(more.frame[c].to_numpy(float) for c in ("n_params", "n_tokens"))) is None
    before, after = (LawFit("additive", n_starts=8, n_bootstrap=60).fit(t) for t in (runs(0.0, line), more))
    off = runs(0.0, OFF_THE_LINE, n_mixtures=4, seed=9, noise=0.0)
    wide, narrow = (f.predict(off).eval("high - low").mean() for f in (before, after))
    assert narrow < wide / 2


@given(
    slope=st.floats(0.5, 2),
    base=st.floats(1, 200),
    sizes=st.lists(st.integers(6, 10), min_size=2, max_size=8, unique=True),
    jitter=st.floats(0, 0.1),
)
def test_any_power_of_n_is_detected_and_a_grid_never(slope, base, sizes, jitter):
    n = 10.0 ** np.array(sizes)
    d = base * n**slope * np.exp(jitter * np.cos(np.arange(len(n))))
    assert collinear.conditional_sd(n, d) < collinear.WARN_BELOW
    assert collinear.warning(n, d) is not None
    grid_n, grid_d = (a.ravel() for a in np.meshgrid(n, [1e9, 4e9]))
    assert collinear.warning(grid_n, grid_d) is None
    assert collinear.warning(n, np.full(len(n), 1e9)) is None  # use a law without D instead


def test_what_scales_the_terms_of_n_and_d_is_found_in_every_law_of_the_paper():
    k = 3
    names = {}
    for law in ("base", "additive", "joint", "multiplicative"):
        marked = np.zeros(LAWS[law].n_free(k))
        marked[collinear.amplitudes(LAWS[law].term, k)] = 1.0
        moved = (LAWS[law].natural(np.zeros(len(marked)), list("abc")), LAWS[law].natural(marked, list("abc")))
        names[law] = {name for name in moved[0] if moved[0][name] != moved[1][name]}
    assert names["base"] == names["additive"] == names["multiplicative"] == {"A", "B"}
    assert all(name[:2] in ("CA", "CB") for name in names["joint"])
    assert collinear.amplitudes(LAWS["multiplicative-fixed-nd"].term, k) == []


@pytest.mark.slow
def test_auto_on_a_line_with_one_run_a_size_does_not_claim_to_know():
    few = runs(0.0, [(n, 20 * n) for n in (2e7, *SIZES, 6.4e8)], n_mixtures=4)
    choice = fit_and_choose(few, ["auto"], n_bootstrap=30)
    fit = choice.fits[choice.chosen]
    off = runs(0.0, OFF_THE_LINE, n_mixtures=4, seed=9, noise=0.0)
    assert fit.predict(off).eval("low <= observed <= high").mean() >= 0.8


@pytest.mark.parametrize(
    ("power", "words"),
    [
        (1.0, r"rise together in all runs \(about D = 20 N\)"),
        (0.7, r"rise together .*about D = 20 N\^0.7\)"),
        (-1.0, r"lie on one curve in all runs \(about D = 20 N\^-1\)"),
    ],
)
def test_the_line_of_n_and_d_is_stated(power, words):
    n = np.array([1e7, 3e7, 1e8, 3e8])
    assert re.search(words, collinear.warning(n, 20 * n**power) or "")
