"""The GPUs that this process may use, by names that CUDA_VISIBLE_DEVICES takes: numbers, UUIDs or MIG instances."""

import os
from collections.abc import Iterable, Mapping

VARIABLE = "CUDA_VISIBLE_DEVICES"
_SLICE = "MIG-"


def gpus_for(devices: Iterable[str]) -> list[str]:
    """Return the visible GPUs that runs may be given; none where every run asks for the CPU.

    Parameters
    ----------
    devices : `machine.device` of each run
    """
    import torch

    if all(device == "cpu" for device in devices):
        return []
    return visible_gpus(torch.cuda.device_count(), os.environ)


def visible_gpus(n_seen: int, environment: Mapping[str, str]) -> list[str]:
    """Return the name of each GPU that a process started from here may be given.

    A scheduler or a person may have left some of a machine's GPUs to us: "4,5", "GPU-<uuid>,GPU-<uuid>". Entry i is
    what CUDA numbers i in this process. Of MIG instances CUDA shows a process the first one only, but each of several
    processes may have one of its own.

    Parameters
    ----------
    n_seen : how many GPUs CUDA shows this process; it stops at the first entry that names none
    environment : of this process
    """
    if VARIABLE not in environment:
        return [str(i) for i in range(n_seen)]
    listed = [entry.strip() for entry in environment[VARIABLE].split(",")]
    if n_seen and listed[0].startswith(_SLICE):
        return [entry for entry in listed if entry.startswith(_SLICE)]
    return listed[:n_seen]
