"""`mixlaw recommend`: the mixture of a big run, with intervals and the costs of its limits."""

import argparse
from pathlib import Path

from mixlaw.advice.phase_search import MOST_PHASES
from mixlaw.advice.recommend import recommend
from mixlaw.advice.recommendation import Recommendation
from mixlaw.benchmarks.saved import Benchmarks
from mixlaw.cli.options import shares
from mixlaw.cli.question import question_of, question_options
from mixlaw.cli.solver import ProgressLine
from mixlaw.console import say
from mixlaw.errors import ConfigError
from mixlaw.fileio import strict_json, write_atomically
from mixlaw.fitting.saved import FittedLaws
from mixlaw.report.terminal import summary

RECOMMENDED = "# Recommended"  # header of files that we may overwrite


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options of `mixlaw recommend`."""
    sub.add_argument("laws", metavar="LAWS")
    question_options(sub)
    phase_options(sub)
    scored = "output of `mixlaw benchmarks`: adds the predicted scores under every mixture"
    sub.add_argument("--benchmarks", type=Path, metavar="FILE", help=scored)
    sub.add_argument("--json", action="store_true", help="print JSON")
    sub.add_argument("--out", type=Path, help="write JSON to this file; `mixlaw report` reads it")
    written = "Hydra config file to write, e.g. configs/mixture/big.yaml; it holds the phases if their gain is certain"
    sub.add_argument("--override", type=Path, help=written)


def phase_options(sub: argparse.ArgumentParser) -> None:
    """Add the options about a mixture that changes during the run."""
    about = (
        "Floors, caps, pins, groups and the distance to --stay-near count in every phase (the distance weighted by its "
        "tokens); --max-epochs, --not-worse, --objective and the gains over --baseline are of the whole run. With "
        "--flops, N and D are those of the best single mixture."
    )
    group = sub.add_argument_group("a mixture that changes during the run", about)
    count = f"1 to {MOST_PHASES}: above 1, also the best mixtures one after the other, and their gain over a single one"
    group.add_argument("--phases", type=int, default=1, metavar="P", help=count)
    ends = "shares of the tokens at which phases end, except the last; default: the best ones"
    group.add_argument("--switch", type=shares, metavar="SHARE,...", help=ends)
    beyond = "allow weights that no phase of the runs had; the laws extrapolate there"
    group.add_argument("--beyond-runs", action="store_true", help=beyond)


def run(options: argparse.Namespace) -> None:
    """Recommend a mixture."""
    laws = FittedLaws.load(options.laws)
    benchmarks = Benchmarks.load(options.benchmarks) if options.benchmarks else None
    with ProgressLine() as bar:
        bar("recommend: the question" + (", and the compute-optimal size" if options.flops else ""))
        question = question_of(laws, options)
        phases = {"phases": options.phases, "switch": options.switch, "beyond_runs": options.beyond_runs}
        answer = recommend(laws, question, law=options.law, benchmarks=benchmarks, progress=bar, **phases)
    if options.out:
        answer.save(options.out)
    if options.override:
        _check_own(options.override)
        options.override.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(options.override, override_file(answer))
    say(strict_json(answer.to_json(), indent=1) if options.json else summary(answer))


def _check_own(path: Path) -> None:
    """Refuse to overwrite a file that `mixlaw recommend` did not write."""
    if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(RECOMMENDED):
        raise ConfigError(f"{path} exists and was not written by `mixlaw recommend`: give --override another name")


def override_file(answer: Recommendation) -> str:
    """Return the recommended weights as a config file of the Hydra group `mixture`.

    If phases were asked for, it holds what the verdict takes, the phases or the best single mixture; the other one
    follows as a comment.
    """
    question, plan = answer.question, answer.phases
    head = f"{RECOMMENDED} by the {answer.law} law for N = {question.n_params:.4g}, D = {question.n_tokens:.4g},"
    targets = " ".join(", ".join(question.targets).split())  # in one line
    head = f"{head}\n# best at {targets}.\n"
    if plan is None:
        return head + answer.weights.to_yaml()
    taken, other = (plan.mixture, answer.weights) if plan.certain else (answer.weights, plan.mixture)
    name = "the best single mixture" if plan.certain else "phases, whose gain two runs could not show"
    return f"{head}{taken.to_yaml()}# Or {name}:\n{''.join(f'# {line}' for line in other.to_yaml().splitlines(True))}"
