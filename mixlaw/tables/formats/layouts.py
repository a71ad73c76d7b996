"""Layouts of other people's tables: which columns they have, which files belong together, and in which units.

A layout is data. The user may name it; where standard columns are missing and the table has all columns that mark one
layout, that layout is used, with a note.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from mixlaw.errors import ConfigError, unknown_name
from mixlaw.tables.columns import LOSS, WEIGHT, is_standard


@dataclass(frozen=True)
class Layout:
    """How a program or a publication writes its tables.

    Attributes
    ----------
    about : a sentence
    signs : column patterns; a table in which all of them match has this layout
    columns : their column -> standard column, in order of preference; one * on each side matches a name, and "*" alone
        matches all columns that are left
    join : the column by which several files are joined
    shares : whether the file whose remaining columns sum to one holds the mixtures
    scale : standard column -> factor by which its values are multiplied
    keep : column -> the value of the rows to keep
    rows_are_runs : whether every row is a run of its own, if no column is the run_id
    """

    about: str = ""
    signs: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    join: str | None = None
    shares: bool = False
    scale: Mapping[str, float] = field(default_factory=dict)
    keep: Mapping[str, str] = field(default_factory=dict)
    rows_are_runs: bool = False


LAYOUTS = {
    "regmix": Layout(
        "RegMix: a file of mixtures and a file of losses on the Pile, joined by index; N and D by --constants",
        signs=("*the_pile_*",),
        columns={"train_the_pile_*": "weight_*", "metric/the_pile_*_val_loss": "loss_*"},
        join="index",
    ),
    "olmix": Layout(
        "olmix: ratios.csv and metrics.csv (bits per byte), joined by run_id; N and D by --constants",
        signs=("run*", "name", "index"),
        columns={
            "run_id": "run_id",
            "run": "run_id",
            "name": "name",
            "index": "index",
            "Unnamed: 0": "Unnamed: 0",
            "*": "loss_*",
        },
        join="run_id",
        shares=True,
    ),
    "wandb": Layout(
        "W&B: the exported table of runs that our trainer logs; a row per finished run",
        signs=("Name", "State"),
        columns={
            "ID": "run_id",
            "run_id": "run_id",
            "config.seed": "seed",
            "seed": "seed",
            "n_params.total": "n_params",
            "n_params.non_embedding": "n_params_non_embedding",
            "weight/*": "weight_*",
            "mixture.*": "weight_*",
            "loss/*": "loss_*",
            "loss_se/*": "loss_se_*",
            "score/*": "score_*",
            "score_se/*": "score_se_*",
            "data.*.n_tokens": "available_*",
        },
        keep={"State": "finished"},
        rows_are_runs=True,
    ),
    "paper": Layout(
        "The tables of Shukor et al. 2025: model_size, n_tokens, weight_<domain>, <target>_loss; a row per checkpoint",
        signs=("model_size", "*_loss"),
        columns={"model_size": "n_params", "*_loss": "loss_*"},
    ),
    "mixinglaws": Layout(
        "Data Mixing Laws: w0, w1, ..., N_nonemb, step (4096 x 256 tokens each), and a column of losses per target",
        signs=("N_nonemb", "step", "w0"),
        columns={
            "N_nonemb": "n_params",
            "step": "n_tokens",
            "run": "run_id",
            "size": "size",
            "w*": "weight_w*",
            "*": "loss_*",
        },
        scale={"n_tokens": 4096 * 256},
    ),
}


def get_layout(name: str) -> Layout:
    """Return a layout by name.

    Raises
    ------
    ConfigError
        If there is none; the message names the closest one.
    """
    if name not in LAYOUTS:
        raise ConfigError(unknown_name("layout", name, LAYOUTS))
    return LAYOUTS[name]


def recognised(columns: Sequence[str], renamed: Mapping[str, str], constants: Iterable[str], need_losses: bool) -> str:
    """Return the name of the layout that files have, or '' if their columns are standard or match no single layout.

    Parameters
    ----------
    columns : of all files
    renamed : column names, or patterns, that the user maps -> standard names
    constants : columns that the user sets
    need_losses : whether a table without losses is incomplete
    """
    standard = {c if is_standard(c) else renamed.get(c, "") for c in columns} | set(constants)
    standard |= {target for pattern, target in renamed.items() if any(fnmatchcase(c, pattern) for c in columns)}
    have = {kind: any(c.startswith(kind) for c in standard) for kind in (WEIGHT, LOSS)}
    complete = have[LOSS] or (have[WEIGHT] and not need_losses)
    if {"n_params", "n_tokens"} <= standard and complete:
        return ""
    free = [c for c in columns if c not in renamed]
    matching = [
        name
        for name, layout in LAYOUTS.items()
        if all(any(fnmatchcase(c, sign) for c in free) for sign in layout.signs)
    ]
    return matching[0] if len(matching) == 1 else ""
