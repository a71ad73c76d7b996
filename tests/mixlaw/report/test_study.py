"""What a report says of the study: counts, what failed and why, and what to run next; from real ledgers and fits."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from mixlaw.advice.constraints import Question
from mixlaw.advice.recommend import recommend
from mixlaw.advice.recommendation import Recommendation
from mixlaw.cli.main import main
from mixlaw.fitting.estimator import LawFit
from mixlaw.fitting.saved import FittedLaws
from mixlaw.report.study import mixture_text, next_section, points_of, propose, status_section, unfinished
from mixlaw.runs.ledger import PlannedRun, begin_attempt, end_attempt, write_plan
from mixlaw.runs.study_status import run_states
from mixlaw.tables.table import Table
from tests.mixlaw.run_logs import write_run
from tests.mixlaw.synthetic import laws_of, phase_study, study

Asked = tuple[FittedLaws, Table, Recommendation]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study of five runs: one done, one diverged before its time, one failed, one stopped, one nobody began."""
    runs = tmp_path / "runs" / "s"
    write_run(tmp_path / "runs", "aaa")
    mixture = {"code": 0.25, "web": 0.75}
    write_plan(runs, [PlannedRun(n, "s", [], 3_000_000_000, 200, 1e12, mixture) for n in ("aaa", "bbb", "ccc", "ddd")])
    for name, code, words in (("bbb", 3, "error: <data> are gone"), ("ccc", 75, "saved")):
        (runs / name).mkdir()
        (runs / name / "run.json").write_text("{}")
        begin_attempt(runs / name, "process 1 on host")
        end_attempt(runs / name, code)
        (runs / name / "log.txt").write_text(words + "\n")
    return runs


def test_a_study_is_told_with_what_failed_and_why(folder: Path) -> None:
    [section] = status_section(folder)
    page = section.body
    assert "4 runs: 1 planned, 1 preempted, 1 failed, 1 done" in page
    assert "data or run directory cannot be used" in page
    assert "&lt;data&gt; are gone" in page
    assert "<data>" not in page
    assert "web 75 %, code 25 %" in page


def test_a_report_begins_with_what_is_not_done(folder: Path) -> None:
    states = run_states(folder)
    assert "Not all of 4 runs are done: 1 planned, 1 preempted, 1 failed." in unfinished(states)
    assert unfinished([s for s in states if s.state == "done"]) == ""


def test_runs_whose_size_nobody_wrote_down_have_no_share_of_flops(tmp_path: Path) -> None:
    (tmp_path / "aaa").mkdir()
    (tmp_path / "aaa" / "run.json").write_text("{}")
    assert "<p>1 runs: 1 preempted.</p>" in status_section(tmp_path)[0].body


def test_many_failures_are_counted_not_listed(folder: Path) -> None:
    for i in range(30):
        run = folder / f"x{i}"
        run.mkdir()
        for name in ("run.json", "attempts.jsonl", "log.txt"):
            os.link(folder / "bbb" / name, run / name)
    page = status_section(folder)[0].body
    assert page.count("cannot be used") == 20  # the run that is preempted can wait
    assert "and 12 more" in page


def test_a_folder_without_runs_has_no_status(tmp_path: Path) -> None:
    assert status_section(tmp_path) == []


def test_a_report_of_a_study_takes_what_its_folder_holds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(folder)]) == 0
    assert "the status of the study only" in capsys.readouterr().out
    page = (folder / "report.html").read_text()
    assert "1 failed" in page
    assert "mixlaw fit" in page
    assert main(["report", str(folder.parent)]) == 3
    assert "holds no runs" in capsys.readouterr().err


def test_a_report_of_a_table_needs_laws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text("n_params,n_tokens,weight_a,weight_b,loss_x\n1,1,0.5,0.5,1\n")
    assert main(["report", str(tmp_path / "t.csv")]) == 2
    assert "a report needs laws" in capsys.readouterr().err


@pytest.fixture(scope="module")
def asked() -> Asked:
    table = study("multiplicative", noise=0.02)
    fit = LawFit("multiplicative", n_bootstrap=40).fit(table).fitted_
    ranges = {c: (float(table.frame[c].min()), float(table.frame[c].max())) for c in ("n_params", "n_tokens")}
    laws = FittedLaws({fit.name: fit}, fit.name, "", ranges, table.mixtures, {}, {}, [], "")
    return laws, table, recommend(laws, Question(1e9, 1e11, {"main": 1.0}))


def test_the_next_runs_are_of_the_table_s_own_sizes_and_lengths(
    asked: Asked,
) -> None:
    laws, table, answer = asked
    assert points_of(table) == (3, 5.0)
    runs = propose(laws, table, answer, 4).runs
    ends = table.frame.groupby("run_id")[["n_params", "n_tokens"]].max()
    assert set(runs[["n_params", "n_tokens"]].itertuples(index=False, name=None)) <= set(
        ends.itertuples(index=False, name=None)
    )
    section = next_section(laws, table, answer)
    page = section.body
    assert section.title == "What to run next"
    assert page.count("<tr>") >= 12
    assert "These runs are expected to reduce it by " in page
    assert "sweeps.plan" not in page
    command = "python -m sweeps.plan mine --next 12"
    assert f"<code>{command}</code>" in next_section(laws, table, answer, "mine").body


@pytest.mark.slow
def test_the_next_runs_for_phases_change_their_mixture() -> None:
    table = phase_study("multiplicative-phases", noise=0.01, n_mixtures=8, n_phased=10)
    laws = laws_of(table, "multiplicative-phases", n_bootstrap=20, n_starts=8)
    answer = recommend(laws, Question(1e9, 1e11, {"main": 1.0}), phases=2, switch=0.75)
    page = next_section(laws, table, answer).body
    assert "; from 75 % of the tokens " in page
    assert "These 12 runs, selected by information per FLOP" in page


def test_a_law_that_cannot_choose_says_so(asked: Asked) -> None:
    _, table, answer = asked
    frame = table.frame.rename(columns={"loss_main": "loss_web"})
    fit = LawFit("d-cpt", n_bootstrap=2, n_starts=2).fit(own := Table(frame, table.domains, ["web"])).fitted_
    laws = FittedLaws({"d-cpt": fit}, "d-cpt", "", {}, table.mixtures, {}, {}, [], "")
    page = next_section(laws, own, replace(answer, question=replace(answer.question, targets={"web": 1.0})))
    assert "cannot say which runs to train next" in page.body


def test_points_of_runs_with_one_row_each() -> None:
    table = study("multiplicative", tokens=(1e10,))
    assert points_of(table) == (1, 1.3)


def test_a_mixture_is_named_by_its_largest_weights() -> None:
    assert mixture_text({f"d{i}": w for i, w in enumerate((0.4, 0.3, 0.1, 0.1, 0.06, 0.04))}) == (
        "d0 40 %, d1 30 %, d3 10 %, d2 10 %, others 10 %"
    )
