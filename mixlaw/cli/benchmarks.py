"""`mixlaw benchmarks`: the scores of benchmarks as curves of a target's loss, and whether they are predictable."""

import argparse
from fractions import Fraction
from pathlib import Path

from mixlaw.benchmarks.fit_benchmarks import fit_benchmarks
from mixlaw.benchmarks.saved import Benchmarks
from mixlaw.cli.options import count
from mixlaw.cli.reading import cleaned_table_options, print_warnings, read_clean
from mixlaw.cli.solver import ProgressLine
from mixlaw.console import remark, say
from mixlaw.errors import ConfigError
from mixlaw.fileio import strict_json
from mixlaw.quoted import split, unquoted
from mixlaw.report.benchmark_section import curves_table, held_table, verdicts
from mixlaw.report.drawings import draw_benchmarks
from mixlaw.text import text_table


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options of `mixlaw benchmarks`."""
    cleaned_table_options(sub)
    losses = "columns of losses, one for all scores or one for each; default: loss_<target> of every score_<target>"
    sub.add_argument("--loss", nargs="+", default=[], metavar="COLUMN", help=losses)
    scores = "columns of scores, 0 to 1 or per cent; default: every score_<target>"
    sub.add_argument("--score", nargs="+", default=[], metavar="COLUMN", help=scores)
    guessing = "score of guessing: 1/4 with four choices, 0 for generated answers; or NAME=1/4,OTHER=0.5"
    sub.add_argument("--chance", required=True, metavar="SCORE", help=guessing)
    resamples = "bootstrap resamples of whole runs for the intervals; default: 200"
    sub.add_argument("--n-bootstrap", type=count, default=200, metavar="N", help=resamples)
    sub.add_argument("--out", type=Path, help="write the curves to this file, e.g. benchmarks.json")
    sub.add_argument("--figure", type=Path, help="draw the curves into this file: PNG, SVG or PDF")
    sub.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> None:
    """Fit curves, print their quality and verdicts, save and draw them."""
    table = read_clean(options.table, options)
    print_warnings(table)
    chance = read_chance(options.chance)
    with ProgressLine() as bar:
        asked = {"loss": options.loss, "score": options.score, "n_bootstrap": options.n_bootstrap}
        found = fit_benchmarks(table, chance, progress=bar, **asked)
    for note in found.notes:
        remark(f"note: {note}")
    if options.out:
        found.save(options.out)
    if options.figure:
        options.figure.parent.mkdir(parents=True, exist_ok=True)
        draw_benchmarks(options.figure, list(found.values()))
    if options.json:
        say(strict_json(found.to_json(), indent=1))
        return
    _show(found)
    for path in filter(None, (options.out, options.figure)):
        say(f"written to {path}")


def read_chance(text: str) -> float | dict[str, float]:
    """Return the score of guessing from '1/4' or 'NAME=1/4,OTHER=0.5'."""
    try:
        if "=" not in text:
            return float(Fraction(text))
        pairs = [split(part, "=") for part in split(text, ",")]
        return {unquoted(name): float(Fraction(value)) for name, value in pairs}
    except (ValueError, ZeroDivisionError):
        raise ConfigError(f"--chance {text}: write 1/4 or 0.25, or NAME=1/4,OTHER=0.5") from None


def _show(found: Benchmarks) -> None:
    say(text_table(curves_table(found)))
    if len(held := held_table(found)):
        say(f"\nheld-out runs, by curves fitted to smaller ones:\n{text_table(held)}")
    say("\n" + "\n".join(verdicts(found)))
