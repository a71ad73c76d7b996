"""The ledger: what was planned and who tried it, and how far each run is, told without Slurm and without torch."""

import json
import os
import socket
import time
from pathlib import Path

import pytest

from mixlaw.errors import RunLogError
from mixlaw.runs.ledger import (
    PlannedRun,
    begin_attempt,
    end_attempt,
    read_attempts,
    read_jobs,
    read_plan,
    record_job,
    write_plan,
)
from mixlaw.runs.log import RunWriter
from mixlaw.runs.study_status import (
    RunState,
    counts,
    eta_s,
    exit_sentence,
    former_runs,
    former_sentence,
    progress,
    run_states,
)
from tests.mixlaw.run_logs import facts, train_row, write_run

HOST = socket.gethostname()


def planned(name: str, plan: str = "p", n_tokens: int = 1000) -> PlannedRun:
    return PlannedRun(name, plan, ["a=1"], 10, n_tokens, 60.0 * n_tokens, {"web": 1.0}, 0)


def begin(study: Path, name: str, n_tokens: int = 500) -> Path:
    """Write a run that is not over."""
    writer = RunWriter(study / name, facts(name))
    writer.append(train_row(1, n_tokens=n_tokens))
    writer.close()
    return study / name


def state(study: Path, name: str = "a", queue: dict[str, tuple[str, str]] | None = None) -> RunState:
    return next(s for s in run_states(study, queue) if s.run.run_id == name)


def test_a_plan_comes_back_and_two_study_files_share_a_folder(tmp_path):
    write_plan(tmp_path, [planned("a"), planned("b")])
    write_plan(tmp_path, [planned("s", "seeds")])
    assert list(read_plan(tmp_path).values()) == [planned("a"), planned("b"), planned("s", "seeds")]


def test_a_study_file_that_changed_forgets_only_runs_that_never_began_and_are_not_in_the_queue(tmp_path):
    write_plan(tmp_path, [planned(name) for name in "abcd"])
    write_plan(tmp_path, [planned("s", "seeds")])
    begin(tmp_path, "b")
    begin_attempt(tmp_path / "d", "process 1 on x")
    write_plan(tmp_path, [planned("e")], queued={"c"})
    assert list(read_plan(tmp_path)) == ["b", "c", "d", "s", "e"]
    write_plan(tmp_path, [planned("x", "")])
    write_plan(tmp_path, [planned("y", "")])  # without a study file nothing is forgotten
    assert {"x", "y"} < set(read_plan(tmp_path))


def test_runs_of_a_former_version_that_began_are_marked_and_neither_counted_nor_told_until_planned_again(tmp_path):
    write_plan(tmp_path, [planned(name) for name in "abc"])
    for name in "ab":
        begin(tmp_path, name)
    write_plan(tmp_path, [planned("c"), planned("d")], still={"b"})
    assert {name: run.former for name, run in read_plan(tmp_path).items()} == {
        "a": True,
        "b": False,
        "c": False,
        "d": False,
    }
    assert former_runs(tmp_path) == ["a"]
    assert [s.run.run_id for s in run_states(tmp_path)] == ["b", "c", "d"]
    assert former_sentence(tmp_path, ["a"]) == (
        f"1 run is of a former version of the study, which was edited since: a in {tmp_path}"
    )
    assert former_sentence(tmp_path, list("abcde")).startswith("5 runs are of a former version")
    assert "a, b, c and 2 more in" in former_sentence(tmp_path, list("abcde"))
    write_plan(tmp_path, [planned("a"), planned("b")])
    assert former_runs(tmp_path) == []
    assert {s.run.run_id for s in run_states(tmp_path)} >= {"a", "b"}


def test_a_run_of_a_former_version_that_slurm_has_is_told_until_it_is_gone(tmp_path):
    write_plan(tmp_path, [planned("a"), planned("b")])
    record_job(tmp_path, "7", ["a"])
    (tmp_path / "a").mkdir()
    write_plan(tmp_path, [planned("b")], queued={"a"})
    assert read_plan(tmp_path)["a"].former
    assert {s.run.run_id for s in run_states(tmp_path, {"7_0": ("RUNNING", "None")})} == {"a", "b"}
    assert {s.run.run_id for s in run_states(tmp_path, {})} == {"b"}


def test_a_plan_is_written_once_and_a_damaged_one_is_refused_by_its_line(tmp_path):
    write_plan(tmp_path, [planned("a"), planned("b")])
    before = (tmp_path / "plan.jsonl").stat()
    write_plan(tmp_path, [planned("a"), planned("b")])
    assert (tmp_path / "plan.jsonl").stat().st_ino == before.st_ino
    good = (tmp_path / "plan.jsonl").read_text()
    for bad, words in [
        (good[:-9], "line 2 is not valid"),
        ("[]\n", "line 1"),
        ('{"run_id":"../x"}\n', "'../x' is not a run id"),
        ('{"run":"a"}\n', "is not a line that this version of mixlaw reads"),
    ]:
        (tmp_path / "plan.jsonl").write_text(bad)
        with pytest.raises(RunLogError, match=words):
            run_states(tmp_path)


def test_attempts_are_paired_and_lines_that_a_crash_cut_are_passed_over(tmp_path):
    begin_attempt(tmp_path, "process 1 on x")
    begin_attempt(tmp_path, "slurm 3_1 on n[1-2]", "3_1")
    end_attempt(tmp_path, 75)
    with (tmp_path / "attempts.jsonl").open("a") as file:
        file.write('{"event":"start","ti\n{"event":"end","time":"x","code":1}\n[]\n{"event":"end","time":9,"code":4}\n')
    first, second = read_attempts(tmp_path)
    assert (first.where, first.code, first.end) == ("process 1 on x", None, None)
    assert (second.job, second.code) == ("3_1", 75)


def test_a_line_after_one_that_a_crash_cut_is_not_lost(tmp_path):
    record_job(tmp_path, "7", ["a"])
    for name in ("jobs.jsonl", "attempts.jsonl"):
        with (tmp_path / name).open("a") as file:
            file.write('{"job":"8","ti')
    record_job(tmp_path, "9", ["b", "c"])
    begin_attempt(tmp_path, "process 1 on x")
    end_attempt(tmp_path, 75)
    assert [(job.job, job.runs) for job in read_jobs(tmp_path)] == [("7", ["a"]), ("9", ["b", "c"])]
    assert [a.code for a in read_attempts(tmp_path)] == [75]


def test_a_seal_that_is_damaged_concerns_its_own_run_only(tmp_path):
    for name in ("a", "b"):
        write_run(tmp_path, name)
    (tmp_path / "s" / "a" / "done.json").write_text("{")
    assert (state(tmp_path / "s", "b").state, state(tmp_path / "s").state) == ("done", "failed")
    assert "a/done.json" in state(tmp_path / "s").reason


def test_jobs_come_back(tmp_path):
    record_job(tmp_path / "s", "12", ["a", "b"], ["--partition=gpu"], 3)
    (job,) = read_jobs(tmp_path / "s")
    assert (job.job, job.runs, job.options, job.max_running) == ("12", ["a", "b"], ["--partition=gpu"], 3)


def test_a_run_that_nobody_has_is_planned_and_one_that_slurm_has_is_queued(tmp_path):
    write_plan(tmp_path, [planned("a"), planned("b")])
    record_job(tmp_path, "7", ["b", "a"])
    assert state(tmp_path, "b").state == "queued"  # nobody asked Slurm
    waiting = {"7_1": ("PENDING", "JobArrayTaskLimit")}
    assert (state(tmp_path, "a", waiting).state, state(tmp_path, "a", waiting).reason) == (
        "queued",
        "JobArrayTaskLimit",
    )
    lost = state(tmp_path, "b", waiting)
    assert (lost.state, lost.reason, lost.in_queue) == ("planned", "job 7_0 left the queue before it began", False)


@pytest.mark.parametrize(
    ("code", "told", "reason"),
    [
        (2, "failed", "a setting is wrong (exit 2): error: no such thing"),
        (4, "failed", "a checkpoint cannot be written or read (exit 4): error: no such thing"),
        (137, "failed", "killed by signal 9 (SIGKILL)"),
        (-9, "failed", "killed by signal 9 (SIGKILL)"),
        (75, "preempted", "saved after a signal (exit 75); the same command resumes it"),
        (130, "preempted", "interrupted (exit 130); the same command resumes it"),
        (0, "failed", "finished, but done.json is not there any more; the same command runs it again"),
    ],
)
def test_a_run_that_ended_tells_why(tmp_path, code, told, reason):
    write_plan(tmp_path, [planned("a")])
    folder = begin(tmp_path, "a")
    begin_attempt(folder, "process 1 on x")
    end_attempt(folder, code)
    theirs = "E1128 failed (exitcode: 4) local_rank: 0\n" if code in (2, 4) else ""  # torchrun's, behind ours
    slurms = "srun: error: fake1: task 0: Exited with exit code 2\n"
    (folder / "log.txt").write_text(f"error: no such thing\n{theirs}{slurms}")
    found = state(tmp_path)
    assert found.state == told
    assert found.reason.startswith(reason)
    assert (found.progress, found.attempts) == (0.5, 1)


def test_a_preempted_run_waits_in_the_queue_or_does_not(tmp_path):
    write_plan(tmp_path, [planned("a")])
    record_job(tmp_path, "7", ["a"])
    folder = begin(tmp_path, "a")
    begin_attempt(folder, "slurm 7_0 on n1", "7_0")
    running = state(tmp_path, queue={"7_0": ("RUNNING", "None")})
    assert (running.state, running.reason, running.in_queue) == ("running", "slurm 7_0 on n1", True)
    killed = state(tmp_path, queue={"7_0": ("PENDING", "BeginTime")})
    assert (killed.state, killed.reason) == ("preempted", "stopped by Slurm; waits in the queue (BeginTime)")
    gone = state(tmp_path, queue={"7_0": ("TIMEOUT", "TimeLimit")})
    assert gone.state == "failed"
    assert gone.reason.endswith("is gone without an end: killed, or its machine stopped (Slurm: TIMEOUT, TimeLimit)")
    end_attempt(folder, 75)
    for word in ("PENDING", "COMPLETING"):
        saved = state(tmp_path, queue={"7_0": (word, "BeginTime")})
        assert (saved.state, saved.in_queue) == ("preempted", True)
    assert not state(tmp_path, queue={}).in_queue
    begin_attempt(folder, "slurm 7_0 on n1", "7_0")
    end_attempt(folder, 4)
    assert state(tmp_path, queue={"7_0": ("COMPLETING", "None")}).state == "failed"


def test_a_process_of_this_machine_is_alive_or_not_and_one_elsewhere_if_it_wrote_lately(tmp_path):
    write_plan(tmp_path, [planned("a")])
    folder = begin(tmp_path, "a")
    begin_attempt(folder, f"process {os.getpid()} on {HOST}")
    assert state(tmp_path).state == "running"
    begin_attempt(folder, f"process {2**22 - 1} on {HOST}")
    assert state(tmp_path).state == "failed"
    begin_attempt(folder, "process 1 on elsewhere")
    assert state(tmp_path).state == "running"
    line = json.dumps({"event": "start", "time": 5, "where": "process 1 on elsewhere", "job": ""})
    (folder / "attempts.jsonl").write_text(line + "\n")
    os.utime(folder / "metrics.jsonl", (9, 9))
    found = state(tmp_path)
    assert (found.state, found.seconds) == ("failed", 4)  # from its start to what it wrote last


def test_runs_that_no_launcher_planned_are_found_and_other_folders_are_not(tmp_path):
    write_run(tmp_path, "done")
    study = tmp_path / "s"
    begin(study, "open")
    (begin(study, "held") / ".lock").write_text(f"process {os.getpid()} on {HOST}")
    (study / "slurm").mkdir()
    (study / "bad").mkdir()
    (study / "bad/run.json").write_text("{")
    found = {s.run.run_id: s.state for s in run_states(study)}
    assert found == {"done": "done", "open": "preempted", "held": "running", "bad": "preempted"}
    assert state(study, "done").run.mixture == {"code": 0.5, "web": 0.5}


def test_finished_and_diverged_runs_are_over_whatever_else_is_said(tmp_path):
    study = write_run(tmp_path, "a").parent
    diverged = RunWriter(study / "b", facts("b"))
    diverged.append(train_row(1))
    diverged.seal("diverged")
    end_attempt(study / "a", 1)
    states = run_states(study, {})
    assert counts(states) == {"diverged": 1, "done": 1}
    assert not (study / "a" / "run.json").read_bytes().startswith(b"x")


def test_progress_and_the_time_left_count_flops(tmp_path):
    write_plan(tmp_path, [planned(name) for name in "abcd"])
    for name in "ab":
        folder = begin(tmp_path, name, 500)
        line = {"event": "start", "time": time.time() - 10, "where": f"process {os.getpid()} on {HOST}", "job": ""}
        (folder / "attempts.jsonl").write_text(json.dumps(line) + "\n")
    states = run_states(tmp_path)
    assert progress(states) == pytest.approx(0.25)
    assert eta_s(states) == pytest.approx(30, rel=0.05)  # two halves and two wholes, two at a time, 20 s each
    assert eta_s([s for s in states if s.state != "running"]) is None
    assert progress([]) == 1


def test_exit_codes_have_words():
    assert exit_sentence(143) == exit_sentence(-15) == "killed by signal 15 (SIGTERM)"
    assert exit_sentence(130) == "interrupted (exit 130)"
    assert exit_sentence(99) == "failed (exit 99)"
    assert exit_sentence(128 + 64).startswith("killed by signal 64")


def test_a_log_that_is_cut_in_a_line_tells_the_line_before(tmp_path):
    write_plan(tmp_path, [planned("a")])
    folder = begin(tmp_path, "a", 250)
    with (folder / "metrics.jsonl").open("ab") as file:
        file.write(b'{"n_tokens":999')
    assert state(tmp_path).progress == 0.25


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("plan.jsonl", '{"run_id": 5}'),
        ("plan.jsonl", '{"run_id": "abc", "flops": "x"}'),
        ("plan.jsonl", '{"run_id": "abc", "flops": null}'),
        ("plan.jsonl", '{"run_id": "abc", "mixture": {"a": "b"}}'),
        ("jobs.jsonl", '{"job": "1", "time": 0, "runs": null}'),
        ("jobs.jsonl", '{"job": "1", "time": 0, "runs": [["a"]]}'),
    ],
)
def test_lines_of_other_types_are_one_sentence(name: str, line: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(line + "\n")
    with pytest.raises(RunLogError, match="is not a line that this version of mixlaw reads"):
        run_states(tmp_path)


@pytest.mark.parametrize("where", ["process 99999999999999999999 on {}", "process ² on {}"])
def test_a_process_that_cannot_be_is_not_alive(where: str, tmp_path: Path) -> None:
    begin_attempt(tmp_path / "aaa", where.format(socket.gethostname()))
    (tmp_path / "aaa" / "run.json").write_text("{}")
    assert run_states(tmp_path)[0].state == "failed"
