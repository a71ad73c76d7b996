"""Experimental design: posteriors against least squares, gains against conditioning, choices against random ones."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.advice.constraints import Question
from mixlaw.advice.decision import Decision
from mixlaw.advice.design import Size, as_runs, candidates, plan_study, spread
from mixlaw.advice.expected_errors import draw_from_prior, expected
from mixlaw.advice.next_runs import next_runs, trained
from mixlaw.advice.posterior import Noise, Posterior, curves, posterior_of
from mixlaw.errors import ConfigError, FitError
from mixlaw.fitting.estimator import LawFit
from mixlaw.fitting.saved import FittedLaws
from mixlaw.laws.law import Units
from mixlaw.laws.registry import get_law
from mixlaw.tables.table import Table
from tests.mixlaw.synthetic import DOMAINS, study

LAW, UNITS = get_law("multiplicative"), Units(1e8, 1e9)
BIG = Question(1e9, 1e11, {"main": 1.0})
NOISE = Noise(0.01, 0.004)


def runs_of(count: int, size: float = 1e8) -> pd.DataFrame:
    return as_runs("fit", Size("m", size, 20 * size), spread(3, count), DOMAINS)


@pytest.fixture(scope="module")
def table() -> Table:
    return study("multiplicative", noise=0.02)


@pytest.fixture(scope="module")
def laws(table: Table) -> FittedLaws:
    fit = LawFit("multiplicative", n_bootstrap=40).fit(table).fitted_
    ranges = {c: (float(table.frame[c].min()), float(table.frame[c].max())) for c in ("n_params", "n_tokens")}
    return FittedLaws({"multiplicative": fit}, "multiplicative", "", ranges, table.mixtures, {}, {}, [], "")


@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_whitened_rows_have_the_inverse_of_the_covariance(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    runs = np.repeat(np.arange(len(sizes)), sizes)
    jacobian = rng.normal(size=(2, 3, len(runs)))
    covariance = NOISE.run**2 * (runs[:, None] == runs) + NOISE.row**2 * np.eye(len(runs))
    white = NOISE.whiten(jacobian, runs)
    exact = jacobian @ np.linalg.inv(covariance) @ jacobian.swapaxes(1, 2)
    assert np.allclose(white @ white.swapaxes(1, 2), exact, rtol=1e-9)


def test_the_posterior_is_that_of_generalised_least_squares() -> None:
    rng = np.random.default_rng(0)
    theta = draw_from_prior(LAW, 3, 2, rng)
    runs = runs_of(30)
    known = Posterior.prior(LAW, UNITS, theta, NOISE, 3).given(runs, DOMAINS, (5, 1.5))
    rows = curves(runs, (5, 1.5))
    h = rows[[f"weight_{d}" for d in DOMAINS]].to_numpy()
    x = UNITS.inputs(rows["n_params"].to_numpy(), rows["n_tokens"].to_numpy(), h.T)
    jacobian = LAW.loss_and_jacobian(theta[:1], x)[1][0]
    number = rows["run_id"].to_numpy()
    covariance = NOISE.run**2 * (number[:, None] == number) + NOISE.row**2 * np.eye(len(number))
    prior = np.linalg.inv(Posterior.prior(LAW, UNITS, theta, NOISE, 3).covariance[0])
    exact = np.linalg.inv(prior + jacobian @ np.linalg.inv(covariance) @ jacobian.T)
    assert np.allclose(known.covariance[0], exact, rtol=1e-6, atol=1e-9)


def test_the_gain_of_a_run_is_the_variance_that_conditioning_on_it_removes(table: Table, laws: FittedLaws) -> None:
    decision = Decision(laws.best, BIG, {}, table, (4, 1.4))
    offered = runs_of(9, 5e8)
    part, (offer,) = decision.parts[0], decision.whitened(offered)
    before, gain = part.variance(), part.gain(offer)
    after = posterior_of(laws.best, table, "main").given(offered.iloc[[4]], DOMAINS, (4, 1.4))
    part.update(offer[:, :, 4])
    assert before - part.variance() == pytest.approx(gain[4], rel=1e-6)
    assert np.allclose(part.posterior.covariance, after.covariance, rtol=1e-5, atol=1e-10)


def test_curves_are_the_evaluations_of_the_trainer() -> None:
    rows = curves(runs_of(2), (3, 1.25))
    assert rows["run_id"].tolist() == [0, 0, 0, 1, 1, 1]
    assert np.allclose(rows["n_tokens"][:3], 2e9 / np.array([1.25**2, 1.25, 1.0]))


def test_noise_is_split_into_what_a_run_and_what_a_row_has(table: Table) -> None:
    """The study's noise has half of its variance in each."""
    noise = Noise.of(LawFit("multiplicative", n_bootstrap=1).fit(table).fitted_, table, "main")
    assert noise.run == pytest.approx(0.02 / 2**0.5, rel=0.5)
    assert noise.row == pytest.approx(0.02 / 2**0.5, rel=0.5)


@pytest.mark.slow
def test_chosen_runs_reduce_variance_more_than_others_of_the_same_cost(table: Table, laws: FittedLaws) -> None:
    decision = Decision(laws.best, BIG, {}, table, (7, 1.3))
    offered = candidates(DOMAINS, [Size("m", 1e8, 2e9)], decision.contenders)
    proposal = next_runs(laws, BIG, table, offered, 5)
    sd = proposal.runs[["sd_before", "sd_after"]].to_numpy()
    assert sd[0, 0] == pytest.approx(decision.sd())
    assert (sd[:, 1] < sd[:, 0]).all()
    assert np.allclose(sd[1:, 0], sd[:-1, 1])
    rng = np.random.default_rng(0)
    for _ in range(10):
        other = Decision(laws.best, BIG, {}, table, (7, 1.3))
        picked = offered.iloc[rng.choice(len(offered), 5, replace=False)]
        for i in range(5):
            for part, offer in zip(other.parts, other.whitened(picked), strict=True):
                part.update(offer[:, :, i])
        assert other.sd() > sd[-1, 1]


def test_of_two_equally_informative_runs_the_cheaper_one_is_chosen(table: Table, laws: FittedLaws) -> None:
    run = runs_of(1)
    nearly = run.assign(flops=10 * run["flops"], n_tokens=run["n_tokens"] * 1.5)
    offered = pd.concat([nearly, run], ignore_index=True)
    assert next_runs(laws, BIG, table, offered, 1).runs["flops"].item() == run["flops"].item()
    first, second = next_runs(laws, BIG, table, offered, 2).runs.to_dict("records")
    told = [row["sd_before"] ** 2 - row["sd_after"] ** 2 for row in (first, second)]
    assert told[0] > told[1] > 0  # a similar run adds less information
    swapped = offered.assign(flops=offered["flops"].to_numpy()[::-1])
    whatever_it_costs = [
        next_runs(laws, BIG, table, o, 1, by="runs").runs["n_tokens"].item() for o in (offered, swapped)
    ]
    assert whatever_it_costs[0] == whatever_it_costs[1]


def test_the_same_run_again_is_no_candidate(table: Table, laws: FittedLaws) -> None:
    run = runs_of(2)
    offered = pd.concat([run.assign(flops=10 * run["flops"]), run], ignore_index=True)
    assert next_runs(laws, BIG, table, offered, 2).runs["flops"].tolist() == run["flops"].tolist()
    with pytest.raises(ConfigError, match="cannot choose 3 runs from 2 candidates"):
        next_runs(laws, BIG, table, offered, 3)


def test_mixtures_that_may_be_best_keep_to_the_limits_of_the_decision(table: Table, laws: FittedLaws) -> None:
    fit = laws.best
    limited = replace(BIG, caps={"docs": 0.6}, floors={"web": 0.2})
    free, kept = (Decision(fit, q, {}, table, (7, 1.3)).contenders for q in (BIG, limited))
    web, docs = DOMAINS.index("web"), DOMAINS.index("docs")
    assert kept[:, docs].max() <= 0.6 + 1e-9
    assert kept[:, web].min() >= 0.2 - 1e-9
    assert not np.allclose(free, kept)


def test_a_run_that_was_trained_already_is_no_candidate(table: Table, laws: FittedLaws) -> None:
    last = table.frame.sort_values("n_tokens").groupby("run_id").tail(1).head(3)
    same = last.assign(flops=1.0).drop(columns=["run_id", "row", "loss_main"])
    longer = same.assign(n_tokens=1.1 * same["n_tokens"])
    other = same.assign(weight_code=same["weight_code"] - 0.01, weight_web=same["weight_web"] + 0.01)
    offered = pd.concat([same, longer, other], ignore_index=True)
    assert trained(offered, table).tolist() == [True] * 3 + [False] * 6
    with pytest.raises(ConfigError, match="cannot choose 7 runs from 6 candidates"):
        next_runs(laws, BIG, table, offered, 7)


def test_an_empty_loss_changes_little(table: Table) -> None:
    frame = table.frame.assign(loss_main=table.frame["loss_main"].where(table.frame.index != 7))
    holed = Table(frame, table.domains, table.targets)
    whole, less = (Noise.of(LawFit("multiplicative", n_bootstrap=1).fit(t).fitted_, t, "main") for t in (table, holed))
    assert less.run == pytest.approx(whole.run, rel=0.2)
    assert less.row == pytest.approx(whole.row, rel=0.2)


@pytest.mark.slow  # plans two studies
def test_more_runs_lower_the_expected_errors() -> None:
    sizes = [Size("a", 1e7, 2e8), Size("b", 4e7, 8e8), Size("c", 1e8, 2e9)]
    found = []
    for budget in (3e19, 3e20):
        runs = plan_study(DOMAINS, sizes, budget)
        found.append(expected(runs[runs["role"] == "fit"], DOMAINS, BIG, NOISE))
    assert found[1].prediction < 0.7 * found[0].prediction
    assert found[1].weight < found[0].weight
    assert 0 < found[1].regret < found[0].regret


@pytest.mark.slow  # nine fits
def test_the_expected_error_of_a_prediction_is_the_one_that_fits_make() -> None:
    """Fits of many noisy copies of one study scatter as their Fisher information predicts, within a factor of two."""
    first = study("multiplicative", noise=0.0)
    clean = LawFit("multiplicative", n_bootstrap=1).fit(first).fitted_
    weights = {"weight_code": 0.2, "weight_docs": 0.3, "weight_web": 0.5}
    asked = pd.DataFrame({"n_params": [1e9], "n_tokens": [1e11]} | weights)
    found = []
    for seed in range(8):
        noisy = LawFit("multiplicative", n_bootstrap=1).fit(study("multiplicative", noise=0.003, seed=seed))
        found.append(noisy.predict(asked)["predicted"].item())
    theta, noise = clean.target("main").theta[None], Noise(0.003 / 2**0.5, 0.003 / 2**0.5)
    known = Posterior.prior(LAW, clean.units, theta, noise, 3).given(first.frame, DOMAINS)
    x = clean.units.inputs(np.array([1e9]), np.array([1e11]), np.array([[0.2], [0.3], [0.5]]))
    sd = known.sd(known.jacobian(x))[0, 0]
    assert 0.4 < np.std(found) / sd < 2.0


def test_what_cannot_be_chosen_is_refused(table: Table, laws: FittedLaws) -> None:
    own = Table(table.frame.rename(columns={"loss_main": "loss_web"}), table.domains, ["web"])
    with pytest.raises(ConfigError, match="cannot choose 20 runs from 3 candidates"):
        next_runs(laws, BIG, table, runs_of(3), 20)
    with pytest.raises(FitError, match="cannot say which runs to train next"):
        posterior_of(LawFit("d-cpt", n_bootstrap=2, n_starts=2).fit(own).fitted_, own, "web")
