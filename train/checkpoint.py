"""Checkpoints that exist only after a rename.

    checkpoints/step-00000100/
      model.safetensors, optimizer.safetensors   tensors by parameter name
      average.safetensors   the same of the averaged weights, where evaluation.average is on
      state.json                                 step, and how long the run log was
      manifest.json                              size and sha256 of the others, written last

Saving: stage -> fsync -> manifest -> rename -> prune. Loading: the newest one whose manifest holds; a damaged one is
passed over with a sentence. Nothing here can run code: no pickle.
"""

import errno
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from data.shards import file_sha256
from mixlaw.errors import CheckpointError
from mixlaw.runlog import read_json, sync_path
from train.average import WeightAverage

log = logging.getLogger(__name__)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def save_checkpoint(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    keep: int,
    average: WeightAverage | None = None,
) -> Path:
    """Write a checkpoint and drop all others but the `keep - 1` before it.

    Raises
    ------
    CheckpointError
        If it cannot be written; earlier checkpoints stay as they were.
    """
    final = folder / f"step-{step:08d}"
    staged = folder / f".tmp-{step:08d}-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob(".tmp-*"):
            shutil.rmtree(stale, ignore_errors=True)
        staged.mkdir()
        save_file(_cpu(model.state_dict()), staged / "model.safetensors")
        save_file(optimizer_tensors(model, optimizer), staged / "optimizer.safetensors")
        if average:
            save_file(_cpu(average.model.state_dict()), staged / "average.safetensors")
        (staged / "state.json").write_text(json.dumps({"step": step, **state}, sort_keys=True))
        _write_manifest(staged)
        if final.exists():  # a damaged one that loading passed over
            shutil.rmtree(final)
        os.replace(staged, final)
        sync_path(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(staged, ignore_errors=True)
        full = isinstance(error, SafetensorError) or error.errno in _FULL
        need = sum(p.numel() * p.element_size() for p in model.parameters()) * (4 if average else 3)
        advice = f"it needs about {need:,} bytes: free some space" if full else "see that its folder can be written"
        raise CheckpointError(f"cannot save {final}: {error}; {advice} and run the same command again") from None
    kept = [path for path in valid_names(folder) if path.name <= final.name][-keep:]
    for path in folder.glob("step-*"):
        if path not in kept:  # a later one is damaged (loading passed it over); one without a manifest is half deleted
            shutil.rmtree(path, ignore_errors=True)
    return final


def _write_manifest(staged: Path) -> None:
    """Make every staged file durable and list it."""
    entries = {}
    for path in sorted(staged.iterdir()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        entries[path.name] = {"n_bytes": path.stat().st_size, "sha256": file_sha256(path)}
    with (staged / "manifest.json").open("w") as file:
        json.dump(entries, file, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    sync_path(staged)


def valid_names(folder: Path) -> list[Path]:
    """Return the published checkpoints, oldest first."""
    return sorted(p for p in folder.glob("step-*") if (p / "manifest.json").exists())


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint whose bytes are what its manifest says, or None."""
    for path in reversed(valid_names(folder)):
        try:
            for name, facts in read_json(path / "manifest.json").items():
                if file_sha256(path / name) != facts["sha256"]:
                    raise CheckpointError(f"{path / name} differs from its manifest")
            return path
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s is passed over: %s", path, error)
    return None


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage | None = None
) -> dict[str, Any]:
    """Fill model, optimizer and average from a verified checkpoint; return its state.

    Raises
    ------
    CheckpointError
        If its tensors do not fit this model.
    """
    try:
        model.load_state_dict(load_file(path / "model.safetensors"))
        restore_optimizer(model, optimizer, load_file(path / "optimizer.safetensors"))
        if average:
            average.model.load_state_dict(load_file(path / "average.safetensors"))
    except (RuntimeError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"{path} does not fit this model: {str(error).splitlines()[0]}") from None
    return read_json(path / "state.json")


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's tensors as {parameter name / statistic: tensor}."""
    state = optimizer.state
    named = ((name, state[p]) for name, p in model.named_parameters() if p in state)
    return _cpu({f"{name}/{key}": value for name, s in named for key, value in s.items()})


def restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put saved tensors back under their parameters, each where that parameter lives."""
    by_name = dict(model.named_parameters())
    for full_name, value in tensors.items():
        name, _, key = full_name.rpartition("/")
        parameter = by_name[name]
        # fused AdamW keeps its step counter beside the parameter, in fp32
        optimizer.state[parameter][key] = value.to(parameter.device).clone()


def _cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.detach().to("cpu").contiguous() for name, t in tensors.items()}
