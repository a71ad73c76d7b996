"""The measurements of scripts.check_gpu, each run in its own process: name -> function that returns figures."""

import itertools
import json
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from scripts.gpu_jobs import Row
from scripts.gpu_runs import (
    END_ID,
    FEW_SYMBOLS,
    Bench,
    Shape,
    family_config,
    model_facts,
    random_batch,
    run_until,
)
from train.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from train.config import TrainConfig
from train.distributed import World
from train.footprint import footprint
from train.loop import backward, run
from train.models.attention import attend, document_mask
from train.models.build import build_model, shape_model
from train.models.initial import initialise
from train.models.layers import ffn_width
from train.optim import build_optimizer
from train.parallel import clip_gradients, place, trainable
from train.preflight import check_compiler
from train.state import TrainState, host_stager

HEAD_DIMS, LENGTHS = (16, 64, 128), (64, 256, 1024)
TOLERANCE = 0.02  # relative, between bf16 results of different kernels
N_PROFILED = 3


def measure_compiler(bench: Bench) -> Row:
    """Check that a compiler and Python's headers are installed."""
    import os

    check_compiler(bench.device.type, os.environ)
    return {"ok": True}


def measure_kernels(bench: Bench, head_dim: int) -> Row:
    """Compare outputs and gradients of attention with the models' mask and with FlexAttention to a dense mask.

    A failure of FlexAttention is a figure; a failure of the models' mask is an error.
    """
    cases = []
    for length in LENGTHS[:1] if bench.smoke else LENGTHS:
        tokens = torch.ones(2, length, dtype=torch.int64, device=bench.device)
        tokens[:, length // 3] = END_ID
        dense = document_mask(tokens.cpu(), END_ID, head_dim).to(bench.device)  # type: ignore[union-attr]
        expected = _attended(bench, head_dim, length, dense)
        chosen = _difference(_attended(bench, head_dim, length, document_mask(tokens, END_ID, head_dim)), expected)
        causal = max(float(t.detach().float().abs().max()) for t in _attended(bench, head_dim, length, None))
        case: Row = {"head_dim": head_dim, "length": length, "chosen": chosen, "causal": causal}
        try:
            flex = document_mask(tokens, END_ID, head_dim, flex=True)
            case["flex"] = _difference(_attended(bench, head_dim, length, flex), expected)
        except Exception as error:  # noqa: BLE001 - a compiler may raise anything
            case["flex_fails"] = f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
        cases.append(case)
    worst = max(case["chosen"] for case in cases)
    if not worst < TOLERANCE:
        raise RuntimeError(f"attention with the models' mask differs by {worst:.3g} from a dense mask")
    return {"cases": cases}


def _attended(bench: Bench, head_dim: int, length: int, mask: Any) -> list[Tensor]:
    """Return the output of attention and its three gradients."""
    generator = torch.Generator().manual_seed(head_dim + length)
    shape, dtype = (2, 4, length, head_dim), torch.bfloat16 if bench.device.type == "cuda" else torch.float32
    made = [torch.randn(shape, generator=generator).to(bench.device, dtype).requires_grad_() for _ in range(3)]
    query, key, value = made
    out = attend(query, key, value, mask)
    return [out.detach(), *torch.autograd.grad(out.float().square().mean(), made)]


def _difference(found: list[Tensor], expected: list[Tensor]) -> float:
    """Return the largest difference relative to the norm, over all tensors."""
    pairs = zip(found, expected, strict=True)
    return max(float((a.float() - b.float()).norm() / b.float().norm().clamp(min=1e-30)) for a, b in pairs)


def measure_family(bench: Bench, family: str) -> Row:
    """Train 20 steps compiled and eagerly on the same batches; count graphs and recompilations, compare the losses."""
    n_steps = 4 if bench.smoke else 20
    config = family_config(family, bench.smoke)
    with compiling(bench):
        compiled, graphs = _losses(bench, config, n_steps, compile=True)
    eager, _ = _losses(bench, config, n_steps, compile=False)
    apart = max(abs(a - b) / abs(b) for a, b in zip(compiled, eager, strict=True))
    if not apart < TOLERANCE:
        raise RuntimeError(f"{family}: losses of compiled and eager steps differ by {apart:.2%}")
    return {"family": family, "apart": apart, "loss": compiled[-1]} | graphs


def _losses(bench: Bench, config: TrainConfig, n_steps: int, compile: bool) -> tuple[list[float], Row]:
    """Return the loss of every step, and how much was compiled."""
    machine = replace(config.machine, compile=compile)
    config, world = replace(config, machine=machine), World(0, 1, bench.device)
    model = place(shape_model(config.model, FEW_SYMBOLS, config.layout()), machine, config.precision, world)
    initialise(model, config.model, 0)
    optimizer, called = build_optimizer(model, config.optim, config.model.width), trainable(model, machine, world)
    losses, early = [], 0
    for step in range(n_steps):
        batch = random_batch(config, config.stream.batch_size, FEW_SYMBOLS, seed=step)
        losses.append(float(backward(called, batch, config, world)))
        clip_gradients(model, config.optim.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        early = early if step > 1 else n_graphs()
    broken = sum(torch._dynamo.utils.counters["graph_break"].values())
    return losses, {"graphs": n_graphs(), "recompiled": n_graphs() - early, "graph_breaks": broken}


def n_graphs() -> int:
    """Return how many graphs were compiled in this process."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


@contextmanager
def compiling(bench: Bench) -> Iterator[None]:
    """Reset counters; in a smoke test let torch.compile only trace, which needs no compiler."""
    import torch._dynamo

    torch._dynamo.utils.counters.clear()
    plain = torch.compile
    if bench.smoke:
        torch.compile = lambda model, **_: plain(model, backend="eager")  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.compile = plain


def measure_evaluation(bench: Bench, name: str) -> Row:
    """Train two steps of a batch far above the micro-batch and evaluate; compare peak memory with the estimate."""
    shape = replace(bench.shape(name), n_steps=2, batch_size=bench.shape(name).batch_size * 2)
    few = max(shape.micro_batch // 4, 1)
    plan = bench.plan(shape, f"machine.micro_batch={few}", f"evaluation.n_sequences={shape.batch_size}")
    run(plan)
    needed = footprint(plan.config, shape.vocab_size, 1)
    return {"GB": peak_gb(), "foretold_GB": needed.tensors / 1e9, "batch": shape.batch_size, "micro_batch": few}


def peak_gb() -> float:
    """Return the peak memory of tensors on the GPU [GB]; 0 without a GPU."""
    return torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else 0.0


def measure_ours(
    bench: Bench,
    name: str,
    graphs: bool = False,
    seed: int = 0,
    at_once: int = 1,
    cudnn: bool = True,
    residual: str = "",
    profiled: bool = False,
) -> Row:
    """Return tokens/s of our trainer, and the times at which counted steps ended; parallel runs start together.

    Parameters
    ----------
    cudnn : whether attention may use cuDNN's kernels
    residual : dtype of the residual stream: fp32, or empty for the trainer's bf16
    profiled : whether to profile some steps after the counted ones, for the slowest kernels
    """
    shape = bench.shape(name)
    on_gpu = torch.cuda.is_available()
    plan = bench.plan(shape, f"seed={seed}", f"machine.cuda_graphs={str(graphs and on_gpu).lower()}")
    if not cudnn:
        without_cudnn()
    here, times = bench.folder / f"warm-{name}-{graphs}-{at_once}", list[float]()
    here.mkdir(exist_ok=True)
    last = shape.n_steps - 1  # the last step also evaluates and saves
    profile = torch.profiler.profile() if profiled else None

    def see(step: int, loss: float) -> None:
        times.append(time.time())
        if step == shape.n_skipped:
            (here / str(seed)).touch()
            while len(list(here.iterdir())) < at_once:
                time.sleep(0.01)
        if profile and step == last - N_PROFILED:
            profile.start()
        if profile and step == last:
            profile.stop()

    with residual_of(residual):
        run_until(plan, last, see)
    counted = times[shape.n_skipped : len(times) - N_PROFILED * profiled]
    found = model_facts(plan) | rate(counted, shape) | {"times": times[shape.n_skipped :], "graphs": graphs}
    return found | ({"profile": kernels_of(profile)} if profile else {})


def without_cudnn() -> None:
    """Disable cuDNN's attention kernels in this process."""
    import train.loop

    torch.backends.cuda.enable_cudnn_sdp(False)
    if hasattr(train.loop, "kernels_for"):
        train.loop.kernels_for = lambda device: nullcontext()


@contextmanager
def residual_of(dtype: str) -> Iterator[None]:
    """Cast the input of the first block of every new model to a dtype, which the residual stream keeps."""
    import train.loop

    plain = train.loop.shape_model
    wanted = {"": None, "fp32": torch.float32}[dtype]

    def cast(block: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (inputs[0].to(wanted), *inputs[1:])

    def build(*arguments: Any, **more: Any) -> nn.Module:
        model = plain(*arguments, **more)
        model.blocks[0].register_forward_pre_hook(cast)  # type: ignore[index,union-attr]
        return model

    if wanted:
        train.loop.shape_model = build
    try:
        yield
    finally:
        train.loop.shape_model = plain


def kernels_of(profile: Any, n: int = 8) -> list[Row]:
    """Return the slowest operations, as shares of the total time."""
    on_gpu = torch.cuda.is_available()
    spent = {
        event.key: float(event.self_device_time_total if on_gpu else event.self_cpu_time_total)
        for event in profile.key_averages()
    }
    total = sum(spent.values()) or 1.0
    most = sorted(spent.items(), key=lambda item: -item[1])[:n]
    return [{"name": name[:80], "share": t / total} for name, t in most if t > 0]


def rate(counted: list[float], shape: Shape) -> Row:
    """Return tokens/s from the times at which steps ended."""
    return {"tokens_per_s": shape.tokens_per_step * (len(counted) - 1) / (counted[-1] - counted[0]), "GB": peak_gb()}


def together(found: list[Row], shape: Shape) -> float:
    """Return the total tokens/s of parallel runs while all of them ran; 0 if they did not overlap."""
    start, stop = max(r["times"][0] for r in found), min(r["times"][-1] for r in found)
    steps = sum(sum(start < t <= stop for t in r["times"]) for r in found)
    return shape.tokens_per_step * steps / (stop - start) if stop > start else 0.0


def measure_theirs(bench: Bench, name: str) -> Row:
    """Return tokens/s of a plain loop around LlamaForCausalLM of the same shape."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape, on_gpu, device = bench.shape(name), torch.cuda.is_available(), bench.device
    heads, plan = shape.width // shape.head_dim, bench.plan(shape)
    config = LlamaConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.width,
        intermediate_size=ffn_width(plan.config.model),
        num_hidden_layers=shape.depth,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=shape.seq_len,
        tie_word_embeddings=False,
        attn_implementation="sdpa",
        use_cache=False,
    )
    torch.set_float32_matmul_precision("high")
    model = LlamaForCausalLM(config).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    forward = torch.compile(model) if on_gpu else model
    times = []
    for _ in range(shape.n_steps - 1):
        tokens = torch.randint(shape.vocab_size, (shape.batch_size, shape.seq_len), device=device)
        for part in tokens.split(shape.micro_batch):
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=on_gpu):
                loss = forward(input_ids=part, labels=part).loss
            (loss * len(part) / len(tokens)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()  # a training loop logs its loss
        times.append(time.time())
    return model_facts(plan) | rate(times[shape.n_skipped :], shape)


def measure_synchronisations(bench: Bench, name: str) -> Row:
    """Count synchronisations of CPU and GPU over five steps, by place."""
    shape, first, n = bench.shape(name), 3, 5
    plan = bench.plan(replace(shape, n_steps=first + n + 3))
    places: dict[str, int] = {}

    def see(step: int, loss: float) -> None:
        torch.cuda.set_sync_debug_mode("warn" if first <= step < first + n else "default")

    def note(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
        if "synchroniz" in str(message).lower():
            place = f"{Path(filename).name}:{lineno}"
            places[place] = places.get(place, 0) + 1

    warnings.simplefilter("always")
    warnings.showwarning = note
    run_until(plan, first + n, see)
    return {"per_step": sum(places.values()) / n, "places": places}


def measure_shards(bench: Bench, name: str) -> Row:
    """Train some steps of one-rank FSDP with activation checkpointing, compiled; count graphs."""
    n_steps, shape = 4 if bench.smoke else 8, bench.shape(name)
    if bench.device.type == "cuda":
        torch.cuda.set_device(0)
    kind = "nccl" if bench.device.type == "cuda" else "gloo"
    dist.init_process_group(kind, store=dist.HashStore(), rank=0, world_size=1)
    more = ["machine.parallel=fsdp", "machine.activation_checkpointing=true", "precision=bf16"]
    config = bench.plan(replace(shape, batch_size=2 * shape.micro_batch), *more).config
    with compiling(bench):
        losses, graphs = _losses(bench, config, n_steps, compile=True)
    dist.destroy_process_group()
    if not graphs["graphs"]:
        raise RuntimeError("FSDP with activation checkpointing compiled nothing: 0 graphs")
    return {"first": losses[0], "last": losses[-1], "GB": peak_gb()} | graphs


def measure_checkpoint(bench: Bench, name: str) -> Row:
    """Return the seconds that saving, verifying and loading a checkpoint take, and a copy to host memory,
    the only part that blocks training when it saves in the background."""
    shape = bench.shape(name)
    plan = bench.plan(shape)
    model = build_model(plan.config.model, shape.vocab_size, plan.config.layout(), 0).to(bench.device)
    state = TrainState(model, build_optimizer(model, plan.config.optim, shape.width))
    folder, stager = bench.folder / "checkpoints", host_stager(bench.device)
    state.copy_to_host(stager)  # allocates the memory, once per run
    moments = [time.perf_counter()]
    state.copy_to_host(stager)
    moments.append(time.perf_counter())
    save_checkpoint(folder, 1, state, {}, keep=1)
    moments.append(time.perf_counter())
    newest = newest_checkpoint(folder)
    moments.append(time.perf_counter())
    if newest is None:
        raise RuntimeError(f"{folder} has no complete checkpoint")
    load_checkpoint(newest, state)
    moments.append(time.perf_counter())
    copy_s, save_s, verify_s, load_s = (b - a for a, b in itertools.pairwise(moments))
    return {"GB": state.n_bytes / 1e9, "copy_s": copy_s, "save_s": save_s, "verify_s": verify_s, "load_s": load_s}


def measure_resume(bench: Bench, name: str) -> Row:
    """Stop a run after a checkpoint, resume it, and compare its end with that of an uninterrupted run."""
    shape = replace(bench.shape(name), n_steps=6)
    more = ["checkpoint.every_steps=2", "logging.every_steps=1", "evaluation.n_sequences=4"]
    whole = bench.plan(shape, *more, f"machine.runs={bench.folder / 'whole'}")
    broken = bench.plan(shape, *more, f"machine.runs={bench.folder / 'broken'}")
    run(whole)
    run_until(broken, 5, lambda step, loss: None)
    run(broken)
    a, b = (_rows(Path(plan.config.machine.runs) / plan.folder_name) for plan in (whole, broken))
    apart = max(abs(x["loss"] - y["loss"]) / abs(x["loss"]) for x, y in zip(a, b, strict=True))
    if not apart < TOLERANCE:
        raise RuntimeError(f"losses of a resumed run differ by {apart:.2%}")
    seal = json.loads((Path(whole.config.machine.runs) / whole.folder_name / "done.json").read_text())
    return {"apart": apart, "data_wait_s": seal["data_wait_s"], "wall_s": seal["wall_s"]}


def _rows(folder: Path) -> list[Row]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


MEASURES: dict[str, Callable[..., Row]] = {
    "compiler": measure_compiler,
    "kernels": measure_kernels,
    "family": measure_family,
    "evaluation": measure_evaluation,
    "ours": measure_ours,
    "theirs": measure_theirs,
    "synchronisations": measure_synchronisations,
    "shards": measure_shards,
    "checkpoint": measure_checkpoint,
    "resume": measure_resume,
}
