"""`mixlaw fit`: fit laws, try them on a held-out part, score, choose, write."""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from mixlaw.cli import check
from mixlaw.cli.reading import doubt, names_of, read, read_clean
from mixlaw.cli.scores import score_table
from mixlaw.cli.solver import ProgressLine, settings_of, solver_options
from mixlaw.console import remark, say
from mixlaw.errors import ConfigError
from mixlaw.fileio import strict_json
from mixlaw.fitting.bootstrap import seed_noise
from mixlaw.fitting.estimator import LawFit
from mixlaw.fitting.saved import FittedLaws
from mixlaw.runs.comparable import require_alike
from mixlaw.selection.compare import AUTO, fit_and_choose
from mixlaw.selection.splits import KINDS


def add_options(sub: argparse.ArgumentParser) -> None:
    check.add_options(sub)
    sub.add_argument(
        "--law",
        default="auto",
        help="names with commas between, or auto, which chooses one of multiplicative, additive and joint; of base and "
        "coupled (and muennighoff, if tokens are repeated) where nothing is mixed",
    )
    sub.add_argument("--target", nargs="+", default=[], help="targets to fit; all by default")
    sub.add_argument("--test", nargs="+", default=[], metavar="TABLE", help="runs to score the laws on; never fitted")
    sub.add_argument("--holdout", choices=[*KINDS], default="", help="score on a part of TABLE, fitted on the rest")
    sub.add_argument("--out", type=Path, help="where the laws are written, e.g. laws.json")
    solver_options(sub)


def run(options: argparse.Namespace) -> None:
    """Fit, try on a held-out part, score, choose, write."""
    if options.test and options.holdout:
        raise ConfigError("--test and --holdout are two ways to score: give one of them")
    table, settings = read_clean(options.table, options), settings_of(options)
    doubt(table)
    test = read(options.test, options) if options.test else None
    if test:
        require_alike(table.identity, test.identity, "the runs of the fit", f"the runs in {', '.join(options.test)}")
    with ProgressLine() as bar:
        choice = fit_and_choose(table, laws_to_fit(options.law), options.holdout, options.target, bar, **settings)
    scored = [fit.score(test) for fit in choice.fits.values()] if test else []
    if options.holdout:
        scored = [trial.scores() for trial in choice.trials]
    rows = pd.concat(scored) if scored else pd.DataFrame()
    laws = FittedLaws.of(choice.fits, table, choice.chosen, choice.reason, rows)
    if options.out:
        laws.save(options.out)
    if options.json:
        say(strict_json(_summary(laws, choice.widened), indent=1))
        return
    _show_fits(choice.fits)
    if scored:
        say("\nMRE [%] on runs that the fit never saw:")
        say(score_table(pd.concat(scored)))
    if laws.noise:
        shown = ", ".join(f"{r.target} {r.percent:.2f} %" for r in seed_noise(table).itertuples())
        say(f"\nseed noise (sd of runs that differ in their seed only): {shown}")
    say("\n" + "\n".join(choice.widened))
    say(f"chosen: {choice.chosen} ({choice.reason})")
    if options.out:
        say(f"written to {options.out}")


def laws_to_fit(text: str) -> list[str]:
    """Return the laws that `fit` is to fit, or auto alone."""
    names = names_of(text)
    if AUTO in names and len(names) > 1:
        raise ConfigError(f"--law {text}: auto chooses its laws itself, so it stands alone")
    return names


def _show_fits(fits: dict[str, LawFit]) -> None:
    for name, fit in fits.items():
        for warning in fit.warnings_:
            remark(f"warning: {name} law: {warning}")
        for target, result in fit.targets_.items():
            say(f"{name:<10} {target:<16} {result.n_rows} rows of {result.n_runs} runs; {result.statement}")


def _summary(laws: FittedLaws, widened: list[str]) -> dict[str, Any]:
    fits = {
        name: {
            "warnings": fit.warnings_,
            "parameters": fit.intervals_of_params().to_dict("records"),
            "targets": {
                t: {"objective": f.objective, "statement": f.statement, "n_rows": f.n_rows, "n_runs": f.n_runs}
                for t, f in fit.targets_.items()
            },
        }
        for name, fit in laws.fits.items()
    }
    facts = {"chosen": laws.chosen, "reason": laws.reason, "intervals": widened, "noise": laws.noise}
    return facts | {"scores": laws.scores, "laws": fits}
