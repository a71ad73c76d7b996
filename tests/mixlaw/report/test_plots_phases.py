"""What the figures of phases show, and runs with phases in the figures of runs; warnings are errors."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mixlaw.advice.recommend import recommend
from mixlaw.advice.recommendation import Recommendation
from mixlaw.errors import ConfigError
from mixlaw.fitting.saved import FittedLaws
from mixlaw.mixture import Mixture
from mixlaw.report import plots_laws as plots
from mixlaw.report.build import write_report
from mixlaw.report.drawings import OF_PHASES, draw_one
from mixlaw.report.explore.run_charts import run_charts
from mixlaw.report.material import Material
from mixlaw.report.plots_phases import has_switches, phase_gains, phases, switch
from mixlaw.report.plots_ternary import ternary
from mixlaw.report.proof import phases_sentence, prove
from mixlaw.report.rows import changes_of, runs_over_tokens, up_to
from mixlaw.tables.check import check_frame
from mixlaw.tables.phase_mixtures import phases_of, ranges_by_phase
from mixlaw.tables.table import Table
from tests.mixlaw.report.test_plots_laws import drawn, legend, texts
from tests.mixlaw.synthetic import DOMAINS, TOKENS, TRUTHS, fitted, phase_study

LAW = "multiplicative-phases"
BIG = {"n_params": 1e9, "n_tokens": 1e11, "target": "main"}


@pytest.fixture(scope="module")
def laws() -> FittedLaws:
    """Return the law that wrote the losses of the study."""
    return replace(fitted(LAW, {"main": TRUTHS[LAW]}), phase_ranges=ranges_by_phase(phase_study(LAW)))


@pytest.fixture(scope="module")
def answer(laws: FittedLaws) -> Recommendation:
    return recommend(laws, **BIG, phases=2)


@pytest.fixture(scope="module")
def study() -> Table:
    return phase_study(LAW)


def test_every_phase_has_a_bar_per_domain_and_its_part_of_the_run(answer: Recommendation) -> None:
    ax = drawn(phases(None, answer))
    plan = answer.phases
    widths = [bar.get_width() for bar in ax.patches]
    assert widths == pytest.approx([h[d] for h in plan.weights for d in DOMAINS])
    assert texts(ax.get_yticklabels()) == DOMAINS
    end = f"{100 * plan.until[0]:g}"
    assert legend(ax)[:2] == [f"phase 1: 0 to {end} % of D", f"phase 2: {end} to 100 % of D"]
    (timeline,) = ax.child_axes
    assert [bar.get_width() for bar in timeline.patches] == pytest.approx([plan.until[0], 1 - plan.until[0]])


def test_the_switch_that_is_recommended_has_the_lowest_loss(answer: Recommendation) -> None:
    ax = drawn(switch(None, answer))
    curve, star = (next(line for line in ax.get_lines() if line.get_marker() == mark) for mark in "o*")
    tried = answer.phases.switches
    np.testing.assert_allclose(curve.get_xydata(), tried[["switch", "predicted"]])
    assert star.get_xydata()[0, 1] == pytest.approx(curve.get_ydata().min())
    (single,) = [line for line in ax.get_lines() if line.get_label().startswith("best single")]
    assert single.get_ydata()[0] == pytest.approx(answer.outcomes["predicted"].iloc[0], rel=1e-6)


def test_three_phases_have_two_curves_and_three_bars(answer: Recommendation) -> None:
    plan = answer.phases
    tried = [(a, b, plan.predicted + abs(a - 0.6) + abs(b - 0.8)) for a in (0.4, 0.6) for b in (0.7, 0.8)]
    more = replace(
        plan,
        until=[0.6, 0.8, 1.0],
        weights=[plan.weights[0], *plan.weights],
        table=pd.concat([plan.table, plan.table.query("phase == 2").assign(phase=3)]),
        switches=pd.DataFrame(tried, columns=["switch", "switch_2", "predicted"]),
    )
    three = replace(answer, phases=more)
    ax = drawn(switch(None, three))
    assert {"phase 2: best from 60 %", "phase 3: best from 80 %"} <= set(legend(ax))
    assert len(drawn(phases(None, three)).patches) == 3 * len(DOMAINS)


def test_gains_are_those_of_the_plan_and_one_target_is_drawn_once(answer: Recommendation) -> None:
    gains = answer.phases.gains.set_index("target")
    ax = drawn(phase_gains(None, answer))
    assert texts(ax.get_yticklabels()) == ["main"]
    (dots,) = [line for line in ax.get_lines() if line.get_marker() == "o"]
    assert dots.get_xdata() == pytest.approx([gains.loc["main", "gain"]])
    (interval,) = [c for c in ax.collections if len(c.get_segments())]
    assert interval.get_segments()[0][:, 0] == pytest.approx(gains.loc["main", ["low", "high"]].tolist())


@pytest.mark.parametrize("kind", OF_PHASES)
def test_figures_of_phases_need_phases(tmp_path, laws: FittedLaws, answer: Recommendation, kind: str) -> None:
    draw_one(tmp_path / "a.png", kind, laws, None, answer)
    with pytest.raises(ConfigError, match="--phases 2, with a law of phases"):
        draw_one(tmp_path / "b.png", kind, laws, None, replace(answer, phases=None))


def test_one_switch_has_no_curve(laws: FittedLaws) -> None:
    given = recommend(laws, **BIG, phases=2, switch=0.8)
    assert not has_switches(given)
    with pytest.raises(ConfigError, match="without --switch"):
        switch(None, given)


@pytest.mark.slow  # draws two reports of runs with phases
def test_the_report_has_a_section_on_phases(tmp_path, laws: FittedLaws, answer: Recommendation, study: Table) -> None:
    files = write_report(tmp_path / "report.html", laws, study, answer=answer)
    page = (tmp_path / "report.html").read_text().partition('<h2 id="phases">')[2].partition("<h2")[0]
    assert page.count("<figure") == 3
    assert {"phases", "switch", "phase_gains"} <= {file.stem for file in files}
    assert answer.phases.override in page
    write_report(tmp_path / "static.html", laws, study, answer=replace(answer, phases=None))
    assert 'id="phases"' not in (tmp_path / "static.html").read_text()


def proof_of(answer: Recommendation) -> Table:
    """Return runs on the recommended phases, on their mean, and on the best single mixture, of losses 2.0, 2.1, 2.2."""
    plan, size = answer.phases, {"n_params": BIG["n_params"], "n_tokens": BIG["n_tokens"]}
    whole = dict(zip(DOMAINS, plan.mixture.array, strict=True))
    cells = {f"weight_{d}@{p}": h[d] for p, h in enumerate(plan.weights, 1) for d in DOMAINS}
    cells |= {f"until@{p}": end for p, end in enumerate(plan.until, 1)}
    rows = [("phases", whole, cells, 2.0), ("mean", whole, {}, 2.1), ("single", answer.weights, {}, 2.2)]
    made = [{"run_id": n, **size, "loss_main": y, **{f"weight_{d}": h[d] for d in DOMAINS}} | c for n, h, c, y in rows]
    return check_frame(pd.DataFrame(made), "the proof")


def test_the_proof_compares_phases_with_the_best_single_mixture(answer: Recommendation) -> None:
    rows = prove(answer, proof_of(answer))
    assert {r["mixture"]: r["measured"] for r in rows} == {"recommended": 2.2, "the phases": 2.0}
    (said,) = phases_sentence(answer, rows)
    assert said.startswith("The phases gained +0.2000 nats over the best single mixture; predicted: +")
    assert phases_sentence(answer, rows[:1]) == []


def test_runs_with_phases_do_not_prove_the_single_mixture_that_is_their_mean(answer: Recommendation) -> None:
    mean = answer.phases.mixture.array
    single = answer.outcomes.assign(weights=[Mixture(DOMAINS, mean)] * len(answer.outcomes)).head(1)
    rows = prove(replace(answer, outcomes=single), proof_of(answer))
    assert [(r["mixture"], r["measured"]) for r in rows] == [("recommended", 2.1), ("the phases", 2.0)]


def rows_of_a_phased_run(study: Table) -> Table:
    """Return the rows of one run that changes its mixture."""
    ids = study.frame.loc[phases_of(study).changed, "run_id"]
    return study.rows(study.frame["run_id"] == ids.iloc[0])


def test_a_run_up_to_its_own_evaluations_has_the_rows_of_the_table(study: Table, laws: FittedLaws) -> None:
    run = rows_of_a_phased_run(study)
    columns = [c for c in run.frame if c.startswith(("weight_", "until@"))]
    again = up_to(replace(run, frame=run.frame.tail(1)), run.frame["n_tokens"].to_numpy(float))
    np.testing.assert_allclose(again.frame[columns].to_numpy(float), run.frame[columns].to_numpy(float), atol=1e-12)


def test_a_run_goes_on_with_its_last_phase(study: Table) -> None:
    run = rows_of_a_phased_run(study)
    last = replace(run, frame=run.frame.tail(1))
    longer = up_to(last, np.array([2 * TOKENS[-1]])).frame.iloc[0]
    assert longer["until@1"] == pytest.approx(last.frame["until@1"].iloc[0] / 2)
    assert longer["until@2"] == 1


def test_curves_go_through_the_losses_of_runs_with_phases(study: Table, laws: FittedLaws) -> None:
    """The study has no noise, and the law is the one that wrote it."""
    crosses = 0
    for _, run, curve in runs_over_tokens(study, laws.best, "main"):
        at = np.interp(np.log(run["n_tokens"]), np.log(curve["n_tokens"]), curve["predicted"])
        np.testing.assert_allclose(at, run["loss_main"], rtol=2e-3)
        last = replace(study, frame=run.tail(1))
        assert curve.loc[curve["changes"], "n_tokens"].tolist() == changes_of(last).tolist()
        crosses += int(curve["changes"].sum())
    assert crosses > 0


@pytest.mark.slow
def test_figures_and_charts_of_runs_mark_where_mixtures_change(study: Table, laws: FittedLaws) -> None:
    assert plots.CHANGE in legend(drawn(plots.loss_against_tokens(None, study, laws.best, "main")))
    charts = run_charts(Material(laws, study), {"tokens", "predicted"})
    assert "crosses: the mixture changes" in charts["tokens"].title
    assert " of D: " in str(charts["predicted"].item)
    static = study.rows(~phases_of(study).changed)
    assert plots.CHANGE not in legend(drawn(plots.loss_against_tokens(None, static, laws.best, "main")))
    assert "crosses" not in run_charts(Material(laws, static), {"tokens"})["tokens"].title


def test_trained_mixtures_of_runs_with_phases_are_called_means(laws: FittedLaws, answer: Recommendation) -> None:
    assert "trained (phases: their mean)" in legend(drawn(ternary(None, answer, laws)))
    assert "trained" in legend(drawn(ternary(None, answer, replace(laws, phase_ranges=[]))))
