"""Atomic checkpoints: written to a staging folder, then renamed.

    checkpoints/step-00000100/
      model.safetensors, optimizer.safetensors   tensors by parameter name
      average.safetensors   averaged weights, with evaluation.average
      model/, optimizer/, ...  instead of these files with FSDP: one safetensors file per rank
      state.json            step, length of the run log, and whether the evaluation of this step is pending
      manifest.json         size and sha256 of the other files, written last

Saving: stage -> fsync -> manifest -> rename -> prune. Loading: the newest checkpoint that matches its manifest; damaged
ones are skipped with a warning. Each rank syncs and hashes the files that it wrote; ranks share the hashing on loading.
Shards are written and read by torch.distributed.checkpoint in its safetensors format, so the number of ranks may
change. No code can run on loading: there is no pickle.
"""

import errno
import json
import logging
import os
import re
import shutil
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter

from mixlaw.errors import CheckpointError
from mixlaw.fileio import file_sha256, read_json, sync_path
from mixlaw.runs.log import MAX_NUMBER
from train.distributed import ALONE, World
from train.state import Snapshot, Tensors, TrainState, fill

log = logging.getLogger(__name__)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_STEP = -1
Entries = dict[str, dict[str, int | str]]  # of a manifest: file -> n_bytes, sha256
_OVERHEAD = 1.05  # size of a checkpoint relative to its tensors: headers, JSON


def save_checkpoint(
    folder: Path,
    step: int,
    state: TrainState | Snapshot,
    facts: dict[str, Any],
    keep: int,
    world: World = ALONE,
    permanent: Collection[int] = (),
) -> Path:
    """Write a checkpoint; delete all others except the `keep - 1` before it and those of `permanent` steps.

    Raises
    ------
    CheckpointError
        On all ranks, if one cannot write; earlier checkpoints are kept.
    """
    final, staged = folder / f"step-{step:08d}", folder / f".tmp-{step:08d}"
    try:
        with world.together():
            if world.is_first:
                require_space(folder, state)
                for stale in folder.glob(".tmp-*"):
                    shutil.rmtree(stale, ignore_errors=True)
                staged.mkdir()
                (staged / "state.json").write_text(json.dumps({"step": step, **facts}, sort_keys=True))
        own: Entries = {}
        with world.together("writing a checkpoint"):
            _write_tensors(staged, state, world)
            own = _seal_files(_files_of(staged, world), staged)
        entries = world.gather("hashes of a checkpoint", json.dumps(own))
        with world.together():
            if world.is_first:
                _publish(staged, final, {name: facts for part in entries for name, facts in json.loads(part).items()})
    except OSError as error:
        if world.is_first:
            shutil.rmtree(staged, ignore_errors=True)
        raise _cannot_save(final, state, error) from None
    if world.is_first:
        _prune(folder, final, keep, permanent)
    return final


def require_space(folder: Path, state: TrainState | Snapshot) -> None:
    """Check that a checkpoint fits on the disk before writing it.

    Raises
    ------
    CheckpointError
        If it does not fit, or the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < _OVERHEAD * state.n_bytes:
            raise OSError(errno.ENOSPC, f"only {free:,} bytes are free")
    except OSError as error:
        raise _cannot_save(folder, state, error) from None


def _cannot_save(final: Path, state: TrainState | Snapshot, error: OSError) -> CheckpointError:
    need = f"it needs about {int(_OVERHEAD * state.n_bytes):,} bytes: free some space"
    advice = need if error.errno in _FULL else "see that its folder can be written"
    return CheckpointError(f"cannot save {final}: {error}; {advice} and run the same command again")


def _write_tensors(staged: Path, state: TrainState | Snapshot, world: World) -> None:
    """Write all parts; convert write errors of these libraries to OSError."""
    try:
        for name, tensors in state.parts().items():
            if state.is_sharded:
                writer = HuggingFaceStorageWriter(str(staged / name), save_distributed=True)
                dcp.save(tensors, storage_writer=writer, process_group=world.group)
            elif world.is_first:
                save_file(
                    {k: t.detach().cpu().contiguous() for k, t in tensors.items()}, staged / f"{name}.safetensors"
                )
    except SafetensorError as error:
        raise OSError(errno.ENOSPC, str(error)) from None
    except dcp.CheckpointException as error:
        raise OSError(errno.ENOSPC, str(next(iter(error.failures.values()))[0])) from None


def _files_of(staged: Path, world: World) -> list[Path]:
    """Return the staged files that this rank wrote: its shards; on the first rank also files that are not shards."""
    files = sorted(path for path in staged.rglob("*") if path.is_file())
    return [path for path in files if _writer_of(path, world.size) == world.rank]


def _writer_of(path: Path, n_ranks: int) -> int:
    """Return the rank that wrote a file; torch.distributed.checkpoint names the shards of rank 1 shard-00002-..."""
    found = re.match(r"shard-(\d+)-", path.name)
    rank = int(found[1]) - 1 if found else 0
    return rank if 0 <= rank < n_ranks else 0


def _seal_files(files: Collection[Path], staged: Path) -> Entries:
    """Sync files to disk; return their manifest entries."""
    entries: Entries = {}
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
        entries[str(path.relative_to(staged))] = {"n_bytes": path.stat().st_size, "sha256": file_sha256(path)}
    return entries


def _publish(staged: Path, final: Path, entries: Entries) -> None:
    """Write the manifest of the synced files and rename the folder to its final name."""
    with (staged / "manifest.json").open("w") as file:
        json.dump(entries, file, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    for folder in {(staged / name).parent for name in entries} | {staged}:
        sync_path(folder)
    if final.exists():  # damaged, and skipped by loading
        shutil.rmtree(final)
    os.replace(staged, final)
    sync_path(final.parent)


def _prune(folder: Path, newest: Path, keep: int, permanent: Collection[int]) -> None:
    """Delete old checkpoints, and newer ones, which must be damaged because loading skipped them."""
    kept = [path for path in valid_names(folder) if path.name <= newest.name][-keep:]
    names = {path.name for path in kept} | {f"step-{step:08d}" for step in permanent if step <= _step_of(newest)}
    for path in folder.glob("step-*"):
        if path.name not in names:  # one without a manifest is partly deleted
            shutil.rmtree(path, ignore_errors=True)


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def valid_names(folder: Path) -> list[Path]:
    """Return the published checkpoints, oldest first."""
    return sorted(p for p in folder.glob("step-*") if (p / "manifest.json").exists())


def newest_checkpoint(folder: Path, at_most: int | None = None, world: World = ALONE) -> Path | None:
    """Return the newest checkpoint (of a step up to `at_most`) that matches its manifest, or None.

    All ranks return the same; each hashes a share of the files. Only the first rank lists the folder.
    """
    names = [path.name for path in reversed(valid_names(folder))] if world.is_first else []
    for i in range(world.maximum(len(names))):
        step = world.maximum(step_of(names[i]) if world.is_first else _NO_STEP)
        if step == _NO_STEP:
            if world.is_first:
                log.warning("%s is passed over: no checkpoint of ours has such a name", folder / names[i])
            continue
        if at_most is not None and step > at_most:
            continue
        path = folder / f"step-{step:08d}"
        fault = ""
        try:
            _verify(path, world)
        except (OSError, ValueError, KeyError, TypeError) as error:
            fault = f"{path} is passed over: {error}"
        world.meet("verifying a checkpoint")
        if not world.maximum(int(bool(fault))):
            return path
        if fault or world.is_first:
            log.warning("%s", fault or f"{path} is passed over: another rank says why")
    return None


def step_of(name: str) -> int:
    """Return the step in the name of a checkpoint, or -1 if the name has another form."""
    found = re.fullmatch(r"step-(\d{8,15})", name)
    return int(found[1]) if found else _NO_STEP


def _verify(path: Path, world: World = ALONE) -> None:
    """Raise an error unless the files match the manifest; each rank checks a share of them."""
    listed = sorted(read_json(path / "manifest.json").items())  # with as many ranks as shards, each gets its own
    for name, facts in listed[world.rank :: world.size]:
        if not (path / name).resolve().is_relative_to(path.resolve()):
            raise CheckpointError(f"{path / 'manifest.json'} names a file outside of its folder")
        if file_sha256(path / name) != facts["sha256"]:
            raise CheckpointError(f"{path / name} differs from its manifest")
    state = read_json(path / "state.json")
    if state["step"] != _step_of(path):
        raise CheckpointError(f"{path / 'state.json'} is of another step")
    log_bytes = state.get("log_bytes", 0)
    if type(log_bytes) is not int or not 0 <= log_bytes <= MAX_NUMBER:
        raise CheckpointError(f"{path / 'state.json'}: log_bytes is no count")


def load_checkpoint(path: Path, state: TrainState, world: World = ALONE) -> dict[str, Any]:
    """Fill the tensors of a run from a verified checkpoint; return its state.json.

    Raises
    ------
    CheckpointError
        If its tensors do not fit this model.
    """
    try:
        for name, tensors in state.parts().items():
            read_part(path, name, tensors, world)
    except (RuntimeError, LookupError, ValueError, OSError, SafetensorError, dcp.CheckpointException) as error:
        raise CheckpointError(f"{path} does not fit this model: {_first_line(error)}") from None
    return read_json(path / "state.json")


def read_part(path: Path, name: str, tensors: Tensors, world: World = ALONE) -> None:
    """Fill live tensors from one part of a checkpoint ("model", "optimizer", "average"), whole or in shards."""
    whole = path / f"{name}.safetensors"
    if whole.exists() or not (path / name).is_dir():
        fill(tensors, load_file(whole))
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # one process reads shards of several ranks
        dcp.load(tensors, storage_reader=HuggingFaceStorageReader(str(path / name)), no_dist=world.size == 1)


def _first_line(error: BaseException) -> str:
    if isinstance(error, dcp.CheckpointException):
        error = next(iter(error.failures.values()))[0]
    return str(error).splitlines()[0] if str(error) else type(error).__name__
