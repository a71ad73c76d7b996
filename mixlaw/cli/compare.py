"""`mixlaw compare`: score laws on the same held-out rows, for each split, and choose one per split."""

import argparse

from mixlaw.cli.reading import cleaned_table_options, print_warnings, read_clean
from mixlaw.cli.scores import score_table
from mixlaw.cli.solver import ProgressLine, settings_of, solver_options
from mixlaw.console import remark, say
from mixlaw.errors import FitError
from mixlaw.fileio import strict_json
from mixlaw.selection.compare import Comparison, compare
from mixlaw.selection.splits import KINDS
from mixlaw.text import text_table


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
    if options.json:
        say(strict_json([each.to_json() for each in found], indent=1))


def _show(found: Comparison) -> None:
    for name, why in found.refused.items():
        remark(f"left out: {name}: {why}")
    say(f"MRE [%] on {KINDS[found.kind]}:\n{score_table(found.targets)}\n")
    say("means over targets; difference: mre minus that of the last column's law, 90 % bootstrap interval over runs:")
    say(text_table(found.laws, decimals=3))
    for law, why in found.auto:
        say(f"auto took {law} ({why})")
    say(f"\nchosen: {found.chosen} ({found.reason})\n")
