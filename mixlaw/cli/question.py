"""What a big run asks of the laws, on the command line: the options, and the question that they make."""

import argparse

from mixlaw.advice.constraints import AVERAGE, Question, read_groups, read_mixture, read_pairs, read_targets
from mixlaw.advice.recommend import baselines, require_mixture
from mixlaw.cli.options import number
from mixlaw.console import remark
from mixlaw.errors import ConfigError, unknown_name
from mixlaw.fitting.saved import FittedLaws

PULL = 0.01


def question_options(sub: argparse.ArgumentParser, needed: bool) -> None:
    sub.add_argument("--n-params", type=number, required=needed, help="N of the big run, e.g. 7e9")
    sub.add_argument("--n-tokens", type=number, required=needed, help="D of the big run, e.g. 150e9")
    sub.add_argument("--target", default="average", help="average (or mean, of the domains), NAME, or NAME:2,OTHER:1")
    sub.add_argument("--law", help="one of the fitted laws; the chosen one by default")
    limits = sub.add_argument_group("what the mixture may be")
    limits.add_argument("--min", default="", metavar="D=W,...", help="least weight of domains")
    limits.add_argument("--max", default="", metavar="D=W,...", help="most weight of domains")
    limits.add_argument("--pin", default="", metavar="D=W,...", help="weights that are fixed")
    limits.add_argument(
        "--group", nargs="+", default=[], metavar="NAME=D+D:LEAST:MOST", help="limits of a sum of weights"
    )
    limits.add_argument("--max-epochs", type=number, help="cap weights so that no domain is repeated more often")
    limits.add_argument("--available", default="", metavar="D=TOKENS,...", help="tokens of domains, for --max-epochs")
    limits.add_argument("--prior", default="", metavar="MIXTURE", help="uniform, natural, or D=W,...: stay near it")
    limits.add_argument("--pull", type=number, help="how much that counts [nats per unit of KL]; 0.01 by default")


def question_of(laws: FittedLaws, options: argparse.Namespace) -> Question:
    """Return the question that the options ask."""
    fit = laws.fits.get(options.law, laws.best)
    require_mixture(laws, fit.law)
    stated = read_pairs(options.available)
    for domain, tokens in stated.items():
        if domain not in fit.domains_:
            raise ConfigError(f"--available: {unknown_name('domain', domain, fit.domains_)}")
        if not tokens > 0:
            raise ConfigError(f"--available {domain}={tokens:g}: tokens must be above 0")
    available = laws.sizes | stated
    if options.max_epochs and not available:
        raise ConfigError("--max-epochs needs the tokens of each domain: --available code=3e9,docs=1e9,...")
    without = [d for d in fit.domains_ if d not in fit.targets_]
    if options.target == "average" and "average" in fit.targets_:
        remark("note: 'average' is a target of these runs; the mean of the domains is --target mean")
    if (
        options.target in AVERAGE
        and options.target not in fit.targets_
        and without
        and len(without) < len(fit.domains_)
    ):
        remark(
            f"note: the average is over {len(fit.domains_) - len(without)} domains; no loss of: {', '.join(without)}"
        )
    unlimited = [d for d in fit.domains_ if d not in available]
    if options.max_epochs and unlimited:
        remark(f"note: --max-epochs does not limit {', '.join(unlimited)}: their tokens are not known (--available)")
    prior = read_mixture(options.prior, fit.domains_, baselines(fit.domains_, available)) if options.prior else {}
    if options.pull and not prior:
        raise ConfigError("--pull needs a mixture to pull towards: --prior uniform, natural, or D=W,...")
    return Question(
        options.n_params, options.n_tokens, read_targets(options.target, fit), read_pairs(options.min),
        read_pairs(options.max), read_pairs(options.pin), read_groups(options.group), available, options.max_epochs,
        prior, (options.pull or PULL) if prior else 0.0,
    )  # fmt: skip
