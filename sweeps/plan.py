"""python -m sweeps.plan NAME --models M,M,M --flops C [OVERRIDE...]    plan a first study of C FLOPs
python -m sweeps.plan NAME ... --phases 2 [--switch 0.5,0.75]          the same, with runs that change their mixture
python -m sweeps.plan NAME --next 12 [--n-params N --n-tokens D]       plan the 12 most informative next runs

The first command writes three study files: NAME.yaml, NAME_seeds.yaml (the seed noise) and NAME_heldout.yaml (never
fitted), in sweeps/study/ or in study/ below $MIXLAW_CONFIGS, your own configuration folder. Overrides such as data=mine
become part of the study. Train each with `python -m train study=NAME`. With two phases, second phases branch from
checkpoints of static runs, and the budget counts what is trained.

The second command needs fitted laws: `mixlaw fit runs/NAME --test runs/NAME_heldout --out runs/NAME/laws.json`. It
writes NAME_next1.yaml, whose runs go into the folder of NAME; fit again afterwards. The runs are chosen for the big run
of runs/NAME/recommendation.json and its constraints, or for the one given by --n-params, --n-tokens and --target.
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mixlaw.advice.constraints import Question
from mixlaw.cli.options import number
from mixlaw.console import command, exit_code_of, say
from mixlaw.counts import flops, tokens_for
from mixlaw.errors import ConfigError
from mixlaw.mixture import Mixture
from mixlaw.paths import path_option
from mixlaw.tables.units import kind_of
from sweeps.jobs import Job, resolve
from sweeps.plan_phases import BRANCH_FROM, check_switches, kept_by_trunks, read_switches, savings
from sweeps.study_file import Shape, StudyFile, in_thousandths, mixtures_of, shapes_of, write_study
from sweeps.study_path import path_of, studies

if TYPE_CHECKING:
    from mixlaw.advice.design import Size
    from mixlaw.fitting.saved import FittedLaws

LEAST_WARMUP = 0.05  # share of the tokens of the shortest run
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


@dataclass(frozen=True)
class Trainable:
    """A model size that a study may use, with its data.

    Attributes
    ----------
    shape : its overrides
    n_params, n_tokens : N and D
    available : domain -> available tokens
    points : number of evaluations of a run, and the ratio of their positions
    max_epochs : maximum number of epochs over a domain
    tokens_per_step : mean tokens of a batch
    cooldown : share of the tokens over which the learning rate falls
    runs : the folder of all studies
    """

    shape: Shape
    n_params: int
    n_tokens: float
    available: dict[str, float]
    points: tuple[int, float]
    max_epochs: float
    tokens_per_step: float
    runs: Path
    cooldown: float = 0.0


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    known = parser()
    options = known.parse_intermixed_args(arguments)
    return exit_code_of(lambda: _plan(options, known))


def _plan(options: argparse.Namespace, known: argparse.ArgumentParser) -> int:
    check_options(options, known)
    return plan_next(options) if options.next is not None else plan_first(options)


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


def plan_first(options: argparse.Namespace) -> int:
    """Write the study files of a first study, its seeds and its held-out runs, and print their sizes and cost."""
    from mixlaw.advice.design import Size

    switches = read_switches(options.phases, options.switch)
    if not options.models:
        raise ConfigError("at least three models are needed: --models text_70k,text_136k,text_234k")
    _refuse_existing([options.name, f"{options.name}_seeds", f"{options.name}_heldout"])
    shapes = [Shape((*options.overrides, f"model={m}")) for m in options.models.split(",")]
    sizes = {t.shape.label: t for t in trainable(shapes)}
    biggest = max(sizes.values(), key=lambda t: t.n_params)
    domains, natural = list(biggest.available), Mixture.proportional(biggest.available)
    pair = 2 * biggest.tokens_per_step  # half a run must still be a whole number of steps
    lengths = {name: np.ceil(options.tokens_per_param * t.n_params / pair) * pair for name, t in sizes.items()}
    wanted = [Size(name, t.n_params, lengths[name]) for name, t in sizes.items()]
    runs = first_runs(options, domains, wanted, _budget(options, biggest), natural, switches)
    check_switches(switches, runs["n_tokens"].min(), biggest.tokens_per_step, biggest.cooldown)
    runs["n_tokens"] = runs["n_tokens"].round().astype(int)
    check_epochs(runs, biggest)
    warmup = round(LEAST_WARMUP * runs["n_tokens"].min())
    kept = kept_by_trunks(runs) if switches else [""] * len(runs)
    runs["shape"] = [
        Shape((f"model={m}", f"schedule.n_tokens={n}", f"schedule.warmup_tokens={warmup}", *filter(None, [more]))).key
        for m, n, more in zip(runs["model"], runs["n_tokens"], kept, strict=True)
    ]
    settings = BRANCH_FROM if switches else {}
    shared = dict(o.partition("=")[::2] for o in options.overrides)
    written = []
    for role, part in (("fit", ""), ("seeds", "_seeds"), ("heldout", "_heldout")):
        some, name = runs[runs["role"] == role], options.name + part
        folder = options.name + ("_heldout" if role == "heldout" else "")
        path = studies() / f"{name}.yaml"
        study = StudyFile(folder, tuple(about(role, options.name, some)), shared, settings=settings)
        write_study(path, study, some, domains)
        written.append(f"written: {path}")
    more = [*written, f"next: python -m train study={options.name} --dry-run"]
    say("\n".join([*plan_lines(runs, biggest, options), *more]))
    return 0


def first_runs(
    options: argparse.Namespace,
    domains: Sequence[str],
    sizes: "Sequence[Size]",
    budget: float,
    natural: Mixture,
    switches: Sequence[float],
) -> pd.DataFrame:
    """Return the runs of a first study; with two phases if there are switches."""
    from mixlaw.advice.design import plan_study
    from mixlaw.advice.phase_design import plan_phase_study

    if switches:
        return plan_phase_study(domains, sizes, budget, switches, natural, options.floor, options.seed)
    return plan_study(domains, sizes, budget, natural, options.floor, options.seed)


def about(role: str, name: str, runs: pd.DataFrame) -> list[str]:
    """Return the comment of a study file."""
    what = {
        "fit": f"The runs that laws are fitted to. Seed noise: {name}_seeds. Held-out runs: {name}_heldout.",
        "seeds": f"The seed noise: runs that differ in their seed only. They go into the folder of `{name}`.",
        "heldout": f"Held-out runs for the laws of `{name}`: unseen mixtures at the largest size. Never fitted.",
        "next": f"The most informative runs after those of `{name}`. They go into its folder.",
    }
    head = f"Planned on {date.today().isoformat()}: {len(runs)} runs, {runs['flops'].sum():.3g} FLOPs."
    return [head, what[role]]


def trainable(shapes: Sequence[Shape], study: str = "") -> list[Trainable]:
    """Return the sizes of shapes, composed on top of the settings of a study.

    Raises
    ------
    MixlawError
        If one cannot be composed, or its data are not prepared.
    """
    base = (f"study={study}",) * bool(study)
    # without a limit on epochs, because the planner drops runs that repeat a domain too often
    jobs = resolve([(*base, *s.overrides) for s in shapes], any_epochs=True)
    return [_trainable(shape, job) for shape, job in zip(shapes, jobs, strict=True)]


def _trainable(shape: Shape, job: Job) -> Trainable:
    plan, config = job.plan, job.plan.config
    return Trainable(
        shape=shape,
        n_params=job.n_params,
        n_tokens=float(plan.n_steps * plan.tokens_per_step),
        available={d: float(plan.available(d)["n_tokens"]) for d in plan.manifest.domains},
        points=(config.evaluation.n_points, config.evaluation.ratio),
        max_epochs=config.stream.max_epochs,
        tokens_per_step=plan.tokens_per_step,
        runs=Path(config.machine.runs),
        cooldown=config.schedule.cooldown,
    )


def _budget(options: argparse.Namespace, biggest: Trainable) -> float:
    """Return the budget in FLOPs."""
    if options.flops:
        return float(options.flops)
    if options.gpu_hours and options.tokens_per_second:
        return flops(biggest.n_params, options.tokens_per_second) * options.gpu_hours * 3600
    raise ConfigError("a budget is needed: --flops 1e18, or --gpu-hours 100 --tokens-per-second 50000")


def check_epochs(runs: pd.DataFrame, biggest: Trainable) -> None:
    """Refuse runs that would repeat a domain more often than the trainer allows."""
    from mixlaw.advice.design import epochs

    table = epochs(runs, biggest.available)
    over = table[table["epochs"] > biggest.max_epochs]
    if len(over):
        worst = over.sort_values("epochs").iloc[-1]
        raise ConfigError(
            f"a run would repeat '{worst['domain']}' {worst['epochs']:.1f} times, and stream.max_epochs is "
            f"{biggest.max_epochs:g}: lower --tokens-per-param, add data, or raise stream.max_epochs=..."
        )


def plan_lines(runs: pd.DataFrame, biggest: Trainable, options: argparse.Namespace) -> list[str]:
    """Return cost, epochs and expected errors of a plan, as lines of text."""
    from mixlaw.advice.design import epochs
    from mixlaw.advice.next_runs import Noise, expected

    domains = list(biggest.available)
    two = runs["until@1"].notna() if "until@1" in runs else pd.Series(False, runs.index)
    kind = [runs["role"], runs["model"], *([two.map({True: 2, False: 1}).rename("phases")] if two.any() else [])]
    by_size = runs.groupby(kind, sort=False)
    table = by_size.agg(
        runs=("flops", "size"),
        n_params=("n_params", "first"),
        least_D=("n_tokens", "min"),
        most_D=("n_tokens", "max"),
        flops=("flops", "sum"),
    ).reset_index()
    total, speed = float(runs["flops"].sum()), options.tokens_per_second
    hours = " (--tokens-per-second adds GPU hours)"
    if speed:
        table["gpu_hours"] = gpu_hours(table["flops"], biggest.n_params, speed)
        hours = (
            f", {gpu_hours(total, biggest.n_params, speed):.3g} GPU hours at {speed:g} tokens/s of the largest model"
        )
    lines = [f"{len(runs)} runs, {total:.3g} FLOPs{hours}", *([savings(runs)] if two.any() else [])]
    lines += ["", _shown(table), ""]
    lines += ["tokens and epochs of each domain that one run needs:"]
    lines += [_shown(epochs(runs, biggest.available)), ""]
    big = (options.n_params or 10 * biggest.n_params, options.n_tokens or 10 * runs["n_tokens"].max())
    fitted, half = runs[(runs["role"] == "fit") & ~two], options.noise / 2**0.5
    found = expected(fitted, domains, Question(*big, {"loss": 1.0}), Noise(half, half), biggest.points)
    what = "expected of the static runs" if two.any() else "expected"
    lines += [
        f"{what} at N = {big[0]:.3g}, D = {big[1]:.3g}, with seed noise of {options.noise:g} nats and losses that "
        "follow the multiplicative law:",
        f"  standard error of a predicted loss about {found.prediction:.1g} nats, of a weight of h* "
        f"{found.weight:.1g}; regret of the recommended mixture {found.regret:.1g} nats",
    ]
    return lines


def gpu_hours(compute: Any, n_params: float, tokens_per_second: float) -> Any:
    """Convert FLOPs to hours on one GPU.

    Parameters
    ----------
    compute : FLOPs, a number or a column
    n_params, tokens_per_second : of a model with measured speed; other models are assumed to reach the same FLOP/s
    """
    return tokens_for(compute, n_params) / tokens_per_second / 3600


def _shown(table: pd.DataFrame) -> str:
    return table.to_string(index=False, float_format=lambda v: f"{v:.4g}")


def plan_next(options: argparse.Namespace) -> int:
    """Write the study file of the most informative next runs, given the fitted laws."""
    from mixlaw.advice.design import Size, candidates
    from mixlaw.advice.next_runs import Decision, next_runs
    from mixlaw.advice.next_worth import next_worth
    from mixlaw.fitting.saved import FittedLaws
    from mixlaw.report.worth import worth_of_next

    path = path_of(options.name)
    folder, shapes = shapes_of(path)
    own = trainable([Shape((*s.overrides, *options.overrides)) for s in shapes], options.name)
    sizes = {str(i): replace(t, shape=shape) for i, (t, shape) in enumerate(zip(own, shapes, strict=True))}
    runs_folder = own[0].runs / folder
    laws = FittedLaws.load(options.laws or runs_folder / "laws.json")
    table = laws.table_of(runs_folder)
    question = asked(options, laws, runs_folder / "recommendation.json")
    near = Decision(laws.best, question, laws.sizes, table, own[0].points).contenders
    offered = candidates(laws.best.domains, [Size(i, t.n_params, t.n_tokens) for i, t in sizes.items()], near)
    offered = possible(offered, sizes, path)
    proposal = next_runs(laws, question, table, offered, options.next, own[0].points)
    worth, chosen = next_worth(laws, question, proposal), proposal.runs
    chosen["shape"] = [sizes[i].shape.key for i in chosen["model"]]
    chosen["model"] = [sizes[i].shape.label for i in chosen["model"]]
    weights = [f"weight_{d}" for d in laws.best.domains]
    name = _free_name(options.name)
    comment, shared = about("next", options.name, chosen), dict(o.partition("=")[::2] for o in options.overrides)
    domains, unit = laws.best.domains, laws.best.unit_of(question.targets)
    new = StudyFile(folder, tuple(comment), shared, after=options.name)
    write_study(studies() / f"{name}.yaml", new, chosen, domains)
    lines = [
        f"standard deviation of the loss differences between candidate mixtures at N = {question.n_params:.3g}, "
        f"D = {question.n_tokens:.3g}: {chosen['sd_before'].iloc[0]:.4f} {kind_of(unit).after} now, "
        f"{chosen['sd_after'].iloc[-1]:.4f} after these runs",
        worth_of_next(worth, unit),
        _shown(chosen[["model", "n_params", "n_tokens", *weights, "flops", "sd_after"]]),
        f"written: {studies() / name}.yaml",
        f"next: python -m train study={name}, then fit {runs_folder} again",
    ]
    say("\n".join(lines))
    return 0


def asked(options: argparse.Namespace, laws: "FittedLaws", path: Path) -> Question:
    """Return what is to be decided: what the options say, or what a recommendation answers, limits and all."""
    from mixlaw.advice.constraints import read_targets
    from mixlaw.advice.recommendation import Recommendation

    if options.n_params and options.n_tokens:
        return Question(options.n_params, options.n_tokens, read_targets(options.target, laws.best))
    if options.n_params or options.n_tokens or options.target != "average" or not path.exists():
        raise ConfigError(
            f"the big run is needed: --n-params 7e9 --n-tokens 150e9, or `mixlaw recommend ... --out {path}`"
        )
    return Recommendation.load(path).question


def possible(offered: pd.DataFrame, sizes: Mapping[str, Trainable], path: Path) -> pd.DataFrame:
    """Return the candidates within the epoch limit that are neither planned nor held out."""
    domains = sorted(next(iter(sizes.values())).available)
    files = [path, path.with_name(f"{path.stem}_seeds.yaml"), *sorted(path.parent.glob(f"{path.stem}_next*.yaml"))]
    planned = [mixtures_of(p) for p in files if p.exists()]
    held_path = path.with_name(f"{path.stem}_heldout.yaml")
    held = set().union(*mixtures_of(held_path).values()) if held_path.exists() else set()

    def is_open(row: Mapping[Any, Any]) -> bool:
        size = sizes[row["model"]]
        mixture = in_thousandths(Mixture(domains, [row[f"weight_{d}"] for d in domains]))
        often = any(w * row["n_tokens"] > size.max_epochs * size.available[d] for d, w in mixture.items())
        return not often and mixture not in held and not any(mixture in p.get(size.shape.key, set()) for p in planned)

    return offered[[is_open(row) for row in offered.to_dict("records")]].reset_index(drop=True)


def _refuse_existing(names: Sequence[str]) -> None:
    for name in names:
        if (path := path_of(name)).exists():
            raise ConfigError(f"{path} exists already: choose another name, or delete it")


def _free_name(name: str) -> str:
    """Return the first of NAME_next1, NAME_next2, ... that does not exist."""
    number = 1
    while path_of(f"{name}_next{number}").exists():
        number += 1
    return f"{name}_next{number}"


if __name__ == "__main__":
    sys.exit(main())
