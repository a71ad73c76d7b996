"""One run from its first token to its seal: the training loop, top to bottom.

Everything it consumes is a pure function of (configuration, step), so resuming is: load weights and optimizer, cut
the run log back to what it was then, go on with the next step.
"""

import dataclasses
import fcntl
import logging
import math
import os
import platform
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import mixlaw
from data.stream import Batch, WeightedStream
from mixlaw.errors import RunLogError
from mixlaw.runlog import SCHEMA_VERSION, RunWriter, read_status
from train.average import WeightAverage
from train.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from train.config import Plan, TrainConfig
from train.distributed import World, join_world, leave_world
from train.evaluate import Evaluator, autocast
from train.models.build import build_model
from train.models.count import count_parameters, flops_per_token
from train.optim import build_optimizer, schedule_factor, set_learning_rate
from train.preempt import StopRequest
from train.sinks import WandbMirror

log = logging.getLogger(__name__)
Progress = Callable[[int, float], None]  # (tokens so far, latest training loss)


def no_progress(n_tokens: int, loss: float) -> None:
    """Show nothing."""


def run(plan: Plan, progress: Progress = no_progress) -> str:
    """Train one run to its end, from its newest checkpoint if there is one.

    Returns
    -------
    'finished', 'diverged' (a loss or gradient was not finite), or 'again' (stopped by a signal, saved, to be resumed)

    Raises
    ------
    MixlawError
        If data, run directory or checkpoint cannot be used.
    """
    folder = Path(plan.config.machine.runs) / plan.folder_name
    if (status := read_status(folder)) in ("finished", "diverged"):
        return status
    torch.set_num_threads(plan.config.machine.threads)
    torch.set_float32_matmul_precision("high")
    world = join_world(plan.config.machine.device)
    try:
        with _only_process(folder, world), StopRequest() as stop, ExitStack() as at_end:
            return _train(plan, folder, world, stop, progress, at_end)
    except OSError as error:
        error.filename = error.filename or folder  # a full disk does not say where
        raise
    finally:
        leave_world()


def _train(plan: Plan, folder: Path, world: World, stop: StopRequest, progress: Progress, at_end: ExitStack) -> str:
    config = plan.config
    vocab_size, seq_len = plan.manifest.vocab_size, config.stream.seq_len
    model = build_model(config.model, vocab_size, seq_len, config.seed).to(world.device)
    optimizer = build_optimizer(model, config.optim, config.model.width)
    average = WeightAverage(model, config.evaluation.average) if config.evaluation.average else None
    stream = WeightedStream(
        plan.manifest, plan.weights, seq_len, config.stream.batch_size, config.seed, world.rank, world.size
    )
    evaluator = Evaluator(plan.manifest, config.evaluation, seq_len, config.stream.batch_size)
    facts = run_facts(plan, model, world)
    journal = _Journal(folder, facts, config) if world.is_first else None
    if journal:
        at_end.callback(journal.close)
    step = _resume(folder, model, optimizer, average, world, journal)
    replica = world.wrap(torch.compile(model) if config.machine.compile else model)  # type: ignore[arg-type]
    evaluation_steps = set(config.evaluation_steps())
    started = time.perf_counter()
    batches = stream.batches(step, config.n_steps, config.machine.workers)

    while step < config.n_steps:
        lr = set_learning_rate(
            optimizer, config.optim, schedule_factor(config.schedule, (step + 1) * config.tokens_per_step)
        )
        loss = backward(replica, next(batches), config, world)
        grad_norm = nn.utils.clip_grad_norm_(model.parameters(), config.optim.clip)
        if world.maximum(int(not bool(torch.isfinite(loss + grad_norm)))):
            return _end(journal, "diverged", step, started)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if average:
            average.update(model, step)
        n_tokens = step * config.tokens_per_step
        progress(n_tokens, float(loss))

        evaluate_now = step in evaluation_steps
        if journal and (evaluate_now or step % config.logging.every_steps == 0):
            journal.train_row(step, n_tokens, float(loss), float(grad_norm), lr, stream.tokens_by_domain(step))
        if evaluate_now:
            losses = evaluator.measure(average.model if average else model, world, config.precision)
            if not all(math.isfinite(measured["loss"]) for measured in losses.values()):
                return _end(journal, "diverged", step, started)
            if journal:
                journal.eval_rows(step, n_tokens, losses)
        stop_now = bool(world.maximum(stop.signal)) and step < config.n_steps
        if stop_now or step == config.n_steps or step % config.checkpoint.every_steps == 0:
            if journal:
                journal.save(step, model, optimizer, average)
            world.barrier()
        if stop_now:
            return "again"
    return _end(journal, "finished", step, started)


def backward(model: nn.Module, batch: Batch, config: TrainConfig, world: World) -> Tensor:
    """Accumulate the gradient of the mean loss over the global batch; return that loss."""
    tokens = batch["tokens"].to(world.device, non_blocking=True)
    parts = tokens.split(config.machine.micro_batch or len(tokens))
    loss = torch.zeros((), device=world.device)
    for part in parts:
        with autocast(world.device, config.precision):
            part_loss = model(part).mean() * (len(part) / len(tokens))
        part_loss.backward()
        loss += part_loss.detach()
    return world.mean(loss)


def _resume(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None,
    world: World,
    journal: "_Journal | None",
) -> int:
    """Go back to the newest checkpoint that the first rank holds valid; return the step it was taken after."""
    newest = newest_checkpoint(folder / "checkpoints") if world.is_first else None
    step = world.maximum(int(newest.name.removeprefix("step-")) if newest else 0)
    state: dict[str, Any] = {"log_bytes": 0}
    if step:
        state = load_checkpoint(folder / "checkpoints" / f"step-{step:08d}", model, optimizer, average)
        log.info("resuming %s after step %d", folder, step)
    if journal:
        journal.cut(int(state["log_bytes"]))
    return step


def _end(journal: "_Journal | None", status: str, step: int, started: float) -> str:
    if journal:
        journal.seal(status, step, time.perf_counter() - started)
    return status


class _Journal:
    """What the first rank writes: the run log, its mirror, and the checkpoints that point into the log."""

    def __init__(self, folder: Path, facts: dict[str, Any], config: TrainConfig) -> None:
        self._folder, self._config = folder, config
        self._writer = RunWriter(folder, facts)
        self._mirror = WandbMirror(folder, facts, config.logging.project) if config.logging.wandb else None

    def cut(self, log_bytes: int) -> None:
        self._writer.cut(log_bytes)

    def train_row(
        self, step: int, n_tokens: int, loss: float, grad_norm: float, lr: float, spent: dict[str, int]
    ) -> None:
        row = {
            "kind": "train",
            "step": step,
            "n_tokens": n_tokens,
            "loss": loss,
            "grad_norm": grad_norm,
            "lr": lr,
        }
        self._append(row | {"tokens_by_domain": spent})

    def eval_rows(self, step: int, n_tokens: int, losses: dict[str, dict[str, float | int]]) -> None:
        for domain, measured in losses.items():
            row = {
                "kind": "eval",
                "step": step,
                "n_tokens": n_tokens,
                "domain": domain,
                "lr_state": "averaged" if self._config.evaluation.average else "constant",
            }
            self._append(row | measured)
        self._writer.sync()

    def _append(self, row: dict[str, Any]) -> None:
        self._writer.append(row)
        if self._mirror:
            self._mirror.write(row)

    def save(
        self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage | None
    ) -> None:
        self._writer.sync()
        state, keep = {"log_bytes": self._writer.offset}, self._config.checkpoint.keep
        save_checkpoint(self._folder / "checkpoints", step, model, optimizer, state, keep, average)

    def seal(self, status: str, step: int, wall_s: float) -> None:
        self._writer.seal(status, step=step, wall_s=round(wall_s, 3), hardware=hardware())

    def close(self) -> None:
        self._writer.close()
        if self._mirror:
            self._mirror.close()


@contextmanager
def _only_process(folder: Path, world: World) -> Iterator[None]:
    """Hold the run directory, so that a second process on it is refused by name."""
    if not world.is_first:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise RunLogError(
                f"{folder} is in use by {lock.read().strip() or 'another process'}: wait for it, or stop it"
            ) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        lock.flush()
        yield


def run_facts(plan: Plan, model: nn.Module, world: World) -> dict[str, Any]:
    """Return what run.json states: everything about a run that is fixed at its start."""
    config, manifest = plan.config, plan.manifest
    counts = count_parameters(model)
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": plan.run_id,
        "run_name": f"{config.model.family}-{counts['total'] // 1000}k-"
        + "-".join(f"{w:.2f}" for w in plan.weights.values()),
        "study": config.study_name,
        "family": config.model.family,
        "config": dataclasses.asdict(config),
        "n_params": counts,
        "flops_per_token": flops_per_token(config.model, counts, config.stream.seq_len),
        "tokens_per_step": config.tokens_per_step,
        "mixture": plan.weights,
        "tokenizer": manifest.facts["tokenizer"],
        "data": {
            d: {"n_tokens": manifest.n_tokens(d, "train"), "sha256": manifest.domain_sha256(d)}
            for d in (*manifest.domains, *manifest.targets)
        },
        "world_size": world.size,
        "hardware": hardware(),
        "mixlaw_version": mixlaw.__version__,
        "git": git_revision(),
    }


def hardware() -> dict[str, str]:
    """Return what this process computes on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {
        "host": socket.gethostname(),
        "device": device,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def git_revision() -> str:
    """Return the checkout's commit, '-dirty' behind it where files were changed, or '' outside of git."""
    root = Path(__file__).parent.parent
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
