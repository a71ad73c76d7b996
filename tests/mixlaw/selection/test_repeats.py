"""When `auto` takes the law of repeated domains, and when it does not; tables of one corpus."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mixlaw.errors import FitError
from mixlaw.fitting.estimator import LawFit
from mixlaw.fitting.identifiability import repeated
from mixlaw.laws.registry import LAWS
from mixlaw.selection.candidates import candidates
from mixlaw.selection.fit_laws import fit_laws
from mixlaw.selection.splits import held_out
from mixlaw.tables.check import check_frame
from tests.mixlaw.synthetic import TRUTHS, UNITS, pool_study, study

LAW = "multiplicative-repeats"
QUICK = {"n_starts": 2, "n_bootstrap": 2, "n_jobs": 1}


def test_auto_considers_repetition_only_where_rows_repeat():
    assert LAW in candidates(pool_study("multiplicative"))
    assert LAW not in candidates(study("multiplicative"))
    assert LAW not in candidates(pool_study("multiplicative", epochs=1.0))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_auto_takes_the_law_of_repetition_where_it_matters(seed):
    laws = fit_laws(pool_study(LAW, noise=0.004, seed=seed), **QUICK)
    assert laws.chosen == LAW
    assert "held-out rows that repeat a domain show with 95 % confidence that repetition matters" in laws.reason


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_auto_keeps_the_law_of_fresh_tokens_where_repetition_is_free(seed):
    laws = fit_laws(pool_study("multiplicative", noise=0.01, seed=seed), **QUICK)
    assert laws.chosen == "multiplicative"
    assert "do not show with 95 % confidence that repetition matters" in laws.reason


def test_known_parameters_are_recovered_and_unseen_pools_predicted():
    fit = LawFit(LAW, n_starts=4, n_bootstrap=2).fit(pool_study(LAW)).fitted_
    truth, found = LAWS[LAW].natural(TRUTHS[LAW], fit.domains), fit.params.loc["main"]
    assert [found[name] for name in ("R", "p", "delta", "sigma")] == pytest.approx(
        [truth[name] for name in ("R", "p", "delta", "sigma")], rel=0.05
    )
    unseen = pool_study(LAW, seed=1)
    error = {}
    for law in (fit, LawFit("multiplicative", n_starts=4, n_bootstrap=2).fit(pool_study(LAW)).fitted_):
        predicted = law.predict(unseen)
        error[law.name] = np.abs(1 - predicted["predicted"] / predicted["observed"])[repeated(unseen)].mean()
    assert error[LAW] < 2e-3 < 4e-3 < error["multiplicative"]


AT_ONE = {"-fixed-n": ["n_params"], "-fixed-d": ["n_tokens"], "-fixed-nd": ["n_params", "n_tokens"]}


@pytest.mark.parametrize("form", AT_ONE)
def test_tables_of_one_size_or_one_number_of_tokens_have_laws_of_repetition_too(form):
    table = pool_study(LAW)
    one = table.rows((table.frame[AT_ONE[form]] == table.frame[AT_ONE[form]].max()).all(axis=1))
    assert LAW + form in candidates(one)
    error = {}
    for name in (LAW, "multiplicative"):
        fit = LawFit(name + form, n_starts=4, n_bootstrap=2).fit(one).fitted_
        predicted = fit.predict(one)
        error[name] = np.abs(1 - predicted["predicted"] / predicted["observed"])[repeated(one)].mean()
    assert error[LAW] < 0.5 * error["multiplicative"]


def test_a_law_of_several_sizes_is_still_refused_for_one_with_the_form_to_use():
    table = pool_study(LAW)
    one = table.rows(table.frame["n_params"] == table.frame["n_params"].max())
    with pytest.raises(FitError, match=r"the N term cannot be fitted; use .*: multiplicative-repeats-fixed-n$"):
        LawFit(LAW).fit(one)


def test_a_fifth_of_the_mixtures_is_a_fifth_of_the_pools_where_runs_differ_in_them():
    table = pool_study(LAW)
    one_mixture = table.frame.assign(**{f"weight_{d}": 1 / 3 for d in table.domains})
    held = held_out(check_frame(one_mixture.drop(columns=["row"], errors="ignore"), "study"), "mixture")
    assert 0 < held.sum() < len(held)


def test_domains_whose_tokens_a_table_does_not_state_count_as_unlimited():
    table = pool_study(LAW)
    scarce = table.frame["available_docs"].to_numpy()
    only_docs = replace(table, frame=table.frame.drop(columns=["available_code", "available_web"]))
    everything = table.frame.assign(available_code=1e30, available_web=1e30)
    assert scarce.min() < 1e13
    fits = [
        LawFit(LAW, n_starts=2, n_bootstrap=2).fit(replace(table, frame=f)).fitted_
        for f in (only_docs.frame, everything)
    ]
    np.testing.assert_allclose(*[fit.target("main").theta for fit in fits], rtol=1e-9)
    assert repeated(only_docs).sum() < repeated(table).sum()


def corpus(noise=0.005):
    """Return runs of one corpus with 1 to 60 epochs, whose losses coupled-repeats gives."""
    rng = np.random.default_rng(0)
    n, d, epochs = (axis.ravel() for axis in np.meshgrid([2e7, 1e8, 5e8], [2e9, 1e10, 5e10], [1, 2, 4, 10, 30, 60.0]))
    law = LAWS["coupled-repeats"]
    theta = np.array(
        [[np.log(1.2), np.log(20.0), np.log(1.5), 0.4, 0.6, np.log(2.0), *np.log([0.3, 0.35, 0.25, 0.3, 0.1])]]
    )
    x = UNITS.inputs(n, d, np.ones((1, len(n))), columns={"available": d[None] / epochs / UNITS.n_tokens})
    loss = law.loss(theta, x)[0] + noise * rng.normal(size=len(n))
    return check_frame(
        pd.DataFrame({"n_params": n, "n_tokens": d, "unique_tokens": d / epochs, "loss_c4": loss}), "corpus"
    )


def test_one_corpus_with_unique_tokens_is_fitted():
    table = corpus()
    assert "coupled-repeats" in candidates(table)
    laws = fit_laws(table, **QUICK)
    assert laws.chosen == "coupled-repeats"


@pytest.mark.parametrize(("form", "column"), [("-fixed-n", "n_params"), ("-fixed-d", "n_tokens")])
def test_one_corpus_at_one_size_or_one_number_of_tokens_is_fitted(form, column):
    table = corpus()
    one = table.rows(table.frame[column] == table.frame[column].median())
    assert f"coupled-repeats{form}" in candidates(one)
    error = {
        name: LawFit(name + form, n_starts=4, n_bootstrap=2).fit(one).fitted_.scores(one)["mre"].item()
        for name in ("coupled-repeats", "base")
    }
    assert error["coupled-repeats"] < 0.5 * error["base"]
