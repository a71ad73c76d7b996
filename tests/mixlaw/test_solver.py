"""The solver: the Huber loss is minimised, from every start, inside the box, and as another tool minimises it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from mixlaw import solver
from mixlaw.laws import LAWS, Array, Inputs
from mixlaw.solver import Model, huber, minimise, objective

X = np.linspace(0, 3, 40)
BOX = (np.full(3, 0.01), np.full(3, 10.0))
DELTA = 1e-3


def decay(theta: Array) -> tuple[Array, Array]:
    """a + b exp(-c x), which has one minimum where the data decay."""
    a, b, c = (theta[:, i, None] for i in range(3))
    fall = np.exp(-c * X)
    return a + b * fall, np.stack([np.ones_like(fall), fall, -b * X * fall], -1)


def law_problem(seed: int, noise: float = 0.005) -> tuple[Model, Array, Array, tuple[Array, Array]]:
    """Return the joint law on 40 rows: model, observations, starts (5 random ones, 5 near the truth) and box."""
    law, rng = LAWS["joint"], np.random.default_rng(seed)
    x = Inputs(rng.normal(size=40), rng.normal(size=40), rng.dirichlet(np.ones(3), 40))
    true = law.random(rng, 1, 3, 3.0, 0.7)
    y = law.loss(true, x)[0] + noise * rng.standard_t(2, 40)
    near = np.clip(true + 0.05 * rng.normal(size=(5, true.shape[1])), *law.bounds(3))
    starts = np.concatenate([law.random(rng, 5, 3, 3.0, 0.7), near])
    return lambda t: law.loss_and_jacobian(t, x), y, starts, law.bounds(3)


def solve(
    model: Model, y: Array, starts: Array, box: tuple[Array, Array], weight: Array | None = None, iterations: int = 80
) -> solver.Solution:
    rows = np.broadcast_to(y, (len(starts), len(y)))
    weight = np.full(len(y), 1 / len(y)) if weight is None else weight
    return minimise(model, rows, np.broadcast_to(weight, rows.shape), starts, box, DELTA, iterations)


def test_huber_is_quadratic_inside_and_linear_outside():
    values = huber(np.array([0.0, 0.5, -1.0, 2.0, -3.0]), 1.0)
    assert values.tolist() == [0.0, 0.125, 0.5, 1.5, 2.5]


@given(st.floats(-100, 100), st.floats(1e-4, 10))
def test_huber_never_exceeds_the_square_nor_the_line(residual, delta):
    value = float(huber(np.array(residual), delta))
    assert value <= residual**2 / 2 * (1 + 1e-12)
    assert value <= delta * abs(residual)


def test_the_objective_weighs_the_observations():
    values, y = np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 1.0, 1.0]])
    weight = np.array([[0.5, 0.5, 0.0]])
    assert objective(values, y, weight, 1.0).tolist() == [0.25]


def test_a_prediction_that_is_no_number_is_worse_than_any_other():
    y, weight = np.zeros((2, 2)), np.full((2, 2), 0.5)
    worst = objective(np.array([[np.nan, 0.0], [np.inf, 0.0]]), y, weight, DELTA)
    assert (worst > objective(np.full((2, 2), 1e5), y, weight, DELTA)[0] / 10).all()
    assert np.isfinite(worst).all()


@pytest.mark.parametrize("seed", range(5))
def test_scipy_finds_the_same_predictions(seed):
    rng = np.random.default_rng(seed)
    true = np.array([rng.uniform(1, 3), rng.uniform(0.5, 2), rng.uniform(0.3, 2)])
    y = decay(true[None])[0][0] + 3e-4 * rng.normal(size=len(X))
    y[::13] += 0.02  # beyond the threshold, so that both have to be robust
    ours = solve(decay, y, np.clip(true * rng.uniform(0.4, 2, (6, 3)), *BOX), BOX)
    scipy = least_squares(
        lambda t: decay(t[None])[0][0] - y, true, lambda t: decay(t[None])[1][0], bounds=BOX,
        loss="huber", f_scale=DELTA, xtol=1e-15, ftol=1e-15, gtol=1e-15,
    )  # fmt: skip
    best = ours.theta[ours.objective.argmin()]
    np.testing.assert_allclose(decay(best[None])[0], decay(scipy.x[None])[0], atol=1e-6, rtol=0)
    assert ours.objective.min() <= scipy.cost / len(X) * (1 + 1e-8)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), iterations=st.integers(1, 40))
def test_no_member_ends_above_its_start_or_outside_of_the_box(seed, iterations):
    model, y, starts, box = law_problem(seed)
    weight = np.full(starts.shape[:1] + y.shape, 1 / len(y))
    once = solve(model, y, starts, box, iterations=iterations)
    twice = solve(model, y, once.theta, box, iterations=iterations)
    before = objective(model(starts)[0], np.broadcast_to(y, weight.shape), weight, DELTA)
    assert (once.objective <= before).all()
    assert (twice.objective <= once.objective).all()
    assert ((twice.theta >= box[0]) & (twice.theta <= box[1])).all()


def test_the_objective_that_is_reported_is_that_of_the_parameters():
    model, y, starts, box = law_problem(3)
    solution = solve(model, y, starts, box)
    weight = np.full(starts.shape[:1] + y.shape, 1 / len(y))
    again = objective(model(solution.theta)[0], np.broadcast_to(y, weight.shape), weight, DELTA)
    np.testing.assert_allclose(solution.objective, again, rtol=1e-9)


def test_a_minimum_outside_of_the_box_is_found_on_its_wall():
    y = decay(np.array([[2.0, 1.0, 1.0]]))[0][0]
    box = (np.array([0.01, 0.01, 1.5]), np.full(3, 10.0))
    solution = solve(decay, y, np.array([[1.0, 1.0, 3.0], [3.0, 0.5, 2.0]]), box)
    assert solution.theta[:, 2] == pytest.approx([1.5, 1.5])
    free = least_squares(
        lambda t: decay(np.array([[*t, 1.5]]))[0][0] - y, [1, 1], loss="huber", f_scale=DELTA, xtol=1e-15, ftol=1e-15
    )
    assert solution.theta[0, :2] == pytest.approx(free.x, abs=1e-4)


def test_gross_outliers_do_not_move_the_answer():
    true = np.array([[2.0, 1.0, 0.8]])
    y = decay(true)[0][0]
    y[::8] += 5.0
    solution = solve(decay, y, np.array([[1.0, 2.0, 1.5]]), BOX)
    assert np.abs(decay(solution.theta)[0] - decay(true)[0]).max() < DELTA


def test_observations_of_no_weight_do_not_matter():
    true = np.array([[2.0, 1.0, 0.8]])
    weight = np.where(np.arange(len(X)) % 4 == 0, 0.0, 1.0)
    wrong = np.where(weight == 0, 77.0, decay(true)[0][0])
    solution = solve(decay, wrong, np.array([[1.0, 2.0, 1.5]]), BOX, weight / weight.sum())
    np.testing.assert_allclose(decay(solution.theta)[0], decay(true)[0], atol=1e-7)


@pytest.mark.parametrize("floats", [1, solver.MAX_BATCH_FLOATS])
def test_members_of_a_batch_do_not_disturb_each_other_also_when_some_are_done_at_once(monkeypatch, floats):
    monkeypatch.setattr(solver, "MAX_BATCH_FLOATS", floats)  # 1: every member in a part of its own
    rng = np.random.default_rng(0)
    true = rng.uniform([1, 0.5, 0.3], [3, 2, 2], (6, 3))
    seen = rng.random((6, len(X))) < 0.5
    rows = np.where(seen, decay(true)[0], 50.0)
    starts = np.where(np.arange(6)[:, None] % 2, [1.0, 4.0, 3.0], true)
    solution = minimise(decay, rows, seen / seen.sum(1, keepdims=True), starts, BOX, DELTA, 80)
    np.testing.assert_allclose(solution.theta, true, rtol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_a_law_without_noise_is_solved_exactly_from_nearby(seed):
    model, y, starts, box = law_problem(seed, noise=0.0)
    solution = solve(model, y, starts[5:], box)
    assert np.sqrt(2 * solution.objective.min()) < 1e-7
