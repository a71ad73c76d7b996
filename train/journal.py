"""Writes the run directory on the first rank: run log, run.json, done.json; starts the W&B mirror."""

import dataclasses
import fcntl
import math
import os
import platform
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

import mixlaw
from data.store.questions import BITS_PER_BYTE, task_names
from data.stream.loader import WeightedStream
from mixlaw.errors import CheckpointError, RunLogError
from mixlaw.runs.log import SCHEMA_VERSION, RunWriter
from train.config import TrainConfig
from train.evaluate import Losses, evaluation_costs
from train.models.count import count_parameters, flops_per_token
from train.plan import Plan
from train.precision import arithmetic
from train.sent import sent_bytes
from train.sinks import WandbMirror


class Journal:
    """The run log and its mirror; exists on the first rank only."""

    def __init__(self, folder: Path, facts: dict[str, Any], config: TrainConfig) -> None:
        self._lr_state = lr_state(config)
        self._writer = RunWriter(folder, facts)
        self._mirror: WandbMirror | None = None
        self._folder, self._logging = folder, config.logging

    def begin(self, log_bytes: int) -> None:
        """Truncate the log to its length at a checkpoint, and start the mirror at the first row that was not sent."""
        self._writer.cut(log_bytes)
        if self._logging.wandb:
            sent = min(sent_bytes(self._folder, log_bytes), log_bytes)
            self._mirror = WandbMirror(self._folder, self._logging.project, sent)

    def train_row(self, step: int, loss: float, grad_norm: float, lr: float, stream: WeightedStream) -> None:
        """Write a training row: loss, gradient norm, learning rate, tokens per domain, and with images per kind."""
        totals = stream.totals(step)
        row = {"kind": "train", "step": step, "loss": loss, "grad_norm": grad_norm, "lr": lr}
        row |= {"n_tokens": totals["n_tokens"], "tokens_by_domain": stream.tokens_by_domain(step)}
        if totals["n_image_tokens"] or totals["n_samples"]:
            row |= {key: totals[key] for key in ("n_image_tokens", "n_loss_tokens", "n_samples")}
        self._writer.append(row)

    def eval_rows(self, step: int, n_tokens: int, losses: dict[str, dict[str, float | int]]) -> None:
        """Write the held-out losses of all domains and targets, and sync them to disk."""
        for domain, measured in losses.items():
            row = {"kind": "eval", "step": step, "n_tokens": n_tokens, "domain": domain, "lr_state": self._lr_state}
            self._writer.append(row | measured)
        self._writer.sync()

    def position(self) -> int:
        """Sync all rows to disk; return the length of the log [bytes]."""
        self._writer.sync()
        return self._writer.offset

    def seal(self, status: str, step: int, wall_s: float, data_wait_s: float) -> None:
        """Write done.json at the end of the run; times are those of the last process."""
        times = {"wall_s": round(wall_s, 3), "data_wait_s": round(data_wait_s, 3)}
        self._writer.seal(status, step=step, hardware=hardware(), **times)

    def close(self) -> None:
        """Close both, without sealing."""
        self._writer.close()
        if self._mirror:
            self._mirror.close()


def lr_state(config: TrainConfig) -> str:
    """Return the kind of weights that are evaluated; runs of different kinds are never fitted together."""
    if config.schedule.cooldown:
        return "cooled"
    return "averaged" if config.evaluation.average else "constant"


@contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """Lock the run directory against a second process.

    Raises
    ------
    RunLogError
        If it is locked; names process and host.
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


def run_facts(
    plan: Plan, model: nn.Module, stream: WeightedStream, world_size: int, before: Losses | None = None
) -> dict[str, Any]:
    """Return the content of run.json: everything that is fixed at the start of a run.

    Parameters
    ----------
    before : losses of the weights that the run starts from, if `plan` has such
    """
    config, manifest = plan.config, plan.manifest
    counts = count_parameters(model)
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": plan.run_id,
        "began": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
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
        "mixture": dict(plan.weights),
        **_phases(plan, stream),
        **_origin(plan, before or {}),
        "tokenizer": manifest.facts["tokenizer"],
        "evaluation": evaluation_costs(config, manifest, len(plan.evaluation_steps())),
        **_units(plan),
        "data": {d: _data_facts(plan, d) for d in (*manifest.domains, *manifest.targets)},
        "arithmetic": arithmetic(config.precision),
        "world_size": world_size,
        "hardware": hardware(),
        "mixlaw_version": mixlaw.__version__,
        "git": git_revision(),
    }


def _data_facts(plan: Plan, domain: str) -> dict[str, Any]:
    """Return the training tokens of a domain that the run may read, those of its corpus if more, and a hash."""
    facts: dict[str, Any] = dict(plan.available(domain))
    if domain in plan.pools:
        pool = {what: plan.pools[domain].total(what) for what in facts}
        facts = pool | {"corpus_tokens": facts["n_tokens"]}
    return facts | {"sha256": plan.manifest.domain_sha256(domain)}


def _units(plan: Plan) -> dict[str, Any]:
    """Return what run.json states about units: those of tasks and groups of tasks; nothing for other runs."""
    names = (*task_names(plan.manifest), *plan.config.data.task_groups)
    return {"units": dict.fromkeys(names, BITS_PER_BYTE)} if names else {}


def _phases(plan: Plan, stream: WeightedStream) -> dict[str, Any]:
    """Return what run.json states about phases (`mixlaw.runs.phases`); nothing for a run with one mixture."""
    phases = [
        {
            "until": phase.until,
            "step": phase.end,
            "weights": dict(phase.weights),
            "tokens_by_domain": stream.tokens_by_domain(phase.end),
        }
        for phase in plan.phases
    ]
    return {"phases": phases} if len(phases) > 1 else {}


def _origin(plan: Plan, before: Losses) -> dict[str, Any]:
    """Return what run.json states about the weights that the run starts from; nothing for random ones.

    Raises
    ------
    CheckpointError
        If these weights have losses that are not finite numbers.
    """
    if plan.origin is None:
        return {}
    losses = {name: measured["loss"] for name, measured in before.items()}
    if not all(map(math.isfinite, losses.values())):
        raise CheckpointError(f"init_from: the losses of {plan.origin.path} are not finite numbers: see its training")
    return {"init_from": plan.origin.facts | {"losses": losses}}


def hardware() -> dict[str, str]:
    """Return host, device and versions of this process; the device is a GPU only if the process uses it."""
    used = torch.cuda.is_initialized()
    device = torch.cuda.get_device_name() if used else platform.processor() or platform.machine()
    return {
        "host": socket.gethostname(),
        "device": device,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def git_revision(root: Path = Path(__file__).parent.parent) -> str:
    """Return the git commit of a checkout, with '-dirty' if files were changed.

    In a container without git history, return $MIXLAW_REVISION, which the build sets, or ''.
    """
    if not (root / ".git").exists():
        return os.environ.get("MIXLAW_REVISION", "")
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
