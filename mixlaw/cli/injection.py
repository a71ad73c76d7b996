"""`mixlaw injection`: the share of pretraining data in finetuning that keeps a model from forgetting, and its cost."""

import argparse

import numpy as np

from mixlaw.advice.injection import Tuning, injection, largest_share
from mixlaw.cli.options import number, share
from mixlaw.console import say
from mixlaw.fileio import strict_json
from mixlaw.fitting.saved import FittedLaws
from mixlaw.quoted import read_pairs
from mixlaw.report.injection_text import injection_sentence
from mixlaw.text import text_table


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options of `mixlaw injection`."""
    sub.add_argument("laws", metavar="LAWS", help="of `mixlaw fit --law forgetting`, for the pretraining domains")
    own = "of `mixlaw fit --law d-cpt --target DOMAIN`, for the finetuning domain: adds what injection costs it"
    sub.add_argument("--own", metavar="LAWS", help=own)
    sub.add_argument("--finetuning", required=True, metavar="DOMAIN", help="the domain to finetune on")
    weights = "the weights of the pretraining domains in pretraining"
    sub.add_argument("--pretraining", required=True, metavar="D=W,...", help=weights)
    losses = "the losses of the pretraining domains before finetuning"
    sub.add_argument("--before", required=True, metavar="D=LOSS,...", help=losses)
    sub.add_argument("--n-params", type=number, required=True, metavar="N", help="N of the model")
    sub.add_argument("--n-tokens", type=number, required=True, metavar="D", help="tokens of the finetuning run")
    sub.add_argument(
        "--keep", type=share, default=0.9, metavar="PART", help="part of the forgetting to keep away; default: 0.9"
    )
    sub.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> None:
    """Print the share, its interval and its cost, and a table of shares."""
    laws, own = FittedLaws.load(options.laws), options.own and FittedLaws.load(options.own).best
    weights, before = (read_pairs(text) for text in (options.pretraining, options.before))
    tuning = Tuning(options.n_params, options.n_tokens, options.finetuning, weights, before)
    most = largest_share(laws.mixtures, laws.best.domains, tuning.domain)
    found = injection(laws.best, tuning, most, options.keep, own)
    if options.json:
        ends = {name: getattr(found, name) for name in ("share", "low", "high")}
        known = {name: value if np.isfinite(value) else None for name, value in ends.items()}
        facts = {"kept": found.kept, **known, "most": most, "table": found.table.to_dict("records")}
        say(strict_json(facts, indent=1))
        return
    say(injection_sentence(found, tuning))
    say(text_table(found.table))
