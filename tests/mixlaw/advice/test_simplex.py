"""The simplex: KL projections are feasible and nearest, and mirror descent finds analytic optima."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mixlaw.advice.simplex import Group, Limits, Rows, lowest, minimise_mixture, project, starts
from mixlaw.laws.jacobian import Array
from tests.marks import all_slow_but


@st.composite
def projections(draw: st.DrawFn) -> tuple[Array, Limits]:
    """A mixture and limits that at least one mixture satisfies, with or without groups."""
    k = draw(st.integers(2, 8))
    shares = st.lists(st.floats(0, 1), min_size=k, max_size=k)
    inside, h = (np.array(draw(shares)) + 1e-3 for _ in range(2))
    inside /= inside.sum()
    low, high = inside * np.array(draw(shares)), inside + (1 - inside) * np.array(draw(shares))
    groups = []
    if k > 3 and draw(st.booleans()):
        for members in (np.arange(2), np.arange(2, k - 1)):
            total = inside[members].sum()
            least, most = total * draw(st.floats(0, 1)), total + (1 - total) * draw(st.floats(0, 1))
            groups.append(Group(members, max(least, low[members].sum()), min(most, high[members].sum())))
    return np.where(h < 0.1, 0, h)[None] / h.sum(), Limits(low, high, tuple(groups))


@given(projections())
def test_projecting_ends_inside_of_the_limits_sums_to_one_and_changes_nothing_more(case):
    h, limits = case
    once = project(h, limits)
    assert once.sum() == pytest.approx(1, abs=1e-9)
    assert (once >= limits.low - 1e-9).all()
    assert (once <= limits.high + 1e-9).all()
    for group in limits.groups:
        assert group.low - 1e-8 <= once[0, group.members].sum() <= group.high + 1e-8
    np.testing.assert_allclose(project(once, limits), once, atol=1e-6)


@given(projections())
def test_projecting_keeps_the_ratios_of_weights_that_touch_no_limit(case):
    h, limits = case
    once = project(h, limits)[0]
    grouped = np.zeros(len(once), bool)
    for group in limits.groups:
        grouped[group.members] = True
    free = (once > limits.low + 1e-6) & (once < limits.high - 1e-6) & (h[0] > 0) & ~grouped
    ratios = once[free] / h[0][free]
    np.testing.assert_allclose(ratios, ratios[:1].repeat(len(ratios)), rtol=1e-5)


@given(projections(), st.integers(0, 2**32 - 1))
def test_no_allowed_mixture_is_nearer_than_the_projection(case, seed):
    """The projection minimises KL(p || h); any other point of the set is at least as far."""
    h, limits = case
    h = np.maximum(h, 1e-6)
    best = project(h, limits)[0]
    other = project(np.random.default_rng(seed).dirichlet(np.ones(len(best)), 8), limits)

    def far(p: Array) -> Array:
        return (np.maximum(p, 1e-300) * np.log(np.maximum(p, 1e-300) / h[0])).sum(-1)

    assert (far(best) <= far(other) + 1e-7).all()


def closed_form(c: Array, gamma: Array) -> Array:
    below, above = -60.0, 60.0
    for _ in range(200):
        log_mu = (below + above) / 2
        h = np.exp((np.log(c * gamma) - log_mu) / (1 - gamma))
        below, above = (log_mu, above) if h.sum() > 1 else (below, log_mu)
    return h


@pytest.mark.parametrize("k", [2, 7, 17])
def test_mirror_descent_finds_the_optimum_that_algebra_gives(k):
    rng = np.random.default_rng(k)
    c, gamma = np.exp(rng.normal(0, 0.3, k)), rng.uniform(0.3, 0.8, k)

    def objective(h: Array, rows: Rows) -> tuple[Array, Array]:
        total = (c * h**gamma).sum(1)
        return 1 / total, -(c * gamma * np.maximum(h, 1e-12) ** (gamma - 1)) / total[:, None] ** 2

    free = Limits(np.zeros(k), np.ones(k))
    assert lowest(objective, starts(free), free) == pytest.approx(closed_form(c, gamma), abs=1e-5)


def test_starts_have_limits_of_their_own_where_they_are_given():
    limits = Limits(np.zeros(3), np.ones(3)).pinned(1, np.array([0.1, 0.6]))
    target = np.array([0.5, 0.3, 0.2])
    ends, values = minimise_mixture(
        lambda h, rows: (((h - target) ** 2).sum(1), 2 * (h - target)), np.full((2, 3), 1 / 3), limits
    )
    assert ends[:, 1] == pytest.approx([0.1, 0.6])
    np.testing.assert_allclose(ends[:, 0] - ends[:, 2], [0.3, 0.3], atol=1e-5)
    assert values == pytest.approx(((ends - target) ** 2).sum(1))


# limits inside which a nonmonotone descent without sufficient decrease repeats four mixtures
CIRCLING = (
    np.zeros((1, 5)),
    Limits(
        np.array([0.99470199, 0.0, 0.0, 0.0, 0.0]),
        np.array([0.99470199, 0.0013245, 0.0013245, 0.0013245, 1.0]),
        (Group(np.array([0, 1]), 0.9947019867549669, 0.9960264900662252), Group(np.array([2, 3]), 0.0, 0.0026490066)),
    ),
)


@given(projections(), st.integers(0, 2**32 - 1))
@example(CIRCLING, 0)
def test_a_descent_inside_limits_ends_where_no_allowed_mixture_is_better(case, seed):
    """A convex quadratic whose minimum is mostly outside of the limits, against many allowed mixtures."""
    h, limits = case
    rng = np.random.default_rng(seed)
    k = h.shape[1]
    target, root = rng.dirichlet(np.ones(k)), rng.normal(size=(k, k))
    bend = root @ root.T + 0.1 * np.eye(k)

    def objective(h: Array, rows: Rows) -> tuple[Array, Array]:
        slope = (h - target) @ bend
        return 0.5 * (slope * (h - target)).sum(1), slope

    end, value = minimise_mixture(objective, h, limits)
    others = project(
        np.vstack([rng.dirichlet(np.ones(k), 50), 0.9 * end + 0.1 * rng.dirichlet(np.ones(k), 50)]), limits
    )
    assert value[0] <= objective(others, np.arange(100))[0].min() + 1e-7
    assert value[0] == pytest.approx(objective(end, np.arange(1))[0][0], abs=1e-12)


def test_starts_that_converge_at_different_times_keep_their_own_objective_and_limits():
    """Every start has a target and limits of its own; some are there at once, one needs many steps."""
    rng = np.random.default_rng(0)
    targets, stiff = rng.dirichlet(np.ones(4), 12), np.logspace(-3, 3, 12)[:, None] * [1.0, 10.0, 100.0, 1.0]
    low = np.tile([0.0, 0.0, 0.0, 0.05], (12, 1))
    low[:, 1] = np.linspace(0, 0.5, 12)
    asked = []

    def objective(h: Array, rows: Rows) -> tuple[Array, Array]:
        asked.append(len(rows))
        off, scale = h - targets[rows], stiff[rows]
        return (scale * off**2).sum(1), 2 * scale * off

    limits = Limits(low, np.ones((12, 4)))
    together, values = minimise_mixture(objective, targets[::-1], limits)
    assert min(asked) < 12  # converged ones are not evaluated any more
    for i in range(12):
        rows = np.array([i])
        alone, value = minimise_mixture(
            lambda h, _, rows=rows: objective(h, rows), targets[::-1][rows], limits.rows(rows)
        )
        assert together[i] == pytest.approx(alone[0], abs=3e-5 / stiff[i, 0] ** 0.5)
        assert values[i] == pytest.approx(value[0], abs=1e-8)
        assert (together[i] >= low[i] - 1e-9).all()


@pytest.mark.parametrize("seed", all_slow_but(range(30), range(300)))
def test_projections_of_very_uneven_mixtures_stay_inside_of_tight_groups(seed):
    """Most weights are near 0 and most limits nearly met, so that sums bend often and steeply."""
    rng = np.random.default_rng(seed)
    k = int(rng.integers(4, 12))
    inside, h = rng.dirichlet(np.full(k, rng.choice([0.05, 0.3, 1]))), rng.dirichlet(np.full(k, 0.2), 20)
    low = inside * rng.random(k) * (rng.random(k) < 0.6)
    high = inside + (1 - inside) * rng.random(k) * (rng.random(k) < 0.7)
    groups = []
    for members in (np.arange(2), np.arange(2, k - 1)):
        total = inside[members].sum()
        least, most = total * rng.random(), total + (1 - total) * rng.random()
        groups.append(Group(members, max(least, low[members].sum()), min(most, high[members].sum())))
    once = project(h, Limits(low, high, tuple(groups)))
    np.testing.assert_allclose(once.sum(1), 1, atol=1e-9)
    assert (once >= low - 1e-9).all()
    assert (once <= high + 1e-9).all()
    for group in groups:
        sums = once[:, group.members].sum(1)
        assert (sums >= group.low - 1e-9).all()
        assert (sums <= group.high + 1e-9).all()


@given(seed=st.integers(0, 2**32 - 1), parts=st.integers(2, 4))
@settings(max_examples=10)
def test_parts_are_mixtures_of_their_own(seed: int, parts: int) -> None:
    rng = np.random.default_rng(seed)
    one = Limits(np.array([0.1, 0.0, 0.0, 0.0]), np.array([1.0, 0.6, 1.0, 1.0]), [Group(np.array([0, 2]), 0.3, 0.5)])
    all_parts, h = replace(one, parts=parts), rng.dirichlet(np.ones(4), (5, parts))
    projected = project(h.reshape(5, -1) / parts, all_parts).reshape(h.shape) * parts
    for p in range(parts):
        np.testing.assert_allclose(projected[:, p], project(h[:, p], one), atol=1e-12)
    goals = rng.dirichlet(np.ones(4), parts)
    values = minimise_mixture(distance_to(goals.ravel() / parts), starts(all_parts), all_parts)[1]
    alone = [minimise_mixture(distance_to(goal), starts(one)[:1], one)[1][0] for goal in goals]
    np.testing.assert_allclose(values, sum(alone) / parts**2, atol=1e-8)


def distance_to(goal: Array) -> Callable[[Array, Rows], tuple[Array, Array]]:
    """Return the squared distance to a point as an objective."""
    return lambda h, _: (((h - goal) ** 2).sum(1), 2 * (h - goal))
