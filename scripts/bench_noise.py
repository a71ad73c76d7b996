"""python -m scripts.bench_noise [--seeds 12] [--out FILE]: seed noise of small runs, and weight averaging against it.

Runs of `quickstart_seeds` (136k parameters, 360k tokens) on two mixtures that differ only in their seed. At every
evaluation we measure the raw weights, means of the weights over the last steps ("tail"), and polynomial-decay averages,
which need one copy of the weights ("power"), on the same 384 sequences per domain; 192 and 96 are every second and
every fourth of them, as in the trainer. Per target, in % of the loss:

    sd      over seeds, root mean square over the evaluations; sd_last: at the last one
    level   between-run part of sd: sd over seeds of a run's mean deviation
    within  within-run part of sd: sd of a run's evaluations around that mean
    shift   mean loss minus that of the raw weights on as many sequences
    wiggle  sd of a run's evaluations around its own E + B / D**beta
    ratio   of the sd to that of the raw weights on 96 sequences, over all targets, with its 90 % interval over seeds
    cost    additional CPU time, relative to a run with the raw weights on 96 sequences

Runs are cached in runs/bench_noise/. The result is `scripts/bench_noise.csv`.
"""

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from mixlaw.fileio import write_atomically
from train.compose import compose_config, plan_run
from train.distributed import World, join_world
from train.evaluate import Evaluator
from train.loop import backward
from train.models.build import build_model
from train.optim import build_optimizer, schedule_factor, set_learning_rate
from train.plan import Plan

CACHE = Path("runs/bench_noise")
RESULT = Path("scripts/bench_noise.csv")
STUDY = ["study=quickstart_seeds", "model=text_136k", "machine.device=cpu"]
MIXTURES = {"uniform": "mixture=uniform", "dialogue": "mixture.weights={code:0.12,docs:0.04,dict:0.10,dialogue:0.74}"}
TAILS, POWERS = (0.05, 0.1, 0.2), (0.1, 0.2, 0.4)
SIZES = (96, 192, 384)  # evaluation sequences per domain; each divides the last
BETAS = np.geomspace(0.02, 4.0, 200)
CASE = ["mixture", "weights", "n_sequences"]

Array = NDArray[np.float64]


class Average(Protocol):
    """An average of a run's weights; `model` holds it at the evaluations."""

    model: nn.Module

    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after a step."""


class Raw:
    """The raw weights."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def update(self, model: nn.Module, step: int) -> None:
        """Do nothing: the model already has these weights."""


class Tail:
    """The plain mean of the weights after the last `share` of the steps before each evaluation, from running sums."""

    def __init__(self, model: nn.Module, share: float, points: list[int]) -> None:
        self.model = copy.deepcopy(model)
        self._sums = [torch.zeros_like(p, dtype=torch.float64) for p in model.parameters()]
        self._starts = {point: point - max(round(share * point), 1) for point in points}
        self._sums_at: dict[int, list[torch.Tensor]] = {}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Add the weights after a step; at an evaluation, put the mean into `model`."""
        if step - 1 in self._starts.values():
            self._sums_at[step - 1] = [s.clone() for s in self._sums]
        for total, parameter in zip(self._sums, model.parameters(), strict=True):
            total += parameter
        if step in self._starts:
            start = self._starts[step]
            parts = zip(self.model.parameters(), self._sums, self._sums_at[start], strict=True)
            for parameter, total, before in parts:
                parameter.copy_((total - before) / (step - start))


class Power:
    """Polynomial-decay averaging: step s has weight s ** (2 / share - 2); it needs one extra copy of the weights.

    Its mean age is that of the plain mean over the last `share` of all steps; share 1 is the plain mean of all steps
    (Shamir & Zhang 2013, arXiv:1212.1824, section 4).
    """

    def __init__(self, model: nn.Module, share: float) -> None:
        self.model = copy.deepcopy(model)
        self._share = share

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after a step."""
        newest = (2 - self._share) / (self._share * step + 2 - 2 * self._share)
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), newest)


def averages(model: nn.Module, points: list[int]) -> dict[str, Average]:
    """Return the averages to compare, by name."""
    found: dict[str, Average] = {"raw": Raw(model)}
    found |= {f"tail {share:.0%}": Tail(model, share, points) for share in TAILS}
    return found | {f"power {share:.0%}": Power(model, share) for share in POWERS}


def train(plan: Plan, world: World, after_step: Callable[[nn.Module, int], None]) -> None:
    """Train the run of a plan as `train.loop` does, without log and checkpoints."""
    config, layout = plan.config, plan.config.layout()
    model = build_model(config.model, plan.manifest.vocab_size, layout, config.seed).to(world.device)
    optimizer = build_optimizer(model, config.optim, config.model.width)
    stream = plan.stream()
    after_step(model, 0)
    for step, batch in enumerate(stream.batches(0, plan.n_steps), 1):
        factor = schedule_factor(config.schedule, (step - 1) * plan.tokens_per_step, plan.tokens_per_step)
        set_learning_rate(optimizer, config.optim, factor)
        backward(model, batch, config, world)
        nn.utils.clip_grad_norm_(model.parameters(), config.optim.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        after_step(model, step)


class Watch:
    """Updates every average after every step of a run, evaluates them, and records times."""

    def __init__(self, plan: Plan, world: World) -> None:
        self._plan, self._world = plan, world
        self._points = plan.evaluation_steps()
        self._evaluators = {n: self._evaluator(n) for n in SIZES}
        self._followed: dict[str, Average] = {}
        self.rows: list[dict[str, Any]] = []
        self.seconds: dict[str, float] = {}

    def _evaluator(self, n_sequences: int) -> Evaluator:
        config = self._plan.config
        evaluation = replace(config.evaluation, n_sequences=n_sequences)
        return Evaluator(self._plan.manifest, evaluation, config.layout(), config.stream.batch_size)

    def after_step(self, model: nn.Module, step: int) -> None:
        """Update and evaluate after a step; step 0 is the initial state."""
        if step == 0:
            self._followed = averages(model, self._points)
            return
        for name, average in self._followed.items():
            with self._timed(f"update {name}"):
                average.update(model, step)
        if step in self._points:
            for name, average in self._followed.items():
                self._measure(name, average.model, step)
        if step == self._points[-1]:
            self._time_evaluations(model)

    def _measure(self, name: str, model: nn.Module, step: int) -> None:
        with self._timed("measure"):
            losses = self._evaluators[SIZES[-1]].by_sequence(model, self._world, self._plan.config.precision)
        for target, sums in (losses or {}).items():
            by_sequence = sums["text"][:, 0] / sums["text"][:, 1]
            for n in SIZES:
                loss = float(by_sequence[:: SIZES[-1] // n].mean())
                self.rows.append({"weights": name, "n_sequences": n, "target": target, "step": step, "loss": loss})

    def _time_evaluations(self, model: nn.Module) -> None:
        for n, evaluator in self._evaluators.items():
            with self._timed(f"evaluation {n}"):
                evaluator.measure(model, self._world, self._plan.config.precision)

    def _timed(self, what: str) -> "Timer":
        return Timer(self.seconds, what)


class Timer:
    """Adds the CPU time of a block to a table of times; CPU time, because the machine may be shared."""

    def __init__(self, seconds: dict[str, float], what: str) -> None:
        self._seconds, self._what, self._started = seconds, what, 0.0

    def __enter__(self) -> None:
        self._started = time.process_time()

    def __exit__(self, *_: object) -> None:
        self._seconds[self._what] = self._seconds.get(self._what, 0.0) + time.process_time() - self._started


def measured_run(plan: Plan, world: World) -> dict[str, Any]:
    """Return rows and times of one run: trained now, or read from the cache."""
    path = CACHE / f"{plan.run_id}.json"
    if not path.exists():
        watch, started = Watch(plan, world), time.process_time()
        train(plan, world, watch.after_step)
        extra = sum(watch.seconds.values())
        watch.seconds["train"] = time.process_time() - started - extra
        CACHE.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"rows": watch.rows, "seconds": watch.seconds}))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def measured_runs(n_seeds: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the losses of all runs in long form, and their times, one row per run."""
    world = join_world("cpu")
    torch.set_num_threads(1)
    cases = [(mixture, seed) for seed in range(n_seeds) for mixture in MIXTURES]
    tables, seconds = [], []
    for mixture, seed in tqdm(cases, unit="run", mininterval=5):
        plan = plan_run(compose_config([*STUDY, MIXTURES[mixture], f"seed={seed}"]))
        run = measured_run(plan, world)
        tables.append(pd.DataFrame(run["rows"]).assign(mixture=mixture, seed=seed))
        seconds.append(run["seconds"])
    return pd.concat(tables, ignore_index=True), pd.DataFrame(seconds)


def scores(runs: pd.DataFrame) -> pd.DataFrame:
    """Return sd, shift and wiggle [%] of every case and target, and of all targets together, with the ratio."""
    tables = []
    for mixture, of_mixture in runs.groupby("mixture", sort=False):
        points = np.sort(of_mixture["step"].unique()).astype(float)
        cases: dict[Any, Array] = {
            key: cube(rows) for key, rows in of_mixture.groupby(["weights", "n_sequences"], sort=False)
        }
        targets = list(dict.fromkeys(of_mixture["target"]))
        plain = cases["raw", SIZES[0]]
        for (weights, n), losses in cases.items():
            table = by_target(losses, cases["raw", n], points, targets)
            table.loc["all"] = table.pow(2).mean().pow(0.5).where(table.columns != "shift", table.mean())
            table.loc["all", ["ratio", "low", "high"]] = ratio(losses, plain)
            table = table.rename_axis("target").reset_index()
            table.insert(0, "n_seeds", len(losses))
            table.insert(0, "n_sequences", n)
            table.insert(0, "weights", weights)
            table.insert(0, "mixture", mixture)
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def by_target(losses: Array, raw: Array, points: Array, targets: list[str]) -> pd.DataFrame:
    """Return the scores of one case, a row per target; losses are (seeds, targets, evaluations)."""
    sd, shift = relative_sd(losses), 100 * (losses.mean(0) / raw.mean(0) - 1)
    wiggles = [rms([wiggle(run, points) for run in losses[:, t]]) for t in range(len(targets))]
    level, within = parts(losses)
    columns = {"sd": np.sqrt((sd**2).mean(1)), "sd_last": sd[:, -1], "level": level, "within": within}
    return pd.DataFrame(columns | {"shift": shift.mean(1), "wiggle": wiggles}, index=targets)


def parts(losses: Array) -> tuple[Array, Array]:
    """Return the between-run and the within-run sd [%], per target."""
    deviation = 100 * (losses / losses.mean(0) - 1)
    level = deviation.mean(2, keepdims=True)
    n_seeds, _, n_points = losses.shape
    inside = np.square(deviation - level).sum((0, 2)) / ((n_seeds - 1) * (n_points - 1))
    return level.std(0, ddof=1)[:, 0], np.sqrt(inside)


def cube(rows: pd.DataFrame) -> Array:
    """Return the losses of one case: (seeds, targets, evaluations)."""
    rows = rows.assign(target=pd.Categorical(rows["target"], list(dict.fromkeys(rows["target"]))))
    ordered = rows.sort_values(["seed", "target", "step"])
    return ordered["loss"].to_numpy().reshape(rows["seed"].nunique(), rows["target"].nunique(), -1)


def relative_sd(losses: Array) -> Array:
    """Return the sd over the first axis, in % of the mean."""
    return 100 * losses.std(0, ddof=1) / losses.mean(0)


def rms(values: Any) -> float:
    """Return the root of the mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


def wiggle(losses: Array, points: Array) -> float:
    """Return the sd [%] of one run's losses around their own best E + B / D**beta, with n - 3 degrees of freedom."""
    designs = (np.stack([np.ones_like(points), (points / points[-1]) ** -beta], 1) for beta in BETAS)
    best = min(float(np.square(losses - d @ np.linalg.lstsq(d, losses, rcond=None)[0]).sum()) for d in designs)
    return 100 * float(np.sqrt(best / (len(losses) - 3)) / losses.mean())


def ratio(losses: Array, plain: Array) -> tuple[float, float, float]:
    """Return the ratio of the sd to that of `plain`, over targets and evaluations, and its 90 % interval.

    The interval is a jackknife over seeds of the logarithm, because both share their seeds.
    """

    def log_ratio(rows: NDArray[np.int64]) -> float:
        return float(np.log(rms(relative_sd(losses[rows])) / rms(relative_sd(plain[rows]))))

    seeds = np.arange(len(losses))
    value = log_ratio(seeds)
    without = np.array([log_ratio(np.delete(seeds, i)) for i in seeds])
    half = 1.645 * np.sqrt((len(seeds) - 1) * without.var())
    return float(np.exp(value)), float(np.exp(value - half)), float(np.exp(value + half))


def costs(seconds: pd.DataFrame, weights: str, n_sequences: int, n_points: int) -> float:
    """Return the additional CPU time [%] relative to a run with the raw weights on the fewest sequences."""
    mean = seconds.mean()
    usual = mean["train"] + n_points * mean[f"evaluation {SIZES[0]}"]
    this = mean["train"] + mean[f"update {weights}"] + n_points * mean[f"evaluation {n_sequences}"]
    return float(100 * (this / usual - 1))


def main() -> int:
    """Train missing runs, write the table, print the means over targets and the sd of every target."""
    parser = argparse.ArgumentParser("python -m scripts.bench_noise", description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=12, help="runs per mixture, at least 3")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    runs, seconds = measured_runs(options.seeds)
    table, n_points = scores(runs), runs["step"].nunique()
    cases = zip(table["weights"], table["n_sequences"], strict=True)
    table["cost"] = [costs(seconds, weights, n, n_points) for weights, n in cases]
    table.to_csv(options.out, index=False, float_format="%.3f")
    means = table[table["target"] == "all"].drop(columns="target")
    print(means.to_string(index=False, float_format=lambda v: f"{v:.2f}"))
    print("\nsd over seeds [%], by target")
    print(table.pivot_table("sd", CASE, "target", sort=False).round(2).to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main())
