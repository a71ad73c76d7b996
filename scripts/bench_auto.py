"""python -m scripts.bench_auto [--table CSV] [--turns N] [--out FILE] [--before FILE]: time of `fit` with `auto`.

Three laws are fitted to 8 targets, with 100 bootstrap resamples each, and again without the largest size and without
the ends of runs. The table is a synthetic study of 1,080 rows, 30 mixtures of 7 domains at 3 sizes and 12 numbers of
tokens, or the paper's table of runs. CPU seconds are printed by step and objectives by law and target; then the wall
seconds of `fit_laws` with one process and with one per core, the best of turns taken in alternation. With
`--before FILE`, a report of another version, also the differences of objectives and of interval widths.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mixlaw.fitting.fitted import FittedLaw
from mixlaw.laws.registry import get_law
from mixlaw.selection.candidates import AUTO
from mixlaw.selection.fit_laws import Choice, fit_and_choose, fit_laws
from mixlaw.selection.trial import Predictor
from mixlaw.selection.workers import Workers
from mixlaw.tables.check import check_frame
from mixlaw.tables.clean import prepare
from mixlaw.tables.table import Table
from scripts.bench_rows import NOISE, UNITS, truth

K, TARGETS, MIXTURES = 7, 8, 30
SIZES, TOKENS = (1e8, 2e8, 4e8), np.geomspace(2e9, 4e10, 12)


class Steps:
    """A progress callback that measures the CPU seconds between its sentences."""

    def __init__(self) -> None:
        self.seconds: list[tuple[str, float]] = []
        self._step, self._since = "cleaning the table", time.process_time()

    def __call__(self, text: str) -> None:
        """End the step so far and begin the one that `text` names."""
        now = time.process_time()
        self.seconds.append((self._step, now - self._since))
        self._step, self._since = text, now


def grid_study(seed: int = 0) -> Table:
    """Return the synthetic study; a joint law wrote the losses."""
    rng = np.random.default_rng(seed)
    mixtures = rng.dirichlet(np.ones(K), MIXTURES)
    run = np.repeat(np.arange(len(SIZES) * MIXTURES), len(TOKENS))
    n_params, n_tokens = np.array(SIZES)[run % len(SIZES)], np.tile(TOKENS, len(SIZES) * MIXTURES)
    h = mixtures[run // len(SIZES)]
    theta = np.stack([truth(K, rng) for _ in range(TARGETS)])
    losses = get_law("joint").loss(theta, UNITS.inputs(n_params, n_tokens, h.T))
    losses = losses + NOISE * rng.normal(size=losses.shape)
    columns = {"run_id": run.astype(str), "n_params": n_params, "n_tokens": n_tokens}
    columns |= {f"weight_d{i}": h[:, i] for i in range(K)} | {f"loss_t{i}": loss for i, loss in enumerate(losses)}
    return check_frame(pd.DataFrame(columns), "the synthetic study")


def measure(table: Table) -> dict[str, Any]:
    """Return CPU seconds in one process, also by step, objectives, and mean widths of intervals."""
    cpu, steps = time.process_time(), Steps()
    runs = prepare(table, False)
    choice = fit_and_choose(runs, [AUTO], workers=Workers(steps))
    steps("")
    return {
        "rows": len(runs.frame),
        "cpu_s": time.process_time() - cpu,
        "steps": steps.seconds,
        "chosen": choice.chosen,
        "objectives": objectives(choice),
        "widths": widths(choice, runs),
    }


def fastest(table: Table, turns: int) -> dict[str, float]:
    """Return the lowest wall seconds with one process and with one per core."""
    walls: dict[str, list[float]] = {"1": [], str(len(os.sched_getaffinity(0))): []}
    for _ in range(turns):
        for n_jobs, seconds in walls.items():
            since = time.perf_counter()
            fit_laws(table, n_jobs=int(n_jobs))
            seconds.append(time.perf_counter() - since)
    return {n_jobs: min(seconds) for n_jobs, seconds in walls.items()}


def objectives(choice: Choice) -> dict[str, float]:
    """Return the objective of every fit, by rows, law and target."""
    fits: list[tuple[str, Mapping[str, Predictor]]] = [("all rows", choice.fits)]
    fits += [(f"without {trial.kind}", trial.fits) for trial in choice.trials]
    return {
        f"{rows}, {name}, {target}": found.objective
        for rows, by_name in fits
        for name, fit in by_name.items()
        if isinstance(fit, FittedLaw)
        for target, found in fit.targets.items()
    }


def widths(choice: Choice, runs: Table) -> dict[str, float]:
    """Return the mean width of the intervals of a new run, by law and target."""
    found: dict[str, float] = {}
    for name, fit in choice.fits.items():
        predicted = fit.predict(runs)
        wide = (predicted["high"] - predicted["low"]).groupby(predicted["target"]).mean()
        found |= {f"{name}, {target}": float(width) for target, width in wide.items()}
    return found


def show(report: dict[str, Any], before: dict[str, Any] | None) -> None:
    """Print a report, and how far it is from an earlier one."""
    print(f"{report['rows']} rows: {report['cpu_s']:.2f} s CPU in one process; {report['chosen']} law")
    for step, seconds in report["steps"]:
        print(f"  {seconds:6.2f} s CPU  {step}")
    for name, value in report["objectives"].items():
        print(f"  {value:.12g}  {name}")
    for n_jobs, seconds in report["wall_s"].items():
        print(f"{seconds:.2f} s wall with --n-jobs {n_jobs}")
    if before:
        higher = {n: v / before["objectives"][n] - 1 for n, v in report["objectives"].items()}
        wider = [w / before["widths"][n] for n, w in report["widths"].items()]
        print(f"before: {before['cpu_s']:.2f} s CPU; objectives are higher by {max(higher.values()):.1e} at most,")
        print(f"lower by {-min(higher.values()):.1e}; widths are {min(wider):.4f} to {max(wider):.4f} of those before")


def main() -> int:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(
        "python -m scripts.bench_auto", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--table", type=Path, help="the paper's table of runs, instead of the synthetic study")
    parser.add_argument("--turns", type=int, default=5, help="of both numbers of processes; default: 5")
    parser.add_argument("--out", type=Path, help="write the report to this file, as JSON")
    parser.add_argument("--before", type=Path, help="compare with this report")
    options = parser.parse_args()
    if "OMP_NUM_THREADS" not in os.environ:  # numpy has read it already: begin again
        os.environ["OMP_NUM_THREADS"] = "1"
        os.execv(sys.executable, [sys.executable, "-m", "scripts.bench_auto", *sys.argv[1:]])
    if options.table:
        from scripts.bench_fitter import read_runs

        table = read_runs(options.table)
    else:
        table = grid_study()
    report = measure(table) | {"wall_s": fastest(table, options.turns)}
    show(report, json.loads(options.before.read_text()) if options.before else None)
    if options.out:
        options.out.write_text(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
