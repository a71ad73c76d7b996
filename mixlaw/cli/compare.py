"""`mixlaw compare`: score laws on the same held-out rows, for each split, and choose one per split."""

import argparse
from typing import Any

import pandas as pd

from mixlaw.advice.objective import KNOWN_INPUTS
from mixlaw.advice.snr import distinguished
from mixlaw.cli.reading import cleaned_table_options, print_warnings, read_clean
from mixlaw.cli.scores import score_table
from mixlaw.cli.solver import ProgressLine, settings_of, solver_options
from mixlaw.console import remark, say
from mixlaw.errors import FitError
from mixlaw.fileio import strict_json
from mixlaw.fitting.identifiability import distinct
from mixlaw.laws.registry import LAWS, get_law
from mixlaw.selection.compare import Comparison, compare
from mixlaw.selection.splits import KINDS
from mixlaw.tables.table import Table
from mixlaw.text import text_table

SIGNALS = (
    "how well the runs tell mixtures apart by each target (signal: sd of the predicted loss over the trained mixtures "
    "at the largest N and D; noise: sd of one run; evaluation: standard error over questions, which runs share):"
)


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options of `mixlaw compare`."""
    cleaned_table_options(sub)
    laws = (
        "comma-separated names; auto: the law that fit would choose from the fitted rows; all: every law; "
        "default: base and the candidates of auto"
    )
    sub.add_argument("--laws", default="", help=laws)
    sub.add_argument("--holdout", choices=[*KINDS], nargs="+", default=["scale"], help="splits; default: scale")
    sub.add_argument("--against", help="reference law of the paired differences; default: joint")
    sub.add_argument("--target", nargs="+", default=[], help="targets to fit; default: all")
    sub.add_argument("--json", action="store_true", help="print JSON")
    solver_options(sub)


def run(options: argparse.Namespace) -> None:
    """Score laws with `compare`, split by split; a split that the table does not allow is left out."""
    table = read_clean(options.table, options)
    print_warnings(table)
    found, impossible = [], []
    asked = {"against": options.against, "targets": options.target, **settings_of(options)}
    for kind in options.holdout:
        try:
            with ProgressLine() as bar:
                found.append(compare(table, options.laws, holdout=kind, progress=bar, **asked))
        except FitError as error:
            impossible.append(error)
            remark(f"left out: {error}")
            continue
        if not options.json:
            _show(found[-1])
    if not found:
        raise impossible[0]
    told = _distinguished(table, found, asked)
    if options.json:
        say(strict_json([each.to_json() | {"signals": told.to_dict("records")} for each in found], indent=1))
    elif len(told):
        say(f"{SIGNALS}\n{text_table(told.rename(columns={'noise_of': 'noise of'}))}")


def _distinguished(table: Table, found: list[Comparison], asked: dict[str, Any]) -> pd.DataFrame:
    """Return signal and noise of every target by the best law that depends on the mixture; empty without one."""
    known = found[0].laws.sort_values("mre")["law"]
    mixing = [name for name in known if name in LAWS and get_law(name).mixes and not get_law(name).uses - KNOWN_INPUTS]
    if not mixing or not distinct(table)[2] > 1:
        return pd.DataFrame()
    settings = {name: value for name, value in asked.items() if name not in ("against", "n_jobs")}
    return distinguished(table, mixing[0], **settings)


def _show(found: Comparison) -> None:
    for name, why in found.refused.items():
        remark(f"left out: {name}: {why}")
    say(f"MRE [%] on {KINDS[found.kind]}:\n{score_table(found.targets)}\n")
    say("means over targets; difference: mre minus that of the last column's law, 90 % bootstrap interval over runs:")
    say(text_table(found.laws, decimals=3))
    for law, why in found.auto:
        say(f"auto took {law} ({why})")
    say(f"\nchosen: {found.chosen} ({found.reason})\n")
