"""The options that describe the big run and the limits of its mixture, and the `Question` that they give."""

import argparse
from typing import Any

from mixlaw.advice.ask import KL_PENALTY, ask, law_of
from mixlaw.advice.constraints import AVERAGE, MEAN, OBJECTIVES, Question, read_groups
from mixlaw.advice.loss_limits import read_not_worse
from mixlaw.cli.options import add_renamed, number
from mixlaw.console import remark
from mixlaw.fitting.fitted import FittedLaw
from mixlaw.fitting.saved import FittedLaws
from mixlaw.quoted import read_pairs


def question_options(sub: argparse.ArgumentParser) -> None:
    """Add the size of the big run, the targets, and the limits of the mixture."""
    sub.add_argument("--n-params", type=number, metavar="N", help="N of the big run, e.g. 7e9")
    sub.add_argument("--n-tokens", type=number, metavar="D", help="D of the big run, e.g. 150e9")
    compute = "instead of both: FLOPs of the big run (6 N D), e.g. 1e22; N, D and the mixture are optimised together"
    sub.add_argument("--flops", type=number, metavar="C", help=compute)
    sub.add_argument(
        "--target",
        default="average",
        help="average of the domains (default), NAME, NAME:2,OTHER:1, or snr (by signal to noise of the runs)",
    )
    sub.add_argument("--law", help="one of the fitted laws; default: the chosen one")
    compared = "a mixture to compare with: uniform, natural, D=W,..., or a file; repeatable, first the one in use today"
    sub.add_argument("--baseline", action="append", default=[], metavar="MIXTURE", help=compared)
    goal = "minimise the mean of the targets' losses (default), or their largest ratio to the first baseline's"
    sub.add_argument("--objective", choices=OBJECTIVES, default=MEAN, help=goal)
    limits = sub.add_argument_group("limits of the mixture")
    weights: dict[str, Any] = {"default": "", "metavar": "D=W,..."}
    add_renamed(limits, "--floor", "--min", help="smallest weights of domains", **weights)
    add_renamed(limits, "--cap", "--max", help="largest weights of domains", **weights)
    limits.add_argument("--pin", help="fixed weights of domains", **weights)
    limits.add_argument(
        "--group", nargs="+", default=[], metavar="NAME=D+D:LEAST:MOST", help="smallest and largest sum of weights"
    )
    limits.add_argument("--max-epochs", type=number, metavar="E", help="largest number of epochs of any domain")
    limits.add_argument("--available", default="", metavar="D=TOKENS,...", help="available tokens, for --max-epochs")
    worse = "largest rise of a target's loss over the first baseline's in per cent; TARGET may be all; repeatable"
    limits.add_argument("--not-worse", action="append", default=[], metavar="TARGET:PERCENT", help=worse)
    near = "penalise the KL divergence from this mixture: uniform, natural, D=W,..., or a file"
    penalty = f"weight of that penalty, in nats of loss per nat of KL; default: {KL_PENALTY}"
    add_renamed(limits, "--stay-near", "--prior", default="", metavar="MIXTURE", help=near)
    add_renamed(limits, "--kl-penalty", "--pull", type=number, metavar="NATS", help=penalty)


def question_of(laws: FittedLaws, options: argparse.Namespace) -> Question:
    """Return the `Question` of the options; print notes on stderr."""
    question = ask(
        laws,
        n_params=options.n_params,
        n_tokens=options.n_tokens,
        flops=options.flops,
        target=options.target,
        law=options.law,
        floors=read_pairs(options.floor),
        caps=read_pairs(options.cap),
        pins=read_pairs(options.pin),
        groups=read_groups(options.group),
        max_epochs=options.max_epochs,
        available=read_pairs(options.available),
        stay_near=options.stay_near,
        kl_penalty=options.kl_penalty,
        baselines=options.baseline,
        not_worse=read_not_worse(options.not_worse),
        objective=options.objective,
    )
    for note in _notes(law_of(laws, options.law), question, options.target):
        remark(f"note: {note}")
    return question


def _notes(fit: FittedLaw, question: Question, target: str) -> list[str]:
    """Return notes on domains that the target or a limit leaves out."""
    notes, without = [], [d for d in fit.domains if d not in fit.targets]
    if target == "average" and "average" in fit.targets:
        notes.append("'average' is a target of these runs; the mean of the domains is --target mean")
    if target in AVERAGE and target not in fit.targets and 0 < len(without) < len(fit.domains):
        left = len(fit.domains) - len(without)
        notes.append(f"the average is over {left} of {len(fit.domains)} domains; no loss of: {', '.join(without)}")
    unlimited = [d for d in fit.domains if d not in question.available]
    if question.max_epochs and unlimited:
        names = ", ".join(unlimited)
        notes.append(f"--max-epochs does not limit {names}: their tokens are not known (--available)")
    return notes
