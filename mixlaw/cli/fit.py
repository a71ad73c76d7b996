"""`mixlaw fit`: fit laws, score them on held-out rows, choose one, and save them."""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from mixlaw.cli.reading import cleaned_table_options, print_warnings, read, read_clean
from mixlaw.cli.scores import score_table
from mixlaw.cli.solver import ProgressLine, settings_of, solver_options
from mixlaw.console import remark, say
from mixlaw.errors import ConfigError
from mixlaw.fileio import strict_json
from mixlaw.fitting.bootstrap import seed_noise
from mixlaw.fitting.fitted import FittedLaw
from mixlaw.fitting.saved import FittedLaws
from mixlaw.runs.comparable import require_alike
from mixlaw.selection.fit_laws import fit_laws
from mixlaw.selection.splits import KINDS
from mixlaw.tables.table import Table
from mixlaw.text import text_table


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options of `mixlaw fit`."""
    cleaned_table_options(sub)
    law = (
        "comma-separated names, or auto: choose one of multiplicative, additive and joint; without mixtures one of "
        "base and coupled, and of muennighoff if tokens are repeated; default: auto"
    )
    sub.add_argument("--law", default="auto", help=law)
    sub.add_argument("--target", nargs="+", default=[], help="targets to fit; default: all")
    sub.add_argument("--test", nargs="+", default=[], metavar="TABLE", help="runs to score the laws on, not to fit")
    sub.add_argument("--holdout", choices=[*KINDS], default="", help="hold out this part of TABLE to score the laws on")
    sub.add_argument("--out", type=Path, help="write the fitted laws to this file, e.g. laws.json")
    sub.add_argument("--json", action="store_true", help="print JSON")
    solver_options(sub)


def run(options: argparse.Namespace) -> None:
    """Fit laws with `fit_laws`, save them, and print fits and scores."""
    if options.test and options.holdout:
        raise ConfigError("--test and --holdout are two ways to score: give one of them")
    table = read_clean(options.table, options)
    print_warnings(table)
    test = read(options.test, options) if options.test else None
    if test:
        require_alike(table.identity, test.identity, "the runs of the fit", f"the runs in {', '.join(options.test)}")
    asked: dict[str, Any] = {"targets": options.target, "holdout": options.holdout, "test": test}
    with ProgressLine() as bar:
        laws = fit_laws(table, options.law, progress=bar, **asked, **settings_of(options))
    if options.out:
        laws.save(options.out)
    if options.json:
        say(strict_json(_summary(laws), indent=1))
        return
    _show(laws, table)
    if options.out:
        say(f"written to {options.out}")


def _show(laws: FittedLaws, table: Table) -> None:
    _show_fits(laws.fits)
    if laws.scores:
        say("\nMRE [%] on held-out rows:")
        say(score_table(pd.DataFrame(laws.scores)))
    if laws.noise:
        shown = ", ".join(f"{r.target} {r.percent:.2f} %" for r in seed_noise(table).itertuples())
        say(f"\nseed noise (sd of runs that differ in their seed only): {shown}")
    say("\n" + "\n".join(laws.intervals.values()))
    say(f"chosen: {laws.chosen} ({laws.reason})")


def _show_fits(fits: dict[str, FittedLaw]) -> None:
    for name, fit in fits.items():
        for warning in fit.warnings:
            remark(f"warning: {name} law: {warning}")
    found = [(name, target, result) for name, fit in fits.items() for target, result in fit.targets.items()]
    columns = {
        "law": [name for name, _, _ in found],
        "target": [target for _, target, _ in found],
        "rows": [result.n_rows for _, _, result in found],
        "runs": [result.n_runs for _, _, result in found],
        "minimum": [result.statement for _, _, result in found],
    }
    say(text_table(pd.DataFrame(columns)))


def _summary(laws: FittedLaws) -> dict[str, Any]:
    """Return everything that the command prints, as plain data."""
    fits = {
        name: {
            "warnings": fit.warnings,
            "parameters": fit.intervals_of_params().to_dict("records"),
            "targets": {
                t: {"objective": f.objective, "statement": f.statement, "n_rows": f.n_rows, "n_runs": f.n_runs}
                for t, f in fit.targets.items()
            },
        }
        for name, fit in laws.fits.items()
    }
    facts = {"chosen": laws.chosen, "reason": laws.reason, "intervals": [*laws.intervals.values()], "noise": laws.noise}
    return facts | {"scores": laws.scores, "laws": fits}
