"""`mixlaw check`: what a table holds, what was repaired, and what it can support."""

import argparse
from typing import Any

from mixlaw.cli.reading import keep_warmup_option, read_clean, table_options
from mixlaw.console import say
from mixlaw.errors import FitError
from mixlaw.fileio import strict_json
from mixlaw.fitting.bootstrap import seed_noise
from mixlaw.fitting.identifiability import distinct, warnings_of
from mixlaw.laws.registry import get_law
from mixlaw.selection.candidates import auto_laws, candidates
from mixlaw.tables.table import Table
from mixlaw.tables.units import NATS, difference


def add_options(sub: argparse.ArgumentParser) -> None:
    table_options(sub)
    keep_warmup_option(sub)
    sub.add_argument("--json", action="store_true", help="print everything as JSON")


def run(options: argparse.Namespace) -> None:
    """Say what a table holds and what it can support."""
    table = read_clean(options.table, options)
    frame = table.frame
    sizes, tokens, mixtures = distinct(table)
    facts: dict[str, Any] = {
        "rows": len(frame), "runs": int(frame["run_id"].nunique()), "model_sizes": sizes, "numbers_of_tokens": tokens,
        "mixtures": mixtures, "notes": table.notes, "left_out": table.left_out,
    }  # fmt: skip
    columns = ["n_params", "n_tokens", *(f"weight_{d}" for d in table.domains), *(f"loss_{t}" for t in table.targets)]
    described = {
        c: {
            "low": float(frame[c].min()),
            "high": float(frame[c].max()),
            "values": int(frame[c].round(4).nunique()),
            "empty": int(frame[c].isna().sum()),
        }
        for c in columns
    }
    noise = seed_noise(table)
    support = _support(table)
    support["warnings"] = [*table.warnings, *support["warnings"]]
    facts |= {"columns": described, "noise": noise.to_dict("records"), "units": table.units} | support
    if options.json:
        say(strict_json(facts, indent=1))
        return
    kinds = f"{sizes} model sizes, {tokens} numbers of tokens, {mixtures} mixtures"
    say(f"{facts['rows']} rows of {facts['runs']} runs: {kinds}")
    say(f"laws that auto would fit: {', '.join(facts['laws']) or 'none'}")
    for name, column in described.items():
        empty = f", {column['empty']} empty" if column["empty"] else ""
        unit = table.units.get(name.removeprefix("loss_"), NATS) if name.startswith("loss_") else NATS
        shown = f" ({unit})" if unit != NATS else ""
        say(f"{name}{shown}: {column['low']:.4g} to {column['high']:.4g}, {column['values']} values{empty}")
    for row in noise.itertuples():
        sd = difference(f"{row.sd:.4f}", table.units.get(str(row.target), NATS))
        say(f"seed noise of {row.target}: sd {sd} ({row.percent:.2f} %) over {row.n_runs} runs")
    for warning in facts["warnings"]:
        say(f"warning: {warning}")


def _support(table: Table) -> dict[str, list[str]]:
    """Return which laws auto would fit to a table, and what the table leaves undecided about them."""
    warnings = warnings_of(get_law(candidates(table)[0]), table)
    try:
        return {"laws": auto_laws(table), "warnings": warnings}
    except FitError as error:
        return {"laws": [], "warnings": [*warnings, str(error)]}
