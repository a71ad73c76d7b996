"""What is compiled is counted in graphs: also where shards are gathered around blocks and activations recomputed.

Graphs are captured as on a GPU; what runs them here is aot_eager, because generated code is not what is looked at.
"""

import functools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from tests.train.ranks import on_ranks
from tests.train.test_precision import LAYOUTS, MODELS, batch_of
from train.config import MachineConfig, TrainConfig
from train.distributed import ALONE, World, join_world, leave_world
from train.loop import backward
from train.models.build import build_model, shape_model
from train.models.initial import initialise
from train.parallel import clip_gradients, place, trainable

CASES = [("text", True)]


@contextmanager
def captured() -> Iterator[None]:
    """A block in which torch.compile captures graphs and generates no code for them."""
    plain = torch.compile
    torch.compile = functools.partial(plain, backend="aot_eager")
    try:
        yield
    finally:
        torch.compile = plain


def steps_of(world: World, family: str, machine: MachineConfig) -> dict[str, Any]:
    """Return graphs, breaks and compilations again of three steps and an evaluation, and the losses of the steps."""
    config = TrainConfig(model=MODELS[family], machine=machine)
    model = place(shape_model(config.model, 50, LAYOUTS[family]), machine, "fp32", world)
    initialise(model, config.model, 0)
    torch._dynamo.reset()  # otherwise graphs of another model are found to fit
    counters.clear()
    with captured():
        replica = trainable(model, machine, world)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    share = {name: values[world.rank :: world.size] for name, values in batch_of(family, 4).items()}
    losses, after_first = [], 0
    for step in range(3):
        losses.append(float(world.total(backward(replica, share, config, world))))
        clip_gradients(model, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        after_first = after_first if step else counters["stats"]["unique_graphs"]
    return {
        "losses": losses,
        "graphs": counters["stats"]["unique_graphs"],
        "after_first": after_first,
        "breaks": dict(counters["graph_break"]),
        "recompiled": sum(counters["recompiles"].values()),
    }


def sharded_steps(rank: int) -> list[list[dict[str, Any]]]:
    world, found = join_world("cpu"), []
    for family, recompute in CASES:
        machines = (
            MachineConfig(parallel="fsdp", micro_batch=1, activation_checkpointing=recompute, compile=compiled)
            for compiled in (False, True)
        )
        found.append([steps_of(world, family, machine) for machine in machines])
    leave_world()
    return found


@pytest.mark.slow
def test_shards_are_compiled_around_recomputed_activations() -> None:
    """One graph of the blocks, and one of head and losses; no break in any, and none is compiled again."""
    for answer in on_ranks(2, sharded_steps):
        for eager, compiled in answer:
            assert eager["graphs"] == 0
            assert compiled["graphs"] == compiled["after_first"] == 2
            assert not compiled["breaks"]
            assert compiled["losses"] == pytest.approx(eager["losses"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("recomputed", ["nothing", "all", "what is cheap"])
def test_one_process_compiles_the_whole_model_as_one_graph(recomputed: str) -> None:
    more = {"activation_checkpointing": recomputed != "nothing", "selective_checkpointing": recomputed[0] == "w"}
    machine = MachineConfig(compile=True, **more)
    found = steps_of(ALONE, "text", machine)
    assert found["graphs"] == found["after_first"] == 1
    assert not found["breaks"]


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was said of how a model is compiled; torch's own notes are left out."""
    return [record.getMessage() for record in caplog.records if record.name == "train.parallel"]


@pytest.mark.slow
def test_a_run_that_asked_for_compilation_and_got_none_says_so(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TORCH_COMPILE_DISABLE=1 is one way; a block that the compiler gives up on is another."""
    machine = MachineConfig(compile=True, activation_checkpointing=True)
    monkeypatch.setattr(torch._dynamo.config, "disable", True)
    with caplog.at_level(logging.WARNING):
        assert steps_of(ALONE, "text", machine)["graphs"] == 0
    assert told(caplog) == ["machine.compile is on, but blocks run uncompiled: training is slower than it could be"]
    caplog.clear()
    monkeypatch.setattr(torch._dynamo.config, "disable", False)
    steps_of(ALONE, "text", machine)
    steps_of(ALONE, "text", MachineConfig())
    assert not told(caplog)


def test_an_evaluation_beside_a_compiled_run_does_not_warn(caplog: pytest.LogCaptureFixture) -> None:
    model = build_model(MODELS["text"], 50, LAYOUTS["text"], seed=0)
    with captured():
        trainable(model, MachineConfig(compile=True), ALONE)
    with torch.no_grad():
        model(batch_of("text", 2))  # of the model itself, which is not what is compiled
    assert not told(caplog)
