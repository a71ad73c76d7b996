"""Laws as the browser evaluates them: equal to Python for every law that `auto` can choose."""

from itertools import cycle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.fitting.assemble import phase_columns
from mixlaw.laws.law import Law
from mixlaw.laws.published import Formula
from mixlaw.laws.registry import LAWS
from mixlaw.laws.terms import PHASES, Constant
from mixlaw.laws.tree import Sum
from mixlaw.report.explore.law_json import term_json
from mixlaw.tables.phase_mixtures import Phases
from tests.browser import needs_browser
from tests.marks import examples
from tests.mixlaw.report.explore.javascript import Scripts
from tests.mixlaw.synthetic import UNITS

CHOSEN_BY_AUTO = ("multiplicative", "multiplicative-phases", "additive", "joint", "base", "coupled", "muennighoff")
BY_NAME = ["simple", "full", "ye-m1", "ye-m2", "ye-m4", "linear", "scheffe"]  # that people ask for by name
OF_AUTO = [name for name in LAWS if name.partition("-fixed")[0] in CHOSEN_BY_AUTO]
COUNTS = (1, 3, 17, 45)
ROUNDING = 1e-11  # [nats] of sums whose terms have either sign


def in_browser(js: Scripts, cases: list[dict]) -> list[np.ndarray]:
    """Return what the browser computes of cases: term, rows of inputs, and parameter vectors."""
    row = "valueOf(term, theta, 0, inputs({units: $1}, row, row.available))"
    rows = f"thetas.map((theta) => rows.map((row) => String({row})))"  # text, because JSON knows no infinity
    found = js.call(f"$0.map(({{term, rows, thetas}}) => {rows})", cases, vars(UNITS))
    return [np.array(values, float) for values in found]


def case(law: Law, k: int, seed: int) -> tuple[dict, np.ndarray]:
    """Return a random case for the browser, and its losses by Python (b, n)."""
    rng = np.random.default_rng([seed, k])
    low, high = law.bounds(k)
    theta = np.vstack([np.clip(law.term.start(rng, 2, k), low, high), rng.uniform(low, high, (2, len(low)))])
    h = rng.dirichlet(np.full(k, 0.5), 6)
    h[1] = np.eye(k)[seed % k]
    n, d = 1e8 * np.exp(2 * rng.normal(size=6)), 1e10 * np.exp(2 * rng.normal(size=6))
    available = 1e10 * np.exp(rng.normal(-1.5, 1.0, (k, 6)))
    columns = {"available": available / UNITS.n_tokens}
    phases = Phases(h[:, None], np.ones((len(h), 1)))
    if PHASES in law.uses:
        until = np.sort(np.hstack([rng.uniform(0, 1, (6, 2)), np.ones((6, 1))]), axis=1)
        phases = Phases(rng.dirichlet(np.full(k, 0.5), (6, 3)), until)
        h = (phases.shares[:, :, None] * phases.weights).sum(1)
        columns |= phase_columns(phases)
    x = UNITS.inputs(n, d, h.T, columns=columns)
    rows = [
        {"n_params": n[i], "n_tokens": d[i], "available": available[:, i].tolist()}
        | {"phases": phases.weights[i].tolist(), "until": phases.until[i].tolist()}
        for i in range(len(n))
    ]
    return {"term": term_json(law.term, k), "rows": rows, "thetas": theta.tolist()}, law.loss(theta, x)


@needs_browser
@given(seed=st.integers(0, 2**32 - 1))
@examples(12)
def test_the_browser_evaluates_laws_as_python_does(js: Scripts, seed: int) -> None:
    names = [name for name in OF_AUTO + BY_NAME for _ in COUNTS]
    drawn = [case(LAWS[name], k, seed) for name, k in zip(names, cycle(COUNTS), strict=False)]
    found = in_browser(js, [facts for facts, _ in drawn])
    for name, values, (_, losses) in zip(names, found, drawn, strict=True):
        np.testing.assert_allclose(values, losses, rtol=1e-9, atol=ROUNDING if name in BY_NAME else 0)


def test_every_law_of_auto_has_a_json_form() -> None:
    assert len(OF_AUTO) == 20
    assert all(term_json(LAWS[name].term, k) for name in OF_AUTO for k in COUNTS)


def test_terms_of_a_user_have_none() -> None:
    class Doubled(Constant):
        """A subclass that may compute something else."""

    formula = Formula(lambda p, x: p.E + 0 * x.log_d, "D", E=(0.1, 10))
    assert term_json(Sum(Constant("E"), formula), 3) is None
    assert term_json(Sum(Doubled("E")), 3) is None


@pytest.mark.parametrize("name", ["d-cpt", "forgetting", "moe", "ye-m3"])
def test_laws_of_columns_that_a_page_lacks_have_none(name: str) -> None:
    assert term_json(LAWS[name].term, 3) is None
