"""Properties of all laws, and their agreement with a second implementation of the sources' formulas."""

import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from mixlaw.errors import ConfigError
from mixlaw.fitting.estimator import LawFit
from mixlaw.laws.jacobian import Array
from mixlaw.laws.law import FLOOR, Law, Units, lifted
from mixlaw.laws.published import Formula
from mixlaw.laws.registry import LAWS, get_law, register
from mixlaw.laws.terms import Constant, Inputs, PowerOfSum, Term
from mixlaw.laws.tree import Decay, Nested, Product, Sum, embedded
from tests.marks import examples, slow
from tests.mixlaw.synthetic import DOMAINS, TRUTHS, each_law, random_case, study

NAMES = list(LAWS)
SHAPED = [n for n in NAMES if LAWS[n].mixes]
COUNTS = {
    "base": lambda k: 5,
    "base-fixed-n": lambda k: 3,
    "base-fixed-d": lambda k: 3,
    "additive": lambda k: 5 + 2 * k,
    "joint": lambda k: 5 + 4 * k,
    "simple": lambda k: 6 + k,
    "full": lambda k: 5 + 6 * k,
    "additive-fixed-nd": lambda k: 1 + 2 * k,
    "additive-fixed-n": lambda k: 3 + 2 * k,
    "additive-fixed-d": lambda k: 3 + 2 * k,
    "joint-fixed-n": lambda k: 3 + 3 * k,
    "joint-fixed-d": lambda k: 3 + 3 * k,
    "multiplicative": lambda k: 9 + 3 * k,
    "multiplicative-fixed-n": lambda k: 8 + 3 * k,
    "multiplicative-fixed-d": lambda k: 6 + 3 * k,
    "multiplicative-fixed-nd": lambda k: 2 + 2 * k,
    "multiplicative-phases": lambda k: 11 + 3 * k,
    "multiplicative-phases-fixed-n": lambda k: 10 + 3 * k,
    "multiplicative-phases-fixed-d": lambda k: 8 + 3 * k,
    "multiplicative-phases-fixed-nd": lambda k: 4 + 2 * k,
    "multiplicative-repeats": lambda k: 13 + 3 * k,
    "multiplicative-repeats-fixed-n": lambda k: 12 + 3 * k,
    "multiplicative-repeats-fixed-d": lambda k: 11 + 3 * k,
    "multiplicative-repeats-fixed-nd": lambda k: 7 + 2 * k,
    "coupled-repeats": lambda k: 11,
    "coupled-repeats-fixed-n": lambda k: 8,
    "coupled-repeats-fixed-d": lambda k: 10,
    "coupled": lambda k: 7,
    "ye-m1": lambda k: 1 + 2 * k,
    "ye-m2": lambda k: 2 + k,
    "ye-m3": lambda k: 2 + k,
    "ye-m4": lambda k: 2 + k,
    "linear": lambda k: k,
    "scheffe": lambda k: k * (k + 1) // 2,
    "bimix": lambda k: 4,  # the source counts 5, one of which is redundant
    "d-cpt": lambda k: 9,
    "autoscale": lambda k: 2 * k + 1,
    "dai-zheng-1": lambda k: 3 * k,
    "dai-zheng-3": lambda k: 5 * k + 1,
    "muennighoff": lambda k: 7,
    "sedova": lambda k: 9,
    "forgetting": lambda k: 4,
    "forgetting-injected": lambda k: 5,
    "forgetting-saturating": lambda k: 6,
    "moe": lambda k: 10,
}
seeds = st.integers(0, 2**32 - 1)
UNITS_ONE = Units(1.0, 1.0)


# The sources' formulas for one row, in plain numpy: p the reported parameters, n and d in the fit's units, h the
# weights, t the target's own place among the domains, and what else a law reads.
def each(p, symbol):
    return np.array([p[f"{symbol}_{name}"] for name in DOMAINS])


def inverse_sum(p, h):
    return 1 / np.sum(each(p, "C") * h ** each(p, "gamma"))


def power(p, symbol, h):
    return np.sum(each(p, f"C{symbol}") * h) ** p[f"gamma{symbol}"]


def decays(p, n, d):
    return p["A"] / n ** p["alpha"] + p["B"] / d ** p["beta"]


def repeated(unique, seen, r):
    return unique + unique * r * (1 - np.exp(-max(seen / unique - 1, 0) / r)) if seen > unique else seen


def muennighoff(p, n, d, h, t, more):
    unique = np.minimum(h * d, more["available"]).sum()
    g = (p["alpha"] * p["A"] / (p["beta"] * p["B"])) ** (1 / (p["alpha"] + p["beta"]))
    n_best = (unique * g) ** (p["beta"] / p["alpha"]) * g
    n_worth = repeated(min(n, n_best), n, p["R_N"])
    return p["E"] + p["A"] / n_worth ** p["alpha"] + p["B"] / repeated(unique, d * h.sum(), p["R_D"]) ** p["beta"]


def sedova(p, n, d, h, t, more):
    target = repeated(more["available"][t], h[t] * d, p["r1"])
    effective = d * (h.sum() - h[t]) + p["tau"] * target
    return p["E"] + p["C"] / n ** p["beta"] + p["B"] * n ** p["delta"] / effective ** p["alpha"] + p["gamma"] * h[t]


def dai_zheng(p, n, h, t, head):
    b, c = each(p, "b"), each(p, "c")

    def sizes(log_mu):
        return np.maximum(head, np.exp((np.log(h * b * c) - log_mu) / (b + 1)))

    def spare(log_mu):
        return sizes(log_mu).sum() - (n + (len(h) - 1) * head)

    x = sizes(brentq(spare, -200, 200, xtol=1e-13)) if head < n else np.full(len(h), head)
    return c[t] * x[t] ** -b[t] + each(p, "E")[t]


def moe(p, n, d, h, t, more):
    active = 1 - more["sparsity"]
    sparse = p["C"] / active ** p["lambda"] + p["F"] / (active ** p["delta"] * n ** p["gamma"])
    return p["E"] + decays(p, n, d) + sparse


def scheffe(p, h):
    pairs = [(i, j) for i in range(len(h)) for j in range(i + 1, len(h))]
    return each(p, "b") @ h + sum(p[f"b_{DOMAINS[i]}*{DOMAINS[j]}"] * h[i] * h[j] for i, j in pairs)


def warm_decay(p, d):
    """B / D~^beta, where D~ are the tokens less those lost to the warm-up."""
    return p["B"] / (d - p["D0"] if d >= 2 * p["D0"] else d**2 / (4 * p["D0"])) ** p["beta"]


def bound(by_n, by_d, q):
    """The q-norm of the terms of N and D; their maximum for a large q."""
    return (by_n**q + by_d**q) ** (1 / q)


def resources(p, n, d):
    return bound(p["A"] / n ** p["alpha"], warm_decay(p, d), p["q"])


def penalty(p, h, felt=1.0):
    return each(p, "b") @ h + felt / np.sum(each(p, "C") * h ** p["gamma"])


def worth(p, n, d, h, pool):
    """The worth of the tokens of each domain against fresh ones."""
    z = np.maximum(h * d / pool - 1, 0) / p["R"] * h ** p["sigma"] * (n / d) ** p["delta"]
    return 1 / (1 + z ** p["p"])


def multiplicative_repeats(p, n, d, h, more, seen_n=None):
    fresh = worth(p, n, d, h, more["available"]) * h
    by_n = p["A"] / n ** p["alpha"] if seen_n is None else p["A"]
    factor = each(p, "b") @ fresh / fresh.sum() + d / (d + p["D1"]) / np.sum(each(p, "C") * fresh ** p["gamma"])
    return p["E"] * each(p, "e") @ h + bound(by_n, warm_decay(p, d * fresh.sum()), p["q"]) * factor


def multiplicative_repeats_at_one_d(p, n, d, h, more):
    fresh = worth(p, n, d, h, more["available"]) * h
    factor = each(p, "b") @ fresh / fresh.sum() + 1 / np.sum(each(p, "C") * fresh ** p["gamma"])
    if "E" not in p:
        return p["A"] / fresh.sum() ** p["beta"] * factor
    by_n = p["A"] / n ** p["alpha"]
    return p["E"] * each(p, "e") @ h + bound(by_n, p["B"] / fresh.sum() ** p["beta"], p["q"]) * factor


def coupled_repeats(p, n, d, h, more, form=""):
    fresh = (worth(p, n, d, h, more["available"]) * h).sum()
    if form == "-fixed-n":
        return p["E"] + warm_decay(p, d * fresh)
    by_d = p["B"] / fresh ** p["beta"] if form else warm_decay(p, d * fresh)
    return p["E"] + bound(p["A"] / n ** p["alpha"], by_d, p["q"])


SOURCES = {
    "multiplicative-repeats": lambda p, n, d, h, t, more: multiplicative_repeats(p, n, d, h, more),
    "multiplicative-repeats-fixed-n": lambda p, n, d, h, t, more: multiplicative_repeats(p, n, d, h, more, 1.0),
    "multiplicative-repeats-fixed-d": lambda p, n, d, h, t, more: multiplicative_repeats_at_one_d(p, n, d, h, more),
    "multiplicative-repeats-fixed-nd": lambda p, n, d, h, t, more: multiplicative_repeats_at_one_d(p, n, d, h, more),
    "coupled-repeats": lambda p, n, d, h, t, more: coupled_repeats(p, n, d, h, more),
    "coupled-repeats-fixed-n": lambda p, n, d, h, t, more: coupled_repeats(p, n, d, h, more, "-fixed-n"),
    "coupled-repeats-fixed-d": lambda p, n, d, h, t, more: coupled_repeats(p, n, d, h, more, "-fixed-d"),
    "multiplicative": lambda p, n, d, h, t, more: (
        p["E"] * each(p, "e") @ h + resources(p, n, d) * penalty(p, h, d / (d + p["D1"]))
    ),
    "multiplicative-fixed-n": lambda p, n, d, h, t, more: (
        p["E"] * each(p, "e") @ h + resources(p | {"alpha": 0.0}, n, d) * penalty(p, h, d / (d + p["D1"]))
    ),
    "multiplicative-fixed-d": lambda p, n, d, h, t, more: (
        p["E"] * each(p, "e") @ h + bound(p["A"] / n ** p["alpha"], p["B"], p["q"]) * penalty(p, h)
    ),
    "multiplicative-fixed-nd": lambda p, n, d, h, t, more: p["A"] * penalty(p, h),
    "coupled": lambda p, n, d, h, t, more: p["E"] + resources(p, n, d),
    "base": lambda p, n, d, h, t, more: p["E"] + decays(p, n, d),
    "base-fixed-n": lambda p, n, d, h, t, more: p["E"] + p["B"] / d ** p["beta"],
    "base-fixed-d": lambda p, n, d, h, t, more: p["E"] + p["A"] / n ** p["alpha"],
    "additive": lambda p, n, d, h, t, more: p["E"] + inverse_sum(p, h) + decays(p, n, d),
    "simple": lambda p, n, d, h, t, more: p["E"] + power(p, "", h) + decays(p, n, d),
    "joint": lambda p, n, d, h, t, more: (
        p["E"] + inverse_sum(p, h) + power(p, "A", h) / n ** p["alpha"] + power(p, "B", h) / d ** p["beta"]
    ),
    "full": lambda p, n, d, h, t, more: (
        p["E"]
        + inverse_sum(p, h)
        + power(p, "A", h) / n ** power(p, "alpha", h)
        + power(p, "B", h) / d ** power(p, "beta", h)
    ),
    "additive-fixed-nd": lambda p, n, d, h, t, more: p["E"] + inverse_sum(p, h),
    "additive-fixed-n": lambda p, n, d, h, t, more: p["E"] + inverse_sum(p, h) + p["B"] / d ** p["beta"],
    "additive-fixed-d": lambda p, n, d, h, t, more: p["E"] + inverse_sum(p, h) + p["A"] / n ** p["alpha"],
    "joint-fixed-n": lambda p, n, d, h, t, more: p["E"] + inverse_sum(p, h) + power(p, "B", h) / d ** p["beta"],
    "joint-fixed-d": lambda p, n, d, h, t, more: p["E"] + inverse_sum(p, h) + power(p, "A", h) / n ** p["alpha"],
    "ye-m1": lambda p, n, d, h, t, more: p["E"] + each(p, "C") @ np.exp(each(p, "t") * h),
    "ye-m2": lambda p, n, d, h, t, more: p["E"] + p["C"] * np.exp(each(p, "t") * h).sum(),
    "ye-m3": lambda p, n, d, h, t, more: p["E"] + p["C"] * np.exp(np.prod(each(p, "t") * h)),
    "ye-m4": lambda p, n, d, h, t, more: p["E"] + p["C"] * np.exp(each(p, "t") @ h),
    "linear": lambda p, n, d, h, t, more: each(p, "b") @ h,
    "scheffe": lambda p, n, d, h, t, more: scheffe(p, h),
    "bimix": lambda p, n, d, h, t, more: (p["B"] / d ** p["beta"] + p["C"]) / h[t] ** p["a"],
    "d-cpt": lambda p, n, d, h, t, more: (
        p["E"]
        + p["A"] / n ** p["alpha"]
        + p["B"] * h[t] ** p["eta"] / d ** p["beta"]
        + p["C"] / (h[t] + p["eps"]) ** p["gamma"]
    ),
    "autoscale": lambda p, n, d, h, t, more: (
        p["E"] + np.sum((each(p, "N0") + h * d * more["unit"]) ** -each(p, "gamma"))
    ),
    "dai-zheng-1": lambda p, n, d, h, t, more: dai_zheng(p, n, h, t, 1e-12),
    "dai-zheng-3": lambda p, n, d, h, t, more: (
        dai_zheng(p, n, h, t, p["H"]) + each(p, "A")[t] * (d * h[t]) ** -each(p, "a")[t]
    ),
    "muennighoff": muennighoff,
    "sedova": sedova,
    "forgetting-injected": lambda p, n, d, h, t, more: (
        more["before"] + p["A"] * d ** p["beta"] / ((1 + p["B"] * d * h[t]) ** p["gamma"] * n ** p["alpha"])
    ),
    "forgetting-saturating": lambda p, n, d, h, t, more: (
        more["before"]
        + max(p["E"] - p["kappa"] * more["before"], 0)
        / (1 + (p["D1"] / d) ** p["beta"] * (1 + p["B"] * d * h[t]) ** p["gamma"])
    ),
    "forgetting": lambda p, n, d, h, t, more: (
        more["before"] + p["A"] * d ** p["beta"] / ((1 + p["B"] * h[t]) * n) ** p["alpha"]
    ),
    "moe": moe,
}
for form in ("", "-fixed-n", "-fixed-d", "-fixed-nd"):  # at one mixture; `test_exposure` has phases
    SOURCES[f"multiplicative-phases{form}"] = SOURCES[f"multiplicative{form}"]


def source_losses(name: str, p: dict[str, float], x: Inputs) -> Array:
    """Return (n,) losses by the source's formula."""
    losses = []
    for i in range(x.h.shape[1]):
        more = {c: v[..., i] for c, v in x.columns.items()} | {"unit": np.exp(x.log_d_unit)}
        losses.append(SOURCES[name](p, np.exp(x.log_n[i]), np.exp(x.log_d[i]), x.h[:, i], x.own()[i], more))
    return np.array(losses)


def gammas_off_zero(term: Term, theta: Array, k: int) -> None:
    """Move gammas away from 0, where the source's C_i of a power of a sum, value^(1/gamma), are not finite."""
    if isinstance(term, PowerOfSum):
        theta[:, 1] = np.where(theta[:, 1] < 0, -1, 1) * np.maximum(np.abs(theta[:, 1]), 0.2)
    for child, at in zip(term.children, term.slices(k), strict=True) if isinstance(term, Nested) else ():
        gammas_off_zero(child, theta[:, at], k)


def relabelled(term: Term, theta: Array, order: list[int]) -> Array:
    """Return the parameters of the same law with its domains permuted."""
    k = len(order)
    if isinstance(term, Nested):
        return np.hstack(
            [relabelled(c, theta[:, at], order) for c, at in zip(term.children, term.slices(k), strict=True)]
        )
    if isinstance(term, PowerOfSum):
        ratios = np.hstack([theta[:, 2:], np.zeros((len(theta), 1))])[:, order]
        value = theta[:, :1] + theta[:, 1:2] * ratios[:, -1:]
        return np.hstack([value, theta[:, 1:2], (ratios - ratios[:, -1:])[:, :-1]])

    def names(domains: list[str]) -> list[str]:
        """Return each parameter's name; those of a pair are the same in either order."""
        named = term.natural(np.zeros(term.size(k)), domains)
        return ["*".join([n[0], *sorted(n[2:].split("*"))]) if "*" in n else n for n in named]

    old = names(DOMAINS)
    return theta[:, [old.index(name) for name in names([DOMAINS[i] for i in order])]]


def constants_below(term: Term) -> list[PowerOfSum]:
    """Return the powers of sums among a tree's leaves."""
    if isinstance(term, Nested):
        return [found for child in term.children for found in constants_below(child)]
    return [term] if isinstance(term, PowerOfSum) else []


def moved(x: Inputs, log_n: float = 0.0, log_d: float = 0.0) -> Inputs:
    """Return the same rows with more parameters and tokens."""
    more = {"target": x.target, "columns": x.columns, "log_d_unit": x.log_d_unit}
    return Inputs(x.log_n + log_n, x.log_d + log_d, x.h, x.log_h, **more)


def between(exact: Array, left: Array, right: Array, scale: Array) -> None:
    """Check that a derivative lies between the one-sided difference quotients, also at a kink of the loss."""
    tolerance = 1e-7 * scale
    assert (exact >= np.minimum(left, right) - tolerance).all()
    assert (exact <= np.maximum(left, right) + tolerance).all()


@pytest.mark.parametrize("name", each_law(NAMES))
@pytest.mark.parametrize("k", [slow(2), 3, slow(7)])
def test_a_law_has_as_many_parameters_as_its_source_counts(name, k):
    law, domains = LAWS[name], [f"d{i}" for i in range(k)]
    assert law.n_free(k) == COUNTS[name](k)
    assert [len(side) for side in law.bounds(k)] == [law.n_free(k)] * 2
    assert [len(side) for side in law.term.prior(k)] == [law.n_free(k)] * 2
    assert (law.term.prior(k)[1] > 0).all()
    assert len(law.natural(np.zeros(law.n_free(k)), domains)) == law.n_free(k)


def test_parameters_have_names_of_their_own_also_where_domains_are_called_like_pairs_of_others():
    assert len(LAWS["scheffe"].natural(np.zeros(6), ["a", "b", "a_b"])) == 6


def test_every_law_says_what_it_is_and_where_it_is_from():
    assert set(COUNTS) == set(SOURCES) == set(NAMES)
    for name, law in LAWS.items():
        assert law.name == name
        assert law.formula
        assert re.search(r"\d{4}", law.source), name
        assert law.uses <= {"N", "D", "h", "share", "available", "before", "sparsity", "phases"}
        assert law.mixes == bool(law.uses & {"h", "share"})


@pytest.mark.parametrize("name", each_law(NAMES))
@examples(24)
@given(seed=seeds)
def test_the_gradient_by_parameters_is_exact_also_at_zero_weights(name, seed):
    law, step = LAWS[name], 1e-6
    theta, x = random_case(law, seed)
    value, exact = law.loss_and_jacobian(theta, x)
    np.testing.assert_allclose(value, law.loss(theta, x))
    scale = np.maximum(np.abs(exact).max((1, 2)), np.abs(value).max(1))[:, None]
    for j in range(theta.shape[1]):
        bit = step * np.eye(theta.shape[1])[j]
        right, left = (law.loss(theta + bit, x) - value) / step, (value - law.loss(theta - bit, x)) / step
        between(exact[:, j], left, right, scale)


@pytest.mark.parametrize("name", each_law(NAMES))
@examples(24)
@given(seed=seeds)
def test_the_gradient_by_weights_is_exact_also_at_zero_weights(name, seed):
    law, step = LAWS[name], 1e-7
    theta, x = random_case(law, seed)
    value, exact = law.loss_and_gradient_h(theta, x)
    scale = np.maximum(np.abs(exact).max((1, 2)), np.abs(value).max(1))[:, None]
    for i in range(x.h.shape[0]):
        bit = step * np.eye(x.h.shape[0])[:, i : i + 1]
        right, left = (
            (law.loss(theta, x.with_h(x.h + bit)) - value) / step,
            (value - law.loss(theta, x.with_h(x.h - bit))) / step,
        )
        between(exact[:, i], left, right, scale)


@pytest.mark.parametrize("name", each_law(NAMES))
@examples(24)
@given(seed=seeds)
def test_the_reported_parameters_put_into_the_sources_formula_give_the_loss(name, seed):
    law = LAWS[name]
    theta, x = random_case(law, seed)
    gammas_off_zero(law.term, theta, 3)
    if name == "muennighoff":  # written plainly, its power 1 / alpha leaves the range of numbers
        theta[:, 2] = np.maximum(theta[:, 2], np.log(0.05))
    for t, losses in zip(theta, law.loss(theta, x), strict=True):
        reported = law.natural(t, DOMAINS)
        np.testing.assert_allclose(losses, source_losses(name, reported, x), rtol=1e-9)


@pytest.mark.parametrize("name", each_law(NAMES))
@given(seed=seeds, order=st.permutations([0, 1, 2]))
@examples(24)
def test_the_order_of_domains_does_not_matter(name, seed, order):
    law = LAWS[name]
    theta, x = random_case(law, seed)
    columns = x.columns | {"available": x.columns["available"][order]}
    target = np.argsort(order)[x.own()]
    there = Inputs.of(x.log_n, x.log_d, x.h[order], target=target, columns=columns, log_d_unit=x.log_d_unit)
    changed = relabelled(law.term, theta, order)
    np.testing.assert_allclose(law.loss(changed, there), law.loss(theta, x), rtol=1e-9)


@pytest.mark.parametrize("name", each_law(NAMES))
@given(seed=seeds)
@examples(24)
def test_rows_grouped_by_mixture_give_the_same_losses_and_derivatives(name, seed):
    law = LAWS[name]
    theta, x = random_case(law, seed, n=5)
    rng = np.random.default_rng(seed)
    x = x.rows(rng.integers(0, 5, 30))
    more = {"target": x.target, "columns": x.columns, "log_d_unit": x.log_d_unit}
    x = Inputs.of(rng.normal(size=30), rng.normal(size=30), x.h, **more)
    x = x.rows(x.order())
    together = x.grouped()
    assert together.distinct is not None
    np.testing.assert_allclose(law.loss(theta, together), law.loss(theta, x), rtol=1e-12)
    value, factored = law.loss_and_factored_jacobian(theta, together)
    plain, exact = law.loss_and_jacobian(theta, x)
    np.testing.assert_allclose(value, plain, rtol=1e-12)
    np.testing.assert_allclose(factored.full(), exact, rtol=1e-9, atol=1e-12 * np.abs(exact).max())


@pytest.mark.parametrize("name", each_law(NAMES))
@given(seed=seeds)
@examples(24)
def test_every_parameter_vector_may_have_mixtures_of_its_own(name, seed):
    law = LAWS[name]
    theta, x = random_case(law, seed, b=3)
    h = lifted(np.random.default_rng(seed).dirichlet(np.ones(3), (3, 6)).transpose(0, 2, 1))[0]
    own = x.with_h(h)
    value, jacobian = law.loss_and_jacobian(theta, own)
    _, by_h = law.loss_and_gradient_h(theta, own)
    for i in range(3):
        alone = x.with_h(h[i])
        np.testing.assert_allclose(value[i : i + 1], law.loss(theta[i : i + 1], alone), rtol=1e-12)
        for all_, one in ((jacobian, law.loss_and_jacobian), (by_h, law.loss_and_gradient_h)):
            expected = one(theta[i : i + 1], alone)[1]
            np.testing.assert_allclose(all_[i : i + 1], expected, rtol=1e-9, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("name", each_law(NAMES))
@given(seed=seeds, k=st.integers(2, 7))
@examples(24)
def test_losses_and_derivatives_are_finite_anywhere_in_the_box_also_at_zero_weights(name, seed, k):
    law, rng = LAWS[name], np.random.default_rng(seed)
    _, x = random_case(law, seed, k=k)
    low, high = law.bounds(k)
    theta = low + (high - low) * np.round(rng.uniform(-0.5, 1.5, (4, len(low))).clip(0, 1), 1)
    value, jacobian = law.loss_and_jacobian(theta, x)
    _, by_h = law.loss_and_gradient_h(theta, x)
    assert all(np.isfinite(a).all() for a in (value, jacobian, by_h))


@pytest.mark.parametrize("name", each_law(NAMES))
@pytest.mark.parametrize("k", [2, 7])
def test_starting_points_lie_in_the_box_but_for_their_tails_and_give_finite_losses(name, k):
    law = LAWS[name]
    low, high = law.bounds(k)
    theta = law.term.start(np.random.default_rng(0), 200, k)
    assert theta.shape == (200, law.n_free(k))
    assert ((theta >= low) & (theta <= high)).mean() > 0.9
    assert np.isfinite(law.loss(np.clip(theta, low, high), random_case(law, 0, k=k)[1])).all()


BY_N = [
    "multiplicative",
    "coupled",
    "base",
    "additive",
    "joint",
    "simple",
    "full",
    "d-cpt",
    "dai-zheng-1",
    "dai-zheng-3",
]
BY_N += ["muennighoff", "moe", *(f"{name}-fixed-d" for name in ("base", "additive", "joint", "multiplicative"))]
EMERGING = [f"multiplicative{phases}{form}" for phases in ("", "-phases") for form in ("", "-fixed-n")]
REPEATING = [n for n in NAMES if "-repeats" in n]  # with more tokens of a pool, the model may memorise it
FORGETTING = ["forgetting", "forgetting-injected", "forgetting-saturating"]
BY_D = [n for n in NAMES if "D" in LAWS[n].uses and n not in (*FORGETTING, *EMERGING, *REPEATING)]


@pytest.mark.parametrize("name", [*BY_N, "forgetting", "forgetting-injected"])
@given(seed=seeds, factor=st.floats(1.1, 1e4))
@examples(24)
def test_more_parameters_never_raise_the_loss(name, seed, factor):
    # Sedova's may, where its delta is above 0
    theta, x = random_case(LAWS[name], seed)
    here, there = LAWS[name].loss(theta, x), LAWS[name].loss(theta, moved(x, log_n=np.log(factor)))
    assert (there <= here * (1 + 1e-12)).all()
    assert LAWS[name].joint_targets or name == "muennighoff" or (there < here).all()


@pytest.mark.parametrize("name", BY_D)
@given(seed=seeds, factor=st.floats(1.1, 1e4))
@examples(24)
def test_more_tokens_never_raise_the_loss(name, seed, factor):
    theta, x = random_case(LAWS[name], seed)
    here, there = LAWS[name].loss(theta, x), LAWS[name].loss(theta, moved(x, log_d=np.log(factor)))
    assert (there <= here * (1 + 1e-12)).all()


@pytest.mark.parametrize("name", EMERGING)
@given(seed=seeds, factor=st.floats(1.1, 1e4))
@settings(max_examples=30)
def test_more_tokens_never_raise_our_laws_loss_once_the_mixture_is_felt(name, seed, factor):
    # before, the cost of a missing domain may emerge faster than the loss falls
    law = LAWS[name]
    theta, x = random_case(law, seed, b=1)
    p = law.natural(theta[0], DOMAINS)
    x = moved(x, log_d=np.log(1e3 * p["D1"] / p["beta"]) - x.log_d.min() + 600 * (p["beta"] < 0.05))
    larger = moved(x, log_d=np.log(factor))
    # where N is the bottleneck, the loss is flat in D
    assert (law.loss(theta, larger) <= law.loss(theta, x) * (1 + 1e-3)).all()


@pytest.mark.parametrize("name", ["multiplicative", *(f"multiplicative-fixed-{form}" for form in ("n", "d", "nd"))])
@given(seed=seeds, place=st.integers(0, 2))
@settings(max_examples=20)
def test_a_corner_of_the_simplex_is_finite_and_nothing_jumps_there(name, seed, place):
    theta, x = random_case(LAWS[name], seed)
    corner = np.tile(np.eye(3)[:, [place]], x.h.shape[1])
    near = 0.999999 * corner + 0.000001 / 3
    losses = [LAWS[name].loss(theta, UNITS_ONE.inputs(np.exp(x.log_n), np.exp(x.log_d), h)) for h in (corner, near)]
    assert np.isfinite(losses[0]).all()
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)


@pytest.mark.parametrize("name", FORGETTING)
@given(seed=seeds, factor=st.floats(1.1, 1e4))
@settings(max_examples=20)
def test_more_tokens_of_finetuning_forget_more_and_more_old_data_forgets_less(name, seed, factor):
    law = LAWS[name]
    theta, x = random_case(law, seed)
    fresh = x.with_h(np.where(np.arange(3)[:, None] == x.own(), 0.0, x.h))  # injected tokens of a share grow with D
    assert (law.loss(theta, moved(fresh, log_d=np.log(factor))) >= law.loss(theta, fresh)).all()
    own = np.zeros_like(x.h)
    own[x.own(), np.arange(6)] = 0.01
    assert (law.loss(theta, x.with_h(x.h + own)) <= law.loss(theta, x)).all()


LIMITS = {  # the law in the limit of infinite N and D
    "multiplicative": lambda p, h, t, more: p["E"] * each(p, "e") @ h,
    "multiplicative-fixed-n": lambda p, h, t, more: p["E"] * each(p, "e") @ h + p["A"] * penalty(p, h),
    "multiplicative-fixed-d": lambda p, h, t, more: p["E"] * each(p, "e") @ h + p["B"] * penalty(p, h),
    "coupled": lambda p, h, t, more: p["E"],
    **dict.fromkeys(("base", "base-fixed-n", "base-fixed-d"), lambda p, h, t, more: p["E"]),
    "additive": lambda p, h, t, more: p["E"] + inverse_sum(p, h),
    "joint": lambda p, h, t, more: p["E"] + inverse_sum(p, h),
    "full": lambda p, h, t, more: p["E"] + inverse_sum(p, h),
    "simple": lambda p, h, t, more: p["E"] + power(p, "", h),
    "additive-fixed-n": lambda p, h, t, more: p["E"] + inverse_sum(p, h),
    "additive-fixed-d": lambda p, h, t, more: p["E"] + inverse_sum(p, h),
    "joint-fixed-n": lambda p, h, t, more: p["E"] + inverse_sum(p, h),
    "joint-fixed-d": lambda p, h, t, more: p["E"] + inverse_sum(p, h),
    "bimix": lambda p, h, t, more: p["C"] / h[t] ** p["a"],
    "d-cpt": lambda p, h, t, more: p["E"] + p["C"] / (h[t] + p["eps"]) ** p["gamma"],
    "autoscale": lambda p, h, t, more: p["E"],
    "dai-zheng-1": lambda p, h, t, more: each(p, "E")[t],
    "dai-zheng-3": lambda p, h, t, more: each(p, "E")[t],
    "moe": lambda p, h, t, more: p["E"] + p["C"] * (1 - more["sparsity"]) ** -p["lambda"],
}


@pytest.mark.parametrize("name", LIMITS)
@given(seed=seeds)
@examples(24)
def test_with_parameters_and_tokens_without_end_the_mixtures_term_is_left(name, seed):
    law = LAWS[name]
    theta, x = random_case(law, seed, b=1)
    gammas_off_zero(law.term, theta, 3)
    for i, symbol in enumerate(law.natural(theta[0], DOMAINS)):
        if symbol in ("alpha", "beta", "delta") or symbol.startswith(("b_", "a_")) or name == "autoscale":
            theta[0, i] = max(theta[0, i], np.log(0.1))  # so that e^600 to the power of -rate vanishes
    far = 1e5 if name == "full" else 600.0  # its exponents are not among the named parameters
    p, endless = law.natural(theta[0], DOMAINS), moved(x, far, far)
    rows = [(x.h[:, i], x.own()[i], {c: v[..., i] for c, v in x.columns.items()}) for i in range(x.h.shape[1])]
    np.testing.assert_allclose(law.loss(theta, endless)[0], [LIMITS[name](p, *row) for row in rows], rtol=1e-6)


@pytest.mark.parametrize("name", each_law(SHAPED))
@given(seed=seeds)
@examples(24)
def test_a_law_that_says_it_is_convex_in_the_mixture_is(name, seed):
    law, rng = LAWS[name], np.random.default_rng(seed)
    theta, x = random_case(law, seed, b=40)
    theta = theta[[law.convex(t, 3) for t in theta]]
    h, other = (rng.dirichlet(np.ones(3) * 0.7, 6).T for _ in range(2))
    part = rng.uniform(0, 1, 6)
    ends = [law.loss(theta, x.with_h(np.maximum(m, 1e-9))) for m in (h, other)]
    middle = law.loss(theta, x.with_h(np.maximum(part * h + (1 - part) * other, 1e-9)))
    chord = part * ends[0] + (1 - part) * ends[1]
    assert (middle <= chord + 1e-9 * (np.abs(ends[0]) + np.abs(ends[1]))).all()


OURS = [name for name in NAMES if name.startswith("multiplicative") and name not in REPEATING]
ALWAYS = [
    *OURS,
    "ye-m1",
    "ye-m2",
    "ye-m4",
    "linear",
    "bimix",
    "autoscale",
    "sedova",
    "forgetting",
    "forgetting-injected",
]


@pytest.mark.parametrize("name", each_law(SHAPED))
def test_the_remark_says_convex_exactly_where_the_law_does(name):
    law = LAWS[name]
    said = [law.convex(t, 3) for t in random_case(law, 0, b=500)[0]]
    if name in ALWAYS:
        assert all(said)
        assert "convex in h" in law.remark
    elif any(said):
        assert not all(said)
        assert "convex in h where" in law.remark or name in ("full", "d-cpt")


@pytest.mark.parametrize(
    ("gamma", "gamma_a", "gamma_b", "convex"),
    [
        (0.5, -1.0, -0.5, True),
        (0.5, 0.0, 0.0, True),
        (1.0, 1.0, 2.0, True),
        (0.5, 0.5, -1.0, False),
        (0.5, -1.0, 0.5, False),
        (1.1, -1.0, -1.0, False),
    ],
)
def test_joint_is_convex_where_the_paper_says(gamma, gamma_a, gamma_b, convex):
    law, k = LAWS["joint"], 3
    theta = np.zeros(law.n_free(k))
    _, inverse, a, b = law.term.slices(k)
    theta[inverse][k:] = np.log([0.2, 0.7, gamma])
    theta[a.start + 1], theta[b.start + 1] = gamma_a, gamma_b
    assert law.convex(theta, k) == convex
    additive = LAWS["additive"]
    assert additive.convex(np.r_[theta[: inverse.stop], np.zeros(4)], k) == (gamma <= 1)


@pytest.mark.parametrize("name", each_law(n for n in NAMES if LAWS[n].contains))
@given(seed=seeds)
@settings(max_examples=20)
def test_a_law_holds_the_law_that_it_contains(name, seed):
    big, small = LAWS[name], LAWS[LAWS[name].contains]
    theta, x = random_case(small, seed)
    x = x.with_h(x.h / x.h.sum(0))  # as seen by a law, lifted weights sum to a little more than 1
    x = replace(x, columns=x.columns | {"available": np.full(x.h.shape, 1e30)})  # nothing is repeated
    inside = embedded(small.term, theta, big.term, 3)
    np.testing.assert_allclose(big.loss(inside, x), small.loss(theta, x), rtol=1e-12)


@given(seed=seeds)
@settings(max_examples=20)
def test_joint_with_powers_of_one_and_equal_domains_is_additive(seed):
    additive, joint = LAWS["additive"], LAWS["joint"]
    theta, x = random_case(additive, seed, b=1)
    x = x.with_h(x.h / x.h.sum(0))
    log_a, log_alpha, log_b, log_beta = theta[0, -4:]
    nested = np.r_[theta[0, :-4], log_a, 1, 0, 0, log_alpha, log_b, 1, 0, 0, log_beta]
    np.testing.assert_allclose(joint.loss(nested[None], x), additive.loss(theta, x), rtol=1e-12)


# How parameters change where N and D are counted in other units: name -> powers of the units. Not here: full, whose
# exponents depend on the mixture, so that it is another family of functions in another unit; and autoscale, whose terms
# have no prefactor that could change.
UNIT_CHANGES = {
    "base": {"A": "N-alpha", "B": "D-beta"},
    "additive": {"A": "N-alpha", "B": "D-beta"},
    "simple": {"A": "N-alpha", "B": "D-beta"},
    "base-fixed-n": {"B": "D-beta"},
    "base-fixed-d": {"A": "N-alpha"},
    "additive-fixed-n": {"B": "D-beta"},
    "additive-fixed-d": {"A": "N-alpha"},
    "multiplicative-fixed-d": {"A": "N-alpha"},
    "bimix": {"B": "D-beta"},
    "d-cpt": {"A": "N-alpha", "B": "D-beta"},
    "muennighoff": {"A": "N-alpha", "B": "D-beta"},
    "sedova": {"C": "N-beta", "B": "N+delta D-alpha"},
    "forgetting": {"A": "D+beta N-alpha"},
    "forgetting-injected": {"A": "D+beta N-alpha", "B": "D+"},
    "forgetting-saturating": {"D1": "D", "B": "D+"},
    "moe": {"A": "N-alpha", "B": "D-beta", "F": "N-gamma"},
    "dai-zheng-1": {f"c_{d}": f"N-b_{d}" for d in DOMAINS},
    "dai-zheng-3": {f"c_{d}": f"N-b_{d}" for d in DOMAINS} | {f"A_{d}": f"D-a_{d}" for d in DOMAINS} | {"H": "N"},
}


@pytest.mark.parametrize("name", UNIT_CHANGES)
@given(seed=seeds, n_unit=st.floats(1e-2, 1e2), d_unit=st.floats(1e-2, 1e2))
@examples(24)
def test_units_change_the_parameters_and_not_the_loss(name, seed, n_unit, d_unit):
    law = LAWS[name]
    theta, x = random_case(law, seed, b=1)
    p = law.natural(theta[0], DOMAINS)
    changed, names = theta.copy(), list(p)
    for symbol, factors in UNIT_CHANGES[name].items():
        for factor in factors.split():
            unit, sign, rate = np.log({"N": n_unit, "D": d_unit}[factor[0]]), factor[1:2], factor[2:]
            power = {"-": -1, "+": 1}[sign] * (p[rate] if rate else 1) if sign else -1
            changed[0, names.index(symbol)] += power * unit
    columns = x.columns | {"available": x.columns["available"] / d_unit}
    log_n, log_d = x.log_n - np.log(n_unit), x.log_d - np.log(d_unit)
    there = Inputs.of(log_n, log_d, x.h, target=x.target, columns=columns)
    np.testing.assert_allclose(law.loss(changed, there), law.loss(theta, x), rtol=1e-8)


@pytest.mark.parametrize("name", each_law(n for n in NAMES if n != "autoscale"))
@given(seed=seeds, factor=st.floats(1e-6, 1e6))
@settings(max_examples=5)
def test_counting_parameters_and_tokens_in_thousands_changes_nothing(name, seed, factor):
    law = LAWS[name]
    theta, x = random_case(law, seed)
    n, d = 1e8 * np.exp(x.log_n), 1e10 * np.exp(x.log_d)
    h = np.random.default_rng(seed).dirichlet(np.ones(3), 6).T
    more = {"target": x.target, "columns": x.columns}
    here = law.loss(theta, Units(1e8, 1e10).inputs(n, d, h, **more))
    there = law.loss(theta, Units(1e8 * factor, 1e10 * factor).inputs(n * factor, d * factor, h, **more))
    np.testing.assert_allclose(there, here, rtol=1e-9)


def test_weights_are_lifted_smoothly_off_zero_and_are_themselves_from_five_times_the_floor_on():
    h = np.concatenate([[0.0], np.geomspace(1e-9, 1, 400)])
    seen, slope = lifted(h)
    assert seen[0] == pytest.approx(FLOOR)
    assert (np.diff(seen) >= 0).all()
    np.testing.assert_allclose(seen[h >= 5 * FLOOR], h[h >= 5 * FLOOR], rtol=4.1e-4)
    step = 1e-4 * FLOOR
    np.testing.assert_allclose(slope, (lifted(h + step)[0] - lifted(h - step)[0]) / (2 * step), atol=1e-6)


@pytest.mark.parametrize("name", each_law(NAMES))
@given(seed=seeds)
@settings(max_examples=5)
def test_no_law_has_a_cliff_between_a_weight_of_zero_and_the_next_one(name, seed):
    law = LAWS[name]
    theta, x = random_case(law, seed, n=2)
    little = FLOOR / 10
    h = np.array([[0.0, 0.5, 0.5], [little, 0.5 - little, 0.5]]).T
    x = x.rows(np.zeros(2, int)).with_h(lifted(h)[0])
    at_zero, beside = law.loss(theta, x).T
    np.testing.assert_allclose(at_zero, beside, rtol=3e-3)


def test_units_are_the_middle_of_the_data_to_one_digit():
    assert Units.of(np.array([2e7, 1e8, 5e8]), np.array([2e9, 9e9])) == Units(1e8, 4e9)


@given(middle=st.floats(1.0, 1e13))
def test_units_do_not_jump(middle):
    """The prior of a warm-up's tokens is relative to the unit."""
    unit = Units.of(np.array([middle]), np.array([middle])).n_tokens
    assert 0.66 < unit / middle < 1.5


def test_the_truths_of_these_tests_lie_inside_the_bounds():
    for name, theta in TRUTHS.items():
        low, high = LAWS[name].bounds(3)
        assert ((theta > low) & (theta < high)).all(), name


def test_an_unknown_law_is_refused_with_the_near_match():
    with pytest.raises(ConfigError, match=r"unknown law 'aditive'; did you mean 'additive'\? known: additive, "):
        get_law("aditive")


@pytest.fixture
def mine():
    """A user-defined law, as in the documentation, removed afterwards."""

    def expression(p, x):
        return p.E + p.A * np.exp(-p.alpha * x.log_n) + p.B * np.exp(-p.beta * x.log_d) * (1 - p.s * x.h[..., 0, :])

    ranges = {"E": (0.1, 10), "A": (0.01, 10), "alpha": (0.01, 1), "B": (0.01, 10), "beta": (0.01, 1), "s": (0, 1)}
    law = Law("mine", "E + A/N^alpha + B (1 - s h_1)/D^beta", "my notebook", Sum(Formula(expression, "NDh", **ranges)))
    yield register(law)
    del LAWS["mine"]


def test_a_law_of_the_users_own_is_fitted_and_predicts(mine):
    table = study("additive", n_mixtures=6)
    truth = [*np.log([1.5, 0.3, 0.4, 0.5, 0.3]), 0.6]
    units = Units(1e8, 1e10)
    frame = table.frame
    x = units.inputs(frame["n_params"].to_numpy(), frame["n_tokens"].to_numpy(), table.mixtures.T)
    frame["loss_main"] = get_law("mine").loss(np.array([truth]), x)[0]
    fit = LawFit("mine", n_starts=4, n_bootstrap=4, prior_strength=0).fit(table).fitted_
    assert fit.scores(table)["mre"].item() < 1e-3
    assert fit.params.loc["main", "s"] == pytest.approx(0.6, abs=1e-3)
    assert fit.params.loc["main", "alpha"] == pytest.approx(0.4, abs=1e-3)


def test_a_law_may_be_registered_twice_but_another_formula_not_under_its_name(mine):
    assert register(mine) is mine
    other = Law(
        "mine", "E + A/N^alpha", "elsewhere", Sum(Constant("E"), Product(Constant("A"), Decay("N", Constant("alpha"))))
    )
    with pytest.raises(ConfigError, match=r"the law 'mine' exists already \(E \+ A/N\^alpha \+ B \(1 - s h_1\)"):
        register(other)
    assert LAWS["mine"] is mine


@pytest.mark.parametrize("name", LAWS)
def test_a_law_goes_between_processes_by_its_name(name):
    assert pickle.loads(pickle.dumps(LAWS[name])) is LAWS[name]
