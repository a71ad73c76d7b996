"""python -m sweeps.plan NAME --models M,M,M --flops C [OVERRIDE...]    write a study of runs worth C FLOPs
python -m sweeps.plan NAME --next 12 --n-params N --n-tokens D         write the runs that would tell most next

The first writes sweeps/study/NAME.yaml, NAME_seeds.yaml (the noise floor) and NAME_heldout.yaml (never fitted): train
them with `python -m train study=NAME`. Overrides (data=mine stream.seq_len=1024) are part of the study. Once its laws
are fitted (`mixlaw fit runs/NAME --test runs/NAME_heldout --out runs/NAME/laws.json`), the second writes
NAME_next1.yaml, whose runs join those of NAME; fit again, and so on until the recommendation is sure enough.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pandas as pd

from mixlaw.errors import ConfigError, MixlawError
from mixlaw.question import Question
from sweeps.study_file import STUDIES, Shape, shapes_of, write_study

LEAST_WARMUP = 0.05  # of the shortest run's tokens


@dataclass(frozen=True)
class Trainable:
    """A size that the checkout can train: what it is made of, N, D, and the data it reads."""

    shape: Shape
    n_params: int
    n_tokens: float
    available: dict[str, float]
    points: tuple[int, float]
    max_epochs: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Plan; a mistake ends in one sentence."""
    options = parser().parse_intermixed_args(arguments)
    try:
        return plan_next(options) if options.next else plan_first(options)
    except MixlawError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"error: {error.filename}: {error.strerror}\n")
        return 4


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    found = argparse.ArgumentParser("python -m sweeps.plan", description=__doc__, formatter_class=raw)
    found.add_argument("name", help="of the study")
    found.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="settings of every run, e.g. data=mine")
    first = found.add_argument_group("a first study")
    first.add_argument("--models", help="at least three choices of configs/model, with commas between")
    first.add_argument("--flops", type=float, help="budget for all runs, 6 N D each")
    first.add_argument("--gpu-hours", type=float, help="the same in hours of one GPU; needs --tokens-per-second")
    first.add_argument(
        "--tokens-per-second", type=float, help="of the largest model on one GPU; smaller ones as many FLOPs a second"
    )
    first.add_argument("--tokens-per-param", type=float, default=20.0, help="D / N of most runs; others have 0.5, 2 x")
    first.add_argument("--floor", type=float, default=0.01, help="least weight of mixtures that are no corners")
    first.add_argument("--seed", type=int, default=0, help="of the sequence of mixtures")
    first.add_argument("--noise", type=float, default=0.01, help="how far runs scatter, in nats, for expected errors")
    more = found.add_argument_group("the next runs")
    more.add_argument("--next", type=int, default=0, metavar="RUNS", help="how many")
    more.add_argument("--laws", type=Path, help="by default runs/NAME/laws.json")
    more.add_argument("--target", default="average", help="as for `mixlaw recommend`")
    both = found.add_argument_group("the decision")
    both.add_argument("--n-params", type=float, help="N of the big run")
    both.add_argument("--n-tokens", type=float, help="D of the big run")
    found.add_argument(
        "--out",
        type=Path,
        default=STUDIES,
        help="where study files are: sweeps/study, or study/ below $MIXLAW_CONFIGS, a folder of your own",
    )
    return found


def plan_first(options: argparse.Namespace) -> int:
    """Write a first study, its seeds and its held-out runs, and print what they are and cost."""
    from mixlaw.design import Size, plan_study
    from mixlaw.mixture import proportional

    if not options.models:
        raise ConfigError("name at least three models: --models text_70k,text_136k,text_234k")
    _refuse_existing(options.out, [options.name, f"{options.name}_seeds", f"{options.name}_heldout"])
    shapes = [Shape((*options.overrides, f"model={m}")) for m in options.models.split(",")]
    sizes = {t.shape.label: t for t in trainable(shapes)}
    biggest = max(sizes.values(), key=lambda t: t.n_params)
    domains, natural = list(biggest.available), proportional(biggest.available)
    wanted = [Size(name, t.n_params, options.tokens_per_param * t.n_params) for name, t in sizes.items()]
    runs = plan_study(domains, wanted, _budget(options, biggest), natural, options.floor, options.seed)
    runs["n_tokens"] = runs["n_tokens"].round().astype(int)
    check_epochs(runs, biggest)
    warmup = round(LEAST_WARMUP * runs["n_tokens"].min())
    runs["shape"] = [
        Shape((f"model={r.model}", f"schedule.n_tokens={r.n_tokens}", f"schedule.warmup_tokens={warmup}")).key
        for r in runs.itertuples()
    ]
    say(*describe(runs, biggest, options))
    shared = dict(o.partition("=")[::2] for o in options.overrides)
    for role, part in (("fit", ""), ("seeds", "_seeds"), ("heldout", "_heldout")):
        some, name = runs[runs["role"] == role], options.name + part
        folder = options.name + ("_heldout" if role == "heldout" else "")
        path = options.out / f"{name}.yaml"
        write_study(path, folder, about(role, options.name, some), shared, some, domains)
        say(f"written: {path}")
    say(f"next: python -m train study={options.name} --dry-run")
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


def trainable(shapes: Sequence[Shape]) -> list[Trainable]:
    """Return what shapes come to: parameters, tokens, data.

    Raises
    ------
    MixlawError
        If one cannot be composed, or its data are not prepared.
    """
    from train.compose import compose_study, open_data
    from train.models.build import count_of
    from train.plan import make_plan

    found = []
    for shape, config in zip(shapes, compose_study([s.overrides for s in shapes]), strict=True):
        max_epochs, config.stream.max_epochs = config.stream.max_epochs, float("inf")
        plan = make_plan(config, open_data(config))
        n_params = count_of(config.model, plan.manifest.vocab_size, config.layout())["total"]
        available = {d: float(plan.available(d)["n_tokens"]) for d in plan.manifest.domains}
        points = config.evaluation.n_points, config.evaluation.ratio
        found.append(Trainable(shape, n_params, config.schedule.n_tokens, available, points, max_epochs))
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
    from mixlaw.design import epochs

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
    from mixlaw.design import epochs
    from mixlaw.information import Noise, expected

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
    lines += ["tokens of each domain, over all runs:", _shown(epochs(runs, biggest.available)), ""]
    big = (options.n_params or 10 * biggest.n_params, options.n_tokens or 10 * runs["n_tokens"].max())
    fitted, half = runs[runs["role"] == "fit"], options.noise / 2**0.5
    found = expected(fitted, domains, Question(*big, {"loss": 1.0}), Noise(half, half), biggest.points)
    lines += [
        f"expected at N = {big[0]:.3g}, D = {big[1]:.3g}, if runs scatter by {options.noise:g} nats and the "
        "multiplicative law wrote their losses:",
        f"  standard error of a predicted loss {found.prediction:.4f} nats, of a weight of h* {found.weight:.3f}; "
        f"regret of the recommended mixture {found.regret:.4f} nats",
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
    from mixlaw.artefact import FittedLaws
    from mixlaw.design import Size, candidates
    from mixlaw.hygiene import prepare
    from mixlaw.information import Decision, next_runs
    from mixlaw.question import read_targets
    from mixlaw.tables import read_table

    if not (options.n_params and options.n_tokens):
        raise ConfigError("say which run is to be decided: --n-params 7e9 --n-tokens 150e9")
    folder, shapes = shapes_of(options.out / f"{options.name}.yaml")
    sizes = {str(i): t for i, t in enumerate(trainable([Shape((*options.overrides, *s.overrides)) for s in shapes]))}
    runs_folder = _runs_folder(options.overrides) / folder
    laws = FittedLaws.load(options.laws or runs_folder / "laws.json")
    table = prepare(read_table([runs_folder]))
    question = Question(options.n_params, options.n_tokens, read_targets(options.target, laws.best))
    points = next(iter(sizes.values())).points
    near = Decision(laws.best, question, laws.sizes, table, points).contenders
    offered = candidates(laws.best.domains_, [Size(i, t.n_params, t.n_tokens) for i, t in sizes.items()], near)
    chosen = next_runs(laws, question, table, offered, options.next, points).runs
    chosen["shape"] = [sizes[i].shape.key for i in chosen["model"]]
    chosen["model"] = [sizes[i].shape.label for i in chosen["model"]]
    weights = [f"weight_{d}" for d in laws.best.domains_]
    say(
        f"how uncertain the differences between mixtures that may be best are at N = {options.n_params:.3g}, "
        f"D = {options.n_tokens:.3g}: {chosen['sd_before'].iloc[0]:.4f} nats, and after these runs "
        f"{chosen['sd_after'].iloc[-1]:.4f}",
        _shown(chosen[["model", "n_params", "n_tokens", *weights, "flops", "sd_after"]]),
    )
    name = _free_name(options.out, options.name)
    write_study(
        options.out / f"{name}.yaml", folder, about("next", options.name, chosen), {}, chosen, laws.best.domains_
    )
    say(f"written: {options.out / name}.yaml", f"next: python -m train study={name}, then fit {runs_folder} again")
    return 0


def _runs_folder(overrides: Sequence[str]) -> Path:
    from train.compose import compose_config

    return Path(compose_config(overrides).machine.runs)


def _refuse_existing(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        if (folder / f"{name}.yaml").exists():
            raise ConfigError(f"{folder / name}.yaml is there already: choose another name, or delete it")


def _free_name(folder: Path, name: str) -> str:
    """Return the first of NAME_next1, NAME_next2, ... that is not taken."""
    number = 1
    while (folder / f"{name}_next{number}.yaml").exists():
        number += 1
    return f"{name}_next{number}"


def say(*lines: str) -> None:
    """Print lines."""
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
