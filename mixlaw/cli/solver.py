"""The solver's options on the command line, the settings of `LawFit` that they give, and the progress line."""

import argparse
import sys
from typing import Any

from tqdm import tqdm

from mixlaw.cli.options import add_renamed, amount, number


def solver_options(sub: argparse.ArgumentParser) -> None:
    """Add the settings of `LawFit`, and the number of processes."""
    solver = sub.add_argument_group("how laws are fitted")
    solver.add_argument("--delta", type=number, default=1e-3, help="Huber threshold, in nats; default: 0.001")
    solver.add_argument(
        "--residuals", choices=["raw", "log"], default="raw", help="of losses or of log losses; default: raw"
    )
    weighting = "equal (default), or error: inverse variance of the evaluations, from loss_se_*"
    strength = "weight of the parameter priors, in runs; 0: no priors, as in the paper"
    starts = "starting points of the multi-start search per target; default: 12, up to 48 for few rows"
    resamples = "bootstrap resamples of whole runs for the intervals; default: 100"
    add_renamed(solver, "--row-weights", "--weights", choices=["equal", "error"], default="equal", help=weighting)
    add_renamed(solver, "--prior-strength", "--belief", type=amount, default=1.0, metavar="RUNS", help=strength)
    add_renamed(solver, "--n-starts", "--starts", type=int, metavar="N", help=starts)
    add_renamed(solver, "--n-bootstrap", "--bootstrap", type=int, default=100, metavar="N", help=resamples)
    solver.add_argument("--seed", type=int, default=0, help="seed of starts and resamples; default: 0")
    solver.add_argument(
        "--n-jobs", type=int, metavar="N", help="processes; results do not depend on it; default: all cores"
    )


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of every `LawFit` from the options, and the number of processes."""
    return {
        "delta": options.delta,
        "residuals": options.residuals,
        "row_weights": options.row_weights,
        "prior_strength": options.prior_strength,
        "n_starts": options.n_starts,
        "n_bootstrap": options.n_bootstrap,
        "seed": options.seed,
        "n_jobs": options.n_jobs,
    }


class ProgressLine:
    """One line on stderr with what is being fitted and the elapsed time; only where stderr is a terminal."""

    def __init__(self) -> None:
        self._bar = tqdm(disable=not sys.stderr.isatty(), leave=False, bar_format="{desc} [{elapsed}]")

    def __enter__(self) -> "ProgressLine":
        return self

    def __call__(self, text: str) -> None:
        self._bar.set_description_str(text)
        self._bar.refresh()

    def __exit__(self, *error: object) -> None:
        self._bar.close()
