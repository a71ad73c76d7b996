"""Weights & Biases is a mirror: it gets what the run log gets, and whatever it does, the run log stays the same."""

import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import train.sinks
from mixlaw.runs.log import RunWriter
from tests.commands import call
from tests.marks import all_slow_but
from tests.mixlaw.run_logs import eval_row, train_row
from tests.mixlaw.run_logs import facts as some_facts
from tests.scripts.wandb_files import Record, be_patient, history, inspect, of_type, private, server_that_says, summary
from tests.train.test_resume import stop_at
from train.compose import ROOT
from train.journal import only_process
from train.late_mirror import send_late
from train.loop import run
from train.mirror import Speed, as_metrics
from train.peaks import peak_in_use, peak_of
from train.plan import Plan
from train.sent import record_sent, sent_bytes, unsent_rows

Plans = Callable[..., Plan]
Tiny = Callable[..., list[str]]
WORKING = """
import json, os
Settings = dict
def write(what, **more): open(os.environ["SEEN"], "a").write(json.dumps([what, more]) + chr(10))
class Run:
    def define_metric(self, name, step_metric): write("metric", name=name, step=step_metric)
    def log(self, row, step, commit): write("row", step=step, **row)
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
def log(self, row, **more):
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
def unmirrored(trained: Plans) -> bytes:
    return log_of(trained())


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put a module in the place of wandb, for the mirror's process; return where a working one writes what it sees."""

    def put(code: str) -> Path:
        (tmp_path / "stub").mkdir(exist_ok=True)
        (tmp_path / "stub" / "wandb.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "stub"))
        monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
        return tmp_path / "seen"

    return put


def test_wandb_offline_gets_a_run_with_our_id_and_the_log_stays_the_same(
    plan: Plans, tiny: Tiny, unmirrored: bytes, tmp_path: Path
) -> None:
    this = plan("study_name=mirrored")
    overrides = tiny("study_name=mirrored", "logging=wandb", "logging.every_steps=2")
    code, _, err = call("-m", "train", *overrides, prepare=be_patient, **private(tmp_path))
    assert code == 0, err
    assert "left behind" not in err
    assert log_of(this) == unmirrored
    folder = folder_of(this)
    [written] = folder.glob(f"wandb/offline-run-*-{this.run_id}")
    records = inspect(written)
    facts = json.loads((folder / "run.json").read_text())
    [page] = [record for record in of_type(records, "run") if "project" in record]
    assert (page["run_group"], page["job_type"], page["run_id"]) == ("mirrored", "train", this.run_id)
    assert (page["project"], page["display_name"], page["tags"]) == ("mixlaw", facts["run_name"], ["text"])
    stated = {key: value for key, value in page["config"]["update"].items() if key != "_wandb"}
    assert stated == {key: value for key, value in facts.items() if key != "hardware"}
    assert x_axes(records) == {f"{p}/*": "n_tokens" for p in ("train", "loss", "loss_se", "weight", "epochs")}
    assert without_rates(history(records)) == expected(log_of(this), facts)
    last = dict(pair for _, row in expected(log_of(this), facts) for pair in row.items())
    assert {name: summary(records)[name] for name in last} == last  # what tables and scatter plots show of a run


def x_axes(records: list[tuple[str, Record]]) -> dict[str, str]:
    """Return which metrics W&B draws over which other one."""
    metrics = [record for record in of_type(records, "metric") if "glob_name" in record]
    return {metric["glob_name"]: metric["step_metric"] for metric in metrics}


def without_rates(rows: list[tuple[int, Record]]) -> list[tuple[int, Record]]:
    """Return rows without how fast they came: these few steps give no rate, unless the machine is loaded."""
    return [(step, {k: v for k, v in row.items() if k != "train/tokens_per_s"}) for step, row in rows]


def expected(log: bytes, facts: dict[str, Any], first: int = 0) -> list[tuple[int, Record]]:
    """Return a run log as the mirror names its numbers, each row with its number."""
    rows = [as_metrics(json.loads(line), facts) for line in log.splitlines()]
    return list(enumerate(rows))[first:]


@pytest.mark.slow
def test_a_resumed_mirror_goes_on_with_the_next_row(plan: Plans, tmp_path: Path) -> None:
    """As the step is the row's number, rows that are written twice are one row of the page."""
    this = plan()
    assert run(this) == "finished"
    folder, log = folder_of(this), log_of(this)
    offset = len(b"".join(log.splitlines(keepends=True)[:5]))
    code, _, err = call("-m", "train.mirror", str(folder), "mixlaw", str(offset), "0", **private(tmp_path))
    assert code == 0, err
    [written] = folder.glob(f"wandb/offline-run-*-{this.run_id}")
    assert history(inspect(written)) == expected(log, json.loads((folder / "run.json").read_text()), 5)


def sent_rows(folder: Path) -> list[tuple[int, Record]]:
    """Return the rows of all offline runs of a run directory, in the order in which they were begun."""
    pages = sorted(folder.glob("wandb/offline-run-*"))
    return without_rates([row for page in pages for row in history(inspect(page))])


@pytest.mark.slow
def test_a_run_that_is_over_is_sent_from_its_first_row_once_asked(plan: Plans, tiny: Tiny, tmp_path: Path) -> None:
    this = plan()
    assert run(this) == "finished"
    folder, log = folder_of(this), log_of(this)
    code, out, err = call("-m", "train", *tiny("logging=wandb"), **private(tmp_path))
    assert (code, err) == (0, "")
    assert (
        out == f"{folder} finished\n{folder}: its log was sent to W&B, project mixlaw, from the first row it lacked\n"
    )
    expected_rows = expected(log, json.loads((folder / "run.json").read_text()))
    assert sent_rows(folder) == expected_rows
    assert log_of(this) == log
    code, out, err = call("-m", "train", *tiny("logging=wandb"), **private(tmp_path))
    assert (code, out, err) == (0, f"{folder} finished\n", "")  # each row once
    assert sent_rows(folder) == expected_rows


def test_a_run_that_goes_on_is_sent_from_its_first_row_once_asked(
    plan: Plans, stub: Callable[[str], Path], unmirrored: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = stub(WORKING)
    monkeypatch.setattr(train.sinks, "DEADLINE_S", 100.0)
    assert run(plan(), stop_at(7)) == "again"
    this = plan("logging=wandb", "logging.every_steps=2")
    assert run(this) == "finished"
    assert log_of(this) == unmirrored
    rows = [json.loads(line)[1] for line in seen.read_text().splitlines() if '"row"' in line]
    facts = json.loads((folder_of(this) / "run.json").read_text())
    assert without_rates([(row.pop("step"), row) for row in rows]) == expected(unmirrored, facts)


@pytest.mark.slow
def test_a_run_that_goes_on_is_sent_to_the_real_library_from_its_first_row(
    plan: Plans, tiny: Tiny, unmirrored: bytes, tmp_path: Path
) -> None:
    this = plan()
    assert run(this, stop_at(7)) == "again"
    code, _, err = call("-m", "train", *tiny("logging=wandb"), prepare=be_patient, **private(tmp_path))
    assert code == 0, err
    folder = folder_of(this)
    assert log_of(this) == unmirrored
    assert sent_rows(folder) == expected(unmirrored, json.loads((folder / "run.json").read_text()))


@pytest.fixture
def stopped(plan: Plans, stub: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> tuple[Plan, Path]:
    """A run with W&B that was stopped at its 7th step, and what W&B was told."""
    seen = stub(WORKING)
    monkeypatch.setattr(train.sinks, "DEADLINE_S", 100.0)
    this = plan("logging=wandb", "logging.every_steps=2")
    assert run(this, stop_at(7)) == "again"
    return this, seen


def test_what_was_sent_before_w_and_b_was_left_out_is_not_sent_again(plan: Plans, stopped: tuple[Plan, Path]) -> None:
    this, seen = stopped
    n_sent = seen.read_text().count('"row"')
    assert 0 < n_sent == log_of(this).count(b"\n")
    assert run(plan("logging.every_steps=2")) == "finished"
    assert unsent_rows(folder_of(this)) == log_of(this).count(b"\n") - n_sent > 0
    assert send_late([(folder_of(this), "mixlaw")]) == (1, 0)
    rows = [json.loads(line)[1] for line in seen.read_text().splitlines() if '"row"' in line]
    facts = json.loads((folder_of(this) / "run.json").read_text())
    assert without_rates([(row.pop("step"), row) for row in rows]) == expected(log_of(this), facts)


def test_rows_that_failed_are_sent_by_the_next_call(
    plan: Plans, stub: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    stub(DEAD["raises at the 7th row"])
    monkeypatch.setattr(train.sinks, "DEADLINE_S", 100.0)
    this = plan("logging=wandb", "logging.every_steps=2")
    assert run(this) == "finished"
    assert unsent_rows(folder_of(this)) > 0
    seen = stub(WORKING)
    seen.unlink(missing_ok=True)
    assert send_late([(folder_of(this), "mixlaw")]) == (1, 0)
    steps = {json.loads(line)[1]["step"] for line in seen.read_text().splitlines() if '"row"' in line}
    assert max(steps) == log_of(this).count(b"\n") - 1
    assert unsent_rows(folder_of(this)) == 0


def test_a_run_in_use_is_not_sent(plan: Plans, capfd: pytest.CaptureFixture[str]) -> None:
    this = plan()
    assert run(this) == "finished"
    with only_process(folder_of(this)):
        assert send_late([(folder_of(this), "mixlaw")]) == (0, 1)
    assert "not sent: " in (said := capfd.readouterr().err)
    assert "is in use by process" in said


def test_a_run_that_was_mirrored_before_records_were_kept_is_taken_as_sent(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b"{}\n{}\n{")
    assert unsent_rows(tmp_path) == 2
    (tmp_path / "wandb").mkdir()
    assert (unsent_rows(tmp_path), sent_bytes(tmp_path, 3)) == (0, 3)
    record_sent(tmp_path, 3)
    assert (unsent_rows(tmp_path), sent_bytes(tmp_path, 0)) == (1, 3)
    assert unsent_rows(tmp_path / "nowhere") == 0


@pytest.mark.slow
def test_the_finished_runs_of_a_study_are_sent_once_asked(tiny: Tiny, tmp_path: Path) -> None:
    study = ["-m", "seed=0,1", "study_name=late"]
    code, _, err = call("-m", "train", *tiny(*study), **private(tmp_path))
    assert code == 0, err
    code, out, err = call("-m", "train", *tiny(*study, "logging=wandb"), **private(tmp_path))
    assert (code, err) == (0, "")
    assert "study late: 2 runs, 2 done before" in out
    assert "W&B: 2 logs sent late, 0 not" in out
    for folder in (tmp_path / "runs" / "late").glob("*/"):
        if (folder / "run.json").exists():
            facts = json.loads((folder / "run.json").read_text())
            assert sent_rows(folder) == expected((folder / "metrics.jsonl").read_bytes(), facts)


@pytest.mark.parametrize("name", all_slow_but(("is missing", "raises at the 7th row"), DEAD))
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


@pytest.mark.slow  # waits 4 s
def test_a_server_that_answers_with_errors_does_not_hold_up_the_end(
    plan: Plans, tiny: Tiny, unmirrored: bytes, tmp_path: Path
) -> None:
    """The real wandb retries for a minute and a half: the trainer is gone long before."""
    with server_that_says(500) as server:
        there = {"WANDB_BASE_URL": server, "WANDB_API_KEY": "a" * 40, "HOME": str(tmp_path)}
        code, out, err = call("-m", "train", *tiny("logging=wandb", "logging.every_steps=2"), **there)
    assert code == 0, err
    assert out.endswith(" finished\n")
    assert err.count("\n") == err.count("WARNING W&B is left behind") == 1
    assert log_of(plan()) == unmirrored


def test_rows_arrive_in_order_under_dashboard_names(plan: Plans, stopped: tuple[Plan, Path]) -> None:
    this, seen = stopped
    assert run(this) == "finished"
    said = [json.loads(line) for line in seen.read_text().splitlines()]
    facts = json.loads((folder_of(this) / "run.json").read_text())
    starts = [more for what, more in said if what == "init"]
    assert len(starts) == [what for what, _ in said].count("finish") == 2
    for start in starts:
        assert (start["id"], start["group"], start["resume"]) == (this.run_id, "solo", "allow")
        assert "hardware" not in start["config"]  # where it ran is nobody else's business
    rows = [more for what, more in said if what == "row"]
    bare = without_rates([(row.pop("step"), row) for row in rows])
    assert bare == expected(log_of(this), facts)  # each once
    assert bare[-1][1].keys() == {"n_tokens", "loss/reviews", "loss_se/reviews"}


def test_a_train_row_becomes_shares_and_epochs() -> None:
    row = {"kind": "train", "step": 2, "n_tokens": 128, "loss": 2.0, "grad_norm": 1.0, "lr": 0.1}
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


def test_a_train_row_of_a_run_with_phases_shows_the_weights_of_each() -> None:
    row = {"kind": "train", "step": 4, "n_tokens": 128, "loss": 2.0, "grad_norm": 1.0, "lr": 0.1}
    phase = {"until": 0.5, "step": 2, "weights": {"a": 1.0, "b": 0.0}, "tokens_by_domain": {"a": 64, "b": 0}}
    last = {"until": 1.0, "step": 8, "weights": {"a": 0.5, "b": 0.5}, "tokens_by_domain": {"a": 160, "b": 96}}
    facts = {"data": {"a": {"n_tokens": 48}, "b": {"n_tokens": 320}}, "phases": [phase, last]}
    metrics = as_metrics(row | {"tokens_by_domain": {"a": 96, "b": 32}}, facts)
    by_phase = {k: v for k, v in metrics.items() if "phase" in k or "@" in k}
    assert by_phase == {"train/phase": 2, "weight@1/a": 1.0, "weight@1/b": 0.0, "weight@2/a": 0.5, "weight@2/b": 0.5}


def seen_rows(seen: Path, n_rows: int) -> list[Record]:
    """Wait until a mirror has sent that many rows; return them."""
    for _ in range(600):
        said = [json.loads(line) for line in seen.read_text().splitlines()] if seen.exists() else []
        rows = [more for what, more in said if what == "row"]
        if len(rows) >= n_rows:
            return rows
        time.sleep(0.1)
    raise AssertionError(f"{len(rows)} of {n_rows} rows in a minute")


def test_speed_is_of_the_times_at_which_rows_were_written(stub: Callable[[str], Path], tmp_path: Path) -> None:
    seen, peak, palm = stub(WORKING), 1e6, 500.0
    writer = RunWriter(tmp_path / "run", some_facts(run_name="x", flops_per_token={"palm": palm}))
    log, moments = tmp_path / "run" / "metrics.jsonl", []
    command = [sys.executable, "-m", "train.mirror", str(tmp_path / "run"), "p", "0", str(peak)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE) as mirror:
        for step in (1, 3):
            for row in (train_row(step), train_row(step + 1), eval_row(step + 1, "code", 2.0)):
                writer.append(row)
            writer.sync()
            moments.append(log.stat().st_mtime)
            rows = seen_rows(seen, 3 * len(moments))
        mirror.communicate(timeout=60)
    writer.close()
    rates = [{k: v for k, v in row.items() if k in ("train/tokens_per_s", "train/mfu")} for row in rows]
    rate = (400 - 200) / (moments[1] - moments[0])
    assert rates[:5] == [{}] * 5
    assert rates[5] == pytest.approx({"train/tokens_per_s": rate, "train/mfu": rate * palm / peak})


def test_an_evaluation_counts_as_time_and_a_start_does_not() -> None:
    speed = Speed(flops_per_token=6.0, peak=0.0)
    assert speed.reached(100, 50.0) == {}  # since when is not known: it may have waited, or compiled
    assert speed.reached(100, 58.0) == {}  # evaluated
    assert speed.reached(300, 60.0) == {"train/tokens_per_s": 20.0}  # and no MFU without a peak
    assert Speed(6.0, 600.0).reached(100, 50.0) == {}


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA B200", 2250e12),
        ("NVIDIA H100 80GB HBM3", 989.5e12),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),  # a slice
        ("NVIDIA H100 NVL", None),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA A100-PCIE-40GB", None),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L40", None),
        ("Tesla V100-SXM2-32GB", 125e12),
        ("NVIDIA GeForce RTX 4090", 165.2e12),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("x86_64", None),
    ],
)
def test_a_peak_is_known_for_whole_cards_of_the_data_sheets(name: str, peak: float | None) -> None:
    assert peak_of(name) == peak


def test_a_run_on_a_cpu_has_no_peak() -> None:
    assert peak_in_use() is None
