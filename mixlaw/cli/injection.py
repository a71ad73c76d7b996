"""`mixlaw injection`: the share of pretraining data in finetuning that keeps a model from forgetting, and its cost."""

import argparse

import numpy as np

from mixlaw.advice.injection import Injection, Tuning, injection
from mixlaw.cli.options import number, share
from mixlaw.console import say
from mixlaw.fileio import strict_json
from mixlaw.fitting.fitted import FittedLaw
from mixlaw.fitting.saved import FittedLaws
from mixlaw.quoted import read_pairs
from mixlaw.text import text_table


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options of `mixlaw injection`."""
    sub.add_argument("laws", metavar="LAWS", help="of `mixlaw fit --law forgetting`, for the pretraining domains")
    own = "of `mixlaw fit --law d-cpt --target DOMAIN`, for the finetuning domain: adds what injection costs it"
    sub.add_argument("--own", metavar="LAWS", help=own)
    sub.add_argument("--finetuning", required=True, metavar="DOMAIN", help="the domain to finetune on")
    weights = "the weights of the pretraining domains in pretraining"
    sub.add_argument("--pretraining", required=True, metavar="D=W,...", help=weights)
    sub.add_argument("--n-params", type=number, required=True, metavar="N", help="N of the model")
    sub.add_argument("--n-tokens", type=number, required=True, metavar="D", help="tokens of the finetuning run")
    sub.add_argument(
        "--keep", type=share, default=0.9, metavar="PART", help="part of the forgetting to keep away; default: 0.9"
    )
    sub.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> None:
    """Print the share, its interval and its cost, and a table of shares."""
    fit = _law(options.laws)
    own = _law(options.own) if options.own else None
    tuning = Tuning(options.n_params, options.n_tokens, options.finetuning, read_pairs(options.pretraining))
    found = injection(fit, tuning, options.keep, own)
    if options.json:
        ends = {name: getattr(found, name) for name in ("share", "low", "high")}
        known = {name: value if np.isfinite(value) else None for name, value in ends.items()}
        say(strict_json({"kept": found.kept, **known, "table": found.table.to_dict("records")}, indent=1))
        return
    say(sentence(found, tuning))
    say(text_table(found.table))


def _law(path: str) -> FittedLaw:
    """Return the chosen law of a file."""
    laws = FittedLaws.load(path)
    return laws.fits[laws.chosen]


def sentence(found: Injection, tuning: Tuning) -> str:
    """Return the recommendation in a sentence or two."""
    run = f"at N = {tuning.n_params:.3g} and D = {tuning.n_tokens:.3g}"
    if not np.isfinite(found.share):
        return f"No share of pretraining data keeps {100 * found.kept:g} % of the forgetting away {run}."
    high = f"{100 * found.high:.3g} %" if np.isfinite(found.high) else "more than any share"
    told = f"Injecting {100 * found.share:.3g} % of pretraining data (90 % interval {100 * found.low:.3g} to {high})"
    told += f" keeps {100 * found.kept:g} % of the forgetting away {run}."
    cost = found.cost()
    if cost is None:
        return told
    return f"{told} It raises the loss of {tuning.domain} by {cost[0]:.4f} ({cost[1]:.4f} to {cost[2]:.4f})."
