"""Initial weights: the same on any number of ranks, and never a whole model in memory before it is sharded."""

import weakref
from typing import Any

import pytest
import torch

from data.stream.items import Layout
from tests.marks import slow
from tests.train.ranks import on_ranks
from train.config import MachineConfig, ModelConfig
from train.distributed import World, join_world, leave_world
from train.models.build import build_model, shape_model
from train.models.initial import allocate, copy_whole, initialise
from train.parallel import place

LAYOUT = Layout(16)
CONFIGS = {
    "text": ModelConfig(width=24, depth=2, head_dim=8),
    "padded": ModelConfig(width=24, depth=1, head_dim=8, vocab_multiple_of=64),
    "vision": ModelConfig("vision", width=16, depth=1, head_dim=8, decoder_depth=1, patch_size=16),
}


def layout_of(config: ModelConfig) -> Layout:
    return Layout(16, config.family, config.patch_size) if config.family != "text" else LAYOUT


def sharded_weights(rank: int, parallel: str) -> dict[str, Any]:
    """Return the whole weights of each model as a rank sees them, and how many of its numbers that rank holds."""
    world, found = join_world("cpu"), {}
    for name, config in CONFIGS.items():
        model = shape_model(config, 50, layout_of(config))
        model = place(model, MachineConfig(parallel=parallel), "fp32", world)
        initialise(model, config, 3)
        whole = {n: getattr(p, "full_tensor", lambda p=p: p)().tolist() for n, p in model.named_parameters()}
        held = sum(getattr(p, "_local_tensor", p).numel() for p in model.parameters())
        tables = {n: b.tolist() for n, b in model.named_buffers()}
        found[name] = {"weights": whole, "held": held, "tables": tables}
    leave_world()
    return found


@pytest.mark.parametrize(("n", "parallel"), [(1, "fsdp"), slow(2, "ddp"), (2, "fsdp"), slow(3, "fsdp")])
def test_weights_and_tables_do_not_depend_on_the_number_of_ranks(n: int, parallel: str) -> None:
    for answer in on_ranks(n, sharded_weights, parallel):
        for name, config in CONFIGS.items():
            model = build_model(config, 50, layout_of(config), seed=3)
            assert answer[name]["weights"] == {n: p.tolist() for n, p in model.named_parameters()}
            assert answer[name]["tables"] == {n: b.tolist() for n, b in model.named_buffers()}
            total = sum(p.numel() for p in model.parameters())
            assert answer[name]["held"] <= (total if parallel == "ddp" else total / n * 1.2)


def test_a_model_of_any_size_is_shaped_without_memory() -> None:
    model = shape_model(ModelConfig(width=8192, depth=80, head_dim=128), 50_000, Layout(2048))
    assert sum(p.numel() for p in model.parameters()) > 6e10
    assert {t.device.type for t in (*model.parameters(), *model.buffers())} == {"meta"}


def test_one_whole_parameter_at_a_time_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn for a parameter is given back before the next is drawn."""
    alive: list[weakref.ref[torch.Tensor]] = []
    most = 0

    def noting(target: torch.Tensor, whole: torch.Tensor) -> None:
        nonlocal most
        alive.append(weakref.ref(whole))
        most = max(most, sum(ref() is not None for ref in alive))
        copy_whole(target, whole)

    monkeypatch.setattr("train.models.initial.copy_whole", noting)
    config = CONFIGS["text"]
    model = shape_model(config, 50, LAYOUT)
    allocate(model, torch.device("cpu"))
    initialise(model, config, 0)
    assert len(alive) == len(list(model.parameters()))
    assert most == 1


def test_place_gives_memory_on_the_ranks_device() -> None:
    model = place(shape_model(CONFIGS["text"], 50, LAYOUT), MachineConfig(), "fp32", World(0, 1, torch.device("cpu")))
    assert {t.device.type for t in (*model.parameters(), *model.buffers())} == {"cpu"}
