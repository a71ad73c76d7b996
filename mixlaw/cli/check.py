"""`mixlaw check`: the contents of a table, its repairs, and the laws that it can support."""

import argparse
from typing import Any

from mixlaw.cli.reading import cleaned_table_options, read_clean
from mixlaw.console import say
from mixlaw.errors import FitError
from mixlaw.fileio import strict_json
from mixlaw.fitting.bootstrap import seed_noise
from mixlaw.fitting.identifiability import distinct, warnings_of
from mixlaw.laws.registry import get_law
from mixlaw.selection.candidates import auto_laws, candidates
from mixlaw.tables.columns import SCORE
from mixlaw.tables.number_parsing import parse_numbers
from mixlaw.tables.table import Table
from mixlaw.tables.units import NATS, difference


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options of `mixlaw check`."""
    cleaned_table_options(sub)
    sub.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> None:
    """Print the contents of a table, its repairs, and what it can support."""
    table = read_clean(options.table, options)
    facts = _facts(table)
    if options.json:
        say(strict_json(facts, indent=1))
    else:
        _show(facts)


def _facts(table: Table) -> dict[str, Any]:
    """Return everything that the command prints, as plain data."""
    sizes, tokens, mixtures = distinct(table)
    support = _support(table)
    return {
        "rows": len(table.frame),
        "runs": int(table.frame["run_id"].nunique()),
        "model_sizes": sizes,
        "numbers_of_tokens": tokens,
        "mixtures": mixtures,
        "notes": table.notes,
        "left_out": table.left_out,
        "columns": _columns(table),
        "noise": seed_noise(table).to_dict("records"),
        "units": table.units,
        "laws": support["laws"],
        "warnings": [*table.warnings, *support["warnings"]],
    }


def _columns(table: Table) -> dict[str, dict[str, float]]:
    """Return per column of N, D, weights, losses and scores: its range, its number of values, and its empty cells."""
    weights = [f"weight_{domain}" for domain in table.domains]
    frame = table.frame[["n_params", "n_tokens", *weights, *(f"loss_{target}" for target in table.targets)]]
    scores = {name: parse_numbers(table.frame[name])[0] for t in table.targets if (name := SCORE + t) in table.frame}
    frame = frame.assign(**{name: score for name, score in scores.items() if score.notna().any()})
    return {
        str(name): {
            "low": float(column.min()),
            "high": float(column.max()),
            "values": int(column.round(4).nunique()),
            "empty": int(column.isna().sum()),
        }
        for name, column in frame.items()
    }


def _show(facts: dict[str, Any]) -> None:
    kinds = f"{facts['model_sizes']} model sizes, {facts['numbers_of_tokens']} numbers of tokens"
    say(f"{facts['rows']} rows of {facts['runs']} runs: {kinds}, {facts['mixtures']} mixtures")
    say(f"laws that auto would fit: {', '.join(facts['laws']) or 'none'}")
    units = {f"loss_{target}": unit for target, unit in facts["units"].items()}
    for name, column in facts["columns"].items():
        empty = f", {column['empty']} empty" if column["empty"] else ""
        unit = units.get(name, NATS)
        shown = f" ({unit})" if unit != NATS else ""
        say(f"{name}{shown}: {column['low']:.4g} to {column['high']:.4g}, {column['values']} values{empty}")
    for row in facts["noise"]:
        sd = difference(f"{row['sd']:.4f}", facts["units"].get(str(row["target"]), NATS))
        say(f"seed noise of {row['target']}: sd {sd} ({row['percent']:.2f} %) over {row['n_runs']} runs")
    for warning in facts["warnings"]:
        say(f"warning: {warning}")


def _support(table: Table) -> dict[str, list[str]]:
    """Return the laws that auto would fit, and warnings about parameters that the table barely identifies."""
    warnings = warnings_of(get_law(candidates(table)[0]), table)
    try:
        return {"laws": auto_laws(table), "warnings": warnings}
    except FitError as error:
        return {"laws": [], "warnings": [*warnings, str(error)]}
