"""`mixlaw laws`: list all laws with their formulas and sources."""

import argparse

from mixlaw.cli.options import count
from mixlaw.console import say
from mixlaw.fileio import strict_json
from mixlaw.laws.registry import LAWS


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options of `mixlaw laws`."""
    sub.add_argument(
        "--domains", type=count, default=7, metavar="K", help="domains to count parameters for; default: 7"
    )
    sub.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> None:
    """List the laws."""
    rows = [
        {
            "name": law.name,
            "parameters": law.n_free(options.domains),
            "uses": ", ".join(sorted(law.uses)),
            "formula": law.formula,
            "source": law.source,
            "remark": law.remark,
        }
        for law in LAWS.values()
    ]
    if options.json:
        say(strict_json(rows, indent=1))
        return
    for row in rows:
        say(f"{row['name']} ({row['parameters']} parameters for {options.domains} domains; uses {row['uses']})")
        say(f"    L = {row['formula']}\n    {row['source']}" + (f"\n    {row['remark']}" if row["remark"] else ""))
