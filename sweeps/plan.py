"""python -m sweeps.plan NAME --models M,M,M --flops C [OVERRIDE...]    write a study of runs worth C FLOPs
python -m sweeps.plan NAME --next 12 [--n-params N --n-tokens D]       write the runs that would tell most next

The first writes sweeps/study/NAME.yaml, NAME_seeds.yaml (the noise floor) and NAME_heldout.yaml (never fitted); where
$MIXLAW_CONFIGS names a folder of your own, into its study/, which `python -m train` reads too. Train them with `python
-m train study=NAME`. Overrides (data=mine stream.seq_len=1024) are part of the study. Once its laws are fitted (`mixlaw
fit runs/NAME --test runs/NAME_heldout --out runs/NAME/laws.json`), the second writes NAME_next1.yaml, whose runs join
those of NAME; fit again, and so on until the recommendation is sure enough. What is to be decided is what
runs/NAME/recommendation.json answers, limits and all, or what --n-params, --n-tokens and --target say.
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
from mixlaw.cli.main import number
from mixlaw.console import command
from mixlaw.errors import ConfigError, MixlawError
from mixlaw.paths import path_option
from mixlaw.tables.units import kind_of
from sweeps.study_file import Shape, mixtures_of, shapes_of, write_study
from sweeps.study_path import path_of, studies

if TYPE_CHECKING:
    from mixlaw.fitting.saved import FittedLaws

LEAST_WARMUP = 0.05  # of the shortest run's tokens
ENDLESS = 1e12  # epochs: the planner says itself which runs repeat a domain too often
FIRST = ("models", "flops", "gpu_hours", "tokens_per_second", "tokens_per_param", "floor", "seed", "noise")
MORE = ("laws", "target")
OWN = re.compile(r"[~+]|(model|schedule\.(n|warmup)_tokens|seed|study_name)=|(mixture|study|hydra)[./@=]")
RESERVED = {"on", "off", "yes", "no", "null", "true", "false", "nan", "inf", "y", "n"}  # YAML reads them as no names
RESERVED |= {"solo"}  # the folder of runs without a study


@dataclass(frozen=True)
class Trainable:
    """A size that the checkout can train: what it is made of, N, D, the data it reads, and where its runs go."""

    shape: Shape
    n_params: int
    n_tokens: float
    available: dict[str, float]
    points: tuple[int, float]
    max_epochs: float
    tokens_per_step: float
    runs: Path


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Plan; a mistake ends in one sentence."""
    known = parser()
    options = known.parse_intermixed_args(arguments)
    try:
        check_options(options, known)
        return plan_next(options) if options.next is not None else plan_first(options)
    except MixlawError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except BrokenPipeError:
        return 0
    except OSError as error:
        sys.stderr.write(f"error: {error.filename}: {error.strerror}\n")
        return 4
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    found = argparse.ArgumentParser("python -m sweeps.plan", description=__doc__, formatter_class=raw)
    found.add_argument("name", help="of the study")
    found.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="settings of every run, e.g. data=mine")
    first = found.add_argument_group("a first study")
    first.add_argument("--models", help="at least three choices of configs/model, with commas between")
    first.add_argument("--flops", type=number, help="budget for all runs, 6 N D each")
    first.add_argument("--gpu-hours", type=number, help="the same in hours of one GPU; needs --tokens-per-second")
    first.add_argument(
        "--tokens-per-second", type=number, help="of the largest model on one GPU; smaller ones as many FLOPs a second"
    )
    first.add_argument("--tokens-per-param", type=number, default=20.0, help="D / N of most runs; others have 0.5, 2 x")
    first.add_argument("--floor", type=float, default=0.01, help="least weight of mixtures that are no corners")
    first.add_argument("--seed", type=int, default=0, help="of the sequence of mixtures")
    first.add_argument("--noise", type=number, default=0.01, help="how far runs scatter, in nats, for expected errors")
    more = found.add_argument_group("the next runs")
    more.add_argument("--next", type=int, metavar="RUNS", help="how many")
    more.add_argument("--laws", type=path_option, help="by default runs/NAME/laws.json")
    more.add_argument("--target", default="average", help="as for `mixlaw recommend`")
    both = found.add_argument_group("the decision", "of runs/NAME/recommendation.json, if not said")
    both.add_argument("--n-params", type=number, help="N of the big run")
    both.add_argument("--n-tokens", type=number, help="D of the big run")
    return found


def check_options(options: argparse.Namespace, known: argparse.ArgumentParser) -> None:
    """Refuse names that Hydra would read as something else, overrides that a plan sets itself, and idle options.

    Raises
    ------
    ConfigError
        Naming the first.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", options.name) or options.name.lower() in RESERVED:
        raise ConfigError(
            f"the name {options.name!r} becomes a file and a folder: a letter, then letters, digits, _ and -"
        )
    for override in options.overrides:
        if OWN.match(override):
            raise ConfigError(f"{override}: a plan sets this itself, or it is no part of a study: leave it out")
        if "=" not in override:
            raise ConfigError(f"{override}: write <setting>=<value>")
    if options.seed < 0 or (options.next is not None and options.next < 1):
        raise ConfigError("--seed must be at least 0, and --next at least 1")
    kind = "the next runs are" if options.next is not None else "a first study is"
    for name in MORE if options.next is None else FIRST:
        if getattr(options, name) != known.get_default(name):
            raise ConfigError(f"--{name.replace('_', '-')} says nothing about how {kind} planned: leave it out")
    if options.flops and options.gpu_hours:
        raise ConfigError("--flops and --gpu-hours both say what may be spent: give one of them")


def plan_first(options: argparse.Namespace) -> int:
    """Write a first study, its seeds and its held-out runs, and print what they are and cost."""
    from mixlaw.advice.design import Size, plan_study
    from mixlaw.mixture import proportional

    if not options.models:
        raise ConfigError("name at least three models: --models text_70k,text_136k,text_234k")
    _refuse_existing([options.name, f"{options.name}_seeds", f"{options.name}_heldout"])
    shapes = [Shape((*options.overrides, f"model={m}")) for m in options.models.split(",")]
    sizes = {t.shape.label: t for t in trainable(shapes)}
    biggest = max(sizes.values(), key=lambda t: t.n_params)
    domains, natural = list(biggest.available), proportional(biggest.available)
    pair = 2 * biggest.tokens_per_step  # runs are whole steps, and some are half as long
    lengths = {name: np.ceil(options.tokens_per_param * t.n_params / pair) * pair for name, t in sizes.items()}
    wanted = [Size(name, t.n_params, lengths[name]) for name, t in sizes.items()]
    runs = plan_study(domains, wanted, _budget(options, biggest), natural, options.floor, options.seed)
    runs["n_tokens"] = runs["n_tokens"].round().astype(int)
    check_epochs(runs, biggest)
    warmup = round(LEAST_WARMUP * runs["n_tokens"].min())
    runs["shape"] = [
        Shape((f"model={r.model}", f"schedule.n_tokens={r.n_tokens}", f"schedule.warmup_tokens={warmup}")).key
        for r in runs.itertuples()
    ]
    shared = dict(o.partition("=")[::2] for o in options.overrides)
    written = []
    for role, part in (("fit", ""), ("seeds", "_seeds"), ("heldout", "_heldout")):
        some, name = runs[runs["role"] == role], options.name + part
        folder = options.name + ("_heldout" if role == "heldout" else "")
        path = studies() / f"{name}.yaml"
        write_study(path, folder, about(role, options.name, some), shared, some, domains)
        written.append(f"written: {path}")
    say(*describe(runs, biggest, options), *written, f"next: python -m train study={options.name} --dry-run")
    return 0


def about(role: str, name: str, runs: pd.DataFrame) -> list[str]:
    """Return the comment of a study file."""
    what = {
        "fit": f"The runs that laws are fitted to; luck: {name}_seeds; what the laws are scored on: {name}_heldout.",
        "seeds": f"How much of a difference is luck: runs of `{name}`'s folder that differ in their seed only.",
        "heldout": f"What the laws of `{name}` are scored on: mixtures that none of its runs has, at the largest size.",
        "next": f"The runs that would tell most about the decision after those of `{name}`, in whose folder they are.",
    }
    head = f"Planned on {date.today().isoformat()}: {len(runs)} runs, {runs['flops'].sum():.3g} FLOPs."
    return [head, what[role]]


def trainable(shapes: Sequence[Shape], study: str = "") -> list[Trainable]:
    """Return what shapes come to, on top of a study's own settings: parameters, tokens, data.

    Raises
    ------
    MixlawError
        If one cannot be composed, or its data are not prepared.
    """
    from train.compose import compose_study, open_data
    from train.models.build import count_of
    from train.plan import make_plan

    found, base = [], (f"study={study}",) * bool(study)
    for shape, config in zip(shapes, compose_study([(*base, *s.overrides) for s in shapes]), strict=True):
        free = replace(config, stream=replace(config.stream, max_epochs=ENDLESS))
        plan = make_plan(free, open_data(config))
        n_params = count_of(config.model, plan.manifest.vocab_size, config.layout())["total"]
        available = {d: float(plan.available(d)["n_tokens"]) for d in plan.manifest.domains}
        points, limit = (config.evaluation.n_points, config.evaluation.ratio), config.stream.max_epochs
        n_tokens = float(plan.n_steps * plan.tokens_per_step)
        runs = Path(config.machine.runs)
        found.append(Trainable(shape, n_params, n_tokens, available, points, limit, plan.tokens_per_step, runs))
    return found


def _budget(options: argparse.Namespace, biggest: Trainable) -> float:
    """Return the FLOPs that may be spent."""
    if options.flops:
        return float(options.flops)
    if options.gpu_hours and options.tokens_per_second:
        return float(options.gpu_hours * 3600 * options.tokens_per_second * 6 * biggest.n_params)
    raise ConfigError("say what may be spent: --flops 1e18, or --gpu-hours 100 --tokens-per-second 50000")


def check_epochs(runs: pd.DataFrame, biggest: Trainable) -> None:
    """Refuse runs that would repeat a domain more often than the trainer allows."""
    from mixlaw.advice.design import epochs

    table = epochs(runs, biggest.available)
    over = table[table["epochs"] > biggest.max_epochs]
    if len(over):
        worst = over.sort_values("epochs").iloc[-1]
        raise ConfigError(
            f"a run would see '{worst['domain']}' {worst['epochs']:.1f} times, and stream.max_epochs is "
            f"{biggest.max_epochs:g}: fewer --tokens-per-param, more data, or a larger stream.max_epochs=..."
        )


def describe(runs: pd.DataFrame, biggest: Trainable, options: argparse.Namespace) -> list[str]:
    """Return what a plan is and costs, as lines."""
    from mixlaw.advice.design import epochs
    from mixlaw.advice.next_runs import Noise, expected

    domains = list(biggest.available)
    by_size = runs.groupby(["role", "model"], sort=False)
    table = by_size.agg(
        runs=("flops", "size"), n_params=("n_params", "first"), least_D=("n_tokens", "min"), most_D=("n_tokens", "max"),
        flops=("flops", "sum"),
    ).reset_index()  # fmt: skip
    speed = (options.tokens_per_second or 0) * 6 * biggest.n_params
    if speed:
        table["gpu_hours"] = table["flops"] / speed / 3600
    lines = [f"{len(runs)} runs, {runs['flops'].sum():.3g} FLOPs" + _hours(runs, speed, options), "", _shown(table), ""]
    lines += [
        "tokens that one run takes of each domain, and how often it then sees them:",
        _shown(epochs(runs, biggest.available)),
        "",
    ]
    big = (options.n_params or 10 * biggest.n_params, options.n_tokens or 10 * runs["n_tokens"].max())
    fitted, half = runs[runs["role"] == "fit"], options.noise / 2**0.5
    found = expected(fitted, domains, Question(*big, {"loss": 1.0}), Noise(half, half), biggest.points)
    lines += [
        f"expected at N = {big[0]:.3g}, D = {big[1]:.3g}, if runs scatter by {options.noise:g} nats and the "
        "multiplicative law wrote their losses:",
        f"  standard error of a predicted loss about {found.prediction:.1g} nats, of a weight of h* "
        f"{found.weight:.1g}; regret of the recommended mixture {found.regret:.1g} nats",
    ]
    return lines


def _hours(runs: pd.DataFrame, speed: float, options: argparse.Namespace) -> str:
    if not speed:
        return " (--tokens-per-second tells hours)"
    hours = runs["flops"].sum() / speed / 3600
    return f", {hours:.3g} GPU hours at {options.tokens_per_second:g} tokens/s of the largest model"


def _shown(table: pd.DataFrame) -> str:
    return table.to_string(index=False, float_format=lambda v: f"{v:.4g}")


def plan_next(options: argparse.Namespace) -> int:
    """Write the runs that would tell most about the decision, given what was fitted."""
    from mixlaw.advice.design import Size, candidates
    from mixlaw.advice.next_runs import Decision, next_runs
    from mixlaw.fitting.saved import FittedLaws

    path = path_of(options.name)
    folder, shapes = shapes_of(path)
    own = trainable([Shape((*s.overrides, *options.overrides)) for s in shapes], options.name)
    sizes = {str(i): replace(t, shape=shape) for i, (t, shape) in enumerate(zip(own, shapes, strict=True))}
    runs_folder = own[0].runs / folder
    laws = FittedLaws.load(options.laws or runs_folder / "laws.json")
    table = laws.table_of(runs_folder)
    question = asked(options, laws, runs_folder / "recommendation.json")
    near = Decision(laws.best, question, laws.sizes, table, own[0].points).contenders
    offered = candidates(laws.best.domains_, [Size(i, t.n_params, t.n_tokens) for i, t in sizes.items()], near)
    offered = possible(offered, sizes, path)
    chosen = next_runs(laws, question, table, offered, options.next, own[0].points).runs
    chosen["shape"] = [sizes[i].shape.key for i in chosen["model"]]
    chosen["model"] = [sizes[i].shape.label for i in chosen["model"]]
    weights = [f"weight_{d}" for d in laws.best.domains_]
    name = _free_name(options.name)
    comment, shared = about("next", options.name, chosen), dict(o.partition("=")[::2] for o in options.overrides)
    domains, unit = laws.best.domains_, laws.best.unit_of(question.targets)
    write_study(studies() / f"{name}.yaml", folder, comment, shared, chosen, domains, after=options.name)
    say(
        f"how uncertain the differences between mixtures that may be best are at N = {question.n_params:.3g}, "
        f"D = {question.n_tokens:.3g}: {chosen['sd_before'].iloc[0]:.4f} {kind_of(unit).after}, and after these runs "
        f"{chosen['sd_after'].iloc[-1]:.4f}",
        _shown(chosen[["model", "n_params", "n_tokens", *weights, "flops", "sd_after"]]),
        f"written: {studies() / name}.yaml",
        f"next: python -m train study={name}, then fit {runs_folder} again",
    )
    return 0


def asked(options: argparse.Namespace, laws: "FittedLaws", path: Path) -> Question:
    """Return what is to be decided: what the options say, or what a recommendation answers, limits and all."""
    from mixlaw.advice.constraints import read_targets
    from mixlaw.advice.recommend import question_of_answer, read_answer

    if options.n_params and options.n_tokens:
        return Question(options.n_params, options.n_tokens, read_targets(options.target, laws.best))
    if options.n_params or options.n_tokens or options.target != "average" or not path.exists():
        raise ConfigError(
            f"say which run is to be decided: --n-params 7e9 --n-tokens 150e9, or `mixlaw recommend ... --out {path}`"
        )
    return question_of_answer(read_answer(path))


def possible(offered: pd.DataFrame, sizes: Mapping[str, Trainable], path: Path) -> pd.DataFrame:
    """Return the candidates that the trainer would take, that are not planned yet, and that no law is scored on."""
    domains = sorted(next(iter(sizes.values())).available)
    files = [path, path.with_name(f"{path.stem}_seeds.yaml"), *sorted(path.parent.glob(f"{path.stem}_next*.yaml"))]
    planned = [mixtures_of(p) for p in files if p.exists()]
    held_path = path.with_name(f"{path.stem}_heldout.yaml")
    held = set().union(*mixtures_of(held_path).values()) if held_path.exists() else set()

    def is_open(row: Mapping[Any, Any]) -> bool:
        size = sizes[row["model"]]
        weights = {d: float(row[f"weight_{d}"]) for d in domains}
        mixture = tuple((d, round(w, 3)) for d, w in weights.items())
        often = any(w * row["n_tokens"] > size.max_epochs * size.available[d] for d, w in weights.items())
        return not often and mixture not in held and not any(mixture in p.get(size.shape.key, set()) for p in planned)

    return offered[[is_open(row) for row in offered.to_dict("records")]].reset_index(drop=True)


def _refuse_existing(names: Sequence[str]) -> None:
    for name in names:
        if (path := path_of(name)).exists():
            raise ConfigError(f"{path} is there already: choose another name, or delete it")


def _free_name(name: str) -> str:
    """Return the first of NAME_next1, NAME_next2, ... that is not taken."""
    number = 1
    while path_of(f"{name}_next{number}").exists():
        number += 1
    return f"{name}_next{number}"


def say(*lines: str) -> None:
    """Print lines."""
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
