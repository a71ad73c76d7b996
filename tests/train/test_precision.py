"""One arithmetic: what is computed in which type does not depend on how a model lies on its ranks."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from data.stream.items import IGNORED, Layout
from data.stream.views import View
from mixlaw.runs.log import read_facts
from tests.marks import slow
from tests.train.ranks import on_ranks, run_ranks
from tests.train.tiny import image_run
from train.config import MachineConfig, ModelConfig, TrainConfig
from train.distributed import ALONE, join_world, leave_world
from train.loop import backward, run
from train.models.build import build_model, shape_model
from train.models.initial import initialise
from train.parallel import place, trainable
from train.plan import Plan
from train.precision import ARITHMETIC, VERSIONS, arithmetic, set_matrix_products

Tiny = Callable[..., list[str]]
Plans = Callable[..., Plan]
FAMILIES = ("text", "multimodal", "vision")
LAYOUTS = {
    "text": Layout(16),
    "multimodal": Layout(32, "multimodal", 16, View(32)),
    "vision": Layout(20, "vision", 16, View(32)),
}
MODELS = {f: ModelConfig(f, width=32, depth=2, head_dim=8, patch_size=16, decoder_depth=1) for f in FAMILIES}


def batch_of(family: str, n: int) -> dict[str, torch.Tensor]:
    """Return n sequences that a model of the family can read; tokens repeat often."""
    generator = torch.Generator().manual_seed(1)
    layout = LAYOUTS[family]
    images = torch.randint(0, 255, (n, 1, 32, 32, 3), generator=generator, dtype=torch.uint8)
    if family == "text":
        return {"tokens": torch.randint(0, 5, (n, layout.seq_len + 1), generator=generator)}
    if family == "multimodal":
        tokens = torch.randint(0, 5, (n, layout.seq_len), generator=generator)
        patch = torch.full_like(tokens, -1)
        patch[:, 3:7] = torch.arange(4)
        tokens[:, 3:7] = IGNORED
        return {"tokens": tokens, "document": torch.zeros_like(tokens), "patch": patch, "images": images}
    tokens = torch.randint(0, 5, (n, layout.seq_len - layout.n_patches), generator=generator)
    return {"tokens": tokens, "images": images[:, 0], "prefix": torch.ones(n, dtype=torch.int64)}


def one_step(rank: int, family: str, parallel: str, micro_batch: int, compiled: bool) -> dict[str, Any]:
    """Return the loss of a batch of four sequences and every gradient, as all ranks have them together."""
    world = join_world("cpu")
    machine = MachineConfig(parallel=parallel, micro_batch=micro_batch, compile=compiled)
    config = TrainConfig(precision="bf16", model=MODELS[family], machine=machine)
    model = place(shape_model(config.model, 50, LAYOUTS[family]), machine, "bf16", world)
    initialise(model, config.model, 0)
    share = {name: values[world.rank :: world.size] for name, values in batch_of(family, 4).items()}
    loss = world.total(backward(trainable(model, machine, world), share, config, world))
    gradients = {}
    for name, p in model.named_parameters():
        assert p.grad is not None
        assert p.grad.dtype == torch.float32
        gradients[name] = getattr(p.grad, "full_tensor", lambda p=p: p.grad)().tolist()
    leave_world()
    return {"loss": float(loss), "gradients": gradients}


@pytest.mark.parametrize("family", [slow("text"), "multimodal", slow("vision")])
def test_bf16_is_one_arithmetic_for_one_process_ddp_and_fsdp(family: str) -> None:
    """Sequence by sequence, the gradients that are summed are the same bits: only the order of fp32 sums differs."""
    [alone] = on_ranks(1, one_step, family, "ddp", 1, False)
    ddp, _ = on_ranks(2, one_step, family, "ddp", 1, False)
    fsdp, _ = on_ranks(2, one_step, family, "fsdp", 1, False)
    assert fsdp == ddp  # of two ranks even that is the same
    assert ddp["loss"] == pytest.approx(alone["loss"], rel=1e-6)
    for name, gradient in alone["gradients"].items():
        one, two = torch.tensor(gradient), torch.tensor(ddp["gradients"][name])
        assert float((one - two).norm()) <= 1e-5 * float(one.norm()), name


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_whole_runs_in_bf16_agree_on_ddp_and_fsdp(family: str, tiny: Tiny, tmp_path: Path) -> None:
    """The norm of a gradient is summed in another order, so clipping, which uses it, is left out."""
    common = ["precision=bf16", "optim.clip=1e9"]
    logs = {}
    for parallel in ("ddp", "fsdp"):
        runs = tmp_path / parallel
        own = [*common, f"machine.parallel={parallel}", f"machine.runs={runs}"]
        overrides = tiny(*own) if family == "text" else image_run(tmp_path, family, *own)
        assert run_ranks(2, overrides) == ["finished"] * 2
        [log] = runs.glob("*/*/metrics.jsonl")
        logs[parallel] = [json.loads(line) for line in log.read_text().splitlines()]
    for a, b in zip(logs["ddp"], logs["fsdp"], strict=True):
        assert b.pop("grad_norm", 0) == pytest.approx(a.pop("grad_norm", 0), rel=1e-6)
        assert a == b


class Types(TorchDispatchMode):
    """Notes the types that operations of some names read and return."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names, self.seen = names, {name: set() for name in names}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in self.names and isinstance(result, torch.Tensor):
            self.seen[name] |= {a.dtype for a in args if isinstance(a, torch.Tensor)} | {result.dtype}
        return result


@pytest.mark.parametrize(("precision", "expected"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_the_arithmetic_is_what_run_json_states(precision: str, expected: torch.dtype) -> None:
    model = build_model(MODELS["text"], 50, LAYOUTS["text"], seed=0)
    streams: list[torch.dtype] = []
    for block in model.blocks:
        block.register_forward_hook(lambda module, inputs, output: streams.extend([inputs[0].dtype, output.dtype]))
        block.register_forward_pre_hook(lambda module, inputs: streams.append(inputs[0].dtype))
    config = TrainConfig(precision=precision, model=MODELS["text"])
    with Types("mm", "_log_softmax", "rsqrt", "cos") as types:
        backward(model, batch_of("text", 2), config, ALONE)
    assert set(streams) == {expected}
    assert types.seen["mm"] == {expected}
    assert types.seen["_log_softmax"] == {torch.float32}
    stated = arithmetic(precision)
    assert stated["residual_stream"] == stated["matrix_products"].partition(",")[0] == precision
    assert stated["norms"] == stated["rotary"] == stated["losses"] == stated["gradient_sums"] == "fp32"


def test_fp32_is_exact_and_tf32_has_a_name_of_its_own(plan: Plans) -> None:
    before = torch.get_float32_matmul_precision()
    try:
        for precision, expected in (("tf32", "high"), ("fp32", "highest"), ("bf16", "highest")):
            torch.set_float32_matmul_precision("high")  # what another run of this process may have left
            run(plan(f"precision={precision}"))
            assert torch.get_float32_matmul_precision() == expected
            set_matrix_products(precision)
            assert torch.get_float32_matmul_precision() == expected
    finally:
        torch.set_float32_matmul_precision(before)
    assert len({plan(f"precision={name}").run_id for name in ARITHMETIC}) == 3


def test_every_precision_has_an_arithmetic_and_a_version(plan: Plans) -> None:
    assert set(ARITHMETIC) == set(VERSIONS) == {"fp32", "tf32", "bf16"}
    for name in ARITHMETIC:
        this = plan(f"precision={name}")
        run(this)
        assert read_facts(Path(this.config.machine.runs) / this.folder_name)["arithmetic"] == arithmetic(name)


def test_weights_of_norms_are_rounded_as_all_weights_are() -> None:
    """Otherwise a sharded model, whose weights are gathered in bf16, would compute another loss."""
    model = build_model(MODELS["text"], 50, LAYOUTS["text"], seed=0)
    config = TrainConfig(precision="bf16", model=MODELS["text"])
    with torch.no_grad():
        for norm in (m for m in model.modules() if isinstance(m, nn.RMSNorm)):
            norm.weight.add_(0.01 * torch.randn(norm.weight.shape, generator=torch.Generator().manual_seed(0)))
    first = backward(model, batch_of("text", 2), config, ALONE)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(p.bfloat16().float())
    assert torch.equal(backward(model, batch_of("text", 2), config, ALONE), first)


BEFORE = (
    "ca1fc0792ca4",
    {  # run and last losses of the tiny run in fp32, before bf16 had another arithmetic
        "code": 2.4356826,
        "docs": 3.6348251,
        "dict": 3.3548694,
        "dialogue": 3.3102660,
        "reviews": 7.6561430,
    },
)


def test_a_run_of_before_keeps_its_name_and_losses_in_fp32_only(plan: Plans) -> None:
    """bf16 of one process had its residual stream in fp32: its losses are others now, and so is the run."""
    this = plan()
    run(this)
    log = Path(this.config.machine.runs) / this.folder_name / "metrics.jsonl"
    last = [row for row in map(json.loads, log.read_text().splitlines()) if row["kind"] == "eval" and row["step"] == 12]
    assert this.run_id == BEFORE[0]
    assert {row["domain"]: row["loss"] for row in last} == pytest.approx(BEFORE[1], rel=1e-5)  # on any CPU
    assert (VERSIONS["fp32"], VERSIONS["bf16"]) == (1, 2)
