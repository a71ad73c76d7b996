"""python -m scripts.bench_fitter [--part fit|bootstrap|rows|start|all] [--seeds 3] [--out FILE]: the cost of a fit.

fit         the paper's procedure (`scripts.bench_paper`) against ours: same rows, box, objective and process
bootstrap   one fit against 200 refits of resampled runs
rows        time and peak memory as tables grow, one process per case (`scripts.bench_rows`)
start       start-up time of the commands

Progress goes to stderr, tables to stdout, all numbers to --out as JSON. Everything runs on one thread; CPU time is
given beside wall time, because the machine may be shared.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray

from mixlaw.fitting.assemble import problems
from mixlaw.fitting.bootstrap import resampled_fits
from mixlaw.fitting.estimator import LawFit
from mixlaw.fitting.levenberg_marquardt import Members, Problem, objective
from mixlaw.fitting.multistart import find_minima
from mixlaw.laws.law import Units
from mixlaw.laws.registry import get_law
from mixlaw.tables.check import check_frame
from mixlaw.tables.columns import LOSS
from mixlaw.tables.table import Table
from scripts.bench_paper import D_UNIT, N_UNIT, QUICK, THOROUGH, Objective, Runs, Settings, box, paper_procedure
from scripts.bench_rows import N_BOOTSTRAP, N_STARTS, Case, study

Array = NDArray[np.float64]

ROOT = Path(__file__).resolve().parents[1]
CSV = ROOT.parent / "shared/data/slimpajama/slimpajama_llm_small.csv"
FIRST_TOKENS = 3.9e9  # rows before it are warm-up
DEFAULTS = LawFit()
STARTS = (4, 8, 12, 24)  # USUAL among them
USUAL = 12  # the default of LawFit for a table of this size
BASELINES: dict[str, tuple[Settings, bool]] = {
    "plain": (THOROUGH, False),
    "tuned": (THOROUGH, True),
    "quick": (QUICK, True),
}
LEGEND = (
    "plain: basin-hopping over L-BFGS-B, gradient row by row; tuned: gradient once per distinct mixture; quick: tuned, "
    "with loose settings;\nours N: N starts per target. x ours: CPU time over that of ours at the default "
    f"({USUAL} starts). at most: in how many of targets x seeds\nthe objective is at most 1.001 times the "
    "other's. excess: over the lowest objective of this run, per target and seed."
)
TOLERANCE = 1.001  # objectives within this ratio are equal
REFITS = 200
CASES = (
    *(Case(7, rows) for rows in (1_000, 3_000, 10_000, 30_000, 100_000)),
    Case(7, 10_000, own=True),
    Case(50, 100_000, "additive"),
    Case(50, 100_000),
)
REPEATS = 3
PARTS = ("fit", "bootstrap", "rows", "start")


@dataclass(frozen=True)
class Trial:
    """The fits of all targets by one method.

    Attributes
    ----------
    objective : (t,) mean Huber loss per target, as mixlaw computes it
    evaluations : of objective and gradient, if they are counted
    """

    method: str
    seed: int
    cpu_s: float
    wall_s: float
    objective: list[float]
    evaluations: int | None = None


def say(text: str) -> None:
    """Print a line of progress."""
    print(text, file=sys.stderr, flush=True)


def read_runs(path: Path) -> Table:
    """Return the rows after FIRST_TOKENS of the paper's table."""
    frame = pd.read_csv(path)
    frame = frame[frame["n_tokens"] > FIRST_TOKENS]
    losses = {c: LOSS + c.removesuffix("_loss") for c in map(str, frame) if c.endswith("_loss")}
    return check_frame(frame.rename(columns=losses | {"model_size": "n_params"}), path.name)


def joint_problem(table: Table) -> Problem:
    """Return the joint law on all targets of a table, in the paper's units."""
    settings = {"delta": DEFAULTS.delta, "logarithmic": False, "by_error": False}
    (_, problem), *_ = problems(get_law("joint"), table, table.targets, Units(N_UNIT, D_UNIT), **settings)
    return problem


def plain_rows(table: Table, target: str) -> tuple[Runs, Array]:
    """Return the rows that have a loss, and their losses, as the paper's procedure takes them."""
    frame = table.frame[table.frame[LOSS + target].notna()]
    n_params, n_tokens, y = (frame[c].to_numpy(float) for c in ("n_params", "n_tokens", LOSS + target))
    return Runs(n_params, n_tokens, frame[[f"weight_{d}" for d in table.domains]].to_numpy(float)), y


def check_same(table: Table, problem: Problem, theta: Array, values: Array) -> Array:
    """Return (t,) mixlaw's objectives of theta (t, p); raise if box or objective differ from the baseline's."""
    k = len(table.domains)
    if any(np.abs(a - b).max() > 1e-12 for a, b in zip(box(k), problem.law.bounds(k), strict=True)):
        raise RuntimeError("the bounds of the baseline and of mixlaw differ")
    found = objective(problem, Members(theta, np.arange(len(theta))))
    if not np.allclose(found, values, rtol=1e-9, atol=0):
        raise RuntimeError(f"the baseline's objectives {values} are {found} in mixlaw: the problems differ")
    return found


def run_baseline(table: Table, problem: Problem, method: str, seed: int) -> Trial:
    """Fit every target by the paper's procedure."""
    settings, once = BASELINES[method]
    rows = [plain_rows(table, target) for target in table.targets]
    wall, cpu = time.perf_counter(), time.process_time()
    found = [paper_procedure(x, y, seed, settings, once) for x, y in rows]
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    theta, values = np.stack([f[0] for f in found]), np.array([f[1] for f in found])
    same = check_same(table, problem, theta, values)
    return Trial(method, seed, cpu, wall, same.tolist(), sum(f[2] for f in found))


def run_ours(table: Table, problem: Problem, n_starts: int, seed: int) -> Trial:
    """Fit every target by mixlaw, starting from the table, without priors: the paper's objective."""
    wall, cpu = time.perf_counter(), time.process_time()
    minima = find_minima(joint_problem(table), n_starts, seed, prior=0.0)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    values = [
        Objective(*plain_rows(table, target))(theta)[0]
        for target, theta in zip(table.targets, minima.theta, strict=True)
    ]
    same = check_same(table, problem, minima.theta, np.array(values))
    return Trial(ours(n_starts), seed, cpu, wall, same.tolist())


def ours(n_starts: int) -> str:
    """Name our method."""
    return f"ours {n_starts}"


def part_fit(options: argparse.Namespace) -> dict[str, Any]:
    """Compare the paper's procedure with ours over several seeds."""
    table = read_runs(options.table)
    problem = joint_problem(table)
    find_minima(problem, 2, 0)  # imports and caches of the first call are not timed
    trials = []
    for seed in range(options.seeds):
        for method in BASELINES:
            trials.append(run_baseline(table, problem, method, seed))
            say(f"seed {seed}, {method}: {trials[-1].cpu_s:.2f} s CPU")
        for n_starts in STARTS:
            trials.append(run_ours(table, problem, n_starts, seed))
            say(f"seed {seed}, {trials[-1].method} starts: {trials[-1].cpu_s:.2f} s CPU")
    rows, k = problem.y.shape[1], len(table.domains)
    show(
        f"fit: joint law, {problem.law.n_free(k)} parameters, {rows} rows, {len(table.targets)} targets", *_cost(trials)
    )
    print(LEGEND)
    show("objective per target, median over seeds [1e-6]", _objectives(trials, table.targets))
    return {"targets": table.targets, "rows": rows, "trials": [asdict(t) for t in trials]}


def _stacked(trials: list[Trial]) -> dict[str, Array]:
    """Return (s, t) objectives by method."""
    methods = dict.fromkeys(t.method for t in trials)
    return {m: np.array([t.objective for t in trials if t.method == m]) for m in methods}


def _cost(trials: list[Trial]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a table of times, and one of the objectives that the methods reach."""
    found = _stacked(trials)
    lowest = np.concatenate(list(found.values())).min(0)
    seconds = {m: float(np.median([t.cpu_s for t in trials if t.method == m])) for m in found}
    unit = seconds[ours(USUAL)]
    times, depths = [], []
    for m, values in found.items():
        own = [t for t in trials if t.method == m]
        calls = [t.evaluations for t in own if t.evaluations]
        times.append(
            {
                "method": m,
                "CPU s": f"{seconds[m]:.2f}",
                "range": f"{min(t.cpu_s for t in own):.2f}-{max(t.cpu_s for t in own):.2f}",
                "wall s": f"{np.median([t.wall_s for t in own]):.2f}",
                "x ours": f"{seconds[m] / unit:.2f}",
                "evaluations": f"{np.median(calls):.0f}" if calls else "",
            }
        )
        excess = 100 * (values / lowest - 1)
        at_most = {f"at most {b}": f"{(values <= TOLERANCE * found[b]).sum()}/{values.size}" for b in BASELINES}
        ends = {"excess median %": f"{np.median(excess):.2f}", "mean %": f"{excess.mean():.2f}"}
        depths.append({"method": m} | at_most | ends | {"max %": f"{excess.max():.2f}"})
    return pd.DataFrame(times), pd.DataFrame(depths)


def _objectives(trials: list[Trial], targets: list[str]) -> pd.DataFrame:
    found = _stacked(trials)
    rows = {m: np.median(values, axis=0) for m, values in found.items()}
    rows["lowest seen"] = np.concatenate(list(found.values())).min(0)
    text = {m: [f"{1e6 * v:.3f}" for v in values] for m, values in rows.items()}
    return pd.DataFrame(text, index=targets).T.rename_axis("method").reset_index()


def part_bootstrap(options: argparse.Namespace) -> dict[str, Any]:
    """Compare one fit with REFITS refits of resampled runs, all targets each."""
    table, times = read_runs(options.table), []
    for seed in range(options.seeds):
        problem, start = joint_problem(table), time.process_time()
        minima = find_minima(problem, USUAL, seed, DEFAULTS.prior_strength)
        fitted = time.process_time()
        rng = np.random.default_rng(seed)
        resampled_fits(problem, minima, REFITS, DEFAULTS.prior_strength, rng)
        times.append((fitted - start, time.process_time() - fitted))
        say(f"seed {seed}: fit {times[-1][0]:.2f} s CPU, {REFITS} refits {times[-1][1]:.2f} s CPU")
    fit, refits = np.median(times, axis=0).tolist()
    row = {"fit CPU s": f"{fit:.2f}", f"{REFITS} refits CPU s": f"{refits:.2f}", "refits / fit": f"{refits / fit:.2f}"}
    each = {"ms per refit of a target": f"{1e3 * refits / REFITS / len(table.targets):.2f}"}
    show(f"bootstrap: {len(table.targets)} targets, medians of {options.seeds} seeds", pd.DataFrame([row | each]))
    return {"fit_cpu_s": fit, "refits": REFITS, "refits_cpu_s": refits, "ratio": refits / fit, "each": times}


def part_rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure cases of growing size, one process per case."""
    found: list[dict[str, Any]] = []
    for case in CASES:
        say(f"{case.rows} rows, k = {case.k}, {case.law}{', every row a mixture of its own' if case.own else ''}")
        command = [sys.executable, "-m", "scripts.bench_rows", *case.arguments()]
        found.append(json.loads(output_of(command)))
    rows = [
        {
            "k": f["k"],
            "law": f["law"],
            "parameters": f["parameters"],
            "rows": f["rows"],
            "mixtures": f["rows"] if case.own else case.mixtures,
            "CPU s": f"{f['cpu_s']:.2f}",
            "wall s": f"{f['wall_s']:.2f}",
            "us per row": f"{1e6 * f['cpu_s'] / f['rows']:.1f}",
            "peak MB": f"{f['peak_mb']:.0f}",
            "before MB": f"{f['peak_before_mb']:.0f}",
        }
        for case, f in zip(CASES, found, strict=True)
    ]
    title = (
        f"rows: LawFit(law, n_starts={N_STARTS}, n_bootstrap={N_BOOTSTRAP}).fit(table), one target, synthetic studies"
    )
    show(title, pd.DataFrame(rows))
    print("before: peak memory after imports and making the table; mixtures: number of distinct mixtures")
    return found


def part_start(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time the start of the commands."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.csv"
        study(Case(3, 1_000, targets=2)).to_csv(small, index=False)
        for name, arguments in _commands(options.table, small):
            walls, cpus = zip(*(_timed(arguments) for _ in range(REPEATS)), strict=True)
            found.append({"command": name, "wall_s": min(walls), "cpu_s": min(cpus), "walls": walls})
            say(f"{name}: {min(walls):.2f} s")
    rows = [{"command": f["command"], "wall s": f"{f['wall_s']:.2f}", "CPU s": f"{f['cpu_s']:.2f}"} for f in found]
    show(f"start: best of {REPEATS}", pd.DataFrame(rows))
    return found


def _commands(real: Path, small: Path) -> Iterator[tuple[str, list[str]]]:
    yield "mixlaw --help", ["--help"]
    for place, path, more, target in (("real", real, ["--layout", "paper"], "wikipedia"), ("small", small, [], "t0")):
        fit = ["fit", str(path), *more]
        yield f"mixlaw fit {place} --law joint --target {target}", [*fit, "--law", "joint", "--target", target]
        yield f"mixlaw fit {place} --law joint", [*fit, "--law", "joint"]
        yield f"mixlaw fit {place} --law auto", [*fit, "--law", "auto"]


def _timed(arguments: list[str]) -> tuple[float, float]:
    """Return wall and CPU seconds of one mixlaw command."""
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    output_of([str(Path(sys.executable).with_name("mixlaw")), *arguments])
    wall, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def output_of(command: list[str]) -> str:
    """Return the output of a command; raise with the end of its stderr if it fails."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-500:]}")
    return done.stdout


def show(title: str, *tables: pd.DataFrame) -> None:
    """Print tables under a title."""
    print(f"\n{title}")
    for table in tables:
        print(table.to_string(index=False), flush=True)


def machine() -> dict[str, Any]:
    """Return the date and the machine."""
    info = Path("/proc/cpuinfo")
    models = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "threads": os.environ["OMP_NUM_THREADS"],
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }


def main() -> int:
    """Run the requested parts, print their tables and write their numbers."""
    parser = argparse.ArgumentParser(
        "python -m scripts.bench_fitter", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds of the parts fit and bootstrap")
    parser.add_argument("--table", type=Path, default=CSV, help="the paper's table of runs")
    parser.add_argument("--out", type=Path, help="write all numbers to this JSON file")
    options = parser.parse_args()
    if "OMP_NUM_THREADS" not in os.environ:  # numpy has read it already: restart the process
        os.environ["OMP_NUM_THREADS"] = "1"
        os.execv(sys.executable, [sys.executable, "-m", "scripts.bench_fitter", *sys.argv[1:]])
    report: dict[str, Any] = {"machine": machine()}
    print(", ".join(f"{name} {value}" for name, value in report["machine"].items()), flush=True)
    parts: list[Callable[[argparse.Namespace], Any]] = [part_fit, part_bootstrap, part_rows, part_start]
    for name, part in zip(PARTS, parts, strict=True):
        if options.part in (name, "all"):
            report[name] = part(options)
    if options.out:
        options.out.write_text(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
