"""python -m scripts.check_gpu [--minutes 10] [--json runs/check_gpu.json] [--smoke]: check everything on this GPU.

    kernels      the compiler, and attention at head_dim 16, 64, 128 and length 64, 256, 1024 against a dense mask
    families     text, multimodal, vision: 20 compiled steps in bf16; graph breaks, recompilations, eager losses
    evaluation   a batch far above the micro-batch: peak memory against the estimate of train.memory
    speed        tokens/s, MFU and the longest kernels at 1B, 350M and 125M parameters; without cuDNN's attention, with
                 a residual stream in fp32; the same Llama in plain transformers last
    waiting      number and places of synchronisations of CPU and GPU in a step
    shards       FSDP on one rank with activation checkpointing, compiled: number of graphs
    tiny         runs of 10M parameters, 1 to 16 at once, with and without CUDA graphs
    saving       seconds to copy, save, verify and load a checkpoint; resuming of a stopped run

MFU counts 6 FLOPs a matrix parameter and attention over all positions (PaLM, Chowdhery et al. 2022, appendix B) against
the dense bf16 peak of the GPU's data sheet. Data are random tokens; no network is needed. Every measurement runs in its
own process and every step has its own time limit, so that one that hangs or runs out of memory loses only its own rows.
The JSON file is updated after every measurement. --smoke runs everything that needs no CUDA, in tiny shapes, on any
machine. Exit code 1: a step failed.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch

from mixlaw.errors import MixlawError
from scripts.gpu_jobs import Row, Runner, say
from scripts.gpu_measures import HEAD_DIMS, MEASURES, together
from scripts.gpu_runs import FAMILIES, Bench
from train.peaks import peak_of

GOALS = {"1B": 0.55, "350M": 0.50, "125M": 0.40}  # MFU on one H100 or H200
GOAL_TINY = 5.0  # tokens/s of many runs at once over those of one alone
Lines = list[str]
Part = Callable[[Runner, Bench, float | None], Lines]


@dataclass(frozen=True)
class Step:
    """A step of the check: its share of the time, and its requirements."""

    name: str
    share: float
    part: Part
    needs_cuda: bool = False


def check_kernels(go: Runner, bench: Bench, peak: float | None) -> Lines:
    """Return a line for each head_dim and length."""
    if not go("compiler", {"what": "compiler"}) and not bench.smoke:
        return []
    lines = []
    for head_dim in HEAD_DIMS[:1] if bench.smoke else HEAD_DIMS:
        for found in go(f"attention, head_dim {head_dim}", {"what": "kernels", "head_dim": head_dim}):
            for case in found["cases"]:
                go.note({"kernels": case})
                flex = f"{case['flex']:.1e}" if "flex" in case else case["flex_fails"]
                place = f"head_dim {case['head_dim']:>3}, {case['length']:>4} places"
                lines.append(f"{place}: mask as models choose {case['chosen']:.1e} from dense, FlexAttention {flex}")
    return lines


def check_families(go: Runner, bench: Bench, peak: float | None) -> Lines:
    """Return a line for each family."""
    lines = []
    for family in FAMILIES:
        for row in go(family, {"what": "family", "family": family}):
            go.note({"family": family} | row)
            counts = f"{row['graphs']} graphs, {row['graph_breaks']} graph breaks, {row['recompiled']} recompilations"
            lines.append(f"{family}: {counts}; losses at most {row['apart']:.2%} from eager")
    return lines


def check_evaluation(go: Runner, bench: Bench, peak: float | None) -> Lines:
    """Return the measured and the estimated peak memory."""
    lines = []
    for row in go("evaluation of 125M", {"what": "evaluation", "name": "125M"}):
        go.note({"evaluation": "125M"} | row)
        what = f"batch {row['batch']}, micro-batch {row['micro_batch']}"
        lines.append(f"evaluation of 125M, {what}: {row['GB']:.1f} GB at most, foretold {row['foretold_GB']:.1f}")
    return lines


VARIANTS: dict[str, Row] = {
    "no cuDNN attention": {"cudnn": False},
    "fp32 residual": {"residual": "fp32"},
}


def check_speed(go: Runner, bench: Bench, peak: float | None) -> Lines:
    """Return a table of tokens/s and MFU, ours first, and the longest kernels."""
    lines = [f"{'model':<28}{'N':>14}{'tokens/s':>12}{'MFU':>8}{'GB':>7}"]
    names = ("125M",) if bench.smoke else tuple(GOALS)
    jobs: list[tuple[str, str, Row]] = [(n, f"{n}, ours", {"what": "ours", "name": n, "profiled": True}) for n in names]
    jobs += [(names[-1], f"{names[-1]}, {v}", {"what": "ours", "name": names[-1], **o}) for v, o in VARIANTS.items()]
    jobs += [(n, f"{n}, transformers", {"what": "theirs", "name": n}) for n in reversed(names)]
    for name, label, job in jobs:
        for row in go(label, job):
            mfu = row["tokens_per_s"] * row["palm"] / peak if peak else None
            kept = {k: v for k, v in row.items() if k != "times"}
            go.note({"model": name, "label": label, "mfu": mfu} | kept)
            lines.append(
                f"{label:<28}{row['n_params']:>14,}{row['tokens_per_s']:>12,.0f}"
                + (f"{mfu:>8.1%}" if mfu else f"{'-':>8}")
                + f"{row['GB']:>7.1f}"
                + (goal(mfu, GOALS[name]) if "ours" in label and mfu else "")
            )
            lines += [f"    {k['share']:>6.1%}  {k['name']}" for k in row.get("profile", [])[:5]]
    return lines


def goal(found: float, least: float) -> str:
    """Return a text that states whether a goal is met."""
    return f"  goal {least:.0%}: {'met' if found >= least else 'missed'}"


def check_waiting(go: Runner, bench: Bench, peak: float | None) -> Lines:
    """Return the number and places of synchronisations in a step."""
    lines = []
    for row in go("synchronisations at 125M", {"what": "synchronisations", "name": "125M"}):
        go.note({"synchronisations": "125M"} | row)
        places = ", ".join(f"{place} {n}" for place, n in row["places"].items()) or "nowhere"
        lines.append(f"the CPU waits for the GPU {row['per_step']:.1f} times a step: {places}")
    return lines


def check_shards(go: Runner, bench: Bench, peak: float | None) -> Lines:
    """Return the number of graphs of compiled FSDP with activation checkpointing."""
    lines = []
    for row in go("FSDP of one rank at 350M", {"what": "shards", "name": "350M"}):
        go.note({"shards": "350M"} | row)
        counts = f"{row['graphs']} graphs, {row['graph_breaks']} graph breaks, {row['recompiled']} recompilations"
        lines.append(f"FSDP, checkpointing, compiled, one rank, 350M: {counts}, {row['GB']:.1f} GB")
    return lines


def check_tiny(go: Runner, bench: Bench, peak: float | None) -> Lines:
    """Return tokens/s of several small runs at once and of one alone."""
    lines = [f"{'10M runs at once':<20}{'graphs':>8}{'tokens/s':>14}{'of one alone':>14}"]
    alone, best = 0.0, 0.0
    for graphs, n in [(False, 1), (True, 2)] if bench.smoke else [(False, 1), (True, 1), (True, 16), (False, 16)]:
        jobs = [{"what": "ours", "name": "10M", "graphs": graphs, "seed": seed, "at_once": n} for seed in range(n)]
        found = go(f"10M x {n}{' with graphs' * graphs}", *jobs)
        speed = together(found, bench.shape("10M")) if found else 0.0
        alone = speed if (graphs, n) == (False, 1) else alone
        best = max(best, speed / alone if alone else 0.0)
        go.note({"tiny": "10M", "at_once": n, "graphs": graphs, "tokens_per_s": speed or None})
        cells = (f"{speed:,.0f}" if speed else "-", f"{speed / alone:.2f}" if speed and alone else "-")
        lines.append(f"{n:<20}{'yes' if graphs else 'no':>8}{cells[0]:>14}{cells[1]:>14}")
    return [*lines, f"{best:.1f} times one alone;{goal(best, GOAL_TINY)}"] if best else lines


def check_saving(go: Runner, bench: Bench, peak: float | None) -> Lines:
    """Return the times of a checkpoint, and whether a resumed run ends as an uninterrupted one."""
    lines = []
    for row in go("resuming 125M", {"what": "resume", "name": "125M"}):
        go.note({"resume": "125M"} | row)
        lines.append(f"a run of 125M that was stopped and resumed: losses {row['apart']:.1e} from one left alone")
    for row in go("checkpoint of 350M", {"what": "checkpoint", "name": "350M"}):
        go.note({"checkpoint": "350M"} | row)
        keys = ("copy_s", "save_s", "verify_s", "load_s")
        times = ", ".join(f"{k.removesuffix('_s')} {row[k]:.1f} s ({row['GB'] / row[k]:.1f} GB/s)" for k in keys)
        lines.append(f"checkpoint of 350M, {row['GB']:.1f} GB: {times}")
    return lines


STEPS = (
    Step("kernels", 0.10, check_kernels),
    Step("families", 0.17, check_families),
    Step("evaluation", 0.06, check_evaluation),
    Step("speed", 0.36, check_speed),
    Step("waiting", 0.04, check_waiting, needs_cuda=True),
    Step("shards", 0.06, check_shards),
    Step("tiny", 0.12, check_tiny),
    Step("saving", 0.07, check_saving),
)


def gpu_name() -> str:
    """Return the name of the GPU, or of the device used instead."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


def take(step: Step, go: Runner, bench: Bench, peak: float | None) -> tuple[Lines, bool]:
    """Run a step within its time; return its lines, including errors, and whether it succeeded."""
    if step.needs_cuda and not torch.cuda.is_available():
        go.note({"step": step.name, "status": "skipped: needs CUDA"})
        return [f"== {step.name}: skipped, it needs CUDA"], True
    say(f"== {step.name}")
    go.within(step.share)
    lines = step.part(go, bench, peak)
    status = "failed" if go.faults else "ok"
    go.note({"step": step.name, "status": status, "faults": list(go.faults)})
    return [f"== {step.name}: {status}", *lines, *(f"! {fault}" for fault in go.faults)], not go.faults


def main(argv: list[str] | None = None) -> int:
    """Run all steps, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--json", type=Path, default=Path("runs/check_gpu.json"))
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--steps", default="", help="run only these steps, separated by commas")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if options.one:
        return measure_one(options.one, Bench(options.folder, options.smoke))
    wanted = [name for name in options.steps.split(",") if name]
    if unknown := set(wanted) - {step.name for step in STEPS}:
        say(f"error: --steps {min(unknown)}: steps are {', '.join(step.name for step in STEPS)}")
        return 2
    if not (torch.cuda.is_available() or options.smoke):
        say("error: torch sees no GPU here; --smoke runs the same in tiny shapes")
        return 2
    peak = peak_of(gpu_name())
    stated = f"peak {peak / 1e12:.1f} TFLOP/s bf16 dense" if peak else "peak unknown: no MFU"
    head = f"{date.today()}, {gpu_name()}, torch {torch.__version__}, {stated}{', SMOKE: no figures' * options.smoke}"
    options.json.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(Path(temporary), options.smoke)
        command = [sys.executable, "-m", "scripts.check_gpu", "--folder", temporary, *["--smoke"] * bench.smoke]
        go = Runner(command, options.minutes, options.json, {"machine": head, "peak": peak})
        bench.write_data()
        taken = [take(step, go, bench, peak) for step in STEPS if not wanted or step.name in wanted]
    print("\n".join([head, *(line for lines, _ in taken for line in lines)]))
    return 0 if all(ok for _, ok in taken) else 1


def measure_one(job: Row, bench: Bench) -> int:
    """Run one measurement in this process: print its figures as the last line."""
    what = job.pop("what")
    try:
        print(json.dumps(MEASURES[what](bench, **job)))
    except MixlawError as error:
        say(f"error: {error}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
