"""`mixlaw plot`: draw one figure."""

import argparse
from dataclasses import replace
from pathlib import Path

from mixlaw.advice.constraints import AVERAGE, read_targets
from mixlaw.advice.recommend import recommend, require_mixture
from mixlaw.cli.question import question_of, question_options
from mixlaw.cli.reading import read_like, reading_options
from mixlaw.console import remark, say
from mixlaw.errors import ConfigError, unknown_name
from mixlaw.fitting.saved import FittedLaws
from mixlaw.report.drawings import OF_MIXTURES, draw_one

KINDS = "optimum ternary parallel path prices gradient parameters predicted residuals tokens errors".split()


def add_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("laws", metavar="LAWS")
    sub.add_argument("kind", type=_kind, choices=KINDS, help="what to draw")
    sub.add_argument("--table", nargs="+", default=[], metavar="TABLE", help="runs, for predicted and tokens")
    reading_options(sub)
    question_options(sub, needed=False)
    sub.add_argument("--out", type=Path, default=Path("plot.png"), help="a PNG, SVG or PDF file")


def _kind(text: str) -> str:
    """Return the kind of a figure; the gradient was once called pull."""
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
        require_mixture(laws, laws.chosen)
        asked = options.n_params and options.n_tokens
        answer = recommend(laws, question_of(laws, options), options.law) if asked else None
    elif options.target not in AVERAGE:
        targets = list(read_targets(options.target, laws.best))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for sentence in draw_one(options.out, options.kind, laws, table, answer, targets):
        remark(f"note: {sentence}")
    say(f"written to {options.out}")
