"""What the first rank writes of a run: the run log, its mirror, and the facts that run.json states."""

import dataclasses
import fcntl
import os
import platform
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

import mixlaw
from data.stream.loader import WeightedStream
from mixlaw.errors import RunLogError
from mixlaw.runs.log import SCHEMA_VERSION, RunWriter
from train.config import TrainConfig
from train.models.count import count_parameters, flops_per_token
from train.plan import Plan
from train.precision import arithmetic
from train.sent import sent_bytes
from train.sinks import WandbMirror


class Journal:
    """The run log of a run and its mirror; on other ranks than the first it writes nothing."""

    def __init__(self, folder: Path, facts: dict[str, Any], config: TrainConfig) -> None:
        self._lr_state = lr_state(config)
        self._writer = RunWriter(folder, facts)
        self._mirror: WandbMirror | None = None
        self._folder, self._logging = folder, config.logging

    def begin(self, log_bytes: int) -> None:
        """Forget what was written after a checkpoint; mirror what follows, and what was not mirrored before."""
        self._writer.cut(log_bytes)
        if self._logging.wandb:
            sent = min(sent_bytes(self._folder, log_bytes), log_bytes)
            self._mirror = WandbMirror(self._folder, self._logging.project, sent)

    def train_row(self, step: int, loss: float, grad_norm: float, lr: float, stream: WeightedStream) -> None:
        """Write how training goes, and how many tokens each domain has given so far; with images, of which kind."""
        totals = stream.totals(step)
        row = {"kind": "train", "step": step, "loss": loss, "grad_norm": grad_norm, "lr": lr}
        row |= {"n_tokens": totals["n_tokens"], "tokens_by_domain": stream.tokens_by_domain(step)}
        if totals["n_image_tokens"] or totals["n_samples"]:
            row |= {key: totals[key] for key in ("n_image_tokens", "n_loss_tokens", "n_samples")}
        self._writer.append(row)

    def eval_rows(self, step: int, n_tokens: int, losses: dict[str, dict[str, float | int]]) -> None:
        """Write the held-out losses of all domains and targets, and make them durable."""
        for domain, measured in losses.items():
            row = {"kind": "eval", "step": step, "n_tokens": n_tokens, "domain": domain, "lr_state": self._lr_state}
            self._writer.append(row | measured)
        self._writer.sync()

    def position(self) -> int:
        """Make all rows durable; return how long the log is."""
        self._writer.sync()
        return self._writer.offset

    def seal(self, status: str, step: int, wall_s: float, data_wait_s: float) -> None:
        """Write done.json: the run is over. The times are of the last process, from its start."""
        times = {"wall_s": round(wall_s, 3), "data_wait_s": round(data_wait_s, 3)}
        self._writer.seal(status, step=step, hardware=hardware(), **times)

    def close(self) -> None:
        """Close both, without sealing."""
        self._writer.close()
        if self._mirror:
            self._mirror.close()


def lr_state(config: TrainConfig) -> str:
    """Return what kind of weights the evaluations of a run are of; kinds are never fitted together."""
    if config.schedule.cooldown:
        return "cooled"
    return "averaged" if config.evaluation.average else "constant"


@contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """Hold the run directory, so that a second process on it is refused by name.

    Raises
    ------
    RunLogError
        Naming process and host that hold it.
    """
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


def run_facts(plan: Plan, model: nn.Module, world_size: int) -> dict[str, Any]:
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
        "flops_per_token": flops_per_token(config.model, counts, config.stream.seq_len, plan.image_share),
        "tokens_per_step": round(plan.tokens_per_step),
        "n_steps": plan.n_steps,
        "n_tokens": plan.n_tokens,
        "mixture": plan.weights,
        "tokenizer": manifest.facts["tokenizer"],
        "data": {
            d: plan.available(d) | {"sha256": manifest.domain_sha256(d)} for d in (*manifest.domains, *manifest.targets)
        },
        "arithmetic": arithmetic(config.precision),
        "world_size": world_size,
        "hardware": hardware(),
        "mixlaw_version": mixlaw.__version__,
        "git": git_revision(),
    }


def hardware() -> dict[str, str]:
    """Return what this process computes on: a GPU only where it uses one, for there may be one and none be wanted."""
    used = torch.cuda.is_initialized()
    device = torch.cuda.get_device_name() if used else platform.processor() or platform.machine()
    return {
        "host": socket.gethostname(),
        "device": device,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def git_revision(root: Path = Path(__file__).parent.parent) -> str:
    """Return a checkout's commit, '-dirty' behind it where files were changed.

    An image has no history: there it is what its build was told ($MIXLAW_REVISION), or ''.
    """
    if not (root / ".git").exists():
        return os.environ.get("MIXLAW_REVISION", "")
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
