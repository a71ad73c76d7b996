"""Runs needed for a decision: a space-filling design against the choice of `mixlaw.advice.next_runs`.

    python -m scripts.bench_design              # all cases; those in the result table are skipped
    python -m scripts.bench_design --studies 8  # fewer studies of each case

Each study has a true law with random parameters, which generates the losses of all runs with noise. The first stage is
space-filling at three sizes. Then one arm continues to fill and the other chooses by `next_runs`, which sees only fits;
both use the middle size, so that their runs cost the same. After every stage both arms are fitted and recommend the
mixture of a run ten times as large. Regret is the true loss of this mixture minus the lowest possible one. In the cases
"x by y" the fitted law differs from the true one. In the case "by FLOPs" the choice is among all three sizes, and arms
are compared at equal FLOPs.

The result is `scripts/design.csv`: mean regret of each arm after each stage. "Fewer runs" is the reduction of the
number of runs, including the first stage, at which the choosing arm reaches the final regret of the filling arm.
"""

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from mixlaw.advice.constraints import Question
from mixlaw.advice.decision import Decision
from mixlaw.advice.design import Size, anchors, as_runs, candidates, spread
from mixlaw.advice.expected_errors import draw_from_prior
from mixlaw.advice.next_runs import next_runs
from mixlaw.advice.objective import Objective
from mixlaw.advice.optima import optimum
from mixlaw.advice.posterior import curves
from mixlaw.fitting.estimator import LawFit
from mixlaw.fitting.fitted import FittedLaw, FittedTarget
from mixlaw.fitting.saved import FittedLaws
from mixlaw.laws.jacobian import Array
from mixlaw.laws.law import Units
from mixlaw.laws.registry import get_law
from mixlaw.tables.check import check_frame
from mixlaw.tables.table import Table

RESULT = Path(__file__).resolve().parent / "design.csv"
UNITS = Units(1e8, 2e9)
SIZES = [Size("50M", 5e7, 1e9), Size("100M", 1e8, 2e9), Size("200M", 2e8, 4e9)]
BIG = Question(2e9, 4e10, {"loss": 1.0})
POINTS = (7, 1.3)
RUN_SCATTER, ROW_SCATTER = 0.003, 0.001  # relative to the loss
STAGES = 5  # after the first


@dataclass(frozen=True)
class Case:
    """A case: number of domains, true law, fitted law, and whether runs or FLOPs are the budget."""

    k: int
    truth: str
    fitted: str
    by: str = "runs"

    @property
    def name(self) -> str:
        """Name of the case in the table."""
        by = f" by {self.fitted}" if self.fitted != self.truth else ""
        return f"k={self.k} {self.truth}{by}" + (", by FLOPs" if self.by == "flops" else "")


CASES = [
    Case(4, "multiplicative", "multiplicative"),
    Case(7, "multiplicative", "multiplicative"),
    Case(5, "additive", "additive"),
    Case(5, "joint", "joint"),
    Case(5, "additive", "multiplicative"),
    Case(5, "joint", "multiplicative"),
    Case(5, "multiplicative", "multiplicative", "flops"),
]


def additive(k: int, rng: np.random.Generator) -> Array:
    """Return parameters of an additive law: log C_i with sd 1 between domains, gamma_i from 0.3 to 0.9."""
    rates = np.log([0.5, 0.35, 0.6, 0.35]) + 0.1 * rng.normal(size=4)  # A, alpha, B, beta
    useful = np.concatenate([rng.normal(1.0, 1.0, k), np.log(rng.uniform(0.3, 0.9, k))])
    return np.concatenate([[np.log(1.7)], useful, rates])


def joint(k: int, rng: np.random.Generator) -> Array:
    """Return parameters of a joint law: as `additive`, and A and B vary with the mixture by some ten per cent."""
    plain = additive(k, rng)
    mixed = [np.concatenate([[plain[2 * k + i]], [rng.normal(0, 0.3)], rng.normal(0, 0.7, k - 1)]) for i in (1, 3)]
    return np.concatenate([plain[: 2 * k + 1], mixed[0], plain[[2 * k + 2]], mixed[1], plain[[2 * k + 4]]])


def multiplicative(k: int, rng: np.random.Generator) -> Array:
    """Return parameters of a multiplicative law, drawn from its prior."""
    return draw_from_prior(get_law("multiplicative"), k, 1, rng)[0]


TRUTHS = {"additive": additive, "joint": joint, "multiplicative": multiplicative}


@dataclass
class World:
    """A true law that generates the losses of runs."""

    case: Case
    fit: FittedLaw
    rng: np.random.Generator

    @classmethod
    def of(cls, case: Case, study: int) -> "World":
        """Draw a true law."""
        rng = np.random.default_rng([study, case.k])
        theta = TRUTHS[case.truth](case.k, rng)
        domains, target = [f"d{i}" for i in range(case.k)], FittedTarget(theta, theta[None], np.zeros(1))
        fit = FittedLaw(get_law(case.truth), domains, UNITS, {"loss": target})
        return cls(case, fit, rng)

    def train(self, runs: pd.DataFrame, tag: str) -> pd.DataFrame:
        """Return the rows of the runs' logs."""
        rows = curves(runs, POINTS)
        h = rows[[f"weight_{d}" for d in self.fit.domains]].to_numpy(float)
        n, d = (rows[c].to_numpy(float) for c in ("n_params", "n_tokens"))
        loss = get_law(self.case.truth).loss(self.fit.target("loss").theta[None], UNITS.inputs(n, d, h.T))[0]
        scatter = RUN_SCATTER * self.rng.normal(size=len(runs))[rows["run_id"]]
        scatter = scatter + ROW_SCATTER * self.rng.normal(size=len(rows))
        return rows.assign(loss_loss=loss * (1 + scatter), run_id=tag + rows["run_id"].astype(str))

    def regret(self, h: Array) -> float:
        """Return the big run's true loss on a mixture minus that on the optimal one [nats]."""
        true = Objective(self.fit, BIG, {}, "best")
        return true.at(h) - true.at(optimum(true, {}))


def first_stage(world: World) -> pd.DataFrame:
    """Return runs at three sizes: corners and 2 k mixtures at the smallest, k and k / 2 at the others."""
    k = world.case.k
    counts, used, parts = (2 * k, k, k // 2 + 1), 0, [as_runs("fit", SIZES[0], anchors(k), world.fit.domains)]
    for size, count in zip(SIZES, counts, strict=True):
        parts.append(as_runs("fit", size, spread(k, count, skip=used), world.fit.domains))
        used += count
    return pd.concat(parts, ignore_index=True)


def fitted(world: World, frame: pd.DataFrame) -> tuple[FittedLaws, Table]:
    """Fit the case's law."""
    table = check_frame(frame.drop(columns=["role", "model", "flops", "seed"]), "runs")
    fit = LawFit(world.case.fitted, n_bootstrap=60).fit(table).fitted_
    ranges = {c: (float(table.frame[c].min()), float(table.frame[c].max())) for c in ("n_params", "n_tokens")}
    laws = FittedLaws(fits={fit.name: fit}, chosen=fit.name, reason="", ranges=ranges, mixtures=table.mixtures)
    return laws, table


def fill(world: World, laws: FittedLaws, table: Table, batch: int, used: int) -> pd.DataFrame:
    """Return the next mixtures of the space-filling sequence."""
    sizes = SIZES if world.case.by == "flops" else SIZES[1:2]
    mixtures = spread(world.case.k, batch, skip=used)
    return pd.concat([as_runs("fit", s, mixtures, world.fit.domains) for s in sizes], ignore_index=True)


def choose(world: World, laws: FittedLaws, table: Table, batch: int, used: int) -> pd.DataFrame:
    """Return the most informative runs for the decision, for as many FLOPs or runs as `fill` takes."""
    by_flops = world.case.by == "flops"
    near = Decision(laws.best, BIG, {}, table, POINTS).contenders
    offered = candidates(world.fit.domains, SIZES if by_flops else SIZES[1:2], near, seed=used)
    if not by_flops:
        return next_runs(laws, BIG, table, offered, count=batch, points=POINTS, by="runs").runs
    budget = fill(world, laws, table, batch, used)["flops"].sum()
    count = 4 * batch * len(SIZES)
    many = next_runs(laws, BIG, table, offered, count=count, points=POINTS, by="flops").runs
    return many[many["flops"].cumsum() <= budget * 1.0001]


ARMS = {"filling": fill, "choosing": choose}


def study(case: Case, number: int) -> pd.DataFrame:
    """Return the regret of both arms after every stage of one study."""
    rows, batch = [], max(4, case.k)
    for arm, more in ARMS.items():
        world = World.of(case, number)
        runs = first_stage(world)
        frame, used, flops = world.train(runs, "0-"), 4 * case.k, runs["flops"].sum()
        for stage in range(STAGES + 1):
            laws, table = fitted(world, frame)
            h = optimum(Objective(laws.best, BIG, {}), {})
            rows.append(
                {
                    "case": case.name,
                    "study": number,
                    "arm": arm,
                    "stage": stage,
                    "flops": flops,
                    "runs": table.frame["run_id"].nunique(),
                    "regret": world.regret(h),
                }
            )
            if stage < STAGES:
                new = more(world, laws, table, batch, used).drop(columns=["sd_before", "sd_after"], errors="ignore")
                frame = pd.concat([frame, world.train(new.reset_index(drop=True), f"{stage + 1}-")], ignore_index=True)
                used, flops = used + batch, flops + new["flops"].sum()
    return pd.DataFrame(rows)


def finished(wanted: list[tuple[Case, int]], n_processes: int) -> Iterator[pd.DataFrame]:
    """Run studies in parallel; yield each as it ends."""
    with ProcessPoolExecutor(n_processes, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(partial(study, case, number)) for case, number in wanted]
        for future in tqdm(as_completed(waiting), total=len(waiting), unit="study", mininterval=5):
            yield future.result()


def summary(results: pd.DataFrame) -> pd.DataFrame:
    """Return, per case: mean regret at the first stage and at the end of each arm, and the number of runs saved."""
    rows = []
    for name, group in results.groupby("case", sort=False):
        paid = "flops" if str(name).endswith("FLOPs") else "runs"
        mean = group.groupby(["arm", "stage"])[[paid, "regret"]].mean()
        filling, choosing = mean.loc["filling"], mean.loc["choosing"]
        goal, spent = filling["regret"].iloc[-1], filling[paid].iloc[-1]
        reached = choosing[choosing["regret"] <= goal]
        needed = reached[paid].iloc[0] if len(reached) else np.nan
        rows.append(
            {
                "case": name,
                "studies": group["study"].nunique(),
                "first stage": filling["regret"].iloc[0],
                "filling": goal,
                "choosing": choosing["regret"].iloc[-1],
                paid: spent,
                "needed": needed,
                f"fewer {paid} %": 100 * (1 - needed / spent),
            }
        )
    return pd.DataFrame(rows)


def draw(results: pd.DataFrame, path: Path) -> None:
    """Draw the mean regret of both arms over cost, one panel per case."""
    cases = results["case"].unique()
    figure = Figure(figsize=(12.4, 2.9 * -(-len(cases) // 4)), layout="constrained")
    for ax, name in zip(figure.subplots(-(-len(cases) // 4), 4, squeeze=False).flat, cases, strict=False):
        paid = "flops" if str(name).endswith("FLOPs") else "runs"
        for arm, colour in (("filling", "#8a8a8a"), ("choosing", "#1f6fb4")):
            group = results[(results["case"] == name) & (results["arm"] == arm)].groupby("stage")
            mean, error = group[[paid, "regret"]].mean(), group["regret"].sem()
            ax.errorbar(mean[paid], mean["regret"], error, color=colour, marker="o", ms=4, capsize=2, label=arm)
        ax.set(title=name, xlabel=paid if paid == "runs" else "FLOPs", yscale="log", ylabel="regret [nats]")
        ax.title.set_fontsize(9)
    figure.axes[0].legend(frameon=False)
    for ax in figure.axes[len(cases) :]:
        ax.set_axis_off()
    figure.savefig(path, dpi=110)


def main() -> int:
    """Run missing studies, write the table, print the summary."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--studies", type=int, default=24, help="number of studies per case")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--picture", type=Path, help="also draw the table to this file, e.g. .github/design.png")
    options = parser.parse_args()
    known = pd.read_csv(RESULT) if RESULT.exists() else pd.DataFrame(columns=["case", "study"])
    done = set(zip(known["case"], known["study"], strict=True))
    wanted = [(c, i) for c in CASES for i in range(options.studies) if (c.name, i) not in done]
    for rows in finished(wanted, options.processes):
        known = pd.concat([known, rows], ignore_index=True)
        known.to_csv(RESULT, index=False, float_format="%.6g")
    if options.picture:
        draw(known, options.picture)
    print(summary(known).to_string(index=False, float_format=lambda v: f"{v:.4g}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
