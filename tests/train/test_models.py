"""The text model: its size is what is stated, it looks back only, and it learns."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from data.stream.items import Layout
from tests.marks import all_slow_but
from train.compose import CONFIGS, compose_config
from train.config import ModelConfig, OptimConfig
from train.models.build import build_model
from train.models.count import count_parameters, flops_per_token
from train.models.layers import rotary_table, rotate
from train.optim import build_optimizer

SEQ_LEN, VOCAB = 16, 40
LAYOUT = Layout(SEQ_LEN)
SMALL = ModelConfig(width=16, depth=2, head_dim=8)
SHIPPED = sorted(path.stem for path in (CONFIGS / "model").glob("*.yaml"))

configs = st.builds(
    lambda heads, head_dim, depth, multiple, norm: ModelConfig(
        width=heads * head_dim, depth=depth, head_dim=head_dim, ffn_multiple_of=multiple, qk_norm=norm
    ),
    st.integers(1, 4),
    st.sampled_from([2, 8, 16]),
    st.integers(1, 3),
    st.sampled_from([1, 16]),
    st.booleans(),
)


def sequences(seed: int, n: int = 3, vocab_size: int = VOCAB) -> Tensor:
    return torch.randint(0, vocab_size, (n, SEQ_LEN + 1), generator=torch.Generator().manual_seed(seed))


def losses(model: nn.Module, tokens: Tensor) -> Tensor:
    found = model({"tokens": tokens})
    assert set(found) == set(model.loss_weights) == {"text"}
    return found["text"]


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach() for p in model.parameters()]


@given(config=configs, vocab_size=st.integers(2, 300))
@settings(max_examples=30)
def test_parameter_counts_follow_from_width_and_depth(config: ModelConfig, vocab_size: int) -> None:
    model = build_model(config, vocab_size, LAYOUT, seed=0)
    D, K, F = (
        config.width,
        config.head_dim,
        config.ffn_multiple_of * -(-8 * config.width // (3 * config.ffn_multiple_of)),
    )
    norms = 2 * D + (2 * K if config.qk_norm else 0)
    non_embedding = config.depth * (4 * D * D + 3 * D * F + norms) + D
    assert count_parameters(model) == {
        "total": sum(p.numel() for p in model.parameters()),
        "embedding": model.embedding.weight.numel(),
        "head": model.head.weight.numel(),
        "non_embedding": non_embedding,
        "active": non_embedding + 2 * vocab_size * D,
    }


@pytest.mark.parametrize("name", all_slow_but(("text_70k", "text_492k"), SHIPPED))
def test_the_shipped_sizes_are_what_their_names_say(name: str) -> None:
    config = compose_config([f"model={name}", "stream.seq_len=128"])
    total = count_parameters(build_model(config.model, 256, config.layout(), seed=0))["total"]
    assert abs(total / 1000 - int(name.partition("_")[2].removesuffix("k"))) < 1


@pytest.mark.parametrize("depth", [1, 3])
def test_flops_agree_with_torchs_own_counter(depth: int) -> None:
    config = ModelConfig(width=64, depth=depth)
    model = build_model(config, 256, Layout(32), seed=0)
    tokens = torch.zeros(4, 33, dtype=torch.int64)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # it does not know the fused kernel
        model({"tokens": tokens})
    counted = 3 * counter.get_total_flops() / (4 * 32)  # the backward pass costs twice the forward pass
    stated = flops_per_token(config, count_parameters(model), seq_len=32)
    assert stated["palm"] == pytest.approx(counted, rel=0.01)
    attention = 12 * depth * 64
    assert stated["palm"] - stated["exact"] == attention * (32 - 33 / 2)
    assert stated["six_n"] == 6 * count_parameters(model)["total"]


@given(at=st.integers(1, SEQ_LEN), seed=st.integers(0, 5))
@settings(max_examples=20)
def test_a_changed_token_changes_no_loss_before_it(at: int, seed: int) -> None:
    model, tokens = build_model(SMALL, VOCAB, LAYOUT, seed), sequences(seed)
    changed = tokens.clone()
    changed[:, at] = (changed[:, at] + 1) % VOCAB
    before, after = losses(model, tokens).detach(), losses(model, changed).detach()
    assert torch.equal(before[:, : at - 1], after[:, : at - 1])
    assert (before[:, at - 1] != after[:, at - 1]).all()  # this one has it as its target
    if at < SEQ_LEN:
        assert (before[:, at:] != after[:, at:]).any()  # and those may look back at it


def test_a_sequence_does_not_see_its_neighbours_in_the_batch() -> None:
    model, tokens = build_model(SMALL, VOCAB, LAYOUT, 0), sequences(0)
    torch.testing.assert_close(losses(model, tokens)[1:2], losses(model, tokens[1:2]))


def test_initial_losses_are_those_of_a_uniform_guess() -> None:
    first = losses(build_model(ModelConfig(), 256, LAYOUT, seed=0), sequences(0, 32, 256)).detach()
    assert first.shape == (32, SEQ_LEN)
    assert first.mean().item() == pytest.approx(torch.tensor(256.0).log().item(), rel=0.02)


def test_initial_weights_depend_on_configuration_and_seed_only() -> None:
    torch.manual_seed(1)
    one = build_model(SMALL, VOCAB, LAYOUT, seed=5)
    torch.manual_seed(2)
    same, other = build_model(SMALL, VOCAB, LAYOUT, seed=5), build_model(SMALL, VOCAB, LAYOUT, seed=6)
    assert all(map(torch.equal, weights(one), weights(same)))
    assert not any(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True) if a.ndim == 2)


def test_initial_spreads_are_those_of_mup() -> None:
    config = ModelConfig(width=256, depth=2)
    spread = {n: p.std().item() for n, p in build_model(config, 256, LAYOUT, seed=0).named_parameters() if p.ndim == 2}
    assert spread["embedding.weight"] == pytest.approx(1.0, rel=0.05)
    assert spread["blocks.0.attention.qkv.weight"] == pytest.approx(256**-0.5, rel=0.05)
    assert spread["blocks.1.ffn.down.weight"] == pytest.approx(688**-0.5 / 2, rel=0.05)  # sqrt(2 depth) = 2
    assert spread["head.weight"] == pytest.approx(1 / 256, rel=0.05)


@given(shift=st.integers(0, 9), seed=st.integers(0, 9))
@settings(max_examples=20)
def test_rotary_scores_depend_on_distance_only(shift: int, seed: int) -> None:
    cos, sin = rotary_table(SEQ_LEN, 8, 10_000.0)
    q, k = torch.randn(2, 1, 8, generator=torch.Generator().manual_seed(seed))

    def score(i: int, j: int) -> Tensor:
        return (rotate(q, cos[i], sin[i]) * rotate(k, cos[j], sin[j])).sum()

    torch.testing.assert_close(score(6, 2), score(6 - 2 + shift % 10, shift % 10), rtol=1e-4, atol=1e-5)
    assert rotate(q, cos[3], sin[3]).norm() == pytest.approx(q.norm().item(), rel=1e-5)


def test_it_learns_a_periodic_sequence() -> None:
    config = OptimConfig(base_width=16, lr=1e-2)
    model = build_model(SMALL, VOCAB, LAYOUT, seed=0)
    optimizer = build_optimizer(model, config, SMALL.width)
    tokens = (torch.arange(SEQ_LEN + 1) + torch.arange(4)[:, None]) % 5
    first = losses(model, tokens).mean().item()
    for _ in range(40):
        losses(model, tokens).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses(model, tokens).mean().item() < 0.2 * first
