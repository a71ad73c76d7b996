"""Reading tables of runs as the command line asks: the options, and the calls of `read_table`."""

import argparse
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from mixlaw.cli.options import add_renamed
from mixlaw.console import remark
from mixlaw.errors import ConfigError
from mixlaw.fitting.saved import FittedLaws
from mixlaw.quoted import read_pairs, split_names
from mixlaw.runs.comparable import require_alike
from mixlaw.tables.aggregates import read_aggregates, with_aggregates
from mixlaw.tables.clean import prepare
from mixlaw.tables.read import read_table
from mixlaw.tables.table import Table

LAYOUTS = ["regmix", "olmix", "wandb", "paper", "mixinglaws"]


def table_options(sub: argparse.ArgumentParser) -> None:
    """Add the tables and how they are read."""
    sub.add_argument("table", nargs="+", metavar="TABLE")
    reading_options(sub)


def cleaned_table_options(sub: argparse.ArgumentParser) -> None:
    """Add the tables and what `read_clean` takes."""
    table_options(sub)
    sub.add_argument("--keep-warmup", action="store_true", help="keep checkpoints from the learning-rate warm-up")


def reading_options(sub: argparse.ArgumentParser) -> None:
    """Add how tables are read: the options that `read` takes."""
    _column_options(sub)
    _run_options(sub)
    _selection_options(sub)


def _column_options(sub: argparse.ArgumentParser) -> None:
    group = sub.add_argument_group("columns of the tables")
    columns = "standard names of your columns; one * on each side makes a pattern"
    accuracies = "targets that are accuracies and become error rates; patterns such as 'mmlu_*' or '*'"
    group.add_argument("--columns", default="", metavar="NAME=YOURS,...", help=columns)
    group.add_argument("--layout", metavar="NAME", help=f"layout of the files: {', '.join(LAYOUTS)}; default: detected")
    group.add_argument("--join", metavar="COLUMN", help="join the files on this column into one table")
    constants = "constant columns that the files lack"
    add_renamed(group, "--constants", "--set", default="", metavar="NAME=VALUE,...", help=constants)
    group.add_argument("--higher-is-better", nargs="+", default=[], metavar="TARGET", help=accuracies)
    group.add_argument("--relative-weights", action="store_true", help="normalise the weights of every row to sum to 1")
    counts = ["n_params", "n_params_non_embedding"]
    group.add_argument("--count", choices=counts, default="n_params", help="parameter count of run directories")


def _run_options(sub: argparse.ArgumentParser) -> None:
    group = sub.add_argument_group("how rows form runs")
    group.add_argument("--run-id", default="", metavar="COLUMN,...", help="columns that together identify a run")
    group.add_argument("--rows-are-runs", action="store_true", help="every row is a run of its own")
    group.add_argument("--best", action="store_true", help="keep the row with the lowest loss per N, D and mixture")


def _selection_options(sub: argparse.ArgumentParser) -> None:
    group = sub.add_argument_group("selection of runs, units of their losses, and groups of targets")
    repeated: dict[str, Any] = {"action": "append", "default": []}
    where = "keep only runs with this setting or cell; repeat for more names or values"
    varied = "a setting that may differ between the runs, e.g. optim.lr; repeat for more"
    unit = "unit of targets, e.g. '*=bits/byte'; default: what the table states, or nats/token; repeat for more"
    group.add_argument("--where", metavar="NAME=VALUE", help=where, **repeated)
    group.add_argument("--varied", metavar="NAME", help=varied, **repeated)
    add_renamed(group, "--units", "--unit", metavar="TARGET=UNIT", help=unit, **repeated)
    together = "a named group of targets that becomes a target: the weighted mean; or a YAML file of groups; repeatable"
    group.add_argument("--aggregates", metavar="NAME=TARGET:2,OTHER:1", help=together, **repeated)
    group.add_argument("--ends-only", action="store_true", help="keep only the last row of every run")
    group.add_argument("--former", action="store_true", help="include runs of former versions of their study")


def read(paths: Sequence[str], options: argparse.Namespace, need_losses: bool = True) -> Table:
    """Read tables as the options say; print notes on stderr."""
    table = _read(paths, options, need_losses)
    warn_of_gaps(table)
    return table


def read_clean(paths: Sequence[str], options: argparse.Namespace) -> Table:
    """Read tables and drop the rows that no law should be fitted to, such as warm-up checkpoints."""
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
        constants=read_pairs(options.constants),
        higher_is_better=options.higher_is_better,
        relative_weights=options.relative_weights,
        need_losses=need_losses,
        count=options.count,
        run_id=split_names(options.run_id),
        rows_are_runs=options.rows_are_runs,
        best=options.best,
        **selection_of(options),
    )
    for note in table.notes:
        remark(f"note: {note}")
    return table


def selection_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the selection of runs and the units of their losses, as arguments of `read_table`."""
    where: dict[str, list[str]] = {}
    for name, value in _pairs("--where", "NAME=VALUE", options.where):
        where.setdefault(name, []).append(value)
    units = dict(_pairs("--units", "TARGET=UNIT", options.units))
    given = {"where": where, "varied": options.varied, "units": units}
    more = {"ends_only": options.ends_only, "former": options.former}
    return given | more | {"aggregates": read_aggregates(options.aggregates)}


def _pairs(option: str, form: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    """Split each text at its last `=`: patterns before it may hold one, values after it may not."""
    pairs = [(name.strip(), value.strip()) for name, _, value in (text.rpartition("=") for text in texts)]
    for text, (name, value) in zip(texts, pairs, strict=True):
        if not name or not value:
            raise ConfigError(f"{option} {text}: write {form}")
    return pairs


def print_warnings(table: Table) -> None:
    """Print on stderr the table's warnings that concern every fit."""
    for sentence in table.warnings:
        remark(f"warning: {sentence}")


def warn_of_gaps(table: Table) -> None:
    """Print a warning where a large part of a table was left out."""
    for sentence in table.much_left_out():
        remark(f"warning: {sentence}")


def read_like(paths: Sequence[str], options: argparse.Namespace, laws: FittedLaws, need_losses: bool = True) -> Table:
    """Read tables, with the domains and targets named as in fitted laws."""
    return named_as(read(paths, options, need_losses), laws)


def named_as(table: Table, laws: FittedLaws) -> Table:
    """Rename the domains and targets of a table to those of fitted laws where only the case differs; add aggregates."""
    named = table.named_as(laws.best.domains, list(laws.best.targets))
    for note in named.notes[len(table.notes) :]:
        remark(f"note: {note}")
    lacking = {name: of for name, of in laws.choice.get("aggregates", {}).items() if name not in named.targets}
    return with_aggregates(named, {name: of for name, of in lacking.items() if set(of) <= set(named.targets)})


def require_like_fit(identity: Mapping[str, str], table: Table, options: argparse.Namespace) -> None:
    """Raise an error if runs differ from the fitted ones in settings that are not `--varied`.

    Parameters
    ----------
    identity : settings that the fitted runs share
    """
    known = {n: v for n, v in identity.items() if not any(fnmatchcase(n, pattern) for pattern in options.varied)}
    require_alike(known, table.identity, "the runs of the fit", f"the runs in {', '.join(options.table)}")
