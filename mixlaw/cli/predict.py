"""`mixlaw predict`: the losses of a table's rows, with intervals."""

import argparse
from pathlib import Path

from mixlaw.advice.ask import read_baseline
from mixlaw.advice.extrapolation import far_warnings, rows_of
from mixlaw.cli.options import share
from mixlaw.cli.reading import print_warnings, read_like, require_like_fit, table_options
from mixlaw.console import remark, say
from mixlaw.errors import ConfigError, unknown_name
from mixlaw.fileio import strict_json
from mixlaw.fitting.saved import FittedLaws
from mixlaw.tables.units import NATS
from mixlaw.text import text_table


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options of `mixlaw predict`."""
    sub.add_argument("laws", metavar="LAWS")
    table_options(sub)
    sub.add_argument("--law", help="one of the fitted laws; default: the chosen one")
    sub.add_argument(
        "--level", type=share, default=0.9, metavar="SHARE", help="coverage of the intervals; default: 0.9"
    )
    compared = "add the gain of every row over this mixture: uniform, natural, D=W,..., or a file"
    sub.add_argument("--baseline", metavar="MIXTURE", help=compared)
    sub.add_argument("--out", type=Path, help="write a CSV file; default: print a table")
    sub.add_argument("--json", action="store_true", help="print JSON: one record per row and target")


def run(options: argparse.Namespace) -> None:
    """Predict the losses of every row of a table."""
    laws = FittedLaws.load(options.laws)
    name = options.law or laws.chosen
    if name not in laws.fits:
        raise ConfigError(f"--law: {unknown_name('law', name, laws.fits)}")
    table = read_like(options.table, options, laws, need_losses=False)
    for warning in laws.fits[name].warnings:
        remark(f"warning: {warning}")
    print_warnings(table)
    require_like_fit(laws.identity, table, options)
    baseline = read_baseline(laws, name, options.baseline) if options.baseline else None
    predictions = laws.fits[name].predict(table, level=options.level, baseline=baseline)
    units = {target: laws.fits[name].target(target).unit for target in predictions["target"].unique()}
    if set(units.values()) != {NATS}:
        predictions["unit"] = predictions["target"].map(units)
    for warning in far_warnings(laws, name, rows_of(laws, name, table)):
        remark(f"warning: {warning}")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        predictions.to_csv(options.out, index=False)
        say(f"{len(predictions)} predictions of the {name} law written to {options.out}")
    elif options.json:
        say(strict_json(predictions.to_dict("records"), indent=1))
    else:
        say(text_table(predictions))
