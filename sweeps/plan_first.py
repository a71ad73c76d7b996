"""A first study under a budget: its runs, its seeds and its held-out runs, as study files."""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mixlaw.advice.constraints import Question
from mixlaw.advice.design import Size, epochs, plan_study
from mixlaw.advice.expected_errors import expected
from mixlaw.advice.phase_design import plan_phase_study
from mixlaw.advice.posterior import Noise
from mixlaw.console import say
from mixlaw.counts import flops, tokens_for
from mixlaw.errors import ConfigError
from mixlaw.mixture import Mixture
from sweeps.plan_phases import BRANCH_FROM, check_switches, kept_by_trunks, read_switches, savings
from sweeps.plan_sizes import Trainable, about, shown, trainable
from sweeps.study_file import Shape, StudyFile, write_study
from sweeps.study_path import path_of, studies

LEAST_WARMUP = 0.05  # share of the tokens of the shortest run


def plan_first(options: argparse.Namespace) -> int:
    """Write the study files of a first study, its seeds and its held-out runs, and print their sizes and cost."""
    switches = read_switches(options.phases, options.switch)
    if not options.models:
        raise ConfigError("at least three models are needed: --models text_70k,text_136k,text_234k")
    _refuse_existing([options.name, f"{options.name}_seeds", f"{options.name}_heldout"])
    shapes = [Shape((*options.overrides, f"model={m}")) for m in options.models.split(",")]
    sizes = {t.shape.label: t for t in trainable(shapes)}
    biggest = max(sizes.values(), key=lambda t: t.n_params)
    domains, natural = list(biggest.available), Mixture.proportional(biggest.available)
    pair = 2 * biggest.tokens_per_step  # half a run must still be a whole number of steps
    lengths = {name: np.ceil(options.tokens_per_param * t.n_params / pair) * pair for name, t in sizes.items()}
    wanted = [Size(name, t.n_params, lengths[name]) for name, t in sizes.items()]
    runs = first_runs(options, domains, wanted, _budget(options, biggest), natural, switches)
    check_switches(switches, runs["n_tokens"].min(), biggest.tokens_per_step, biggest.cooldown)
    runs["n_tokens"] = runs["n_tokens"].round().astype(int)
    check_epochs(runs, biggest)
    warmup = round(LEAST_WARMUP * runs["n_tokens"].min())
    kept = kept_by_trunks(runs) if switches else [""] * len(runs)
    runs["shape"] = [
        Shape((f"model={m}", f"schedule.n_tokens={n}", f"schedule.warmup_tokens={warmup}", *filter(None, [more]))).key
        for m, n, more in zip(runs["model"], runs["n_tokens"], kept, strict=True)
    ]
    settings = BRANCH_FROM if switches else {}
    shared = dict(o.partition("=")[::2] for o in options.overrides)
    written = []
    for role, part in (("fit", ""), ("seeds", "_seeds"), ("heldout", "_heldout")):
        some, name = runs[runs["role"] == role], options.name + part
        folder = options.name + ("_heldout" if role == "heldout" else "")
        path = studies() / f"{name}.yaml"
        study = StudyFile(folder, tuple(about(role, options.name, some)), shared, settings=settings)
        write_study(path, study, some, domains)
        written.append(f"written: {path}")
    more = [*written, f"next: python -m train study={options.name} --dry-run"]
    say("\n".join([*plan_lines(runs, biggest, options), *more]))
    return 0


def first_runs(
    options: argparse.Namespace,
    domains: Sequence[str],
    sizes: Sequence[Size],
    budget: float,
    natural: Mixture,
    switches: Sequence[float],
) -> pd.DataFrame:
    """Return the runs of a first study; with two phases if there are switches."""
    if switches:
        return plan_phase_study(domains, sizes, budget, switches, natural, options.floor, options.seed)
    return plan_study(domains, sizes, budget, natural, options.floor, options.seed)


def _budget(options: argparse.Namespace, biggest: Trainable) -> float:
    """Return the budget in FLOPs."""
    if options.flops:
        return float(options.flops)
    if options.gpu_hours and options.tokens_per_second:
        return flops(biggest.n_params, options.tokens_per_second) * options.gpu_hours * 3600
    raise ConfigError("a budget is needed: --flops 1e18, or --gpu-hours 100 --tokens-per-second 50000")


def check_epochs(runs: pd.DataFrame, biggest: Trainable) -> None:
    """Refuse runs that would repeat a domain more often than the trainer allows."""
    table = epochs(runs, biggest.available)
    over = table[table["epochs"] > biggest.max_epochs]
    if len(over):
        worst = over.sort_values("epochs").iloc[-1]
        raise ConfigError(
            f"a run would repeat '{worst['domain']}' {worst['epochs']:.1f} times, and stream.max_epochs is "
            f"{biggest.max_epochs:g}: lower --tokens-per-param, add data, or raise stream.max_epochs=..."
        )


def plan_lines(runs: pd.DataFrame, biggest: Trainable, options: argparse.Namespace) -> list[str]:
    """Return cost, epochs and expected errors of a plan, as lines of text."""
    domains = list(biggest.available)
    two = runs["until@1"].notna() if "until@1" in runs else pd.Series(False, runs.index)
    kind = [runs["role"], runs["model"], *([two.map({True: 2, False: 1}).rename("phases")] if two.any() else [])]
    by_size = runs.groupby(kind, sort=False)
    table = by_size.agg(
        runs=("flops", "size"),
        n_params=("n_params", "first"),
        least_D=("n_tokens", "min"),
        most_D=("n_tokens", "max"),
        flops=("flops", "sum"),
    ).reset_index()
    total, speed = float(runs["flops"].sum()), options.tokens_per_second
    hours = " (--tokens-per-second adds GPU hours)"
    if speed:
        table["gpu_hours"] = gpu_hours(table["flops"], biggest.n_params, speed)
        hours = (
            f", {gpu_hours(total, biggest.n_params, speed):.3g} GPU hours at {speed:g} tokens/s of the largest model"
        )
    lines = [f"{len(runs)} runs, {total:.3g} FLOPs{hours}", *([savings(runs)] if two.any() else [])]
    lines += ["", shown(table), ""]
    lines += ["tokens and epochs of each domain that one run needs:"]
    lines += [shown(epochs(runs, biggest.available)), ""]
    big = (options.n_params or 10 * biggest.n_params, options.n_tokens or 10 * runs["n_tokens"].max())
    fitted, half = runs[(runs["role"] == "fit") & ~two], options.noise / 2**0.5
    found = expected(fitted, domains, Question(*big, {"loss": 1.0}), Noise(half, half), biggest.points)
    what = "expected of the static runs" if two.any() else "expected"
    lines += [
        f"{what} at N = {big[0]:.3g}, D = {big[1]:.3g}, with seed noise of {options.noise:g} nats and losses that "
        "follow the multiplicative law:",
        f"  standard error of a predicted loss about {found.prediction:.1g} nats, of a weight of h* "
        f"{found.weight:.1g}; regret of the recommended mixture {found.regret:.1g} nats",
    ]
    return lines


def gpu_hours(compute: Any, n_params: float, tokens_per_second: float) -> Any:
    """Convert FLOPs to hours on one GPU.

    Parameters
    ----------
    compute : FLOPs, a number or a column
    n_params, tokens_per_second : of a model with measured speed; other models are assumed to reach the same FLOP/s
    """
    return tokens_for(compute, n_params) / tokens_per_second / 3600


def _refuse_existing(names: Sequence[str]) -> None:
    for name in names:
        if (path := path_of(name)).exists():
            raise ConfigError(f"{path} exists already: choose another name, or delete it")
