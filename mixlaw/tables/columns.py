"""Standard column names."""

import difflib
import re
from collections.abc import Sequence

import pandas as pd

from mixlaw.errors import unknown_name
from mixlaw.tables.notes import MAX_NAMES

WEIGHT, LOSS, LOSS_SE = "weight_", "loss_", "loss_se_"
SCORE, SCORE_SE = "score_", "score_se_"  # shares of questions answered, 0 to 1; never fitted
PREFIXES = (WEIGHT, LOSS, SCORE, "available_", "before_", "requested_", "epochs_")
POOLS = ("available", "available_tokens", "unique_tokens", "n_unique_tokens")  # of the only domain
NAMES = ("run_id", "n_params", "n_tokens", "sparsity", "seed", "study", "step", "n_params_non_embedding", *POOLS)
SHORT = {"n": "n_params", "params": "n_params", "parameters": "n_params", "d": "n_tokens", "tokens": "n_tokens"}
UNTIL = "until@"
PHASE = re.compile(r"@([1-9]\d*)$")  # weight_web@2: in the second phase of a run; until@2: its end
OF_PHASES = (WEIGHT, "requested_")
SETTINGS = ("weight_decay", "loss_scale", "loss_scaling", "weight_init", "weight_tying")  # neither weights nor losses


def is_standard(column: str) -> bool:
    """Return whether a column name is a standard one."""
    known = column in NAMES or bool(PHASE.fullmatch(column.removeprefix("until")))
    return known or (column.startswith(PREFIXES) and column not in SETTINGS)


def meant(column: str) -> str:
    """Return the standard name for a usual spelling (capitals, blanks, short forms), or ''.

    >>> meant("N"), meant("LOSS_web"), meant("N Tokens"), meant("loss_web"), meant("notes")
    ('n_params', 'loss_web', 'n_tokens', '', '')
    """
    if is_standard(column):
        return ""
    lower = re.sub(r"[ -]", "_", column.lower())
    prefix = next((p for p in PREFIXES if lower.startswith(p) and lower not in SETTINGS), "")
    if prefix:
        return prefix + column[len(prefix) :]
    return lower if lower in NAMES else SHORT.get(lower, "")


def names_after(prefix: str, frame: pd.DataFrame) -> list[str]:
    """Return the names behind a prefix: the domains of weight_* (of whole runs, not phases), the targets of loss_*."""
    columns = [str(c) for c in frame.columns if str(c) not in SETTINGS]
    columns = [c for c in columns if not phase_of(c)]
    return [c.removeprefix(prefix) for c in columns if c.startswith(prefix)]


def phase_of(column: str) -> int:
    """Return the number of the phase that a column of weights is about, or 0 if it is about the whole run.

    >>> phase_of("weight_web@2"), phase_of("weight_web"), phase_of("until@1"), phase_of("loss_pass@1")
    (2, 0, 1, 0)
    """
    match = PHASE.search(column) if column.startswith((*OF_PHASES, UNTIL)) else None
    return int(match[1]) if match else 0


def unknown_column(name: str, columns: Sequence[str], kind: str = "column") -> str:
    """Return the error for a missing column, with the closest match and at most 20 of the columns."""
    near = difflib.get_close_matches(name, columns, n=MAX_NAMES, cutoff=0)
    return unknown_name(kind, name, columns if len(columns) <= MAX_NAMES else near)
