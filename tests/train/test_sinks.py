"""Weights & Biases is a mirror: it gets what the run log gets, and whatever it does, the run log stays the same."""

import json
import logging
import subprocess
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

import train.sinks
from tests.train.test_resume import stop_at
from tests.train.tiny import call
from train.loop import run
from train.mirror import as_metrics
from train.plan import Plan

Plans = Callable[..., Plan]
Tiny = Callable[..., list[str]]
PATIENT = """
import sys, train.sinks
from train.__main__ import main
train.sinks.DEADLINE_S = 100.0  # a loaded machine is not a dead mirror
sys.exit(main())
"""
WORKING = """
import json, os
Settings = dict
def write(what, **more): open(os.environ["SEEN"], "a").write(json.dumps([what, more]) + chr(10))
class Run:
    def define_metric(self, name, step_metric): write("metric", name=name, step=step_metric)
    def log(self, row): write("row", **row)
    def finish(self): write("finish")
def init(**more): write("init", **more); return Run()
"""
DEAD = {
    "is missing": "raise ModuleNotFoundError('no wandb here')",
    "hangs on import": "import time; time.sleep(1000)",
    "hangs at init": "import time\nSettings = dict\ndef init(**more): time.sleep(1000)",
    "raises at init": "Settings = dict\ndef init(**more): raise OSError('no network')",
    "raises at the 7th row": WORKING
    + """
count = iter(range(1, 100))
def log(self, row):
    if next(count) == 7: raise ConnectionError("gone")
Run.log = log
""",
    "kills its process": "import os\nSettings = dict\ndef init(**more): os.abort()",
}


def folder_of(plan: Plan) -> Path:
    return Path(plan.config.machine.runs) / plan.folder_name


def log_of(plan: Plan) -> bytes:
    return (folder_of(plan) / "metrics.jsonl").read_bytes()


@pytest.fixture
def unmirrored(plan: Plans, tmp_path: Path) -> bytes:
    this = plan(f"machine.runs={tmp_path / 'unmirrored'}")
    assert run(this) == "finished"
    return log_of(this)


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put a module in the place of wandb, for the mirror's process; return where a working one writes what it sees."""

    def put(code: str) -> Path:
        (tmp_path / "stub").mkdir()
        (tmp_path / "stub" / "wandb.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "stub"))
        monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
        return tmp_path / "seen"

    return put


def test_wandb_offline_gets_a_run_with_our_id_and_the_log_stays_the_same(
    plan: Plans, tiny: Tiny, unmirrored: bytes, tmp_path: Path
) -> None:
    this = plan("study_name=mirrored")
    private = {"HOME": str(tmp_path), "WANDB_MODE": "offline", "WANDB_CACHE_DIR": str(tmp_path / "cache")}
    code, _, err = call(
        "-c", PATIENT, *tiny("study_name=mirrored", "logging=wandb", "logging.every_steps=2"), **private
    )
    assert code == 0, err
    assert "left behind" not in err
    assert log_of(this) == unmirrored
    folder = tmp_path / "runs" / "mirrored" / this.run_id
    [record] = folder.glob(f"wandb/offline-run-*-{this.run_id}/run-{this.run_id}.wandb")
    raw = record.read_bytes()
    for text in ("mirrored", this.run_id, "loss/reviews", "weight/code", "epochs/code", "train/grad_norm"):
        assert text.encode() in raw


@pytest.mark.parametrize("name", DEAD)
def test_a_dead_mirror_costs_one_warning_and_changes_no_log(
    name: str,
    plan: Plans,
    stub: Callable[[str], Path],
    unmirrored: bytes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stub(DEAD[name])
    if "hangs" in name:
        monkeypatch.setattr(train.sinks, "DEADLINE_S", 0.5)
    else:
        monkeypatch.setattr(train.sinks, "DEADLINE_S", 100.0)
    this = plan("logging=wandb", "logging.every_steps=2")
    assert run(this) == "finished"
    assert log_of(this) == unmirrored
    [warning] = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert warning.getMessage().startswith("W&B is left behind (")
    subprocess.run(["pkill", "-KILL", "-f", f"train.mirror {folder_of(this)}"], check=False)


class Broken(BaseHTTPRequestHandler):
    """A server that answers everything with an error."""

    def do_GET(self) -> None:
        self.send_response(500)
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *ignored: object) -> None:
        pass


@pytest.fixture
def broken_server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Broken) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_server_that_answers_with_errors_does_not_hold_up_the_end(
    plan: Plans, tiny: Tiny, unmirrored: bytes, broken_server: str, tmp_path: Path
) -> None:
    """The real wandb retries for a minute and a half: the trainer is gone long before."""
    there = {"WANDB_BASE_URL": broken_server, "WANDB_API_KEY": "a" * 40, "HOME": str(tmp_path)}
    code, out, err = call("-m", "train", *tiny("logging=wandb", "logging.every_steps=2"), **there)
    assert code == 0, err
    assert out.endswith(" finished\n")
    assert err.count("\n") == err.count("WARNING W&B is left behind") == 1
    assert log_of(plan()) == unmirrored


def test_rows_arrive_in_order_under_dashboard_names(
    plan: Plans, stub: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = stub(WORKING)
    monkeypatch.setattr(train.sinks, "DEADLINE_S", 100.0)
    this = plan("logging=wandb", "logging.every_steps=2")
    assert run(this, stop_at(7)) == "again"
    assert run(this) == "finished"
    said = [json.loads(line) for line in seen.read_text().splitlines()]
    facts = json.loads((folder_of(this) / "run.json").read_text())
    starts = [more for what, more in said if what == "init"]
    assert len(starts) == [what for what, _ in said].count("finish") == 2
    for start in starts:
        assert (start["id"], start["group"], start["resume"]) == (this.run_id, "solo", "allow")
        assert "hardware" not in start["config"]  # where it ran is nobody else's business
    rows = [more for what, more in said if what == "row"]
    assert rows == [as_metrics(json.loads(line), facts) for line in log_of(this).splitlines()]  # each once
    last = rows[-1]
    assert last.keys() == {"n_tokens", "loss/reviews", "loss_se/reviews"}


def test_a_train_row_becomes_shares_and_epochs() -> None:
    row = {"kind": "train", "n_tokens": 128, "loss": 2.0, "grad_norm": 1.0, "lr": 0.1}
    facts = {"data": {"a": {"n_tokens": 48}, "b": {"n_tokens": 320}}}
    assert as_metrics(row | {"tokens_by_domain": {"a": 96, "b": 32}}, facts) == {
        "n_tokens": 128,
        "train/loss": 2.0,
        "train/grad_norm": 1.0,
        "train/lr": 0.1,
        "weight/a": 0.75,
        "weight/b": 0.25,
        "epochs/a": 2.0,
        "epochs/b": 0.1,
    }
