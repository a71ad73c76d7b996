"""`python -m train`: one command to start, resume or be told that it is done, with exit codes that scripts can use."""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest

from mixlaw.runs.load import load_runs
from mixlaw.runs.log import read_facts
from tests.commands import call, limit_files
from tests.marks import slow
from train.__main__ import main
from train.compose import ROOT
from train.exits import EXIT_CODES
from train.plan import Plan

Tiny = Callable[..., list[str]]
Plans = Callable[..., Plan]


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Be the command line in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["train", *arguments])
    with pytest.raises(SystemExit) as left:
        sys.exit(main())
    return int(left.value.code or 0)


def test_a_run_is_one_line_and_exit_code_0_also_when_it_is_done_already(
    tiny: Tiny, plan: Plans, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert command(monkeypatch, *tiny()) == EXIT_CODES["finished"] == 0
        out, err = capfd.readouterr()
        assert (out, err) == (f"{plan().config.machine.runs}/{plan().folder_name} finished\n", "")
    assert len(load_runs(plan().config.machine.runs).table) == 3 * 5


def test_a_diverged_run_says_so_and_leaves_with_76(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert command(monkeypatch, *tiny("optim.lr=1e30", "schedule.warmup_tokens=0")) == EXIT_CODES["diverged"] == 76
        assert "diverged: a loss or gradient was not finite" in capfd.readouterr().out


def test_run_json_states_what_the_run_is(tiny: Tiny, plan: Plans, monkeypatch: pytest.MonkeyPatch) -> None:
    this = plan("mixture=uniform", "study_name=facts")
    assert command(monkeypatch, *tiny("mixture=uniform", "study_name=facts")) == 0
    facts = read_facts(Path(this.config.machine.runs) / this.folder_name)
    assert (facts["run_id"], facts["study"], facts["family"]) == (this.run_id, "facts", "text")
    assert facts["mixture"] == dict.fromkeys(["code", "docs", "dict", "dialogue"], 0.25)
    assert facts["config"]["model"]["width"] == 16
    assert (facts["tokens_per_step"], facts["n_steps"], facts["n_tokens"]) == (64, 12, 768)
    assert facts["n_params"]["total"] == facts["n_params"]["non_embedding"] + 2 * 256 * 16
    assert facts["data"]["reviews"]["n_tokens"] == 0
    assert facts["data"]["docs"] == {"n_tokens": 8000, "sha256": this.manifest.domain_sha256("docs")}
    assert facts["tokenizer"] == this.manifest.facts["tokenizer"]
    assert facts["world_size"] == 1
    assert facts["hardware"]["host"]
    assert datetime.fromisoformat(facts["began"]).timestamp() <= time.time()


def test_every_row_of_the_log_is_strict_json_with_the_learning_rate_of_its_step(
    tiny: Tiny, plan: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("schedule.warmup_tokens=639", "logging.every_steps=1")
    assert command(monkeypatch, *tiny(*settings)) == 0
    log = Path(plan(*settings).config.machine.runs) / plan(*settings).folder_name / "metrics.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    train = [row for row in rows if row["kind"] == "train"]
    assert [row["step"] for row in train] == list(range(1, 13))
    assert [row["lr"] for row in train] == pytest.approx([8e-3 * min((64 * s + 1) / 640, 1) for s in range(1, 13)])
    assert all(sum(row["tokens_by_domain"].values()) == row["n_tokens"] == 64 * row["step"] for row in train)
    assert {row["n_eval_tokens"] for row in rows if row["kind"] == "eval"} == {8 * 16}


@pytest.mark.parametrize("place", ["/dev/null/runs", slow("/proc/runs")])
def test_a_folder_that_cannot_be_written_is_a_sentence(
    place: str, tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, *tiny(f"machine.runs={place}")) == 3
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"error: {place}")
    assert err.endswith("; choose another machine.runs, or free some space\n")
    assert err.count("\n") == 1


def test_a_disk_that_fills_up_under_the_log_is_a_sentence_that_names_the_run(tiny: Tiny, plan: Plans) -> None:
    code, out, err = call("-m", "train", *tiny(), prepare=partial(limit_files, 1000))
    assert (code, out) == (3, "")
    folder = Path(plan().config.machine.runs) / plan().folder_name
    assert err == f"error: {folder}: File too large; choose another machine.runs, or free some space\n"


@pytest.mark.slow  # generates and compiles C++
@pytest.mark.skipif(not shutil.which("c++"), reason="torch.compile on CPUs needs a C++ compiler, and there is none")
def test_a_compiled_run_has_the_losses_of_one_that_is_not(tiny: Tiny, tmp_path: Path) -> None:
    shared = tiny("schedule.n_tokens=256", "evaluation.n_points=1", "machine.micro_batch=2")
    for name, compiled in (("plain", "false"), ("compiled", "true")):
        code, _, err = call("-m", "train", *shared, f"machine.compile={compiled}", f"machine.runs={tmp_path / name}")
        assert code == 0, err
    logs = [next((tmp_path / name).glob("*/*/metrics.jsonl")) for name in ("plain", "compiled")]
    plain, compiled_rows = ([json.loads(line) for line in log.read_text().splitlines()] for log in logs)
    for a, b in zip(plain, compiled_rows, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-5)


@pytest.mark.slow  # a new interpreter imports torch
def test_a_foreign_package_called_data_is_noticed(tiny: Tiny, tmp_path: Path) -> None:
    """`python -m train` from elsewhere: the checkout's parts are on the path, but not first."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "__init__.py").touch()
    for path in (ROOT / "data").glob("[!_]*"):
        (tmp_path / "data" / path.name).symlink_to(path)
    code, out, err = call("-P", "-m", "train", *tiny(), PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: `import data` finds {tmp_path}")


def test_the_composed_configuration_can_be_printed(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "--cfg", "job", *tiny("model.width=24")) == 0
    assert "  width: 24\n" in capfd.readouterr().out
