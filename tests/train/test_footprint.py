"""What is foretold of a GPU's memory is what real tensors take here: in one process, and on two ranks with shards."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from mixlaw.errors import ConfigError
from tests.marks import all_slow_but, slow
from tests.train.ranks import in_world, on_ranks
from tests.train.tiny import image_run
from train.compose import compose_config
from train.config import TrainConfig
from train.distributed import ALONE, World
from train.footprint import Footprint, LiveBytes, footprint, inputs_like
from train.loop import backward
from train.models.build import build_model, shape_model
from train.models.initial import initialise
from train.optim import build_optimizer
from train.parallel import place, trainable
from train.state import TrainState

Tiny = Callable[..., list[str]]
VOCAB, FEW = 1024, 16
TEXT = (
    "model.width=64 model.depth=6 model.head_dim=16 stream.seq_len=128 stream.batch_size=8 machine.micro_batch=2 "
    "machine.device=cpu data.root=/none"
).split()
PRECISIONS = ["fp32", "bf16"]


def text_config(*more: str) -> TrainConfig:
    return compose_config([*TEXT, *more])


def batch_of(config: TrainConfig, n: int) -> dict[str, Tensor]:
    """Return a real batch of zeros; patches of images in the first places of a sequence."""
    batch, layout = inputs_like(config.layout(), n), config.layout()
    if layout.family == "multimodal":
        batch["patch"] = (
            torch.arange(layout.seq_len).where(torch.arange(layout.seq_len) < layout.n_patches, -1).repeat(n, 1)
        )
    return batch


def measured_peak(config: TrainConfig, vocab_size: int = VOCAB) -> int:
    """Return the most bytes that a real step has beside weights and gradients: two micro-batches and more."""
    model = build_model(config.model, vocab_size, config.layout(), 0)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    batch = batch_of(config, 2 * config.machine.micro_batch)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    model.scores_at_once = config.machine.scores_at_once
    replica = trainable(model, config.machine, ALONE)
    with LiveBytes([*model.parameters(), *model.buffers(), *gradients, *batch.values()]) as live:
        backward(replica, batch, config, ALONE)
    return live.peak


class Saved:
    """Distinct storages that autograd saves, weights left out."""

    def __init__(self, model: nn.Module) -> None:
        weights = {p.to_local().data_ptr() if isinstance(p, DTensor) else p.data_ptr() for p in model.parameters()}
        storages: dict[int, torch.UntypedStorage] = {}

        def pack(tensor: Tensor) -> Tensor:
            if tensor.untyped_storage().data_ptr() not in weights:
                storages[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
            return tensor

        self.hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
        self._storages = storages

    @property
    def n_bytes(self) -> int:
        """What they take now; shards that FSDP gathered are freed after a forward pass, and take nothing."""
        return sum(storage.nbytes() for storage in self._storages.values())


@pytest.mark.parametrize(
    ("precision", "checkpointing"), all_slow_but([("bf16", "true")], itertools.product(PRECISIONS, ("false", "true")))
)
def test_a_step_of_text_takes_what_was_foretold(precision: str, checkpointing: str) -> None:
    config = text_config(f"precision={precision}", f"machine.activation_checkpointing={checkpointing}")
    found = footprint(config, VOCAB, 1, as_gpu=False)
    assert measured_peak(config) == pytest.approx(found.activations + found.logits, rel=0.1)
    plain = text_config(f"precision={precision}")
    ratio = found.activations / footprint(plain, VOCAB, 1, as_gpu=False).activations
    assert ratio < 0.5 if checkpointing == "true" else ratio == 1.0


@pytest.mark.parametrize("precision", all_slow_but(["bf16"], PRECISIONS))
def test_selective_checkpointing_keeps_less_than_all_and_more_than_inputs(precision: str) -> None:
    more = [f"precision={precision}", "machine.activation_checkpointing=true"]
    config = text_config(*more, "machine.selective_checkpointing=true")
    found = footprint(config, VOCAB, 1, as_gpu=False)
    assert measured_peak(config) == pytest.approx(found.activations + found.logits, rel=0.1)
    none, inputs = text_config(f"precision={precision}"), text_config(*more)
    least, most = (footprint(other, VOCAB, 1, as_gpu=False).activations for other in (inputs, none))
    assert 1.3 * least < found.activations < 0.8 * most


@pytest.mark.parametrize("precision", all_slow_but(["bf16"], PRECISIONS))
@pytest.mark.parametrize("family", ["multimodal", slow("vision")])
def test_a_step_of_images_takes_what_was_foretold(family: str, precision: str, tmp_path: Path) -> None:
    more = ["model.width=64", "model.depth=5", "model.head_dim=16", "machine.micro_batch=2", f"precision={precision}"]
    config = compose_config(image_run(tmp_path, family, *more))
    found = footprint(config, 256, 1, as_gpu=False)
    assert measured_peak(config, 256) == pytest.approx(found.activations + found.logits, rel=0.1)


@pytest.mark.parametrize("precision", all_slow_but(["bf16"], PRECISIONS))
def test_what_autograd_saves_is_most_of_it(precision: str) -> None:
    config = text_config(f"precision={precision}", "model.depth=12")
    model = build_model(config.model, FEW, config.layout(), 0)
    saved, batch = Saved(model), batch_of(config, config.machine.micro_batch)
    with saved.hooks, torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        loss = model(batch)["text"].sum()
    found = footprint(config, FEW, 1, as_gpu=False)
    assert found.logits == 0
    assert saved.n_bytes == pytest.approx(found.activations, rel=0.1)
    loss.backward()


def test_weights_gradients_and_optimizer_are_counted_exactly() -> None:
    config = text_config("evaluation.average=0.5")
    model = build_model(config.model, VOCAB, config.layout(), 0)
    n_bytes = sum(4 * p.numel() for p in model.parameters())
    state = TrainState(model, build_optimizer(model, config.optim, config.model.width))
    statistics = sum(t.numel() * 4 for name, t in state.parts()["optimizer"].items() if not name.endswith("/step"))
    found = footprint(config, VOCAB, 1)
    assert (found.weights, found.gradients, found.optimizer) == (2 * n_bytes, n_bytes, statistics)
    assert footprint(text_config(), VOCAB, 1).weights == n_bytes


def bytes_of_a_rank(world: World, overrides: list[str]) -> dict[str, int]:
    """Take one micro-batch through a sharded model; return what this rank holds."""
    config = compose_config(overrides)
    model = place(shape_model(config.model, FEW, config.layout()), config.machine, config.precision, world)
    initialise(model, config.model, 0)
    state = TrainState(model, build_optimizer(model, config.optim, config.model.width))
    called, batch = trainable(model, config.machine, world), batch_of(config, config.machine.micro_batch)
    saved = Saved(model)
    with saved.hooks, torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
        loss = called(batch)["text"].sum()
    n_saved = saved.n_bytes
    loss.backward()

    def local(tensors: Any) -> int:
        own = (t.to_local() if isinstance(t, DTensor) else t for t in tensors)
        return sum(t.numel() * t.element_size() for t in own if t.ndim)

    gradients = [p.grad for p in model.parameters()]
    statistics = state.parts()["optimizer"].values()
    found = {"weights": local(model.parameters()), "gradients": local(gradients), "optimizer": local(statistics)}
    return found | {"saved": n_saved}


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_shards_of_two_ranks_take_what_was_foretold(precision: str) -> None:
    overrides = [*TEXT, f"precision={precision}", "machine.parallel=fsdp", "model.depth=12"]
    first = on_ranks(2, in_world, bytes_of_a_rank, {}, overrides)[0]
    found = footprint(compose_config(overrides), FEW, 2, as_gpu=False)
    for name in ("weights", "gradients", "optimizer"):
        assert first[name] == pytest.approx(getattr(found, name), rel=0.01), name
    assert first["saved"] == pytest.approx(found.activations, rel=0.1)
    alone = footprint(compose_config(overrides), FEW, 1, as_gpu=False)
    assert found.weights == pytest.approx(alone.weights / 2, rel=0.01)
    assert found.gathered > alone.gathered == 0


@pytest.mark.slow
def test_copies_over_several_nodes_take_what_one_node_does() -> None:
    overrides = [*TEXT, "machine.parallel=fsdp", "machine.micro_batch=1"]
    copies = footprint(compose_config([*overrides, "machine.shards=2"]), VOCAB, 4)
    assert copies == footprint(compose_config(overrides), VOCAB, 2)
    assert copies.weights > footprint(compose_config(overrides), VOCAB, 4).weights


def grown(config: TrainConfig, **model: int) -> Footprint:
    return footprint(replace(config, model=replace(config.model, **model)), VOCAB, 1)


@pytest.mark.slow
def test_depth_and_micro_batches_count_in_proportion() -> None:
    config = text_config("precision=bf16")
    by_depth = [grown(config, depth=depth).activations for depth in (3, 6, 9)]
    assert by_depth[2] - by_depth[1] == by_depth[1] - by_depth[0] > 0
    sizes = [footprint(replace(config, machine=replace(config.machine, micro_batch=n)), VOCAB, 1) for n in (1, 2, 4)]
    assert sizes[2].logits - sizes[1].logits == pytest.approx(2 * (sizes[1].logits - sizes[0].logits), rel=0.01)
    assert [s.weights for s in sizes] == [sizes[0].weights] * 3
    assert sizes[0].total < sizes[1].total < sizes[2].total


def test_fused_kernels_of_a_gpu_keep_less_than_a_cpu() -> None:
    config = text_config("precision=bf16")
    on_gpu, on_cpu = footprint(config, VOCAB, 1), footprint(config, VOCAB, 1, as_gpu=False)
    assert on_gpu.activations < on_cpu.activations
    assert on_gpu.state == on_cpu.state


def test_ranks_that_cannot_share_the_batch_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"stream\.batch_size 8 is not a multiple of the 3 ranks"):
        footprint(text_config(), VOCAB, 3)


def test_scores_of_a_part_of_the_places_at_a_time_take_less() -> None:
    more = ("precision=bf16", "machine.scores_at_once=32")
    parts, whole = text_config(*more), text_config(more[0])
    found = footprint(parts, VOCAB, 1, as_gpu=False)
    assert measured_peak(parts) == pytest.approx(found.activations + found.logits, rel=0.1)
    assert found.logits < footprint(whole, VOCAB, 1, as_gpu=False).logits / 2
