"""Checks, within a second before a run begins, requirements that pip does not install: a compiler, shared memory."""

import os
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

from data.stream.items import Layout
from mixlaw.errors import ConfigError
from train.config import TrainConfig
from train.distributed import World

SHARED_MEMORY = Path("/dev/shm")
PREFETCHED = 2  # batches that each reading process holds ready, torch's default
FLEX_HEAD_DIM, FLEX_PLACES = 16, 128  # masks are dense where heads are narrower or sequences not longer
_COMPILES_S = 60  # a compiler that takes longer hangs


def check_machine(config: TrainConfig, world: World) -> None:
    """Check for a compiler and for shared memory for prefetched batches, if the run needs them.

    Raises
    ------
    ConfigError
        With what is missing, and how to install it or which setting avoids it.
    """
    if needs_compiler(config, world.device.type):
        check_compiler(world.device.type, os.environ)
    if config.machine.workers and SHARED_MEMORY.is_dir():
        free = shutil.disk_usage(SHARED_MEMORY).free
        check_shared_memory(config, world.size, ranks_of_node(os.environ, world.size), free)


def needs_compiler(config: TrainConfig, device: str) -> bool:
    """Return whether a run compiles kernels: all of it, or on a GPU FlexAttention for masks."""
    layout, masked = config.layout(), config.model.family != "text" or config.model.document_mask
    n_places = layout.n_patches if config.model.family == "vision" else layout.seq_len
    flex = masked and config.model.head_dim >= FLEX_HEAD_DIM and n_places > FLEX_PLACES
    return config.machine.compile or (device == "cuda" and flex)


def check_compiler(device: str, environment: Mapping[str, str]) -> None:
    """Compile three lines that include Python.h, like Triton on a GPU and Inductor on a CPU.

    Raises
    ------
    ConfigError
        With the message of the compiler, if there is one.
    """
    variable, names = ("CC", ("gcc", "clang", "cc")) if device == "cuda" else ("CXX", ("g++", "clang++", "c++"))
    found = [path for path in (shutil.which(name, path=environment.get("PATH")) for name in names) if path]
    compiler = shlex.split(environment.get(variable, "")) or found[:1]
    headers = sysconfig.get_paths()["include"]
    advice = (
        "install gcc and g++ (Debian: apt-get install g++ python3-dev; on a cluster: module load gcc), name another "
        f"compiler in ${variable}, or set machine.compile=false"
    )
    if not compiler or not shutil.which(compiler[0], path=environment.get("PATH")):
        named = f"${variable} names {compiler[0]}, which is not there" if compiler else "this machine has none"
        raise ConfigError(f"machine.compile, and masks on GPUs, need a C compiler, and {named}: {advice}")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / ("probe.c" if device == "cuda" else "probe.cpp")
        source.write_text("#include <Python.h>\nint probe(void);\nint probe(void) { return PY_MAJOR_VERSION; }\n")
        command = [*compiler, "-shared", "-fPIC", f"-I{headers}", str(source), "-o", f"{folder}/probe.so"]
        try:
            made = subprocess.run(
                command, env=dict(environment), capture_output=True, text=True, timeout=_COMPILES_S, check=False
            )
            said = "" if made.returncode == 0 else made.stderr
        except (OSError, subprocess.TimeoutExpired) as error:
            said = str(error)
    if "Python.h" in said:
        raise ConfigError(
            f"machine.compile, and masks on GPUs, need Python's headers, and {headers} holds no Python.h: {advice}"
        )
    if said:
        raise ConfigError(f"{shlex.join(compiler)} cannot compile: {' '.join(said.split())[:300]}; {advice}")


def check_shared_memory(config: TrainConfig, n_ranks: int, n_on_node: int, free: int) -> None:
    """See that the batches which workers have read fit into shared memory, by which they reach the run.

    Parameters
    ----------
    n_ranks, n_on_node : ranks of the run, and of those the ranks on this node, which share its memory
    free : bytes of shared memory

    Raises
    ------
    ConfigError
        If they do not: a worker would die of a bus error.
    """
    workers, own = config.machine.workers, config.stream.batch_size // n_ranks
    needed = n_on_node * (workers * PREFETCHED + 1) * own * item_bytes(config.layout())
    if needed > free:
        raise ConfigError(
            f"machine.workers={workers}: batches that are read ahead need up to {needed / 1e9:.2f} GB of shared memory "
            f"for the ranks of this node, and {SHARED_MEMORY} has {free / 1e9:.2f} GB free: start the container with "
            f"--ipc=host (or --shm-size={needed * 5 // 4 // 2**30 + 1}g), or lower machine.workers"
        )


def item_bytes(layout: Layout) -> int:
    """Return the size of one sequence or sample in shared memory [bytes]."""
    number, pixels = torch.int64.itemsize, 3 * layout.view.size**2
    if layout.family == "text":
        return number * (layout.seq_len + 2)  # one more token, the last target; and the domain
    if layout.family == "multimodal":
        return number * (3 * layout.seq_len + 1) + layout.seq_len // layout.n_patches * pixels
    return number * (layout.seq_len - layout.n_patches + 2) + pixels  # prefix and domain


def ranks_of_node(environment: Mapping[str, str], n_ranks: int) -> int:
    """Return the number of ranks on this node, from the variables of torchrun or srun; without them all ranks."""
    if "LOCAL_WORLD_SIZE" in environment:
        return int(environment["LOCAL_WORLD_SIZE"])
    tasks = environment.get("SLURM_STEP_TASKS_PER_NODE", "")  # 8(x4), or 8,7
    counts = [int(part.partition("(")[0]) for part in tasks.split(",") if part.partition("(")[0].isdigit()]
    return min(max(counts, default=n_ranks), n_ranks)
