"""Tables of runs on the command line: the options that say how files are read, and the reading."""

import argparse
from collections.abc import Sequence
from typing import Any

from mixlaw.advice.constraints import read_pairs
from mixlaw.console import remark
from mixlaw.errors import ConfigError
from mixlaw.fitting.saved import FittedLaws
from mixlaw.tables.clean import prepare
from mixlaw.tables.read import read_table
from mixlaw.tables.table import Table

LAYOUTS = ["regmix", "olmix", "wandb", "paper", "mixinglaws"]


def table_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("table", nargs="+", metavar="TABLE")
    reading_options(sub)


def reading_options(sub: argparse.ArgumentParser) -> None:
    """Add how tables are read; `read` passes it on."""
    names = sub.add_argument_group("other people's tables")
    names.add_argument(
        "--columns", default="", metavar="NAME=YOURS,...", help="your names; one * on each side is a pattern"
    )
    names.add_argument(
        "--layout", metavar="NAME", help=f"how the files are laid out, by default recognised: {', '.join(LAYOUTS)}"
    )
    names.add_argument("--join", metavar="COLUMN", help="the files are parts of one table, put together by this column")
    names.add_argument("--set", default="", metavar="NAME=VALUE,...", help="columns that the files lack")
    names.add_argument(
        "--higher-is-better", nargs="+", default=[], metavar="TARGET", help="shares of right answers; 'mmlu_*', '*'"
    )
    names.add_argument(
        "--relative-weights", action="store_true", help="only the proportions of weights count, whatever they sum to"
    )
    counts = ["n_params", "n_params_non_embedding"]
    names.add_argument("--count", choices=counts, default="n_params", help="which N of run directories")
    runs = sub.add_argument_group("which rows are one run")
    runs.add_argument("--run-id", default="", metavar="COLUMN,...", help="columns whose values together name a run")
    runs.add_argument("--rows-are-runs", action="store_true", help="every row is a run of its own")
    runs.add_argument("--best", action="store_true", help="keep the lowest loss for each N, D and mixture")
    _choice_options(sub)


def _choice_options(sub: argparse.ArgumentParser) -> None:
    some = sub.add_argument_group("which runs, and what their losses are")
    more: dict[str, Any] = {"action": "append", "default": []}
    some.add_argument(
        "--where",
        metavar="NAME=VALUE",
        help="only runs with this setting or cell; again for another NAME or VALUE",
        **more,
    )
    some.add_argument("--varied", metavar="NAME", help="a setting that runs may differ in, e.g. optim.lr", **more)
    some.add_argument(
        "--unit", metavar="TARGET=UNIT", help="e.g. '*=bits/byte', perplexity; nats/token if nothing tells", **more
    )
    some.add_argument("--ends-only", action="store_true", help="only the last row of every run")
    some.add_argument("--former", action="store_true", help="also runs of a former version of their study")


def read(paths: Sequence[str], options: argparse.Namespace, need_losses: bool = True) -> Table:
    """Read tables as the options say, every note on stderr."""
    table = _read(paths, options, need_losses)
    warn_of_gaps(table)
    return table


def read_clean(paths: Sequence[str], options: argparse.Namespace) -> Table:
    """Read tables, and leave out what no law should be fitted to."""
    table = _read(paths, options)
    cleaned = prepare(table, options.keep_warmup)
    for note in cleaned.notes[len(table.notes) :]:
        remark(f"note: {note}")
    warn_of_gaps(cleaned)
    return cleaned


def _read(paths: Sequence[str], options: argparse.Namespace, need_losses: bool = True) -> Table:
    pairs = [part.partition("=")[::2] for part in options.columns.split(",") if part]
    if any(not yours for _, yours in pairs):
        raise ConfigError(f"--columns {options.columns}: write NAME=YOURS,NAME=YOURS")
    table = read_table(
        paths,
        columns={yours: name for name, yours in pairs},
        layout=options.layout,
        join=options.join,
        constants=read_pairs(options.set),
        higher_is_better=options.higher_is_better,
        relative_weights=options.relative_weights,
        need_losses=need_losses,
        count=options.count,
        run_id=names_of(options.run_id),
        rows_are_runs=options.rows_are_runs,
        best=options.best,
        **choice_of(options),
    )
    for note in table.notes:
        remark(f"note: {note}")
    return table


def choice_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return which runs are meant, and the units of their losses, as `read_table` takes it."""
    where: dict[str, list[str]] = {}
    for name, value in _pairs("--where", "NAME=VALUE", options.where):
        where.setdefault(name, []).append(value)
    units = dict(_pairs("--unit", "TARGET=UNIT", options.unit))
    given = {"where": where, "varied": options.varied, "units": units}
    return given | {"ends_only": options.ends_only, "former": options.former}


def _pairs(option: str, form: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    """Return what stands before and after the last = of each text; settings have none in their values."""
    pairs = [(name.strip(), value.strip()) for name, _, value in (text.rpartition("=") for text in texts)]
    for text, (name, value) in zip(texts, pairs, strict=True):
        if not name or not value:
            raise ConfigError(f"{option} {text}: write {form}")
    return pairs


def doubt(table: Table) -> None:
    """Say on stderr what casts doubt on every fit of a table."""
    for sentence in table.doubts:
        remark(f"warning: {sentence}")


def warn_of_gaps(table: Table) -> None:
    """Say on a line of its own where much of a table was left out."""
    for sentence in table.much_left_out():
        remark(f"warning: {sentence}")


def read_like(paths: Sequence[str], options: argparse.Namespace, laws: FittedLaws, need_losses: bool = True) -> Table:
    """Read tables for laws; see `named_as`."""
    return named_as(read(paths, options, need_losses), laws)


def named_as(table: Table, laws: FittedLaws) -> Table:
    """Return a table whose domains and targets are written as those of laws, also where their case differs."""
    named = table.named_as(laws.best.domains, list(laws.best.targets))
    for note in named.notes[len(table.notes) :]:
        remark(f"note: {note}")
    return named


def names_of(text: str) -> list[str]:
    """Return the laws that are named with commas between, each once."""
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
