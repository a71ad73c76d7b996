"""`mixlaw compare`: score laws on the same held-out rows, one split after the other, and choose one for each."""

import argparse

from mixlaw.cli import check
from mixlaw.cli.reading import doubt, read_clean
from mixlaw.cli.scores import score_table
from mixlaw.cli.solver import ProgressLine, settings_of, solver_options
from mixlaw.console import remark, say
from mixlaw.errors import FitError
from mixlaw.fileio import strict_json
from mixlaw.selection.compare import Comparison, compare
from mixlaw.selection.splits import KINDS
from mixlaw.text import text_table


def add_options(sub: argparse.ArgumentParser) -> None:
    check.add_options(sub)
    sub.add_argument(
        "--laws", default="",
        help="names with commas between; by default base and the laws of auto; auto: what fit would choose from the "
        "fitted part; all: every law",
    )  # fmt: skip
    sub.add_argument("--holdout", choices=[*KINDS], nargs="+", default=["scale"], help="one or more splits")
    sub.add_argument("--against", help="the law that the others' errors are subtracted from; joint by default")
    sub.add_argument("--target", nargs="+", default=[])
    solver_options(sub)


def run(options: argparse.Namespace) -> None:
    """Score laws on the same held-out rows, one split after the other, and choose one for each."""
    table = read_clean(options.table, options)
    doubt(table)
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
    say("means over targets; difference: of the mre to that of the law named last, with a 90 % interval over runs:")
    say(text_table(found.laws, decimals=3))
    for law, why in found.auto:
        say(f"auto took {law} ({why})")
    say(f"\nchosen: {found.chosen} ({found.reason})\n")
