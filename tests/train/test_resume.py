"""Kill a run at any moment, run the same command again: log and weights are those of a run that was never stopped."""

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import train.evaluate
from data.stream.items import Layout
from data.stream.loader import WeightedStream
from mixlaw.errors import DataError, RunLogError
from mixlaw.runs.load import load_runs
from mixlaw.runs.log import read_status
from tests.commands import call, start
from tests.marks import slow
from train.checkpoint import newest_checkpoint
from train.loop import run
from train.plan import Plan

Plans = Callable[..., Plan]
Tiny = Callable[..., list[str]]
Artefacts = dict[str, bytes]
N_STEPS = 12  # of a tiny run; evaluated after 7, 9 and 12, saved after 5, 10 and 12


def folder_of(plan: Plan) -> Path:
    return Path(plan.config.machine.runs) / plan.folder_name


def stop_at(step: int, number: int = signal.SIGTERM) -> Callable[[int, float], None]:
    """Return a progress display that sends this process a signal during a step."""

    def progress(n_tokens: int, loss: float) -> None:
        if n_tokens == step * 64:
            os.kill(os.getpid(), number)

    return progress


def artefacts(plan: Plan) -> Artefacts:
    """Return the bytes of log, weights, optimizer and averaged weights of a run that is over."""
    folder = folder_of(plan)
    last = folder / "checkpoints" / f"step-{plan.n_steps:08d}"
    return {path.name: path.read_bytes() for path in (folder / "metrics.jsonl", *last.glob("*.safetensors"))}


@pytest.fixture(params=[[], ["evaluation.average=0.3"]], ids=["raw", "averaged"])
def settings(request: pytest.FixtureRequest) -> list[str]:
    """Return the overrides of a run whose evaluations are of its weights, and of their average."""
    return request.param


@pytest.fixture
def untouched(trained: Plans, settings: list[str]) -> Artefacts:
    """Return what a run leaves that was never interrupted."""
    this = trained(*settings)
    assert ("average.safetensors" in artefacts(this)) == bool(settings)
    return artefacts(this)


@pytest.mark.parametrize(
    "stops",
    [
        slow([1]),
        slow([5]),
        [7],
        slow([11]),
        sorted(random.Random(0).sample(range(1, N_STEPS), 3)),
        slow([1, 1, 2, 3, 4, 5, 6, 8, 9, 10]),
    ],
    ids=str,
)
def test_a_run_stopped_by_signals_is_resumed_to_the_same_bytes(
    stops: list[int], plan: Plans, settings: list[str], untouched: Artefacts
) -> None:
    this = plan(*settings)
    for i, step in enumerate(stops):
        number = [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT][i % 4]
        again = run(this, stop_at(step, number))
        assert again == ("again" if step not in stops[:i] else "finished")
        if again == "finished":
            break
        assert read_status(folder_of(this)) == "unfinished"
        assert newest_checkpoint(folder_of(this) / "checkpoints").name == f"step-{step:08d}"
    run(this)
    assert artefacts(this) == untouched
    assert read_status(folder_of(this)) == "finished"


@pytest.mark.parametrize("number", [slow(signal.SIGTERM), slow(signal.SIGUSR1), signal.SIGUSR2])
def test_a_signal_inside_an_evaluation_does_not_wait_for_its_end(
    number: int, plan: Plans, settings: list[str], untouched: Artefacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The evaluation after step 7 is broken off at its second domain, twice, and made after the third start."""
    this, plain = plan(*settings), train.evaluate.inputs_of

    def interrupted(*arguments: Any) -> Any:
        if next(calls) == 3:  # of two passes each
            os.kill(os.getpid(), number)
        return plain(*arguments)

    for _ in range(2):
        with monkeypatch.context() as patch:
            calls = iter(range(1, 1000))
            patch.setattr(train.evaluate, "inputs_of", interrupted)
            assert run(this) == "again"
        newest = newest_checkpoint(folder_of(this) / "checkpoints")
        assert newest is not None
        assert newest.name == "step-00000007"
        assert rows(this)[-1]["kind"] == "train"
    assert run(this) == "finished"
    assert artefacts(this) == untouched


class Killed(BaseException):
    """What kill -9 does, as far as one process can do it to itself: no handler, no checkpoint."""


@pytest.mark.parametrize("step", [slow(3), 6, slow(8), 12])
def test_a_run_that_dies_between_checkpoints_repeats_the_lost_steps(
    step: int, plan: Plans, settings: list[str], untouched: Artefacts
) -> None:
    this = plan(*settings)

    def die(n_tokens: int, loss: float) -> None:
        if n_tokens == step * 64:
            raise Killed

    with pytest.raises(Killed):
        run(this, die)
    assert run(this) == "finished"
    assert artefacts(this) == untouched


def test_a_damaged_checkpoint_costs_steps_and_nothing_else(
    plan: Plans, settings: list[str], untouched: Artefacts, caplog: pytest.LogCaptureFixture
) -> None:
    this = plan(*settings)
    assert run(this, stop_at(8)) == "again"
    name = "average.safetensors" if settings else "optimizer.safetensors"
    damaged = folder_of(this) / "checkpoints" / "step-00000008" / name
    damaged.write_bytes(b"\0" * damaged.stat().st_size)
    assert run(this) == "finished"
    assert "step-00000008 is passed over" in caplog.text
    assert artefacts(this) == untouched


@pytest.fixture
def hundred(plan: Plans, tiny: Tiny, trained: Plans) -> tuple[Plan, list[str], Artefacts]:
    """Return a run of 100 steps, its command line, and what it leaves if it is never interrupted."""
    long = ("schedule.n_tokens=6400", "checkpoint.every_steps=1", "evaluation.average=0.1")
    untouched = trained(*long, "checkpoint.every_steps=1000")
    return plan(*long), ["-m", "train", *tiny(*long)], artefacts(untouched)


@pytest.mark.slow  # tests/crash kills processes too
def test_a_process_killed_at_random_is_resumed_to_the_same_bytes(
    hundred: tuple[Plan, list[str], Artefacts],
) -> None:
    """The real thing: kill -9 of a real process, as soon as its log has grown to some size."""
    this, command, untouched = hundred
    log = folder_of(this) / "metrics.jsonl"
    for n_bytes in (1, 4000):
        with start(*command) as process:
            while process.poll() is None and (not log.exists() or log.stat().st_size < n_bytes):
                time.sleep(0.002)
            process.kill()
            process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert read_status(folder_of(this)) == "unfinished"
    assert run(this) == "finished"
    assert artefacts(this) == untouched


def test_the_command_line_saves_on_sigterm_and_leaves_with_75(
    hundred: tuple[Plan, list[str], Artefacts],
) -> None:
    this, command, untouched = hundred
    with start(*command) as process:
        while process.poll() is None and not list(folder_of(this).glob("checkpoints/step-*")):
            time.sleep(0.002)
        process.terminate()
        out, err = process.communicate()
    assert (process.returncode, err) == (75, "")
    assert out == f"{folder_of(this)} stopped and saved; the same command resumes it\n"
    assert run(this) == "finished"
    assert artefacts(this) == untouched


def test_a_finished_run_is_not_run_again(plan: Plans) -> None:
    this = plan()
    run(this)
    before = {p: p.stat().st_mtime_ns for p in folder_of(this).rglob("*")}
    assert run(this, stop_at(1)) == "finished"
    assert {p: p.stat().st_mtime_ns for p in folder_of(this).rglob("*")} == before


def test_a_second_process_on_a_run_is_refused_by_the_first_ones_number(plan: Plans, tiny: Tiny) -> None:
    this, refusals = plan(), []

    def progress(n_tokens: int, loss: float) -> None:
        if n_tokens == 64:
            refusals.append(call("-m", "train", *tiny()))

    assert run(this, progress) == "finished"
    [(code, out, err)] = refusals
    assert (code, out) == (RunLogError.exit_code, "")
    assert err.startswith(f"error: {folder_of(this)} is in use by process {os.getpid()} on ")
    assert err.count("\n") == 1


def test_a_second_interrupt_does_not_wait_for_the_step(plan: Plans) -> None:
    def twice(n_tokens: int, loss: float) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(plan(), twice)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert run(plan()) == "finished"


@pytest.mark.parametrize(
    "overrides",
    [["optim.lr=1e15"], ["optim.lr=1e6"], ["optim.lr=1e30", "evaluation.n_points=40"]],
    ids=["training loss", "gradient", "evaluation"],
)
def test_a_run_whose_loss_is_not_finite_is_sealed_as_diverged(plan: Plans, overrides: list[str]) -> None:
    this, good = plan("schedule.warmup_tokens=0", *overrides), plan()
    assert run(this) == "diverged"
    assert run(this) == "diverged"
    seal = json.loads((folder_of(this) / "done.json").read_text())
    assert (seal["status"], seal["step"]) == ("diverged", 1)  # after the first update, before a second one
    assert newest_checkpoint(folder_of(this) / "checkpoints") is None  # never one of weights that are not numbers
    run(good)
    runs = load_runs(this.config.machine.runs)
    assert set(runs.table["run_id"]) == {good.run_id}
    assert runs.excluded == {str(folder_of(this)): f"{folder_of(this)} is left out: its status is 'diverged'"}


def test_a_finished_run_is_read_with_the_mixture_it_realised(plan: Plans) -> None:
    this = plan("mixture.weights={code:0.5,docs:0.3,dialogue:0.2}")
    run(this)
    table = load_runs(this.config.machine.runs).table
    assert set(table["step"]) == {7, 9, 12}
    assert set(table["domain"]) == {"code", "docs", "dict", "dialogue", "reviews"}
    last = table[table["step"] == 12].iloc[0]
    stream = WeightedStream(this.manifest, this.weights, Layout(16), 4, seed=0)
    spent = stream.tokens_by_domain(N_STEPS)
    assert {d: last[f"weight_{d}"] * 768 for d in spent} == pytest.approx(spent)
    assert max(abs(last[f"weight_{d}"] - w) for d, w in this.weights.items()) <= 2 / 48
    assert last["n_tokens"] == 768
    assert last["flops"] == 6 * last["n_params"] * 768


def rows(plan: Plan) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder_of(plan) / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "setting",
    [
        slow("machine.micro_batch=1"),
        "machine.micro_batch=2",
        "machine.scores_at_once=7",
        slow("machine.workers=1"),
        slow("machine.activation_checkpointing=true"),
        "machine.activation_checkpointing=true machine.selective_checkpointing=true",
        slow("machine.parallel=fsdp"),  # of one rank
    ],
)
def test_machine_settings_change_no_loss(setting: str, plan: Plans, tmp_path: Path) -> None:
    one, other = plan(), plan(*setting.split(), f"machine.runs={tmp_path / 'other'}")
    run(one)
    run(other)
    for a, b in zip(rows(one), rows(other), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
        assert {k: v for k, v in a.items() if k not in ("loss", "loss_se", "grad_norm")} == {
            k: v for k, v in b.items() if k not in ("loss", "loss_se", "grad_norm")
        }


def test_data_that_changed_since_they_were_read_are_refused_by_name(plan: Plans, data_root: Path) -> None:
    this = plan()
    assert run(this, stop_at(3)) == "again"
    path = this.manifest.folder / "docs" / "train-00001.tokens"
    before, times = path.read_bytes(), path.stat()
    try:
        path.write_bytes(bytes([before[0] ^ 1]) + before[1:])
        with pytest.raises(DataError, match=r"docs/train-00001\.tokens .*differs from its manifest \(sha256\)"):
            run(this)
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert run(this) == "finished"


def test_bf16_is_close_to_fp32_and_keeps_fp32_weights(plan: Plans) -> None:
    full, half = plan(), plan("precision=bf16")
    run(full)
    run(half)
    for a, b in zip(rows(full), rows(half), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=0.02)
    assert rows(full) != rows(half)
    weights = load_file(newest_checkpoint(folder_of(half) / "checkpoints") / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def test_it_learns_what_its_domain_is_like(plan: Plans) -> None:
    """A domain of four symbols: the loss falls from ln 256 towards ln 4, and only for what was trained on."""
    this = plan("mixture.weights={code:1}", "schedule.n_tokens=3000", "model.width=32", "optim.lr=2e-2")
    run(this)
    losses = {r["domain"]: r["loss"] for r in rows(this) if r["kind"] == "eval"}
    assert losses["code"] < 1.6  # ln 4 = 1.39
    assert losses["reviews"] > 3
