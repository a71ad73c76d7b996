"""Masks of documents say who attends to whom; the block mask of GPUs and the mask of booleans mean the same."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._dynamo.utils import counters
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention.flex_attention import create_block_mask

from data.stream.items import Layout
from tests.marks import examples
from train.config import ModelConfig
from train.models.attention import attend, document_mask, image_mask, kernels_for, prefix_mask, suits_flex
from train.models.build import build_model
from train.plan import Plan

END = 0
CONFIG = ModelConfig(width=32, depth=2, head_dim=8, document_mask=True)


@given(tokens=st.lists(st.lists(st.integers(END, 3), min_size=7, max_size=7), min_size=1, max_size=3))
def test_a_position_sees_itself_and_earlier_ones_of_its_document(tokens: list[list[int]]) -> None:
    mask = document_mask(torch.tensor(tokens), END, 8)
    assert isinstance(mask, torch.Tensor)
    for row, allowed in zip(tokens, mask[:, 0], strict=True):
        for query in range(7):
            start = max((i + 1 for i in range(query) if row[i] == END), default=0)
            assert allowed[query].nonzero().flatten().tolist() == list(range(start, query + 1))


@given(seed=st.integers(0, 2**31), share=st.sampled_from([0.0, 0.05, 0.5, 1.0]))
@examples(16)
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_the_block_mask_and_the_mask_of_booleans_attend_alike(seed: int, share: float) -> None:
    torch.manual_seed(seed)
    q, k, v = torch.randn(3, 2, 2, 128, 16)
    tokens = (torch.rand(2, 128) > share).long()
    documents, images = (torch.randint(0, 4, (2, 128)).cumsum(1) // 60 for _ in range(2))
    masks = {
        "documents": partial(document_mask, tokens, END, 16),
        "images": partial(image_mask, documents, images - 1, 16),
        "prefix": partial(prefix_mask, torch.tensor([3, 70]), 128, 16),
    }
    for name, mask in masks.items():
        one, other = attend(q, k, v, mask()), attend(q, k, v, mask(flex=True))
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-5, msg=name)


def test_documents_do_not_change_the_losses_of_those_behind_them() -> None:
    model = build_model(CONFIG, 50, Layout(16), seed=0, end_id=END)
    first, second, third = torch.randint(1, 50, (3, 1, 8))
    first[0, -1] = second[0, -1] = END
    after_one, after_other = (model({"tokens": torch.cat((before, third), 1)})["text"] for before in (first, second))
    torch.testing.assert_close(after_one[:, 8:], after_other[:, 8:])
    assert not torch.equal(after_one[:, :7], after_other[:, :7])
    without_end = first.clone()
    without_end[0, -1] = 7
    assert not torch.allclose(model({"tokens": torch.cat((without_end, third), 1)})["text"][:, 8:], after_one[:, 8:])


def test_one_long_document_is_plain_causal_attention() -> None:
    masked = build_model(CONFIG, 50, Layout(16), seed=0, end_id=END)
    plain = build_model(ModelConfig(width=32, depth=2, head_dim=8), 50, Layout(16), seed=0)
    batch = {"tokens": torch.randint(1, 50, (3, 17))}
    torch.testing.assert_close(masked(batch), plain(batch))


def test_the_mask_is_part_of_what_a_run_is(plan: Callable[..., Plan]) -> None:
    assert plan("model.document_mask=true").run_id != plan().run_id == plan("model.document_mask=false").run_id


@pytest.mark.parametrize(
    ("device", "head_dim", "n_places", "suits"),
    [
        ("cuda", 16, 129, True),
        ("cuda", 128, 1024, True),
        ("cuda", 64, 256, True),
        ("cuda", 96, 2048, True),
        ("cuda", 14, 256, False),  # paper_nmm_small/106m
        ("cuda", 4, 256, False),  # paper_lvm_small
        ("cuda", 16, 64, False),
        ("cuda", 16, 112, False),
        ("cuda", 64, 128, False),  # one block
        ("cpu", 64, 1024, False),
    ],
)
def test_flex_attention_is_used_where_its_kernels_work(device: str, head_dim: int, n_places: int, suits: bool) -> None:
    with FakeTensorMode():
        assert suits_flex(torch.empty(2, n_places, device=device), head_dim) is suits


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch, of itself
def test_a_block_mask_is_compiled_once_for_all_batches() -> None:
    """Where the model around it is not compiled as a whole, its rule is a new closure over each batch."""
    torch._dynamo.reset()
    counters.clear()
    make = torch.compile(create_block_mask, dynamic=False, backend="aot_eager")

    def mask(numbers: torch.Tensor) -> object:
        return make(lambda b, h, q, k: (numbers[b, q] == numbers[b, k]) & (q >= k), 2, None, 256, 256, device="cpu")

    for seed in range(3):
        torch.manual_seed(seed)
        numbers = torch.randint(0, 3, (2, 256)).cumsum(1) // 60
        plain = create_block_mask(
            lambda b, h, q, k, numbers=numbers: (numbers[b, q] == numbers[b, k]) & (q >= k), 2, None, 256, 256, "cpu"
        )
        torch.testing.assert_close(mask(numbers).to_dense(), plain.to_dense())
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize(("capability", "preferred"), [((9, 0), True), ((8, 0), False), ((10, 0), False)])
def test_cudnn_comes_first_on_hopper(
    capability: tuple[int, int], preferred: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    cudnn, before = 3, torch._C._get_sdp_priority_order()
    with kernels_for(torch.device("cuda", 0)):
        order = torch._C._get_sdp_priority_order()
        assert (order[0] == cudnn) is preferred
        assert sorted(order) == sorted(before)
    assert torch._C._get_sdp_priority_order() == before
    assert isinstance(kernels_for(torch.device("cpu")), nullcontext)
