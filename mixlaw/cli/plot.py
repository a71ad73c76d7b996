"""`mixlaw plot`: draw one figure."""

import argparse
from dataclasses import replace
from pathlib import Path

from mixlaw.advice.ask import require_mixture
from mixlaw.advice.constraints import AVERAGE
from mixlaw.advice.recommend import recommend
from mixlaw.advice.recommendation import Recommendation
from mixlaw.advice.snr import importances
from mixlaw.cli.question import question_of, question_options
from mixlaw.cli.reading import read_like, reading_options
from mixlaw.cli.recommend import phase_options
from mixlaw.console import remark, say
from mixlaw.errors import ConfigError, unknown_name
from mixlaw.fitting.saved import FittedLaws
from mixlaw.report.drawings import OF_MIXTURES, OF_PHASES, draw_one

KINDS = ["optimum", "ternary", "parallel", "path", "prices", "gradient", *OF_PHASES, "tradeoff", "signals", "epochs"]
KINDS += ["parameters", "predicted", "residuals", "tokens", "errors"]


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options of `mixlaw plot`."""
    sub.add_argument("laws", metavar="LAWS")
    sub.add_argument("kind", type=_kind, choices=KINDS, help="which figure")
    runs = "runs for the figures predicted, residuals, tokens and errors"
    sub.add_argument("--table", nargs="+", default=[], metavar="TABLE", help=runs)
    reading_options(sub)
    question_options(sub)
    phase_options(sub)
    sub.add_argument("--out", type=Path, default=Path("plot.png"), help="a PNG, SVG or PDF file; default: plot.png")


def _kind(text: str) -> str:
    """Return the kind of a figure; `pull` is the former name of `gradient`."""
    return "gradient" if text == "pull" else text


def run(options: argparse.Namespace) -> None:
    """Draw one figure."""
    laws = FittedLaws.load(options.laws)
    if options.law and options.law not in laws.fits:
        raise ConfigError(f"--law: {unknown_name('law', options.law, laws.fits)}")
    laws = replace(laws, chosen=options.law or laws.chosen)
    table = read_like(options.table, options, laws) if options.table else None
    answer, targets = None, []
    if options.kind in OF_MIXTURES:
        answer = _answer(laws, options)
    elif options.target not in AVERAGE:
        targets = list(importances(options.target, laws, laws.best, laws.sizes))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for sentence in draw_one(options.out, options.kind, laws, table, answer, targets):
        remark(f"note: {sentence}")
    say(f"written to {options.out}")


def _answer(laws: FittedLaws, options: argparse.Namespace) -> Recommendation | None:
    """Return the recommendation that a figure shows, or None where the size of the big run is not given."""
    require_mixture(laws, laws.chosen)
    if options.n_params is None and options.n_tokens is None and options.flops is None:
        return None
    phases = {"phases": options.phases, "switch": options.switch, "beyond_runs": options.beyond_runs}
    return recommend(laws, question_of(laws, options), law=options.law, **phases)
