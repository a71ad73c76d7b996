"""The GPUs that this process may use, as entries of CUDA_VISIBLE_DEVICES: numbers, UUIDs or MIG instances."""

import os
from collections.abc import Iterable, Mapping

VARIABLE = "CUDA_VISIBLE_DEVICES"
_SLICE = "MIG-"


def gpus_for(devices: Iterable[str]) -> list[str]:
    """Return the visible GPUs for the runs; [] if every run uses the CPU.

    Parameters
    ----------
    devices : `machine.device` of each run
    """
    import torch

    if all(device == "cpu" for device in devices):
        return []
    return visible_gpus(torch.cuda.device_count(), os.environ)


def visible_gpus(n_seen: int, environment: Mapping[str, str]) -> list[str]:
    """Return the entries of CUDA_VISIBLE_DEVICES that child processes can use.

    A scheduler or a user may restrict the GPUs: "4,5", "GPU-<uuid>,GPU-<uuid>". Entry i is CUDA's device i in this
    process. CUDA shows a process only the first MIG instance, but each child process can have its own.

    Parameters
    ----------
    n_seen : number of GPUs that CUDA shows; it stops at the first invalid entry
    environment : of this process
    """
    if VARIABLE not in environment:
        return [str(i) for i in range(n_seen)]
    listed = [entry.strip() for entry in environment[VARIABLE].split(",")]
    if n_seen and listed[0].startswith(_SLICE):
        return [entry for entry in listed if entry.startswith(_SLICE)]
    return listed[:n_seen]
