"""Process settings for training: CUDA allocator, garbage collection, and copies to the GPU."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from data.stream.loader import Batch

_ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")


def let_segments_grow() -> None:
    """Enable expandable segments in the CUDA allocator, against fragmentation; call before CUDA is used.

    Settings in the environment take precedence.
    """
    if not any(name in os.environ for name in _ALLOCATOR):
        os.environ[_ALLOCATOR[0]] = "expandable_segments:True"


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """A context without automatic garbage collection; `gc.collect` ignores objects that existed before.

    A collection takes as long as a step of a small model, at different times on each rank, and other ranks wait for it.
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
    """Yield batches; for a GPU, copy the inputs of the model on a separate stream, in parallel with computation."""
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
