"""How a process that trains uses its memory: the allocator of GPUs, and when Python looks for garbage."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from data.stream.loader import Batch

_ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")


def let_segments_grow() -> None:
    """Let torch's allocator enlarge what it holds of a GPU instead of holding many pieces; comes before CUDA is used.

    What the environment says already wins.
    """
    if not any(name in os.environ for name in _ALLOCATOR):
        os.environ[_ALLOCATOR[0]] = "expandable_segments:True"


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """A block in which Python looks for garbage only when `gc.collect` is called, and never among what there is before.

    A search takes as long as a step of a small model, at another moment on every rank, and the others wait for it.
    """
    was_on = gc.isenabled()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
        gc.unfreeze()


def on_device(batches: Iterator[Batch], inputs: tuple[str, ...], device: torch.device) -> Iterator[Batch]:
    """Yield batches as they are, or for a GPU what a model reads of them, copied there beside what it computes."""
    if device.type != "cuda":
        yield from batches
        return
    copies, computes = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    for batch in batches:
        with torch.cuda.stream(copies):
            moved = {name: batch[name].to(device, non_blocking=True) for name in inputs}  # from pinned memory
        computes.wait_stream(copies)
        for values in moved.values():
            values.record_stream(computes)
        yield moved
