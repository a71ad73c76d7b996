"""How laws are fitted, on the command line: the options, the settings that they make, and the line of progress."""

import argparse
import sys
from typing import Any

from mixlaw.cli.options import amount, number


def solver_options(sub: argparse.ArgumentParser) -> None:
    solver = sub.add_argument_group("how laws are fitted")
    solver.add_argument("--delta", type=number, default=1e-3, help="Huber threshold [nats]")
    solver.add_argument("--residuals", choices=["raw", "log"], default="raw", help="of losses, or of their logarithms")
    solver.add_argument("--weights", choices=["equal", "error"], default="equal", help="error: by columns loss_se_*")
    solver.add_argument(
        "--belief", type=amount, default=1.0, help="what priors count, in runs; 0 is the paper's bare fit"
    )
    solver.add_argument(
        "--starts", type=int, help="descents per target; by default 12, and up to 48 where rows are few"
    )
    solver.add_argument("--bootstrap", type=int, default=100, help="resamples of runs behind the intervals")
    solver.add_argument("--seed", type=int, default=0)


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of every `LawFit` from the options."""
    return {
        "delta": options.delta, "residuals": options.residuals, "weights": options.weights, "prior": options.belief,
        "n_starts": options.starts, "n_bootstrap": options.bootstrap, "seed": options.seed,
    }  # fmt: skip


class Progress:
    """What is being fitted and for how long, on a terminal; nothing otherwise."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._bar = tqdm(disable=not sys.stderr.isatty(), leave=False, bar_format="{desc} [{elapsed}]")

    def __enter__(self) -> "Progress":
        return self

    def __call__(self, text: str) -> None:
        self._bar.set_description_str(text)
        self._bar.refresh()

    def __exit__(self, *error: object) -> None:
        self._bar.close()
