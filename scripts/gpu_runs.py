"""python -m scripts.bench_gpu [--minutes 9] [--json runs/bench_gpu.json] [--smoke]: what this trainer makes of one GPU.

    models    tokens/s and MFU of train.loop.run at 125M, 350M and 1B parameters, bf16, compiled, beside the same Llama
              in plain transformers (compiled, autocast, fused AdamW); and the share of the time that data were waited
              for
    checkpoint  seconds to save, verify and load a checkpoint of 350M parameters with its optimizer
    tiny      tokens/s of 1 to 16 runs of 1M and 10M parameters at once, against one after another

MFU counts 6 FLOPs a matrix parameter and attention over all positions (PaLM, Chowdhery et al. 2022, appendix B) against
the dense bf16 peak of the GPU's data sheet. No network; random tokens. Every measurement is a process of its own, so
that one that runs out of memory costs one row. Each part has its share of the time; what does not fit is left out with
a line that says so, and the JSON file holds what is known so far. --smoke runs all of it in tiny shapes on any machine,
to see that it runs.
"""

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import torch

from data.shards import SPLITS, open_manifest, token_dtype, write_manifest, write_split
from scripts.bench_jobs import Row, Runner, say
from train.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from train.compose import compose_config
from train.loop import run
from train.models.build import FAMILIES, build_model
from train.models.count import count_parameters, flops_per_token
from train.models.layers import ffn_width
from train.optim import build_optimizer
from train.peaks import peak_of
from train.plan import Plan, make_plan
from train.state import TrainState

VOCAB, END_ID = 50_432, 0


@dataclass(frozen=True)
class Shape:
    """A model, its batch, and how many steps are counted after those that compile."""

    width: int
    depth: int
    head_dim: int
    seq_len: int
    batch_size: int
    micro_batch: int
    n_steps: int = 20
    n_skipped: int = 6
    vocab_size: int = VOCAB

    @property
    def tokens_per_step(self) -> int:
        return self.seq_len * self.batch_size


SHAPES = {
    "125M": Shape(640, 12, 64, 2048, 64, 16, n_steps=30),
    "350M": Shape(1024, 20, 64, 2048, 64, 16, n_steps=16),
    "1B": Shape(1792, 22, 128, 2048, 32, 8, n_steps=14, n_skipped=4),
    "1M": Shape(128, 4, 32, 256, 64, 64, n_steps=300, n_skipped=60, vocab_size=1024),
    "10M": Shape(384, 5, 64, 256, 64, 64, n_steps=200, n_skipped=60, vocab_size=1024),
}
SMOKE = {
    name: Shape(32, 1, 16, 16, 4, 2, n_steps=8, n_skipped=3, vocab_size=1024 if name in ("1M", "10M") else VOCAB)
    for name in SHAPES
}


class Enough(Exception):
    """All that is measured was seen."""


@dataclass(frozen=True)
class Bench:
    """Where it runs, and how much of it."""

    folder: Path
    smoke: bool

    def shape(self, name: str) -> Shape:
        """Return the shape of that name."""
        return (SMOKE if self.smoke else SHAPES)[name]

    def plan(self, shape: Shape, compiled: bool, graphs: bool, seed: int = 0) -> Plan:
        """Return a run of ours on random tokens."""
        on_gpu = torch.cuda.is_available()
        config = compose_config(
            [
                f"model.width={shape.width}", f"model.depth={shape.depth}", f"model.head_dim={shape.head_dim}",
                "model.qk_norm=false", f"stream.seq_len={shape.seq_len}", f"stream.batch_size={shape.batch_size}",
                f"schedule.n_tokens={shape.n_steps * shape.tokens_per_step}", "schedule.warmup_tokens=0",
                "evaluation.n_points=1", "evaluation.n_sequences=1", "checkpoint.every_steps=1000000",
                "stream.max_epochs=1e9", "mixture.weights={noise:1}", f"seed={seed}", "optim.lr=1e-4",
                f"precision={'bf16' if on_gpu else 'fp32'}", f"machine.runs={self.folder / 'runs'}",
                f"machine.micro_batch={shape.micro_batch}", f"machine.compile={str(compiled and on_gpu).lower()}",
                f"machine.cuda_graphs={str(graphs and on_gpu).lower()}", "machine.workers=2",
            ]
        )  # fmt: skip
        return make_plan(config, open_manifest(self.folder / f"tokens-{shape.vocab_size}"))


def write_tokens(folder: Path, vocab_size: int, n_tokens: int) -> None:
    """Write a prepared folder of random tokens."""
    tokens = np.random.default_rng(0).integers(1, vocab_size, n_tokens, dtype=np.uint16)
    parts = {"train": tokens, "eval": tokens[:10_000], "test": tokens[:10_000]}
    splits = {s: write_split(folder / "noise", s, [parts[s]], token_dtype(vocab_size)) for s in SPLITS}
    tokenizer = {"kind": "bytes", "vocab_size": vocab_size, "end_id": END_ID, "sha256": "0" * 64}
    domains = {"noise": {"role": "train", "splits": splits}}
    write_manifest(folder, {"format": 1, "tokenizer": tokenizer, "domains": domains})


def measure_ours(bench: Bench, name: str, graphs: bool = False, seed: int = 0, at_once: int = 1) -> Row:
    """Return tokens/s of a run of ours, and when its counted steps ended; runs that go at once wait for each other."""
    shape = bench.shape(name)
    plan, times = bench.plan(shape, True, graphs, seed), list[float]()
    here = bench.folder / f"warm-{name}-{graphs}-{at_once}"
    here.mkdir(exist_ok=True)

    def progress(n_tokens: int, loss: float) -> None:
        times.append(time.time())
        if len(times) == shape.n_skipped:
            (here / str(seed)).touch()
            while len(list(here.iterdir())) < at_once:
                time.sleep(0.01)
        if len(times) == shape.n_steps - 1:  # before the last: no evaluation, no checkpoint
            raise Enough

    try:
        run(plan, progress)
    except Enough:
        pass
    return model_facts(plan) | rate(times, shape) | {"times": times[shape.n_skipped :]}


def model_facts(plan: Plan) -> Row:
    """Return the parameters and the FLOPs per token of a run's model."""
    config = plan.config
    with torch.device("meta"):  # without values
        model = FAMILIES[config.model.family](config.model, plan.manifest.vocab_size, config.layout())
    counts = count_parameters(model)
    return {
        "n_params": counts["total"],
        "palm": flops_per_token(plan.config.model, counts, plan.config.stream.seq_len)["palm"],
    }


def rate(times: list[float], shape: Shape) -> Row:
    """Return tokens/s from the moments at which steps ended."""
    counted = times[shape.n_skipped :]
    memory = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
    return {"tokens_per_s": shape.tokens_per_step * (len(counted) - 1) / (counted[-1] - counted[0]), "GiB": memory}


def measure_theirs(bench: Bench, name: str) -> Row:
    """Return tokens/s of a plain loop around LlamaForCausalLM of the same shape."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape, on_gpu = bench.shape(name), torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    heads = shape.width // shape.head_dim
    model_config = bench.plan(shape, False, False).config.model
    config = LlamaConfig(
        vocab_size=shape.vocab_size, hidden_size=shape.width, intermediate_size=ffn_width(model_config),
        num_hidden_layers=shape.depth, num_attention_heads=heads, num_key_value_heads=heads,
        max_position_embeddings=shape.seq_len, tie_word_embeddings=False, attn_implementation="sdpa", use_cache=False,
    )  # fmt: skip
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
        loss.item()  # as a loop that logs its loss
        times.append(time.time())
    return rate(times, shape)


def measure_data_wait(bench: Bench, name: str) -> Row:
    """Return the seconds that a whole run waited for data, its first batch among them, and those that it took."""
    shape = bench.shape(name)
    plan = bench.plan(replace(shape, n_steps=4 * shape.n_steps), True, False)
    run(plan)
    seal = json.loads((Path(plan.config.machine.runs) / plan.folder_name / "done.json").read_text())
    return {"data_wait_s": seal["data_wait_s"], "wall_s": seal["wall_s"]}


def measure_checkpoint(bench: Bench, name: str) -> Row:
    """Return the seconds that saving, verifying and loading a checkpoint take."""
    shape = bench.shape(name)
    plan = bench.plan(shape, False, False)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build_model(plan.config.model, shape.vocab_size, plan.config.layout(), 0).to(device)
    state = TrainState(model, build_optimizer(model, plan.config.optim, shape.width))
    folder, moments = bench.folder / "checkpoints", [time.perf_counter()]
    save_checkpoint(folder, 1, state, {}, keep=1)
    moments.append(time.perf_counter())
    newest = newest_checkpoint(folder)
    moments.append(time.perf_counter())
    assert newest is not None
    load_checkpoint(newest, state)
    moments.append(time.perf_counter())
    save_s, verify_s, load_s = (b - a for a, b in itertools.pairwise(moments))
    return {"GB": state.n_bytes / 1e9, "save_s": save_s, "verify_s": verify_s, "load_s": load_s}


MEASURES: dict[str, Callable[..., Row]] = {
    "ours": measure_ours, "theirs": measure_theirs, "data_wait": measure_data_wait, "checkpoint": measure_checkpoint,
}  # fmt: skip


def together(found: list[Row], shape: Shape) -> float:
    """Return the tokens/s of all runs in the time in which all of them ran; 0 where there is no such time."""
    start, stop = max(r["times"][0] for r in found), min(r["times"][-1] for r in found)
    steps = sum(sum(start < t <= stop for t in r["times"]) for r in found)
    return shape.tokens_per_step * steps / (stop - start) if stop > start else 0.0


def bench_models(go: Runner, bench: Bench, peak: float | None) -> list[str]:
    """Measure the three sizes beside transformers; return the table."""
    lines = [f"{'model':<8}{'N':>12}{'tokens/s':>12}{'MFU':>8}{'transformers':>14}{'MFU':>8}{'GiB':>7}"]
    for name in ("125M",) if bench.smoke else ("125M", "350M", "1B"):
        ours = next(iter(go(f"{name}, ours", {"what": "ours", "name": name})), None)
        theirs = next(iter(go(f"{name}, transformers", {"what": "theirs", "name": name})), None)
        go.note({"model": name, "ours": ours and {k: v for k, v in ours.items() if k != "times"}, "theirs": theirs})
        n_params, palm = (ours["n_params"], ours["palm"]) if ours else (0, 0.0)
        cells = [f"{name:<8}{n_params:>12,}"]
        for side, width in ((ours, 12), (theirs, 14)):
            speed = side["tokens_per_s"] if side else None
            cells.append(f"{speed:>{width},.0f}" if speed else f"{'-':>{width}}")
            cells.append(f"{speed * palm / peak:>8.1%}" if speed and peak and palm else f"{'-':>8}")
        lines.append("".join(cells) + (f"{ours['GiB']:>7.1f}" if ours else ""))
    return lines


def bench_tiny(go: Runner, bench: Bench, peak: float | None) -> list[str]:
    """Measure small runs at once against one after another; return the table."""
    lines = [f"{'tiny runs':<12}{'at once':>8}{'graphs':>8}{'tokens/s':>14}{'of one alone':>14}"]
    cases = [(False, 1), (True, 1), (False, 16), (True, 16), (True, 4), (False, 4), (True, 8), (False, 8)]
    for name in ("1M",) if bench.smoke else ("1M", "10M"):
        alone = 0.0
        for graphs, n in [(False, 1), (True, 2)] if bench.smoke else cases:
            jobs = [{"what": "ours", "name": name, "graphs": graphs, "seed": seed, "at_once": n} for seed in range(n)]
            found = go(f"{name} x {n}{' with graphs' * graphs}", *jobs)
            speed = together(found, bench.shape(name)) if found else 0.0
            alone = speed if (graphs, n) == (False, 1) else alone
            go.note({"tiny": name, "at_once": n, "graphs": graphs, "tokens_per_s": speed or None})
            cells = (f"{speed:,.0f}" if speed else "-", f"{speed / alone:.2f}" if speed and alone else "-")
            lines.append(f"{name:<12}{n:>8}{'yes' if graphs else 'no':>8}{cells[0]:>14}{cells[1]:>14}")
    return lines


def bench_rest(go: Runner, bench: Bench, peak: float | None) -> list[str]:
    """Measure checkpoints and the wait for data; return the lines."""
    lines = []
    if found := go("checkpoint of 350M", {"what": "checkpoint", "name": "350M"}):
        row = found[0]
        times = ", ".join(
            f"{key.removesuffix('_s')} {row[key]:.1f} s ({row['GB'] / row[key]:.1f} GB/s)"
            for key in ("save_s", "verify_s", "load_s")
        )
        lines.append(f"checkpoint of 350M, {row['GB']:.1f} GB: {times}")
        go.note({"checkpoint": "350M"} | row)
    if found := go("data wait at 125M", {"what": "data_wait", "name": "125M"}):
        waited, took = found[0]["data_wait_s"], found[0]["wall_s"]
        share = f"{waited:.1f} s of a whole run of {took:.1f} s ({waited / took:.1%})"
        lines.append(f"data wait at 125M: {share}, first batch and compilation included, 2 processes read ahead")
        go.note({"data_wait": "125M"} | found[0])
    return lines


PARTS = {0.62: bench_models, 0.72: bench_rest, 1.0: bench_tiny}  # until which share of the time


def gpu_name() -> str:
    """Return the GPU's name, or what there is in its place."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


def main(argv: list[str] | None = None) -> int:
    """Measure all and print the table last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--json", type=Path, default=Path("runs/bench_gpu.json"))
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if options.one:
        what = options.one.pop("what")
        print(json.dumps(MEASURES[what](Bench(options.folder, options.smoke), **options.one)))
        return 0
    if not (torch.cuda.is_available() or options.smoke):
        say("error: torch sees no GPU here; --smoke runs the same in tiny shapes")
        return 2
    peak = peak_of(gpu_name())
    stated = f"peak {peak / 1e12:.1f} TFLOP/s bf16 dense" if peak else "peak unknown: no MFU"
    head = f"{date.today()}, {gpu_name()}, torch {torch.__version__}, {stated}{', SMOKE: no figures' * options.smoke}"
    options.json.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(Path(temporary), options.smoke)
        command = [sys.executable, "-m", "scripts.bench_gpu", "--folder", temporary, *["--smoke"] * bench.smoke]
        go = Runner(command, options.minutes, options.json, {"machine": head, "peak": peak})
        for vocab_size in (VOCAB, 1024):
            write_tokens(bench.folder / f"tokens-{vocab_size}", vocab_size, 100_000 if bench.smoke else 20_000_000)
        lines = [head]
        for share, part in PARTS.items():
            go.until(share)
            lines += part(go, bench, peak)
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
