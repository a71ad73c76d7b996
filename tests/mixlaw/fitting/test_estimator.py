"""Fitting: known laws are recovered, unsupported ones refused, and nothing depends on what should not matter."""

import copy

import numpy as np
import pandas as pd
import pytest

from mixlaw.advice.constraints import Question
from mixlaw.advice.recommend import recommend
from mixlaw.errors import ConfigError, FitError, RunLogError
from mixlaw.fitting.estimator import LawFit
from mixlaw.fitting.fitted import FittedLaw, scores
from mixlaw.laws.registry import LAWS
from mixlaw.tables.check import check_frame
from mixlaw.tables.examples import small_study
from mixlaw.tables.table import Table
from tests.marks import slow
from tests.mixlaw.synthetic import DOMAINS, SIZES, TRUTHS, each_law, fitted, laws_of, optimum, study

BIG = Question(1e9, 1e11, {"main": 1.0}, {}, {})
QUICK = {"n_starts": 6, "n_bootstrap": 4}


def with_targets(table: Table, **losses: pd.Series) -> Table:
    """Return the table with more targets, or other losses of the same one."""
    return check_frame(table.frame.assign(**{f"loss_{t}": y for t, y in losses.items()}), "study")


FIXED = ["additive-fixed-nd", "additive-fixed-n", "additive-fixed-d", "joint-fixed-n", "joint-fixed-d"]


@pytest.mark.parametrize("law", each_law(["base", "additive", "joint", "simple", *FIXED, "multiplicative-fixed-d"]))
def test_a_law_that_wrote_the_losses_is_recovered(law):
    sizes = SIZES if law != "multiplicative-fixed-d" else (*SIZES, 2.5e9)  # A, alpha, q and B need four
    table = study(law, sizes=sizes)
    if law.endswith("-n"):
        table = table.rows(table.frame["n_params"] == 1e8)
    if law.endswith("-d"):
        table = table.rows(table.frame["n_tokens"] == 1e10)
    if law.endswith("-nd"):
        table = table.rows((table.frame["n_params"] == 1e8) & (table.frame["n_tokens"] == 1e10))
    laws = laws_of(table, law, n_starts=12, n_bootstrap=4)
    unseen = study(law, seed=99, sizes=(1e9,), tokens=(1e11,))
    predicted = laws.best.predict(unseen)
    np.testing.assert_allclose(predicted["predicted"], predicted["observed"], rtol=1e-5)
    if law != "base":
        recommended = recommend(laws, BIG).weights
        assert recommended == pytest.approx(optimum(fitted(law, {"main": TRUTHS[law]}, spread=0.0), BIG), abs=1e-3)


def test_the_exponents_of_the_base_law_are_recovered_with_intervals_around_them():
    fit = LawFit("base", **QUICK).fit(study("base")).fitted_
    found = fit.params.loc["main"]
    assert found[["E", "alpha", "beta"]].tolist() == pytest.approx([1.8, 0.35, 0.30], rel=1e-6)
    draws = np.exp(LawFit("base", n_bootstrap=60).fit(study("base", noise=0.003)).fitted_.target("main").draws)
    for column, true in ((0, 1.8), (2, 0.35), (4, 0.30)):
        assert draws[:, column].min() < true < draws[:, column].max()


def test_gross_outliers_hardly_move_the_fit():
    table = study("additive")
    table.frame.loc[::10, "loss_main"] += 1.0
    predicted = LawFit("additive", **QUICK).fit(table).fitted_.predict(study("additive", seed=99))
    np.testing.assert_allclose(predicted["predicted"], predicted["observed"], rtol=2e-3)


@pytest.mark.parametrize("seed", [0, slow(1)])
def test_joint_fits_its_own_table_at_least_as_well_as_additive_which_it_holds(seed):
    table = study("additive", noise=0.02, seed=seed)
    bare = {"n_bootstrap": 1, "prior_strength": 0.0}
    additive, joint = (LawFit(law, **bare).fit(table).fitted_.target("main") for law in ("additive", "joint"))
    assert 0 < joint.objective <= additive.objective * (1 + 1e-6)


def test_every_target_is_fitted_on_its_own_rows():
    table = study("additive")
    y = table.frame["loss_main"]
    both = with_targets(table, other=y + 1, gaps=y.where(np.arange(len(y)) % 9 > 0))
    said: list[str] = []
    fit = LawFit("additive", **QUICK).fit(both, progress=said.append).fitted_
    assert list(fit.targets) == ["main", "other", "gaps"]
    assert said[0] == "additive law: 6 starts"
    assert said[-1] == "additive law: 4 bootstrap resamples of runs"
    assert fit.target("gaps").n_rows == len(y) * 8 // 9
    assert fit.target("gaps").n_runs == fit.target("main").n_runs == 45
    for target in ("main", "gaps"):
        np.testing.assert_allclose(fit.predict(both, targets=[target])["predicted"], y, rtol=1e-5)
    np.testing.assert_allclose(fit.predict(both, targets=["other"])["predicted"], y + 1, rtol=1e-5)


def test_fitting_again_forgets_what_was_fitted_before():
    table = with_targets(study("base"), other=study("base").frame["loss_main"] + 1)
    fit = LawFit("base", **QUICK).fit(table)
    before = fit.fitted_
    assert list(fit.fit(table, targets=["other"]).fitted_.targets) == ["other"]
    assert list(before.targets) == ["main", "other"]


@pytest.mark.parametrize(
    ("law", "keep", "sentence"),
    [
        (
            "joint",
            lambda f: f["run_id"].astype(int) % 4 == 0,
            "12 runs are too few for its 15 parameters without a narrow prior",
        ),
        (
            "additive",
            lambda f: f["n_params"] == 1e8,
            "one model size, so the N term cannot be fitted; use a law whose name ends in -fixed-n",
        ),
        (
            "additive",
            lambda f: f["n_tokens"] == 1e10,
            "one number of tokens, so the D term cannot be",
        ),
        (
            "additive",
            lambda f: f["run_id"].astype(int) % 15 < 2,
            "2 different mixtures cannot identify the effects of 3 domains",
        ),
    ],
)
def test_a_law_that_the_runs_cannot_support_is_refused(law, keep, sentence):
    table = study(law)
    with pytest.raises(FitError, match=f"the {law} law cannot be fitted to this table: .*{sentence}"):
        LawFit(law, **QUICK).fit(table.rows(keep(table.frame)))


def test_a_target_whose_own_rows_cannot_support_the_law_is_refused_by_name():
    table = study("additive")
    one_size = table.frame["loss_main"].where(table.frame["n_params"] == 1e8)
    with pytest.raises(FitError, match="to the rows with a loss of 'rare': it has one model size"):
        LawFit("additive", **QUICK).fit(with_targets(table, rare=one_size))


def test_a_mixture_law_needs_a_table_with_weights():
    table = study("base")
    bare = check_frame(table.frame.drop(columns=[f"weight_{d}" for d in DOMAINS]), "bare")
    with pytest.raises(FitError, match="needs weights of at least 2 domains, the table has 0"):
        LawFit("additive", **QUICK).fit(bare)
    predicted = LawFit("base", **QUICK).fit(bare).fitted_.predict(bare)
    np.testing.assert_allclose(predicted["predicted"], predicted["observed"], rtol=1e-6)


def test_names_that_do_not_exist_are_refused_with_the_near_match():
    table = study("base")
    with pytest.raises(ConfigError, match=r"unknown law 'bse'; did you mean 'base'\?"):
        LawFit("bse").fit(table)
    with pytest.raises(ConfigError, match=r"unknown target 'mian'; did you mean 'main'\?"):
        LawFit("base").fit(table, targets=["mian"])
    with pytest.raises(ConfigError, match=r"unknown target 'mian'; did you mean 'main'\?"):
        LawFit("base", **QUICK).fit(table).fitted_.target("mian")


@pytest.mark.parametrize(
    "setting", [{"n_starts": 0}, {"n_bootstrap": 0}, {"seed": -1}, {"delta": 0.0}, {"prior_strength": -1.0}]
)
def test_settings_that_fit_nothing_are_refused(setting):
    ((name, value),) = setting.items()
    with pytest.raises(ConfigError, match=rf"^{name} must be (above|at least) 0, not {value}$"):
        LawFit("base", **setting).fit(study("base"))


def test_kinds_of_residuals_and_weights_that_do_not_exist_are_refused():
    with pytest.raises(ConfigError, match=r"unknown residuals 'lgo'; did you mean 'log'\?"):
        LawFit("base", residuals="lgo").fit(study("base"))
    with pytest.raises(ConfigError, match="unknown row_weights 'run'"):
        LawFit("base", row_weights="run").fit(study("base"))


def test_two_model_sizes_and_few_mixtures_and_a_constant_domain_are_warned_of():
    assert LawFit("additive", **QUICK).fit(study("additive")).fitted_.warnings == []
    two = study("additive", sizes=(1e8, 5e8))
    assert any(
        "two model sizes do not identify the exponent" in w
        for w in LawFit("additive", **QUICK).fit(two).fitted_.warnings
    )
    few = study("additive", n_mixtures=5)
    assert any("5 mixtures for 3 domains are few" in w for w in LawFit("additive", **QUICK).fit(few).fitted_.warnings)
    frame = study("additive").frame
    frame["weight_web"] = 0.2
    frame["weight_code"] = 0.8 - 0.8 * frame["weight_docs"]
    frame["weight_docs"] *= 0.8
    constant = LawFit("additive", **QUICK).fit(check_frame(frame, "constant")).fitted_
    assert any("the weight of 'web' never varies" in w for w in constant.warnings)


def test_the_statement_says_how_many_starts_agree():
    found = LawFit("base", **QUICK).fit(study("base")).fitted_.target("main").statement
    assert found == "6 of 6 starts kept (of 6) reached the lowest minimum"
    alone = LawFit("base", n_starts=1, n_bootstrap=2).fit(study("base")).fitted_.target("main").statement
    assert alone == "only 1 of 1 starts kept (of 1) reached the lowest minimum: lower ones may exist"


def test_the_same_seed_gives_the_same_fit_and_another_one_other_intervals():
    table = study("additive", noise=0.01)
    first, again, other = (LawFit("additive", **QUICK, seed=s).fit(table).fitted_.predict(table) for s in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    assert not np.allclose(first["low"], other["low"], rtol=0, atol=1e-6)


def test_the_order_of_rows_and_of_columns_does_not_matter():
    table = study("additive", noise=3e-4)
    shuffled = check_frame(table.frame.sample(frac=1, random_state=0), "shuffled")
    turned = check_frame(table.frame[table.frame.columns[::-1]], "turned")
    assert turned.domains == DOMAINS[::-1]
    expected = LawFit("additive", n_starts=16, n_bootstrap=2).fit(table).fitted_.predict(table)["predicted"]
    for other in (shuffled, turned):
        fit = LawFit("additive", n_starts=16, n_bootstrap=2).fit(other).fitted_
        np.testing.assert_allclose(fit.predict(table)["predicted"], expected, rtol=1e-6)


def test_predictions_are_rows_with_an_interval_around_each():
    table = study("additive", noise=0.01)
    fit = LawFit("additive", **QUICK).fit(table).fitted_
    predicted = fit.predict(table)
    assert list(predicted.columns) == ["row", "target", "law", "predicted", "low", "high", "observed"]
    assert predicted["row"].tolist() == list(range(1, 136))
    assert (predicted["low"] <= predicted["predicted"]).all()
    assert (predicted["predicted"] <= predicted["high"]).all()
    wide, narrow = (fit.predict(table, level=level).eval("high - low").mean() for level in (0.99, 0.5))
    assert wide > 1.5 * narrow


def test_predicting_before_fitting_or_for_other_domains_is_refused():
    table = study("additive")
    with pytest.raises(FitError, match="has not been fitted yet"):
        LawFit("additive").predict(table)
    fit = LawFit("additive", **QUICK).fit(table).fitted_
    other = check_frame(table.frame.rename(columns={"weight_web": "weight_books"}), "other")
    with pytest.raises(RunLogError, match="the laws were fitted on domains"):
        fit.predict(other)


def test_scores_are_the_papers_mean_relative_error_and_what_else_a_reader_asks():
    frame = pd.DataFrame({"observed": [2.0, 4.0, 5.0], "predicted": [2.2, 4.0, 4.5], "low": [1, 3.9, 4.4]})
    found = scores(frame.assign(high=[2.1, 4.1, 4.9], low=[2.05, 3.9, 4.4]))
    assert found == pytest.approx(
        {"mre": 20 / 3, "mae": 0.7 / 3, "bias": 0.0, "spearman": 1.0, "coverage": 100 / 3, "n": 3}
    )


def test_a_table_without_any_fitted_loss_cannot_be_scored():
    table = study("base")
    fit = LawFit("base", **QUICK).fit(table).fitted_
    for other in (
        with_targets(table, main=np.nan),
        check_frame(table.frame.rename(columns={"loss_main": "loss_x"}), "x"),
    ):
        with pytest.raises(RunLogError, match="holds none of the fitted targets' losses"):
            fit.scores(other)


def test_settings_are_read_copied_and_changed_as_scikit_learn_does_it():
    fit = LawFit("additive", n_starts=3)
    settings = {"law": "additive", "delta": 1e-3, "residuals": "raw", "row_weights": "equal", "prior_strength": 1.0}
    settings |= {"n_starts": 3, "n_bootstrap": 100, "seed": 0}
    assert fit.get_params() == fit.get_params(deep=False) == settings
    clone = LawFit(**copy.deepcopy(fit.get_params()))
    assert clone.set_params(seed=5, law="base") is clone
    assert clone.get_params() == settings | {"seed": 5, "law": "base"}
    assert fit.get_params() == settings
    with pytest.raises(FitError, match=r"unknown setting 'n_start'; did you mean 'n_starts'\?"):
        fit.set_params(n_start=3)


def test_scikit_learn_clones_checks_and_cross_validates_the_estimator():
    from sklearn.base import clone
    from sklearn.exceptions import NotFittedError
    from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
    from sklearn.utils.validation import check_is_fitted

    frame = study("additive", noise=0.005).frame
    fit = LawFit("additive", **QUICK)
    with pytest.raises(NotFittedError):
        check_is_fitted(fit)
    copied = clone(fit.fit(frame))
    assert copied.get_params() == fit.get_params()
    assert not [name for name in vars(copied) if name.endswith("_")]
    check_is_fitted(fit)
    folds = {"groups": frame["run_id"], "cv": GroupKFold(3)}
    scores = cross_val_score(fit, frame, **folds)
    assert (scores > -1).all()
    assert (scores < 0).all()
    search = GridSearchCV(fit, {"law": ["base", "additive"]}, cv=GroupKFold(3)).fit(frame, groups=frame["run_id"])
    assert search.best_params_ == {"law": "additive"}


def test_logarithmic_residuals_recover_a_law_and_scatter_in_proportion_to_the_loss():
    table = study("additive")
    exact = LawFit("additive", residuals="log", **QUICK).fit(table).fitted_.predict(study("additive", seed=99))
    np.testing.assert_allclose(exact["predicted"], exact["observed"], rtol=1e-5)
    noisy = study("additive", noise=0.01)
    raw, log = (LawFit("additive", residuals=r, n_starts=6, n_bootstrap=40).fit(noisy).fitted_ for r in ("raw", "log"))
    widths = [(p["high"] - p["low"]) for p in (raw.predict(noisy), log.predict(noisy))]
    assert widths[1].mean() == pytest.approx(widths[0].mean(), rel=0.4)
    losses = noisy.frame["loss_main"]
    assert np.corrcoef(widths[1], losses)[0, 1] > np.corrcoef(widths[0], losses)[0, 1]


def test_rows_count_by_their_standard_errors_where_that_is_asked():
    """Half of the rows are far off, and say so by large standard errors."""
    table = study("additive")
    rng = np.random.default_rng(0)
    bad = np.arange(len(table.frame)) % 2 == 0
    y = table.frame["loss_main"] + np.where(bad, 0.2 * rng.normal(size=len(bad)), 0.0)
    frame = table.frame.assign(loss_main=y, loss_se_main=np.where(bad, 0.2, 1e-4))
    unseen = study("additive", seed=99)
    errors = []
    for weights in ("equal", "error"):
        fit = LawFit("additive", delta=1.0, row_weights=weights, **QUICK).fit(check_frame(frame, "study")).fitted_
        errors.append(fit.scores(unseen)["mre"].item())
    assert errors[1] < errors[0] / 10
    with pytest.raises(FitError, match="weights by standard error need a column loss_se_main"):
        LawFit("additive", row_weights="error", **QUICK).fit(table)


def test_a_prior_determines_what_two_sizes_do_not_and_nothing_else():
    """Two sizes do not identify alpha: the prior pulls it to its mean, and the fit is hardly worse."""
    two = study("additive", noise=0.005, sizes=(1e8, 5e8))
    bare, with_prior = (LawFit("additive", prior_strength=p, n_bootstrap=1).fit(two).fitted_ for p in (0.0, 1.0))
    assert with_prior.target("main").objective <= bare.target("main").objective * 1.02
    assert abs(np.log(with_prior.params["alpha"].item()) + 1) <= abs(np.log(bare.params["alpha"].item()) + 1) + 1e-6
    three = study("additive", noise=0.001)
    fits = (LawFit("additive", prior_strength=p, n_bootstrap=1).fit(three).fitted_ for p in (0.0, 1.0))
    pair = [fit.predict(three)["predicted"] for fit in fits]
    np.testing.assert_allclose(*pair, rtol=1e-3)


def test_data_frames_are_tables_too_and_predicting_needs_no_losses():
    table = study("additive")
    frame = table.frame.drop(columns="row")
    fit = LawFit("additive", **QUICK).fit(frame).fitted_
    bare = frame.drop(columns=["loss_main", "run_id"])
    predicted = fit.predict(bare)
    assert "observed" not in predicted
    np.testing.assert_allclose(predicted["predicted"], table.frame["loss_main"], rtol=1e-5)


def test_predictions_name_the_rows_of_the_input():
    table = study("additive")
    fit = LawFit("additive", **QUICK).fit(table).fitted_
    part = table.rows(np.arange(len(table.frame)) % 10 == 3)
    assert fit.predict(part)["row"].tolist() == list(range(4, 136, 10))


@pytest.mark.parametrize("law", [slow("dai-zheng-1"), "dai-zheng-3"])
def test_a_law_of_all_domains_at_once_is_fitted_to_all_of_them(law):
    """The law's own losses of three domains are recovered, and other targets refused."""
    table = study("base")
    rng = np.random.default_rng(1)
    theta = np.clip(LAWS[law].term.start(rng, 1, 3), *LAWS[law].bounds(3))
    truth = FittedLaw(LAWS[law], table.domains, LawFit("base", **QUICK).fit(table).fitted_.units, {})
    losses = {d: LAWS[law].loss(theta, truth.inputs(table, d))[0] for d in table.domains}
    own = with_targets(table, **{d: pd.Series(y) for d, y in losses.items()})
    fit = LawFit(law, n_starts=16, n_bootstrap=2, prior_strength=0.0).fit(own).fitted_
    assert list(fit.targets) == table.domains
    assert (fit.scores(own)["mre"] < 0.05).all()
    with pytest.raises(FitError, match="predicts the losses of training domains only"):
        LawFit(law).fit(own, targets=["main"])
    with pytest.raises(FitError, match="needs the loss of every domain"):
        LawFit(law).fit(table)


def test_laws_of_the_targets_own_share_need_targets_that_are_domains():
    table = study("additive")
    with pytest.raises(FitError, match="predicts the loss of training domains only, and 'main' is none of"):
        LawFit("bimix", **QUICK).fit(table)


@pytest.mark.parametrize(
    ("law", "column"), [("moe", "sparsity"), ("forgetting", "before_code"), ("muennighoff", "available_code")]
)
def test_a_column_that_a_law_needs_and_the_table_lacks_is_named(law, column):
    table = study("additive")
    own = with_targets(table, **dict.fromkeys(DOMAINS, table.frame["loss_main"]))
    with pytest.raises(FitError, match=f"the {law} law needs a column {column}"):
        LawFit(law, **QUICK).fit(own, targets=["code"])


def test_parameters_have_intervals_that_hold_them():
    fit = LawFit("additive", n_starts=6, n_bootstrap=40).fit(study("additive", noise=0.01)).fitted_
    found = fit.intervals_of_params()
    assert list(found.columns) == ["target", "parameter", "value", "low", "high"]
    assert len(found) == 11
    assert (found["low"] <= found["value"]).all()
    assert (found["value"] <= found["high"]).all()
    exponents = found.set_index("parameter").loc[["alpha", "beta"]]
    assert (exponents["low"] < [0.35, 0.30]).all()
    assert (exponents["high"] > [0.35, 0.30]).all()


@pytest.mark.parametrize("law", ["additive", "joint"])
def test_intervals_do_not_depend_on_the_order_of_rows_nor_on_the_other_rows(law):
    table = study(law, noise=0.01)
    turned = check_frame(table.frame.sample(frac=1, random_state=3).drop(columns="row"), "turned")
    fits = [LawFit(law, n_starts=6, n_bootstrap=20).fit(t).fitted_ for t in (table, turned)]
    one, other = (f.predict(table)[["predicted", "low", "high"]] for f in fits)
    np.testing.assert_allclose(one, other, rtol=1e-6)
    few = fits[0].predict(table.rows(np.arange(len(table.frame)) < 5))[["predicted", "low", "high"]]
    np.testing.assert_allclose(few, one[:5], rtol=1e-12)


@pytest.mark.parametrize("law", ["additive", "joint"])
def test_resamples_fit_the_runs_nearly_as_well_as_the_best_fit(law):
    """Weakly identified parameters must not be drawn independently: else they miss the fitted runs."""
    table = study("additive", noise=0.003, n_mixtures=12)
    fit = LawFit(law).fit(table).fitted_
    x, y = fit.inputs(table, "main"), table.frame["loss_main"].to_numpy()
    rms = [
        np.sqrt(((LAWS[law].loss(t, x) - y) ** 2).mean(1))
        for t in (fit.target("main").theta[None], fit.target("main").draws)
    ]
    assert np.quantile(rms[1], 0.95) < 1.5 * rms[0][0]


def test_a_frame_whose_names_differ_in_case_only_is_predicted_and_scored():
    table = small_study()
    fit = LawFit("additive", n_starts=2, n_bootstrap=2).fit(table).fitted_
    frame = table.frame.rename(columns={"weight_code": "weight_Code", "loss_main": "loss_MAIN"})
    expected, found = fit.predict(table), fit.predict(frame)
    pd.testing.assert_frame_equal(found, expected)
    assert fit.scores(frame)["mre"].tolist() == fit.scores(table)["mre"].tolist()
    with pytest.raises(RunLogError, match="the laws were fitted on domains"):
        fit.predict(frame.rename(columns={"weight_Code": "weight_coder"}))
