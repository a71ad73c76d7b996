"""The solver: it minimises the Huber loss from every start, inside the box, and agrees with SciPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from mixlaw.fitting import levenberg_marquardt as solver
from mixlaw.fitting.levenberg_marquardt import Members, Problem, huber, minimise, objective, scaled_to_data
from mixlaw.laws.jacobian import Array
from mixlaw.laws.law import Law
from mixlaw.laws.published import Formula
from mixlaw.laws.registry import LAWS
from mixlaw.laws.terms import Inputs
from mixlaw.laws.tree import Sum

X = np.linspace(0, 3, 40)
DELTA = 1e-3
DECAY = Law(
    "decay",
    "a + b exp(-c D)",
    "this test",
    Sum(Formula(lambda p, x: p.a + p.b * np.exp(-p.c * x.log_d), "D", a=(0.01, 10), b=(0.01, 10), c=(0.01, 10))),
)


def decay(*true: float) -> Array:
    a, b, c = true
    return a + b * np.exp(-c * X)


def problem(y: Array, weight: Array | None = None, **more) -> Problem:
    """The curve that decays, seen at X; one domain, of which there is all."""
    x = Inputs.of(np.zeros(len(X)), X, np.ones((1, len(X))))
    y = np.atleast_2d(y)
    weight = np.full(y.shape, 1 / len(X)) if weight is None else np.atleast_2d(weight)
    return Problem(DECAY, x, y, weight, np.arange(len(X)), **more)


def joint(seed: int, noise: float = 0.005, n: int = 40) -> tuple[Problem, Members]:
    """The joint law on some rows, 5 random starts and 5 near the truth."""
    law, rng = LAWS["joint"], np.random.default_rng(seed)
    x = Inputs.of(rng.normal(size=n), rng.normal(size=n), rng.dirichlet(np.ones(3), n).T)
    draw = lambda count: np.clip(law.term.start(rng, count, 3), *law.bounds(3))  # noqa: E731
    true = draw(1)
    y = law.loss(true, x) + noise * rng.standard_t(2, n)
    near = np.clip(true + 0.05 * rng.normal(size=(5, true.shape[1])), *law.bounds(3))
    starts = np.concatenate([draw(5), near])
    return Problem(law, x, y, np.full((1, n), 1 / n), np.arange(n)), Members(starts, np.zeros(10, int))


def solve(what: Problem, starts: Array, iterations: int = 80) -> solver.Solution:
    return minimise(what, Members(np.log(np.atleast_2d(starts)), np.zeros(len(np.atleast_2d(starts)), int)), iterations)


def test_huber_is_quadratic_inside_and_linear_outside():
    values = huber(np.array([0.0, 0.5, -1.0, 2.0, -3.0]), 1.0)
    assert values.tolist() == [0.0, 0.125, 0.5, 1.5, 2.5]


@given(st.floats(-100, 100), st.floats(1e-4, 10))
def test_huber_never_exceeds_the_square_nor_the_line(residual, delta):
    value = float(huber(np.array(residual), delta))
    assert value <= residual**2 / 2 * (1 + 1e-12)
    assert value <= delta * abs(residual)


def test_the_objective_weighs_the_rows_and_resampled_runs_multiply_their_weights():
    x = Inputs.of(np.zeros(3), np.zeros(3), np.ones((1, 3)))
    three = Problem(DECAY, x, np.array([[1.0, 1.0, 2.0]]), np.array([[0.5, 0.25, 0.25]]), np.array([0, 0, 1]), 1.0)
    theta = np.log([[1.0, 0.5, 1.0]])  # predicts 1.5
    assert objective(three, Members(theta, np.zeros(1, int))).tolist() == pytest.approx([0.125])
    other = Problem(DECAY, x, np.array([[1.0, 1.5, 3.0]]), three.weight, three.runs, 1.0)
    of_run = [Members(theta, np.zeros(1, int), np.array([w])) for w in ([1.0, 0.0], [0.0, 1.0])]
    assert [objective(other, m)[0] for m in of_run] == pytest.approx([0.125 * 2 / 3, 1.0])


def test_a_prediction_that_is_no_number_is_worse_than_any_other():
    members = Members(np.array([[800.0, 0.0, 0.0], [0.0, 0.0, 0.0]]), np.zeros(2, int))
    with np.errstate(over="ignore"):
        worst, fine = objective(problem(decay(1, 1, 1)), members)
    assert np.isfinite(worst)
    assert worst > 1e3 * max(fine, 1e-9)


@pytest.mark.parametrize("logarithmic", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_scipy_finds_the_same_predictions(seed, logarithmic):
    rng = np.random.default_rng(seed)
    true = np.array([rng.uniform(1, 3), rng.uniform(0.5, 2), rng.uniform(0.3, 2)])
    y = decay(*true) + 3e-4 * rng.normal(size=len(X))
    y[::13] += 0.02  # beyond the threshold, so that both have to be robust
    ours = solve(problem(y, logarithmic=logarithmic), true * rng.uniform(0.4, 2, (6, 3)))
    turn = np.log if logarithmic else (lambda v: v)
    scipy = least_squares(
        lambda t: turn(decay(*t)) - turn(y), true, loss="huber", f_scale=DELTA, xtol=1e-15, ftol=1e-15, gtol=1e-15
    )
    best = np.exp(ours.theta[ours.objective.argmin()])
    np.testing.assert_allclose(decay(*best), decay(*scipy.x), atol=1e-6, rtol=0)
    assert ours.objective.min() <= scipy.cost / len(X) * (1 + 1e-6)


@pytest.mark.parametrize("name", ["additive", "joint", "simple", "ye-m4"])
def test_scipy_finds_the_same_predictions_of_mixture_laws_from_the_same_start(name):
    """With a wide threshold the problem is smooth least squares, whose minimum both must find."""
    law, rng = LAWS[name], np.random.default_rng(3)
    x = Inputs.of(rng.normal(size=150), rng.normal(size=150), rng.dirichlet(np.ones(2), 150).T)
    true = np.clip(law.term.start(np.random.default_rng(5), 1, 2), *law.bounds(2))
    y = law.loss(true, x) + 0.003 * rng.normal(size=150)
    what = Problem(law, x, y, np.full((1, 150), 1 / 150), np.arange(150), 1.0)
    start = np.clip(true + 0.02 * rng.normal(size=true.shape), *law.bounds(2))
    ours = minimise(what, Members(start, np.zeros(1, int)), 3000, (), gain=1e-12)
    scipy = least_squares(
        lambda t: law.loss(t[None], x)[0] - y[0],
        start[0],
        lambda t: law.loss_and_jacobian(t[None], x)[1][0].T,
        bounds=law.bounds(2),
        x_scale="jac",
        xtol=1e-15,
        ftol=1e-15,
        gtol=1e-15,
        max_nfev=5000,
    )
    assert ours.objective[0] <= scipy.cost / 150 * (1 + 1e-6)
    np.testing.assert_allclose(law.loss(ours.theta, x)[0], law.loss(scipy.x[None], x)[0], atol=1e-5, rtol=0)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), iterations=st.integers(1, 40))
def test_no_member_ends_above_its_start_or_outside_of_the_box(seed, iterations):
    what, members = joint(seed)
    once = minimise(what, members, iterations)
    twice = minimise(what, members.moved(once.theta), iterations)
    low, high = what.law.bounds(3)
    assert (once.objective <= objective(what, members) * (1 + 1e-12)).all()
    assert (twice.objective <= once.objective).all()
    assert ((twice.theta >= low) & (twice.theta <= high)).all()


def test_the_objective_that_is_reported_is_that_of_the_parameters():
    what, members = joint(3)
    solution = minimise(what, members, 80)
    np.testing.assert_allclose(solution.objective, objective(what, members.moved(solution.theta)), rtol=1e-9)


def test_a_minimum_outside_of_the_box_is_found_on_its_wall():
    y = decay(2.0, 1.0, 20.0)
    solution = solve(problem(y), [[1.0, 1.0, 3.0], [3.0, 0.5, 2.0]])
    assert np.exp(solution.theta[:, 2]) == pytest.approx([10.0, 10.0])
    free = least_squares(lambda t: decay(*t, 10.0) - y, [1, 1], loss="huber", f_scale=DELTA, xtol=1e-15, ftol=1e-15)
    assert np.exp(solution.theta[0, :2]) == pytest.approx(free.x, abs=1e-4)


def test_gross_outliers_do_not_move_the_answer():
    y = decay(2.0, 1.0, 0.8)
    y[::8] += 5.0
    solution = solve(problem(y), [[1.0, 2.0, 1.5]])
    assert np.abs(decay(*np.exp(solution.theta[0])) - decay(2.0, 1.0, 0.8)).max() < DELTA


def test_rows_of_no_weight_do_not_matter():
    weight = np.where(np.arange(len(X)) % 4 == 0, 0.0, 1.0)
    wrong = np.where(weight == 0, 77.0, decay(2.0, 1.0, 0.8))
    solution = solve(problem(wrong, weight / weight.sum()), [[1.0, 2.0, 1.5]])
    np.testing.assert_allclose(decay(*np.exp(solution.theta[0])), decay(2.0, 1.0, 0.8), atol=1e-7)


@pytest.mark.parametrize(("tile", "kept"), [(1, 1 << 25), (1 << 20, 1 << 25), (1 << 20, 1), (1, 1)])
def test_members_do_not_disturb_each_other_nor_do_tiles_and_blocks_of_rows(monkeypatch, tile, kept):
    """Targets are fitted side by side; 1: every member in a tile of its own, every row in a block of its own."""
    monkeypatch.setattr(solver, "TILE_FLOATS", tile)
    monkeypatch.setattr(solver, "KEPT_FLOATS", kept)
    rng = np.random.default_rng(0)
    true = rng.uniform([1, 0.5, 0.3], [3, 2, 2], (6, 3))
    seen = rng.random((6, len(X))) < 0.5
    what = problem(np.where(seen, [decay(*t) for t in true], 50.0), seen / seen.sum(1, keepdims=True))
    starts = np.where(np.arange(6)[:, None] % 2, [1.0, 4.0, 3.0], true)
    solution = minimise(what, Members(np.log(starts), np.arange(6)), 120)
    np.testing.assert_allclose(np.exp(solution.theta), true, rtol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_a_law_without_noise_is_solved_exactly_from_nearby(seed):
    what, members = joint(seed, noise=0.0)
    solution = minimise(what, members.take(slice(5, 10)), 200)
    assert np.sqrt(2 * solution.objective.min()) < 1e-6


def test_a_penalty_pulls_to_its_centre_as_much_as_it_is_precise():
    y = decay(2.0, 1.0, 0.8)
    ends = []
    for precision in (0.0, 1e-9, 1e3):
        prior = (np.log([[4.0, 1.0, 1.0]]), np.array([[precision, 0.0, 0.0]]))
        start = Members(np.log([[2.5, 1.5, 1.0]]), np.zeros(1, int), None, prior)
        ends.append(np.exp(minimise(problem(y), start, 300).theta[0, 0]))
    assert ends == pytest.approx([2.0, 2.0, 4.0], rel=1e-3)


def test_amplitudes_of_starts_fit_the_data_and_nothing_else_is_moved():
    law, rng = LAWS["additive"], np.random.default_rng(0)
    x = Inputs.of(rng.normal(size=60), rng.normal(size=60), rng.dirichlet(np.ones(3), 60).T)
    true = np.clip(law.term.start(rng, 1, 3), *law.bounds(3))
    what = Problem(law, x, law.loss(true, x), np.full((1, 60), 1 / 60), np.arange(60))
    off = true.copy()
    amplitudes = [0, 7, 9]  # E, A, B
    off[:, amplitudes] += [[0.7, -1.0, 0.5]]
    off[:, 1:4] += 0.9  # all C_i by one factor
    found = scaled_to_data(what, Members(off, np.zeros(1, int)), 0.03)
    np.testing.assert_allclose(found.theta, true, atol=1e-4)
