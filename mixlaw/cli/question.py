"""The options that describe the big run and the limits of its mixture, and the `Question` that they give."""

import argparse
from typing import Any

from mixlaw.advice.constraints import AVERAGE, Question, read_groups, read_mixture, read_pairs, read_targets
from mixlaw.advice.recommend import baselines, require_mixture
from mixlaw.cli.options import add_renamed, number
from mixlaw.console import remark
from mixlaw.errors import ConfigError, unknown_name
from mixlaw.fitting.saved import FittedLaws

KL_PENALTY = 0.01  # nats of loss per nat of KL divergence, where --stay-near comes without --kl-penalty


def question_options(sub: argparse.ArgumentParser, needed: bool) -> None:
    sub.add_argument("--n-params", type=number, required=needed, metavar="N", help="N of the big run, e.g. 7e9")
    sub.add_argument("--n-tokens", type=number, required=needed, metavar="D", help="D of the big run, e.g. 150e9")
    sub.add_argument("--target", default="average", help="average (or mean, of the domains), NAME, or NAME:2,OTHER:1")
    sub.add_argument("--law", help="one of the fitted laws; the chosen one by default")
    limits = sub.add_argument_group("what the mixture may be")
    weights: dict[str, Any] = {"default": "", "metavar": "D=W,..."}
    add_renamed(limits, "--floor", "--min", help="smallest weights of domains", **weights)
    add_renamed(limits, "--cap", "--max", help="largest weights of domains", **weights)
    limits.add_argument("--pin", help="fixed weights of domains", **weights)
    limits.add_argument(
        "--group", nargs="+", default=[], metavar="NAME=D+D:LEAST:MOST", help="limits of a sum of weights"
    )
    limits.add_argument(
        "--max-epochs", type=number, metavar="E", help="cap weights so that no domain is repeated more often"
    )
    limits.add_argument("--available", default="", metavar="D=TOKENS,...", help="tokens of domains, for --max-epochs")
    near = "penalise the KL divergence from this mixture: uniform, natural, or D=W,..."
    penalty = f"weight of that penalty, in nats of loss per nat of KL; default: {KL_PENALTY}"
    add_renamed(limits, "--stay-near", "--prior", default="", metavar="MIXTURE", help=near)
    add_renamed(limits, "--kl-penalty", "--pull", type=number, metavar="NATS", help=penalty)


def question_of(laws: FittedLaws, options: argparse.Namespace) -> Question:
    """Return the question that the options ask."""
    fit = laws.fits.get(options.law, laws.best)
    require_mixture(laws, fit.name)
    stated = read_pairs(options.available)
    for domain, tokens in stated.items():
        if domain not in fit.domains:
            raise ConfigError(f"--available: {unknown_name('domain', domain, fit.domains)}")
        if not tokens > 0:
            raise ConfigError(f"--available {domain}={tokens:g}: tokens must be above 0")
    available = laws.sizes | stated
    if options.max_epochs and not available:
        raise ConfigError("--max-epochs needs the tokens of each domain: --available code=3e9,docs=1e9,...")
    without = [d for d in fit.domains if d not in fit.targets]
    if options.target == "average" and "average" in fit.targets:
        remark("note: 'average' is a target of these runs; the mean of the domains is --target mean")
    if options.target in AVERAGE and options.target not in fit.targets and without and len(without) < len(fit.domains):
        remark(f"note: the average is over {len(fit.domains) - len(without)} domains; no loss of: {', '.join(without)}")
    unlimited = [d for d in fit.domains if d not in available]
    if options.max_epochs and unlimited:
        remark(f"note: --max-epochs does not limit {', '.join(unlimited)}: their tokens are not known (--available)")
    known = baselines(fit.domains, available)
    near = read_mixture(options.stay_near, fit.domains, known) if options.stay_near else {}
    if options.kl_penalty and not near:
        raise ConfigError("--kl-penalty needs a mixture to stay near: --stay-near uniform, natural, or D=W,...")
    return Question(
        n_params=options.n_params,
        n_tokens=options.n_tokens,
        targets=read_targets(options.target, fit),
        floors=read_pairs(options.floor),
        caps=read_pairs(options.cap),
        pins=read_pairs(options.pin),
        groups=read_groups(options.group),
        available=available,
        max_epochs=options.max_epochs,
        prior=near,
        pull=(options.kl_penalty or KL_PENALTY) if near else 0.0,
    )
