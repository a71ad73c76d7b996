"""One learning rate serves every width under muP, and weight decay does not depend on it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from data.stream.items import Layout
from mixlaw.errors import ConfigError
from tests.marks import slow
from train.config import ModelConfig, OptimConfig, ScheduleConfig
from train.models.build import build_model
from train.optim import build_optimizer, schedule_factor, set_learning_rate

WIDTHS = [32, 64, 128, 256]


def changes(width: int, parametrization: str, lr: float, n_steps: int = 4) -> dict[str, float]:
    """Return the rms change of each block's output and of the logits after a few steps on one batch."""
    tokens = torch.randint(0, 64, (8, 17), generator=torch.Generator().manual_seed(0))
    config = OptimConfig(parametrization=parametrization, base_width=WIDTHS[0], lr=lr)
    model = build_model(ModelConfig(width=width, depth=2), 64, Layout(16), seed=0)
    optimizer = build_optimizer(model, config, width)
    outputs: dict[str, list[torch.Tensor]] = {}
    for name, part in [("block 0", model.blocks[0]), ("block 1", model.blocks[1]), ("logits", model.head)]:
        part.register_forward_hook(lambda _, __, out, name=name: outputs.setdefault(name, []).append(out.detach()))
    for _ in range(n_steps):
        model({"tokens": tokens})["text"].mean().backward()
        set_learning_rate(optimizer, config, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model({"tokens": tokens})
    return {name: (seen[-1] - seen[0]).square().mean().sqrt().item() for name, seen in outputs.items()}


def spread(parametrization: str, lr: float) -> dict[str, float]:
    """Return the largest change over the smallest, over a factor of 8 in width."""
    all_widths = [changes(width, parametrization, lr) for width in WIDTHS]
    return {name: max(c[name] for c in all_widths) / min(c[name] for c in all_widths) for name in all_widths[0]}


@pytest.mark.parametrize("lr", [slow(3e-3), 1e-2])
def test_coordinate_check_activations_move_as_much_at_every_width(lr: float) -> None:
    assert max(spread("mup", lr).values()) < 1.7
    assert min(spread("standard", lr).values()) > 3  # what the parametrisation is there for


def test_at_the_base_width_both_parametrisations_are_one() -> None:
    assert changes(WIDTHS[0], "mup", 1e-2) == changes(WIDTHS[0], "standard", 1e-2)


def groups(width: int = 32, **settings: float) -> tuple[nn.Module, torch.optim.Optimizer, OptimConfig]:
    config = OptimConfig(**settings)
    model = build_model(ModelConfig(width=width, depth=1), 64, Layout(16), seed=0)
    return model, build_optimizer(model, config, width), config


@pytest.mark.parametrize("parametrization", ["mup", "standard"])
def test_only_matrices_scale_with_width_and_decay(parametrization: str) -> None:
    model, optimizer, config = groups(width=128, parametrization=parametrization)
    set_learning_rate(optimizer, config, 1.0)
    names = {id(p): name for name, p in model.named_parameters()}
    matrices, others = ({names[id(p)] for p in group["params"]} for group in optimizer.param_groups)
    inner = {f"blocks.0.{n}.weight" for n in ("attention.qkv", "attention.out", "ffn.gate_up", "ffn.down")}
    assert matrices == {"head.weight", *inner}
    assert matrices | others == set(names.values())
    scale = 64 / 128 if parametrization == "mup" else 1.0
    assert [group["lr"] for group in optimizer.param_groups] == [config.lr * scale, config.lr]
    assert optimizer.param_groups[1]["weight_decay"] == 0


@pytest.mark.parametrize("width", [32, 128])
@pytest.mark.parametrize("lr", [1e-4, 1e-2])
def test_weight_decay_shrinks_matrices_by_itself_whatever_lr_and_width(width: int, lr: float) -> None:
    model, optimizer, config = groups(width=width, lr=lr, weight_decay=0.01)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    set_learning_rate(optimizer, config, 1.0)
    optimizer.step()
    for name, p in model.named_parameters():
        shrinks = p.ndim == 2 and name != "embedding.weight"
        torch.testing.assert_close(p.detach(), before[name] * (0.99 if shrinks else 1.0))


@pytest.mark.parametrize(
    ("warmup", "n_tokens", "factor"),
    [(0, 1, 1.0), (0, 10**12, 1.0), (99, 0, 0.01), (99, 49, 0.5), (99, 99, 1.0), (99, 100, 1.0)],
)
def test_corners_of_the_schedule(warmup: int, n_tokens: int, factor: float) -> None:
    config = ScheduleConfig(n_tokens=1000, warmup_tokens=warmup)
    assert schedule_factor(config, n_tokens, 0) == pytest.approx(factor)


@given(warmup=st.integers(0, 10**9), n_tokens=st.integers(0, 10**12), more=st.integers(0, 10**9))
def test_the_schedule_rises_to_one_and_stays(warmup: int, n_tokens: int, more: int) -> None:
    config = ScheduleConfig(n_tokens=10**13, warmup_tokens=warmup)
    now, later = schedule_factor(config, n_tokens, 0), schedule_factor(config, n_tokens + more, 0)
    assert 0 < now <= later <= 1
    assert (now == 1) == (n_tokens >= warmup)


def test_a_cooldown_falls_as_one_minus_the_root_to_almost_nothing() -> None:
    config = ScheduleConfig(n_tokens=1000, warmup_tokens=100, cooldown=0.4)
    factors = {n: schedule_factor(config, n, 10) for n in range(0, 1000, 10)}
    flat = ScheduleConfig(n_tokens=1000, warmup_tokens=100)
    assert all(factors[n] == schedule_factor(flat, n, 10) for n in factors if n <= 600)
    assert [factors[n] for n in (610, 700, 990)] == pytest.approx([1 - (d / 400) ** 0.5 for d in (10, 100, 390)])
    assert 0 < factors[990] < 0.02


def test_a_cooldown_that_begins_inside_the_warm_up_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"schedule\.cooldown 0\.8 begins before schedule\.warmup_tokens 300"):
        ScheduleConfig(n_tokens=1000, warmup_tokens=300, cooldown=0.8)
    with pytest.raises(ConfigError, match=r"schedule\.cooldown is 1\.5"):
        ScheduleConfig(n_tokens=1000, warmup_tokens=0, cooldown=1.5)


def test_the_rate_that_is_logged_is_the_one_before_width_scaling() -> None:
    _, optimizer, config = groups(width=128, lr=4e-3)
    assert set_learning_rate(optimizer, config, 0.5) == 2e-3
    assert [group["lr"] for group in optimizer.param_groups] == [1e-3, 2e-3]
