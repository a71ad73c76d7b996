"""The law that predicts held-out runs best is chosen by the stated rule, and intervals are checked on these runs."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mixlaw.advice.constraints import Question
from mixlaw.advice.recommend import recommend
from mixlaw.errors import FitError
from mixlaw.fitting.estimator import LawFit
from mixlaw.fitting.saved import FittedLaws
from mixlaw.fitting.widening import Widening
from mixlaw.report.terminal import summary
from mixlaw.selection.candidates import auto_laws
from mixlaw.selection.choose import choose, choose_law
from mixlaw.selection.compare import compare
from mixlaw.selection.fit_laws import fit_and_choose
from mixlaw.selection.intervals import check_intervals
from mixlaw.selection.paired import difference, mean_errors, on_shared_targets
from mixlaw.selection.splits import default_kind
from mixlaw.selection.trial import start_trial, starter
from mixlaw.selection.workers import Workers
from tests.marks import slow
from tests.mixlaw.synthetic import study

QUICK = {"n_starts": 6, "n_bootstrap": 8}


def question() -> Question:
    return Question(1e9, 1e11, {"main": 1.0})


def tried(table, names, kind=None, **settings):
    start = starter(Workers(), **QUICK | settings)
    return start_trial(table, names, kind or default_kind(table), start).finish(names)


def test_the_law_that_predicts_held_out_runs_best_is_chosen():
    names = ["additive-fixed-n", "additive"]
    name, reason = choose_law([tried(study("additive", noise=0.002), names)], names, 3)
    assert name == "additive"
    assert reason.startswith("lowest mean MRE on the largest model size, fitted on the smaller ones: additive-fixed-n ")
    one_size = study("additive-fixed-n", noise=0.002, sizes=(1e8,))
    trial = tried(one_size, names)
    name, reason = choose_law([trial], names, 3)
    assert name == "additive-fixed-n"
    assert reason.startswith("lowest mean MRE on a fifth of the mixtures, fitted on the others: additive-fixed-n 0.")
    assert "one model size" in trial.refused["additive"]


def test_of_laws_that_predict_equally_well_the_one_with_fewest_parameters_is_chosen():
    rows = [("a", 1.00, 5), ("b", 1.015, 3), ("c", 1.03, 1)]
    name, reason = choose({law: mre for law, mre, _ in rows}, {law: n for law, _, n in rows}, "scale")
    assert name == "b"
    assert "b has the fewest parameters of those within 2 % of the lowest" in reason


def test_a_law_that_cannot_recommend_is_not_chosen_beside_one_that_can():
    assert choose_law([], ["joint"], 3) == ("joint", "the only fitted law")
    assert choose_law([], ["base", "joint"], 3) == ("joint", "the only fitted law that depends on the mixture")
    assert choose_law([], ["base"], 3) == ("base", "the only fitted law")


def test_where_only_mixtures_can_be_held_out_the_law_of_fewest_parameters_is_kept():
    """Two sizes and two numbers of tokens show nothing of extrapolation, where additive and multiplicative part."""
    two = study("additive", noise=0.005, n_mixtures=8, sizes=(1e8, 5e8), tokens=(2e9, 1e10))
    choice = fit_and_choose(two, ["auto"], **QUICK)
    assert [trial.kind for trial in choice.trials] == ["mixture"]
    assert choice.chosen == "additive"
    one = two.rows((two.frame["n_params"] == 1e8) & (two.frame["n_tokens"] == 2e9))
    assert fit_and_choose(one, ["auto"], **QUICK).chosen == "multiplicative-fixed-nd"  # nothing to extrapolate


def test_where_nothing_can_be_held_out_the_law_of_fewest_parameters_is_chosen():
    few = study("additive", n_mixtures=3, sizes=(1e8, 5e8))
    with pytest.raises(FitError, match="--holdout mixture: no law can be fitted"):
        tried(few, ["additive", "simple"], "mixture")  # two mixtures would be left, for three domains
    nine = study("additive", n_mixtures=3)
    nine = nine.rows(
        nine.frame["n_tokens"] > 2e9
    )  # two sizes, or one number of tokens, would be too few for either law
    assert fit_and_choose(nine, ["multiplicative", "simple"], **QUICK).chosen == "simple"
    assert choose_law([], ["additive", "simple"], 3) == (
        "simple",
        "fewest parameters; no runs could be held out to compare the laws on",
    )


def test_every_law_has_scores_on_the_same_rows():
    scores = tried(study("additive", noise=0.005), ["base", "additive", "ye-m4"]).scores()
    assert list(scores.columns) == ["law", "target", "mre", "mae", "bias", "spearman", "coverage", "n", "n_free"]
    assert scores["law"].tolist() == ["base", "additive", "ye-m4"]
    assert scores["n"].nunique() == 1
    assert scores.set_index("law").loc["additive", "mre"] == scores["mre"].min()


def test_intervals_that_miss_the_held_out_size_are_widened_and_others_are_not():
    """An additive law with the wrong N term: its intervals at the largest size are far too narrow."""
    sizes = (2e7, 1e8, 5e8, 2.5e9)
    right, bent = (study("additive", noise=0.005, sizes=sizes) for _ in range(2))
    largest = bent.frame["n_params"] == bent.frame["n_params"].max()
    bent.frame.loc[largest, "loss_main"] *= 0.95
    beyond = study("additive", sizes=(1.25e10,))
    widths, reach = [], []
    for table in (right, bent):
        trial = tried(table, ["additive"], "scale", n_bootstrap=40)
        fit = LawFit("additive", n_starts=6, n_bootstrap=40).fit(table).fitted_
        before = fit.predict(beyond).eval("high - low").mean()
        fit = check_intervals(fit, [trial], trial).apply(fit)
        widths.append(fit.predict(beyond).eval("high - low").mean() / before)
        reach.append(fit.target("main").widening.reach["n_params"] * np.log(5))
        assert fit.held >= 0.9
        assert fit.interval_name() == "90 % interval"
    assert widths[0] < 1.3
    assert widths[1] > 1.3
    assert reach[1] == pytest.approx(0.05, rel=0.3)  # five per cent at five times the size
    assert reach[0] < reach[1] / 3


def test_intervals_that_could_not_be_checked_are_reported():
    fit = LawFit("additive", **QUICK).fit(study("additive")).fitted_
    check = check_intervals(fit, [], None)
    assert check.statement == "additive law: its intervals could not be checked: no held-out runs"
    assert check.apply(fit) is fit
    assert fit.target("main").widening == Widening()
    assert fit.interval_name() == "90 % interval"


def test_intervals_that_held_fewer_losses_than_their_level_are_not_called_by_it():
    fit = LawFit("additive", **QUICK).fit(study("additive")).fitted_
    fit = replace(fit, held=0.62)
    assert fit.interval_name() == "interval (62 % coverage)"
    laws = FittedLaws.of({"additive": fit}, study("additive"), "additive", "alone", pd.DataFrame())
    assert "90 %" not in summary(recommend(laws, question()))


@pytest.mark.slow
def test_one_held_out_run_gives_no_interval_and_says_so():
    """Resampling one run would make its difference significant, or NaN."""
    for seed in range(3):
        table = study("additive", noise=0.004, seed=seed)
        largest = table.frame["n_params"] == table.frame["n_params"].max()
        one = table.rows(~largest | (table.frame["run_id"] == table.frame["run_id"][largest].iloc[0]))
        trial = tried(one, ["multiplicative", "additive"], "scale")
        name, reason = choose_law([trial], ["multiplicative", "additive"], 3)
        assert name == "multiplicative"
        assert "nan" not in reason
        assert ("points on one held-out run, too few for an interval" in reason) == ("with 95 % confidence" in reason)


def test_regression_trees_cannot_extrapolate():
    pytest.importorskip(
        "lightgbm", reason="lightgbm is not installed: pip install 'mixlaw[trees]'", exc_type=ImportError
    )
    scores = tried(study("additive", noise=0.005, n_mixtures=40), ["additive", "lightgbm"]).scores().set_index("law")
    assert np.isnan(scores.loc["lightgbm", "coverage"])
    assert scores.loc["additive", "mre"] < scores.loc["lightgbm", "mre"] / 3


def test_auto_takes_the_form_that_the_tables_n_and_d_allow():
    table = study("additive")
    one_size = table.rows(table.frame["n_params"] == 1e8)
    assert auto_laws(table) == ["multiplicative", "additive", "joint"]
    assert auto_laws(one_size) == ["multiplicative-fixed-n", "additive-fixed-n", "joint-fixed-n"]
    one_d = table.rows(table.frame["n_tokens"] == 1e10)
    assert auto_laws(one_d) == ["multiplicative-fixed-d", "additive-fixed-d", "joint-fixed-d"]
    both = one_size.rows(one_size.frame["n_tokens"] == 1e10)
    assert auto_laws(both) == ["multiplicative-fixed-nd", "additive-fixed-nd"]
    few = table.rows(table.frame["run_id"].astype(int) % 15 < 4)  # 12 runs, of which joint wants 15
    assert auto_laws(few) == ["multiplicative", "additive"]
    with pytest.raises(FitError, match="the multiplicative law cannot be fitted"):
        auto_laws(table.rows(table.frame["run_id"].astype(int) % 15 < 2))


@pytest.mark.slow
@pytest.mark.parametrize("truth", ["additive-fixed-d", "joint-fixed-d", "multiplicative-fixed-d"])
def test_one_number_of_tokens_at_several_sizes_is_fitted_with_n_and_without_d(truth):
    table = study(truth, noise=0.003, tokens=(1e10,), sizes=(1e7, 3e7, 1e8, 3e8), n_mixtures=20)
    found = compare(table, ["auto"], holdout="scale", n_bootstrap=20)
    assert found.auto[0][0].endswith("-fixed-d")
    assert found.targets["mre"].item() < 1.0  # three times the largest size that was fitted
    assert abs(found.targets["bias"].item()) < 0.7
    without_n = tried(table, ["additive-fixed-nd"], "scale", n_starts=None)
    assert without_n.scores()["mre"].item() > 3.0


@pytest.mark.slow
def test_without_several_sizes_to_hold_out_the_fixed_form_of_fewest_parameters_is_kept():
    two = study("additive-fixed-d", noise=0.005, tokens=(1e10,), sizes=(1e8, 5e8), n_mixtures=20)
    choice = fit_and_choose(two, ["auto"], **QUICK)
    assert [trial.kind for trial in choice.trials] == ["mixture"]
    assert choice.chosen == "additive-fixed-d"
    three = study("multiplicative-fixed-d", noise=0.003, tokens=(1e10,), n_mixtures=20)
    assert fit_and_choose(three, ["auto"], **QUICK).chosen == "multiplicative-fixed-d"


@pytest.mark.parametrize("truth", ["additive", slow("multiplicative")])
def test_auto_finds_out_which_of_the_laws_wrote_the_runs(truth):
    choice = fit_and_choose(study(truth, noise=0.003), ["auto"], **QUICK)
    assert choice.chosen == truth
    assert set(choice.fits) == {"multiplicative", "additive", "joint"}
    assert set(choice.intervals) == set(choice.fits)


def test_the_preferred_law_is_replaced_only_by_a_significantly_better_one():
    trial = tried(study("additive", noise=0.003), ["multiplicative", "additive"])
    additive, multiplicative = trial.errors("additive"), trial.errors("multiplicative")
    assert difference(multiplicative, additive).significant
    assert not difference(additive, multiplicative).significant
    assert (
        choose_law([trial], ["multiplicative", "additive"], 3)[1].count(
            "better than multiplicative with 95 % confidence"
        )
        == 1
    )
    noisy = tried(study("additive", noise=0.3, seed=3), ["multiplicative", "additive"])
    name, reason = choose_law([noisy], ["multiplicative", "additive"], 3)
    assert name == "multiplicative"
    assert "additive is not better" in reason or reason.startswith("lowest mean MRE")


def test_laws_are_compared_on_the_targets_that_all_of_them_predict():
    errors = {"a": pd.DataFrame({"target": ["easy"], "error": [-1.0]})}
    errors["b"] = pd.DataFrame({"target": ["easy", "hard"], "error": [0.9, 5.0]})
    assert mean_errors(on_shared_targets(errors)) == {"a": 1.0, "b": 0.9}
