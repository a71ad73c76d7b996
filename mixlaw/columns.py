"""The names of columns that this package gives a meaning."""

import difflib
from collections.abc import Sequence

import pandas as pd

from mixlaw.errors import unknown_name
from mixlaw.notes import MAX_NAMES

WEIGHT, LOSS, LOSS_SE = "weight_", "loss_", "loss_se_"
PREFIXES = (WEIGHT, LOSS, "available_", "before_", "requested_", "epochs_")
POOLS = ("available", "available_tokens", "unique_tokens", "n_unique_tokens")  # tokens there are, of one domain
NAMES = ("run_id", "n_params", "n_tokens", "sparsity", "seed", "study", "step", "n_params_non_embedding", *POOLS)
SETTINGS = (
    "weight_decay",
    "loss_scale",
    "loss_scaling",
    "weight_init",
    "weight_tying",
)  # of a run, whatever the prefix


def is_standard(column: str) -> bool:
    """Say whether a column's name is one that this package gives a meaning."""
    return column in NAMES or (column.startswith(PREFIXES) and column not in SETTINGS)


def names_after(prefix: str, frame: pd.DataFrame) -> list[str]:
    """Return what follows a prefix in the names of the columns that have it."""
    columns = [str(c) for c in frame.columns if str(c) not in SETTINGS]
    return [c.removeprefix(prefix) for c in columns if c.startswith(prefix)]


def unknown_column(name: str, columns: Sequence[str], kind: str = "column") -> str:
    """Return the sentence for a column that is not there, with the near match and at most 20 of those that are."""
    near = difflib.get_close_matches(name, columns, n=MAX_NAMES, cutoff=0)
    return unknown_name(kind, name, columns if len(columns) <= MAX_NAMES else near)
