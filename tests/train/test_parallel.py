"""How the passes of a step are cut, summed and clipped over ranks."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from mixlaw.errors import ConfigError
from tests.train.ranks import on_ranks
from tests.train.test_precision import FAMILIES, LAYOUTS, MODELS, batch_of
from train.config import MachineConfig, TrainConfig
from train.distributed import ALONE, World, join_world, leave_world
from train.loop import backward
from train.models.build import build_model, shape_model
from train.models.initial import initialise
from train.parallel import micro_batch_of, place, trainable


@given(batch_size=st.integers(1, 64), micro_batch=st.integers(0, 70), n_ranks=st.integers(1, 9))
def test_every_pass_of_a_run_has_the_same_shape(batch_size: int, micro_batch: int, n_ranks: int) -> None:
    share, machine = batch_size // n_ranks, MachineConfig(micro_batch=micro_batch)
    expected = min(micro_batch or share, share)
    if batch_size % n_ranks or share % expected:
        with pytest.raises(ConfigError, match=r"stream\.batch_size"):
            micro_batch_of(batch_size, machine, n_ranks)
    else:
        assert micro_batch_of(batch_size, machine, n_ranks) == expected


def test_a_refused_micro_batch_is_told_with_those_that_fit() -> None:
    with pytest.raises(ConfigError, match=r"machine.micro_batch 5 does not divide the 12 sequences.*1, 2, 3, 4, 6, 12"):
        micro_batch_of(48, MachineConfig(micro_batch=5), 4)


def test_cuda_graphs_are_refused_where_a_step_would_replay_them_twice() -> None:
    graphs = {"compile": True, "cuda_graphs": True}
    assert micro_batch_of(16, MachineConfig(**graphs), 2) == 8
    assert micro_batch_of(16, MachineConfig(**graphs, micro_batch=8), 2) == 8
    with pytest.raises(ConfigError, match="the 2 passes of a step would overwrite each other's results"):
        micro_batch_of(16, MachineConfig(**graphs, micro_batch=8), 1)


@pytest.mark.parametrize("other", [{"compile": False}, {"compile": True, "parallel": "fsdp"}])
def test_cuda_graphs_need_compilation_and_whole_models(other: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"machine.cuda_graphs replays compiled steps"):
        MachineConfig(cuda_graphs=True, **other)


def test_copies_of_a_sharded_model_are_of_equally_many_ranks() -> None:
    machine, world = MachineConfig(parallel="fsdp", shards=3), World(0, 4, torch.device("cpu"))
    with pytest.raises(ConfigError, match=r"machine.shards 3 does not divide the 4 ranks of the run"):
        place(shape_model(MODELS["text"], 50, LAYOUTS["text"]), machine, "fp32", world)
    with pytest.raises(ConfigError, match=r"only machine.parallel=fsdp shards a model"):
        MachineConfig(shards=2)


@pytest.mark.parametrize("family", FAMILIES)
def test_selective_checkpointing_multiplies_no_matrix_twice(family: str) -> None:
    """And its gradients are those of a model that keeps everything, bit by bit."""
    plain, full, selective = (
        products_of(family, MachineConfig(activation_checkpointing=a, selective_checkpointing=b))
        for a, b in ((False, False), (True, False), (True, True))
    )
    assert selective[0] == plain[0] < full[0]
    assert all(map(torch.equal, selective[1], plain[1]))


def products_of(family: str, machine: MachineConfig) -> tuple[int, list[torch.Tensor]]:
    """Return the number of matrix products of a step, and its gradients."""
    config = TrainConfig(model=MODELS[family], machine=machine)
    model = build_model(config.model, 50, LAYOUTS[family], seed=0)
    with Products() as products:
        backward(trainable(model, machine, ALONE), batch_of(family, 4), config, ALONE)
    return products.n, [p.grad for p in model.parameters() if p.grad is not None]


class Products(TorchDispatchMode):
    """Counts the matrix products that are computed."""

    n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.n += func is torch.ops.aten.mm.default
        return func(*args, **(kwargs or {}))


def gradients_between_passes(rank: int, parallel: str) -> dict[str, Any]:
    """Return which parameters have a gradient when the second pass of a step begins, and how much of it is here."""
    world, machine = join_world("cpu"), MachineConfig(parallel=parallel, micro_batch=1)
    config = TrainConfig(model=MODELS["text"], machine=machine)
    model = place(shape_model(config.model, 50, LAYOUTS["text"]), machine, "fp32", world)
    initialise(model, config.model, 0)
    replica, seen = trainable(model, machine, world), []

    def note(*_: Any) -> None:
        found = (p.grad for p in model.parameters() if p.grad is not None)
        seen.append([getattr(grad, "_local_tensor", grad).numel() for grad in found])

    model.register_forward_pre_hook(note, prepend=True)  # before shards are gathered for the pass
    share = {name: values[world.rank :: world.size] for name, values in batch_of("text", 4).items()}
    backward(replica, share, config, world)
    buffers = replica.broadcast_buffers if isinstance(replica, DistributedDataParallel) else None
    del replica  # it would wait for its ranks
    leave_world()
    sizes = [getattr(p, "_local_tensor", p).numel() for p in model.parameters()]
    return {"seen": seen, "sizes": sizes, "total": sum(p.numel() for p in model.parameters()), "buffers": buffers}


def test_shards_keep_no_whole_gradients_between_passes() -> None:
    """Before, all gradients waited on every rank, whole and in fp32, for the last pass of a step."""
    for answer in on_ranks(2, gradients_between_passes, "fsdp"):
        first, second = answer["seen"]
        assert first == []
        assert second == answer["sizes"]  # each parameter's shard has its gradient, summed over the ranks
        assert sum(second) < 0.6 * answer["total"]


def test_whole_models_broadcast_no_buffers() -> None:
    assert [answer["buffers"] for answer in on_ranks(2, gradients_between_passes, "ddp")] == [False, False]
