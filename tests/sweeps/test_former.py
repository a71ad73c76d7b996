"""After a study file is edited, runs of its former version are not counted, not launched again, and not fitted."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mixlaw.errors import RunLogError
from mixlaw.runs.ledger import PlannedRun, read_attempts, read_plan
from mixlaw.runs.load import load_runs
from mixlaw.runs.study_status import run_states
from mixlaw.tables.read import read_table
from sweeps.jobs import edited, still_planned, typed
from sweeps.local import run_study
from sweeps.status import main
from sweeps.study_file import grids_of
from sweeps.study_path import path_of
from tests.train.tiny import TINY
from train.grids import combinations

STUDY = """# @package _global_
study_name: mine
optim:
  lr: {lr}

hydra:
  mode: MULTIRUN
  sweeper:
    params:
      mixture: {mixtures}
"""


@pytest.fixture
def study(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return what writes the study file `mine` into a folder of configurations of one's own."""
    monkeypatch.setenv("MIXLAW_CONFIGS", str(tmp_path / "configs"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs/study").mkdir(parents=True)

    def write(lr: float = 8e-3, mixtures: str = "uniform, natural") -> Path:
        path = path_of("mine")
        path.write_text(STUDY.format(lr=lr, mixtures=mixtures))
        return path

    return write


def launch(data_root: Path, tmp_path: Path, *more: str) -> None:
    """Do what `python -m train study=mine MORE` does."""
    words = ["study=mine", *TINY, f"data.root={data_root}", f"machine.runs={tmp_path / 'runs'}", *more]
    run_study(combinations(*grids_of(path_of("mine")), words), 2, 0)


def test_an_edited_study_leaves_its_former_runs_alone(
    study: Callable[..., Path], data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs/mine"
    study()
    launch(data_root, tmp_path)
    first = set(read_plan(folder))
    failed = min(first)
    (folder / failed / "done.json").unlink()  # as if it had not come to its end
    assert len(load_runs(folder).facts) == 1

    path = study(lr=4e-3)  # edited, and not launched yet
    os.utime(path, (os.stat(folder / "plan.jsonl").st_mtime + 9,) * 2)
    assert main(["mine"]) == 0
    out = capsys.readouterr().out
    assert f"{folder.relative_to(tmp_path)}: 0 runs: none" in out
    assert "2 runs are of a former version of the study, which was edited since: " in out
    assert main(["retry", "mine"]) == 0
    out = capsys.readouterr().out
    assert "0 of 0 runs again" in out
    assert "2 runs are of a former version" in out
    assert {run for run in folder.iterdir() if run.is_dir()} == {folder / name for name in first}
    assert len(read_attempts(folder / failed)) == 1

    launch(data_root, tmp_path)
    out = capsys.readouterr().out
    assert "study mine: 2 runs, 0 done before, 0 to resume, 2 new" in out
    assert "2 runs are of a former version" in out
    assert {s.run.run_id for s in run_states(folder)} == set(read_plan(folder)) - first
    table = read_table([folder])
    assert set(table.frame["run_id"]) == set(read_plan(folder)) - first
    assert any("2 runs are of a former version" in note and str(folder) in note for note in table.notes)
    with pytest.raises(RunLogError, match=r"optim\.lr: 0\.004 in 2 runs"):  # asked for, they cannot be compared
        read_table([folder], former=True)
    assert main(["mine", "--all", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["former"]) == first


@pytest.mark.slow
def test_a_part_of_a_study_and_what_was_typed_beside_it_are_no_former_versions(
    study: Callable[..., Path], data_root: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "runs/mine"
    study()
    launch(data_root, tmp_path)
    launch(data_root, tmp_path, "mixture=uniform")
    launch(data_root, tmp_path, "seed=1")
    plan = read_plan(folder)
    assert len(plan) == 4
    assert not any(run.former for run in plan.values())
    assert typed(list(plan.values())[-1])[-1] == "seed=1"
    assert still_planned(plan.values()) == set(plan)

    study(mixtures="natural")
    runs = {name: run.overrides for name, run in plan.items()}
    gone = {
        name
        for name, words in runs.items()
        if "mixture=uniform" in words and typed(plan[name])[-1] != "mixture=uniform"
    }
    assert still_planned(plan.values()) == set(plan) - gone
    assert len(gone) >= 1
    launch(data_root, tmp_path)
    assert {name for name, run in read_plan(folder).items() if run.former} == gone


def test_runs_without_a_file_and_files_that_cannot_be_read_count_as_planned(
    study: Callable[..., Path], tmp_path: Path
) -> None:
    study().write_text("hydra: [")
    runs = [
        PlannedRun("a", "mine", ["mixture=uniform", "study=mine"]),
        PlannedRun("b"),
        PlannedRun("c", "no_such_study"),
    ]
    assert still_planned(runs) == {"a", "b", "c"}
    assert edited(["mine", "", "no_such_study"], tmp_path / "plan.jsonl") == set()
    (tmp_path / "plan.jsonl").touch()
    os.utime(tmp_path / "plan.jsonl", (1, 1))
    assert edited(["mine", "", "no_such_study"], tmp_path / "plan.jsonl") == {"mine"}
