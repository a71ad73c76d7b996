"""What a person is told of a study, and that a study can be taken up again from there."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mixlaw.runs.ledger import begin_attempt, end_attempt, read_attempts, read_plan
from mixlaw.runs.log import read_status
from mixlaw.runs.study_table import duration_text, mixture_text
from sweeps.local import run_study
from sweeps.status import main
from tests.commands import call

Tiny = Callable[..., list[str]]
JOBS = [[f"mixture={m}", "study_name=s"] for m in ("uniform", "natural")]


def test_a_local_study_is_told_retried_and_done(tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "runs/s"
    jobs = [tiny(*job) for job in JOBS]
    run_study(jobs, 2, 0, dry_run=True)
    table = capsys.readouterr().out
    assert f"{study}: 2 runs: 2 planned; 0 % of" in table
    assert "code 0.25 docs 0.25 dict 0.25 dialogue 0.25  planned" in table
    assert not study.exists()  # nothing was written

    first = table.split("FLOPs  mixture")[1].split("\n")[1].split()[0]
    (study / first).mkdir(parents=True)
    (study / first / "checkpoints").touch()
    with pytest.raises(SystemExit):
        run_study(jobs, 2, 0)
    capsys.readouterr()
    assert main([str(study)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{study}: 2 runs: 1 failed, 1 done; ")
    assert "a checkpoint cannot be written or read (exit 4): error: cannot save" in out
    assert out.endswith(f"again: python -m sweeps.status retry {study}\n")
    assert main([str(study), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["counts"] == {"failed": 1, "done": 1}
    assert {run["run_id"] for run in told["runs"]} == set(read_plan(study))

    (study / first / "checkpoints").unlink()
    assert main(["retry", str(study)]) == 0
    assert "1 of 2 runs again\n" in capsys.readouterr().out
    assert [read_status(study / name) for name in read_plan(study)] == ["finished"] * 2
    assert [a.code for a in read_attempts(study / first)] == [4, 0]
    assert main([str(study), "--all", "--watch"]) == 0
    assert f"{study}: 2 runs: 2 done; 100 % of" in capsys.readouterr().out


def test_names_of_studies_and_of_their_files_are_found_and_others_are_a_sentence(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    from mixlaw.runs.ledger import PlannedRun, write_plan

    write_plan(Path("runs/s"), [PlannedRun("a", "s"), PlannedRun("b", "s_seeds")])
    for name, n in (("s", 2), ("runs/s", 2), ("s_seeds", 1)):
        assert main([name]) == 0
        assert f"runs/s: {n} runs: {n} planned" in capsys.readouterr().out
    assert main(["s_seed"]) == 2
    assert capsys.readouterr().err == "error: unknown study 's_seed'; did you mean 's_seeds'? known: s, s_seeds\n"
    for name in ("s", "t"):
        (tmp_path / name).mkdir()  # folders of other things
    assert main(["s"]) == 0
    assert "runs/s: 2 runs" in capsys.readouterr().out
    for name, said in (("t", "t holds no runs, and none are planned there"), ("quickstart", "was not launched yet")):
        assert main([name]) == 2
        assert said in capsys.readouterr().err
    assert main(["stop", "s"]) == 2
    assert "write STUDY, retry STUDY or cancel STUDY" in capsys.readouterr().err


def test_what_runs_elsewhere_is_not_cancelled_from_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny: Tiny
) -> None:
    import socket

    from mixlaw.runs.ledger import PlannedRun, write_plan

    write_plan(tmp_path, [PlannedRun("a", "s"), PlannedRun("b", "s")])
    begin_attempt(tmp_path / "a", f"process {os.getpid()} on {socket.gethostname()}")
    begin_attempt(tmp_path / "b", "process 1 on x")
    end_attempt(tmp_path / "b", 75)
    assert main(["cancel", str(tmp_path)]) == 0
    assert "0 runs cancelled" in (out := capsys.readouterr().out)
    assert f"1 more run outside of Slurm (process {os.getpid()} on" in out
    assert main([str(tmp_path)]) == 0
    assert "saved after a signal (exit 75); the same command resumes it" in capsys.readouterr().out


def test_a_dry_run_of_one_run_or_of_many_trains_nothing(tiny: Tiny, tmp_path: Path) -> None:
    code, out, err = call("-m", "train", *tiny("--dry-run"))
    assert (code, err) == (0, "")
    assert "solo: 1 runs: 1 planned" in out
    code, out, err = call("-m", "train", "-m", "--dry-run", *tiny("seed=0,1,2"))
    assert (code, err) == (0, "")
    assert "solo: 3 runs: 3 planned" in out
    assert not list((tmp_path / "runs").glob("*/*/run.json"))
    assert not list((tmp_path / "runs").glob("*/plan.jsonl"))


def test_status_starts_without_torch_and_hydra() -> None:
    code = "import sys, sweeps.status; sys.exit(bool({'torch', 'hydra'} & set(sys.modules)))"
    assert call("-c", code)[0] == 0


def test_words_for_mixtures_and_times() -> None:
    assert mixture_text({"a": 0.5, "b": 0.0, "c": 0.5}) == "a 0.50 c 0.50"
    assert mixture_text({d: w / 100 for d, w in zip("abcdef", (5, 40, 20, 15, 10, 10), strict=True)}) == (
        "b 0.40 c 0.20 d 0.15 e 0.10 ..."
    )
    assert [duration_text(s) for s in (5, 150, 8000, 900_000)] == ["5 s", "2 min", "2 h", "10 days"]
