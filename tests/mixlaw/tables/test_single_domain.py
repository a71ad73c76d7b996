"""Tables without a mixture: laws of N and D, the law of repeated tokens, and what is said where a mixture is asked."""

import numpy as np
import pandas as pd
import pytest

from mixlaw.advice.constraints import Question
from mixlaw.advice.recommend import recommend
from mixlaw.errors import FitError, RunLogError
from mixlaw.fitting.estimator import LawFit
from mixlaw.fitting.identifiability import repeats
from mixlaw.fitting.saved import FittedLaws
from mixlaw.selection.candidates import auto_laws, usual_laws
from mixlaw.selection.fit_laws import fit_and_choose
from mixlaw.tables.check import check_frame
from mixlaw.tables.table import Table
from tests.mixlaw.no_mixture import BASE, REPEATED, SIZES, bare, losses, repeated
from tests.mixlaw.synthetic import laws_of, study

QUICK = {"n_starts": 6, "n_bootstrap": 8}


def table(frame: pd.DataFrame) -> Table:
    return check_frame(frame, "mine")


def test_without_weights_auto_takes_the_base_and_the_coupled_law():
    data = table(bare(noise=0.002))
    assert auto_laws(data) == usual_laws(data) == ["base", "coupled"]
    choice = fit_and_choose(data, ["auto"], n_bootstrap=20)
    fit = choice.fits[choice.chosen]
    assert [trial.kind for trial in choice.trials] == ["scale"]
    new = table(bare(sizes=(1e9,), factors=(20, 200)))
    assert fit.scores(new)["mre"].item() < 1.0  # three times the largest size


def test_one_domain_that_is_everything_is_no_mixture():
    data = table(bare().assign(weight_web=1.0))
    assert auto_laws(data) == ["base", "coupled"]
    same = table(bare().assign(weight_web=0.7, weight_code=0.3))
    assert auto_laws(same) == ["base", "coupled"]
    rounded = bare().assign(weight_web=0.7 + 2e-4 * (np.arange(12) % 2))
    assert auto_laws(table(rounded.assign(weight_code=1 - rounded["weight_web"]))) == ["base", "coupled"]


@pytest.mark.parametrize(
    ("keep", "law", "truth"),
    [
        (lambda f: f["n_params"] == 1e8, "base-fixed-n", {"beta": 0.28, "B": 0.5}),
        (lambda f: f["n_tokens"] == 6e9, "base-fixed-d", {"alpha": 0.34, "A": 0.4}),
    ],
)
def test_where_only_n_or_only_d_varies_the_law_has_the_other_term_alone(keep, law, truth):
    tokens = (1e9, 2e9, 6e9, 2e10, 6e10)
    n, d = (a.ravel() for a in np.meshgrid((1e7, 3e7, 1e8, 3e8, 1e9), tokens, indexing="ij"))
    frame = losses("base", BASE, n, d)
    data = table(frame[keep(frame)])
    assert auto_laws(data) == [law]
    fit = LawFit(law, n_starts=8, n_bootstrap=8, prior_strength=0).fit(data).fitted_
    assert fit.scores(data)["mre"].item() < 1e-4
    symbol, rate = (("B", "beta"), ("A", "alpha"))["alpha" in truth]
    unit = (fit.units.n_tokens / 1e10) if symbol == "B" else (fit.units.n_params / 1e8)
    assert fit.params.loc["val", rate] == pytest.approx(truth[rate], rel=1e-3)
    assert fit.params.loc["val", symbol] == pytest.approx(truth[symbol] * unit ** -truth[rate], rel=1e-3)


def test_runs_that_are_all_the_same_support_no_law_and_the_sentence_says_why():
    n = np.full(6, 1e8)
    with pytest.raises(FitError, match="N, D and the mixture are the same in all rows; add runs"):
        auto_laws(table(losses("base", BASE, n, np.full(6, 1e9), noise=0.01)))


@pytest.mark.parametrize("column", ["unique_tokens", "available", "n_unique_tokens", "available_tokens"])
def test_unique_tokens_make_one_domain_of_a_table_without_weights(column):
    data = table(repeated(column=column))
    assert data.domains == ["all"]
    assert (data.frame["weight_all"] == 1).all()
    assert data.frame["available_all"].tolist() == repeated()["unique_tokens"].tolist()
    assert data.notes == [f"mine has no weights: all tokens are of one domain, 'all', which has {column} tokens"]
    named = table(repeated(column=column).assign(weight_web=1.0))
    assert named.domains == ["web"]
    assert "available_web" in named.frame


def test_a_pool_with_the_domains_name_works_without_weights_too():
    data = table(repeated(column="available_c4"))
    assert data.domains == ["c4"]
    assert repeats(data)


def test_with_several_domains_one_number_of_unique_tokens_is_not_used_and_that_is_said():
    data = table(bare().assign(weight_a=0.5, weight_b=0.5, unique_tokens=1e9))
    assert data.notes == [
        "mine: unique_tokens is not used: with several domains, each has its own column, available_a, available_b, ..."
    ]


def test_two_columns_of_unique_tokens_are_refused():
    with pytest.raises(RunLogError, match="available and unique_tokens both state the unique tokens"):
        table(repeated().assign(available=1e9))
    with pytest.raises(RunLogError, match="unique_tokens and available_web both state"):
        table(repeated().assign(weight_web=1.0, available_web=1e9))


def test_runs_of_other_pools_are_other_runs_where_they_have_no_ids():
    data = table(repeated().drop(columns="run_id"))
    assert data.frame["run_id"].nunique() == 3 * len(SIZES)


def test_the_law_of_repeated_tokens_finds_its_own_parameters_without_a_mixture():
    data = table(repeated())
    assert auto_laws(data) == ["base", "coupled", "muennighoff", "coupled-repeats"]
    fit = LawFit("muennighoff", n_bootstrap=4, prior_strength=0).fit(data).fitted_
    found = fit.params.loc["val"]
    for name in ("E", "alpha", "beta", "R_D", "R_N"):
        assert found[name] == pytest.approx(REPEATED[name], rel=1e-3)
    units = fit.units
    assert found["A"] == pytest.approx(REPEATED["A"] * (units.n_params / 1e8) ** -REPEATED["alpha"], rel=1e-3)
    assert found["B"] == pytest.approx(REPEATED["B"] * (units.n_tokens / 1e10) ** -REPEATED["beta"], rel=1e-3)


def test_auto_chooses_the_law_of_repeated_tokens_where_tokens_are_repeated_and_only_there():
    data = table(repeated(noise=0.002))
    choice = fit_and_choose(data, ["auto"], **QUICK)
    assert choice.chosen == "muennighoff"
    fresh = table(repeated().assign(unique_tokens=1e13))
    assert not repeats(fresh)
    assert auto_laws(fresh) == ["base", "coupled"]
    unknown = table(repeated().assign(unique_tokens=repeated()["unique_tokens"].where(np.arange(60) > 3)))
    assert auto_laws(unknown) == ["base", "coupled"]
    with pytest.raises(FitError, match="needs available_all in all rows, and it is empty in mine rows 1-4"):
        LawFit("muennighoff", **QUICK).fit(unknown)


def test_the_law_of_repeated_tokens_needs_a_column_of_them():
    with pytest.raises(FitError, match="add a column unique_tokens"):
        LawFit("muennighoff", **QUICK).fit(table(bare()))


def test_one_domain_goes_by_any_name_when_rows_are_predicted():
    fit = LawFit("muennighoff", **QUICK).fit(table(repeated().assign(weight_web=1.0))).fitted_
    here = fit.predict(table(repeated().assign(weight_web=1.0)))["predicted"]
    there = fit.predict(table(repeated(column="available")))["predicted"]
    np.testing.assert_allclose(there, here, rtol=1e-12)
    one_pool = repeated(column="available").query("available == 2e9")
    some = table(one_pool.assign(available=one_pool["available"].where(np.arange(20) > 3)))  # all others are 2e9
    known = fit.predict(table(one_pool))["predicted"]
    np.testing.assert_allclose(fit.predict(some.rows(np.ones(20, bool)))["predicted"], known, rtol=1e-12)
    base = LawFit("base", **QUICK).fit(table(bare())).fitted_
    plain = base.predict(table(bare()))["predicted"]
    np.testing.assert_allclose(base.predict(table(bare().assign(weight_web=1.0)))["predicted"], plain, rtol=1e-12)


def test_a_law_without_a_mixture_predicts_tables_of_any_domains():
    mixed = study("base")
    fit = LawFit("base", **QUICK).fit(mixed).fitted_
    assert fit.warnings == [
        "the law does not depend on the mixture, and the table has 15 mixtures: it predicts an average over them"
    ]
    new = fit.predict(
        table(mixed.frame[["n_params", "n_tokens", "loss_main"]].assign(run_id=np.arange(135).astype(str)))
    )
    np.testing.assert_allclose(new["predicted"], new["observed"], rtol=1e-6)


@pytest.mark.parametrize(
    ("frame", "law", "words"),
    [
        (bare(), "base", "the runs have no mixture, so no mixture can be recommended"),
        (
            bare().assign(weight_a=0.7, weight_b=0.3),
            "base",
            "all runs have the same mixture, so no mixture can",
        ),
        (repeated(), "muennighoff", "the runs have no mixture"),
    ],
)
def test_a_recommendation_of_runs_without_a_mixture_is_refused_with_what_can_be_done(frame, law, words):
    laws = laws_of(table(frame), law, **QUICK)
    with pytest.raises(FitError, match=f"{words}.*`mixlaw predict` predicts the loss at another N and D") as caught:
        recommend(laws, Question(1e10, 1e11, {"val": 1.0}))
    assert "multiplicative" not in str(caught.value)


def test_the_advice_is_a_law_that_was_fitted_or_one_that_the_runs_support():
    data = study("additive-fixed-d", tokens=(1e10,))
    fits = {law: LawFit(law, **QUICK).fit(data).fitted_ for law in ("base-fixed-d", "additive-fixed-d")}
    both = FittedLaws.of(fits, data, "base-fixed-d", "", fits["base-fixed-d"].scores(data))
    with pytest.raises(FitError, match=r"ask the additive-fixed-d law \(--law additive-fixed-d\)"):
        recommend(both, Question(1e10, 1e11, {"main": 1.0}))
    with pytest.raises(FitError, match=r"fit another, such as multiplicative-fixed-d$"):
        recommend(laws_of(data, "base-fixed-d", **QUICK), Question(1e10, 1e11, {"main": 1.0}))
