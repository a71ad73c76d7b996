"""python -m sweeps.plan NAME --models M,M,M --flops C [OVERRIDE...]    plan a first study of C FLOPs
python -m sweeps.plan NAME ... --phases 2 [--switch 0.5,0.75]          the same, with runs that change their mixture
python -m sweeps.plan NAME --next 12 [--n-params N --n-tokens D]       plan the 12 most informative next runs

The first command writes three study files: NAME.yaml, NAME_seeds.yaml (the seed noise) and NAME_heldout.yaml (never
fitted), in sweeps/study/ or in study/ below $MIXLAW_CONFIGS, your own configuration folder. Overrides such as data=mine
become part of the study. Train each with `python -m train study=NAME`. With two phases, second phases branch from
checkpoints of static runs, and the budget counts what is trained.

The second command needs fitted laws: `mixlaw fit runs/NAME --test runs/NAME_heldout --out runs/NAME/laws.json`. It
writes NAME_next1.yaml, whose runs go into the folder of NAME; fit again afterwards. The runs are chosen for the big run
of runs/NAME/recommendation.json, its phases and its constraints, or for the one given by --n-params, --n-tokens and
--target. If the law tells phases apart, they may have two phases, and branch from runs of the study.
"""

import argparse
import re
import sys
from collections.abc import Sequence

from mixlaw.cli.options import number
from mixlaw.console import command, exit_code_of
from mixlaw.errors import ConfigError
from mixlaw.paths import path_option

FIRST = (
    "phases",
    "switch",
    "models",
    "flops",
    "gpu_hours",
    "tokens_per_second",
    "tokens_per_param",
    "floor",
    "seed",
    "noise",
)
MORE = ("laws", "target")
OWN = re.compile(r"[~+]|(model|schedule\.(n|warmup)_tokens|seed|study_name)=|(mixture|study|hydra)[./@=]")
RESERVED = {"on", "off", "yes", "no", "null", "true", "false", "nan", "inf", "y", "n"}  # YAML reads them as no names
RESERVED |= {"solo"}  # the folder of runs without a study


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    known = parser()
    options = known.parse_intermixed_args(arguments)
    return exit_code_of(lambda: _plan(options, known))


def _plan(options: argparse.Namespace, known: argparse.ArgumentParser) -> int:
    check_options(options, known)
    if options.next is not None:
        from sweeps.plan_next import plan_next

        return plan_next(options)
    from sweeps.plan_first import plan_first

    return plan_first(options)


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    found = argparse.ArgumentParser("python -m sweeps.plan", description=__doc__, formatter_class=raw)
    found.add_argument("name", help="name of the study")
    found.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="settings of all runs, for example data=mine")
    first = found.add_argument_group("a first study")
    first.add_argument("--models", help="at least three models of configs/model, separated by commas")
    first.add_argument("--flops", type=number, help="budget of all runs together [FLOPs], 6 N D each")
    first.add_argument("--gpu-hours", type=number, help="budget in GPU hours; needs --tokens-per-second")
    first.add_argument(
        "--tokens-per-second", type=number, help="speed of the largest model on one GPU; others: the same FLOP/s"
    )
    first.add_argument("--tokens-per-param", type=number, default=20.0, help="D / N of most runs; others: half, double")
    first.add_argument("--floor", type=float, default=0.01, help="minimum weight in mixtures that are not corners")
    first.add_argument("--seed", type=int, default=0, help="seed of the mixtures")
    first.add_argument("--phases", type=int, help="2: static runs, and second phases that branch from them")
    first.add_argument("--switch", help="shares of the tokens at which second phases begin (default: 0.5,0.75)")
    first.add_argument("--noise", type=number, default=0.01, help="seed noise [nats], for the expected errors")
    more = found.add_argument_group("the next runs")
    more.add_argument("--next", type=int, metavar="RUNS", help="number of runs")
    more.add_argument("--laws", type=path_option, help="fitted laws (default: runs/NAME/laws.json)")
    more.add_argument("--target", default="average", help="target, as for `mixlaw recommend`")
    both = found.add_argument_group("the big run", "default: that of runs/NAME/recommendation.json")
    both.add_argument("--n-params", type=number, help="N of the big run")
    both.add_argument("--n-tokens", type=number, help="D of the big run")
    return found


def check_options(options: argparse.Namespace, known: argparse.ArgumentParser) -> None:
    """Refuse names that Hydra would not read as text, overrides that a plan sets itself, and options without effect.

    Raises
    ------
    ConfigError
        For the first of them.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", options.name) or options.name.lower() in RESERVED:
        raise ConfigError(
            f"the name {options.name!r} becomes a file and a folder: use a letter, then letters, digits, _ and -"
        )
    for override in options.overrides:
        if OWN.match(override):
            raise ConfigError(f"{override}: the planner sets this itself, or studies do not have it: remove it")
        if "=" not in override:
            raise ConfigError(f"{override}: write <setting>=<value>")
    if options.seed < 0 or (options.next is not None and options.next < 1):
        raise ConfigError("--seed must be at least 0, and --next at least 1")
    kind = "the next runs are" if options.next is not None else "a first study is"
    for name in MORE if options.next is None else FIRST:
        if getattr(options, name) != known.get_default(name):
            raise ConfigError(f"--{name.replace('_', '-')} has no effect when {kind} planned: remove it")
    if options.flops and options.gpu_hours:
        raise ConfigError("--flops and --gpu-hours both set the budget: give one of them")


if __name__ == "__main__":
    sys.exit(main())
