"""python -m scripts.bench_rows K ROWS LAW [--own] [--targets T]: time and memory of one fit of a synthetic study.

`scripts.bench_fitter --part rows` starts one process per case, so that peak memory is that of the case.
"""

import argparse
import json
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixlaw.fitting.estimator import LawFit
from mixlaw.laws.law import Units
from mixlaw.laws.registry import get_law
from mixlaw.tables.check import check_frame

Array = NDArray[np.float64]
UNITS = Units(1e8, 1e10)
SIZES = (1e8, 2e8, 4e8, 8e8)
NOISE = 0.002  # sd of a row's loss [nats]
REALISED = 0.01  # relative sd of realised weights around the requested ones
N_STARTS, N_BOOTSTRAP = 4, 20


@dataclass(frozen=True)
class Case:
    """A study and the law that is fitted to it.

    Attributes
    ----------
    k : domains
    rows : evaluations
    law : name of the fitted law; a joint law generates the losses
    own : whether every row has a mixture of its own, as realised weights differ slightly
    targets : losses per row
    """

    k: int
    rows: int
    law: str = "joint"
    own: bool = False
    targets: int = 1

    @property
    def mixtures(self) -> int:
        """Number of requested mixtures."""
        return max(60, 4 * self.k)

    def arguments(self) -> list[str]:
        """Return the command line that measures this case."""
        more = ["--own"] if self.own else []
        return [str(self.k), str(self.rows), self.law, "--targets", str(self.targets), *more]


def study(case: Case, seed: int = 0) -> pd.DataFrame:
    """Return a table of runs: all mixtures at four sizes, with D between 4e9 and 4e10 in as many steps as needed.

    Returns
    -------
    DataFrame of run_id, n_params, n_tokens, weight_*, loss_*
    """
    rng = np.random.default_rng(seed)
    asked = rng.dirichlet(np.ones(case.k), case.mixtures)
    n_runs = len(SIZES) * case.mixtures
    tokens = np.geomspace(4e9, 4e10, -(-case.rows // n_runs))
    run = np.repeat(np.arange(n_runs), len(tokens))[: case.rows]
    n_params, n_tokens = np.array(SIZES)[run % len(SIZES)], np.tile(tokens, n_runs)[: case.rows]
    h = asked[run // len(SIZES)]
    if case.own:
        h = h * np.exp(REALISED * rng.normal(size=h.shape))
        h /= h.sum(1, keepdims=True)
    columns = {"run_id": run.astype(str), "n_params": n_params, "n_tokens": n_tokens}
    columns |= {f"weight_d{i}": h[:, i] for i in range(case.k)}
    theta = np.stack([truth(case.k, rng) for _ in range(case.targets)])
    losses = get_law("joint").loss(theta, UNITS.inputs(n_params, n_tokens, h.T))
    losses = losses + NOISE * rng.normal(size=losses.shape)
    return pd.DataFrame(columns | {f"loss_t{i}": loss for i, loss in enumerate(losses)})


def truth(k: int, rng: np.random.Generator) -> Array:
    """Return parameters (4k + 5,) of a joint law, similar to those fitted to real runs."""
    inverse = [rng.normal(0.7, 0.3, k), np.log(rng.uniform(0.2, 0.8, k))]
    powers = [
        np.concatenate([[np.log(0.3), gamma], rng.normal(0.0, 0.5, k - 1), [np.log(exponent)]])
        for gamma, exponent in ((0.6, 0.3), (-0.5, 0.35))
    ]
    return np.concatenate([[np.log(1.2)], *inverse, *powers])


def peak_mb() -> float:
    """Return the peak memory of this process [MB]; `ru_maxrss` would be inherited from the parent."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def measure(case: Case) -> dict[str, float | str | bool]:
    """Return the time of a case, from the checked table to intervals, and its peak memory."""
    before = time.process_time()
    table = check_frame(study(case), "the synthetic study")
    made, peak, wall = time.process_time(), peak_mb(), time.perf_counter()
    fit = LawFit(case.law, n_starts=N_STARTS, n_bootstrap=N_BOOTSTRAP).fit(table).fitted_
    return {
        "k": case.k,
        "parameters": get_law(case.law).n_free(case.k),
        "rows": case.rows,
        "law": case.law,
        "own": case.own,
        "table_cpu_s": made - before,
        "cpu_s": time.process_time() - made,
        "wall_s": time.perf_counter() - wall,
        "peak_before_mb": peak,
        "peak_mb": peak_mb(),
        "objective": fit.targets["t0"].objective,
    }


def main() -> int:
    """Measure one case and print it as JSON."""
    parser = argparse.ArgumentParser("python -m scripts.bench_rows", description=__doc__)
    parser.add_argument("k", type=int)
    parser.add_argument("rows", type=int)
    parser.add_argument("law")
    parser.add_argument("--own", action="store_true", help="every row has a mixture of its own")
    parser.add_argument("--targets", type=int, default=1)
    options = parser.parse_args()
    case = Case(options.k, options.rows, options.law, options.own, options.targets)
    print(json.dumps(measure(case)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
