"""Loads the weights that a run starts from (`init_from`) into its model."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.distributed.checkpoint import CheckpointException

from mixlaw.errors import CheckpointError
from train.checkpoint import newest_checkpoint, read_part
from train.distributed import ALONE, World
from train.llama import COMPUTED, EMBEDDING, HEAD, their_names, weight_files
from train.models.initial import copy_whole
from train.origin import Origin


@torch.no_grad()
def load_origin(origin: Origin, model: nn.Module, world: World = ALONE) -> None:
    """Copy the weights of a run or of a Hugging Face folder into a model, whole or sharded.

    Raises
    ------
    CheckpointError
        On all ranks, if they are damaged or do not fit.
    """
    tensors = dict(model.state_dict())
    if origin.checkpoint and newest_checkpoint(origin.checkpoint.parent, world=world) != origin.checkpoint:
        raise CheckpointError(f"init_from: {origin.checkpoint} is damaged: copy the run again")
    with world.together("reading the weights to start from"):
        try:
            if origin.checkpoint:
                read_part(origin.checkpoint, origin.part, tensors, world)
            else:
                read_llama(origin.path, tensors)
        except (LookupError, ValueError, OSError, RuntimeError, SafetensorError, CheckpointException) as error:
            raise CheckpointError(f"init_from: {origin.path} does not fit this model: {error!s:.300}") from None


def read_llama(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Copy the weights of a Hugging Face folder into live tensors, one at a time; sharded ones take this rank's part.

    Raises
    ------
    KeyError, ValueError
        If a weight is missing, left over, or has another shape; names it.
    """
    with ExitStack() as opened:
        files = [opened.enter_context(safe_open(path, framework="pt")) for path in weight_files(folder)]
        held = {name: file for file in files for name in file.keys() if not name.endswith(COMPUTED)}
        places = {HEAD: EMBEDDING} if HEAD not in held else {}  # tied
        needed = {name: [places.get(theirs, theirs) for theirs in their_names(name)] for name in tensors}
        if others := held.keys() ^ {theirs for names in needed.values() for theirs in names}:
            raise KeyError(f"'{min(others)}' is in one of the two only")
        for name, target in tensors.items():
            whole = torch.cat([held[theirs].get_tensor(theirs) for theirs in needed[name]])
            if whole.shape != target.shape:
                raise ValueError(f"'{name}' has shape {list(whole.shape)}, this model's has {list(target.shape)}")
            copy_whole(target, whole)
