"""Check that runs are comparable: all settings that affect losses, except N, D, h and the seed, must agree.

A run directory states these settings (its identity). A learning rate or batch size with one value per model size that
is monotonic in N is a scaling rule of the study. Any other difference is an error, unless the user selects runs
(`where`) or declares what was varied on purpose (`varied`). Files state few settings; for them, columns that look like
settings and differ give warnings.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import pandas as pd

from mixlaw.errors import RunLogError

FREE = (  # may differ: N, D, h, unique tokens, the seed, the machine, and when a run is evaluated
    *("seed", "study_name", "mixture.*", "machine.*", "logging.*", "checkpoint.*", "data.*", "model.family"),
    *("model.width", "model.depth", "model.head_dim", "model.ffn_multiple_of", "model.vocab_multiple_of"),
    *("model.decoder_depth", "schedule.n_tokens", "schedule.warmup_tokens", "stream.max_epochs"),
    *("stream.unique_tokens.*", "stream.match_repetition.*", "evaluation.n_points", "evaluation.ratio"),
)
BY_SIZE = ("optim.lr", "optim.weight_decay", "stream.batch_size", "precision")  # may depend on N
LATER: dict[str, Any] = {  # settings that older runs do not state -> the value that they had
    "init_from": "",
    "evaluation.average": 0.0,
    "evaluation.max_questions": 200,
    "schedule.cooldown": 0.0,
    "model.document_mask": False,
    "model.norm_eps": 2.0**-23,
    "model.image_size": 32,
    "model.patch_size": 8,
    "model.image_loss_weight": 0.4,
    "model.text_loss_weight": 1.0,
    "stream.unit": "tokens",
    "stream.min_crop": 1.0,
    "stream.flip": 0.0,
}
SETTINGS = re.compile(  # columns of files that are training settings
    r"(tokeni[sz]er|vocab(_size|ulary)?|family|arch(itecture)?|model_(type|family|name)|data(_?set|_version)?|corpus|"
    r"lr|max_lr|peak_lr|learning_?rate|optimi[sz]er|(global_)?batch_?size|weight_?decay|seq_?len(gth)?|"
    r"context(_length)?|precision|dtype)(_name)?"
)
MOST_RUNS = 3  # runs named per value
MOST_VALUES = 4
MOST_LINES = 3
Identity = Mapping[str, Any]


@dataclass(frozen=True)
class Facts:
    """Settings of one run.

    Attributes
    ----------
    run_id : its id
    n_params : N
    identity : settings that affect losses: name -> value
    all : all settings by which runs can be selected
    """

    run_id: str
    n_params: float
    identity: Identity
    all: Identity


def facts_of(run: Mapping[str, Any]) -> Facts:
    """Return the settings in a run.json, as flat names (optim.lr) and plain values."""
    config = flat(run["config"])
    later = {name: LATER[name] for name in LATER if "." not in name or name.split(".")[0] in run["config"]}
    settings = later | config
    identity = {name: value for name, value in settings.items() if not _fits(name, FREE)}
    identity["family"] = run["family"]
    if run["tokenizer"]:
        identity["tokenizer"] = _tokenizer(run["tokenizer"])
    pools = {d: pool for d, pool in run["data"].items() if isinstance(pool, Mapping) and "sha256" in pool}
    identity |= {f"data.{d}": str(pool["sha256"])[:12] for d, pool in pools.items()}
    groups = run["config"].get("data", {}).get("task_groups", {})  # targets that are means, with their weights
    identity |= {f"data.task_groups.{name}": json.dumps(weights, sort_keys=True) for name, weights in groups.items()}
    n_params = run["n_params"]["total"]
    names = {"run_id": run["run_id"], "study": run["study"], "n_params": n_params}
    return Facts(run["run_id"], float(n_params), identity, settings | identity | names)


def flat(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return nested settings with dotted names; lists become JSON text.

    >>> flat({"optim": {"lr": 0.1, "betas": [0.9, 0.95]}})
    {'optim.lr': 0.1, 'optim.betas': '[0.9, 0.95]'}
    """
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{above}{name}.")
        else:
            found[above + name] = json.dumps(value) if isinstance(value, list | tuple) else value
    return found


def _tokenizer(facts: Mapping[str, Any]) -> str:
    """Return kind, vocabulary size and hash of a tokenizer as one word; its name does not matter."""
    parts = [facts.get("kind"), facts.get("vocab_size"), str(facts.get("sha256", ""))[:8]]
    return "-".join(str(part) for part in parts if part) or json.dumps(facts, sort_keys=True)


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def value_text(value: Any) -> str:
    """Return a setting as text; numbers in their shortest form."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def require_comparable(runs: Sequence[Facts], where: str, varied: Iterable[str] = ()) -> list[str]:
    """Raise an error if runs differ in settings that affect losses; return notes about settings that depend on N.

    Parameters
    ----------
    runs : the runs of one table
    where : what messages call them
    varied : settings, or patterns with * and ?, that may differ

    Raises
    ------
    RunLogError
        Naming the settings, their values, and the runs that have them.
    """
    differing = {name: values for name, values in _values(runs).items() if len(values) > 1 and not _fits(name, varied)}
    notes, refused = [], {}
    for name, values in differing.items():
        rule = _as_rule(name, runs)
        if rule:
            notes.append(f"{where}: {name} depends on the model size: {rule}")
        else:
            refused[name] = values
    if refused:
        raise RunLogError(_refusal(refused, where, len(runs)))
    return notes


def _values(runs: Sequence[Facts]) -> dict[str, dict[str, list[str]]]:
    """Return setting -> value -> ids of the runs that have it; unstated settings are not compared."""
    found: dict[str, dict[str, list[str]]] = {}
    for run in runs:
        for name, value in run.identity.items():
            found.setdefault(name, {}).setdefault(value_text(value), []).append(run.run_id)
    order = sorted(found, key=lambda name: (name not in ("tokenizer", "family"), name.startswith("data."), name))
    return {name: found[name] for name in order}


def _as_rule(name: str, runs: Sequence[Facts]) -> str:
    """Return how a setting depends on N as text, if it has one value per N and is monotonic; else ''."""
    if name not in BY_SIZE:
        return ""
    if name == "optim.lr" and any(run.identity.get("optim.parametrization") == "mup" for run in runs):
        return ""  # under muP the rate is the same at all widths
    pairs = sorted({(run.n_params, run.identity[name]) for run in runs if name in run.identity})
    return _one_way(pairs)


def _one_way(pairs: Sequence[tuple[float, Any]]) -> str:
    """Return the ends of sorted (N, value) pairs as text, if N determines the value and it is monotonic; else ''."""
    values = [value for _, value in pairs]
    if len({n for n, _ in pairs}) < len(pairs):
        return ""
    if all(isinstance(v, int | float) for v in values) and values not in (sorted(values), sorted(values)[::-1]):
        return ""
    ends = (pairs[0], pairs[-1])
    return " to ".join(f"{value_text(value)} at N = {n:.3g}" for n, value in ends)


def _refusal(refused: Mapping[str, Mapping[str, list[str]]], where: str, n_runs: int) -> str:
    """Return the error about differing settings; settings that group the runs in the same way share a line."""
    same_groups: dict[str, list[str]] = {}
    for name, values in refused.items():
        same_groups.setdefault(json.dumps(sorted(values.values())), []).append(name)
    lines = []
    for names in list(same_groups.values())[:MOST_LINES]:
        more = f" (so do {', '.join(names[1:4])}{' ...' if len(names) > 4 else ''})" if len(names) > 1 else ""
        lines.append(f"  {names[0]}: {_values_text(refused[names[0]])}{more}")
    others = [name for names in list(same_groups.values())[MOST_LINES:] for name in names]
    lines += [f"  and {', '.join(others[:8])}"] if others else []
    first = next(iter(refused))
    common = max(refused[first], key=lambda value: len(refused[first][value]))
    head = f"{where}: {n_runs} runs cannot be fitted as one table: they differ in more than N, D, h and the seed:"
    remedy = f"Fit one kind: --where {first}={common}; or, if it was varied on purpose: --varied {first}"
    return "\n".join([head, *lines, remedy])


def _values_text(values: Mapping[str, Sequence[str]]) -> str:
    """Return values with the number of runs that have each, and the ids of some."""
    parts = []
    for value, runs in sorted(values.items(), key=lambda pair: -len(pair[1]))[:MOST_VALUES]:
        more = " ..." if len(runs) > MOST_RUNS else ""
        parts.append(f"{value} in {len(runs)} run{'s' * (len(runs) > 1)} ({', '.join(runs[:MOST_RUNS])}{more})")
    rest = len(values) - MOST_VALUES
    return ", ".join(parts) + (f", and {rest} more values" if rest > 0 else "")


def common_identity(runs: Sequence[Facts], varied: Iterable[str] = ()) -> dict[str, str]:
    """Return the settings that all runs share, as text; runs that are compared with them must share these too."""
    shared = {name: next(iter(v)) for name, v in _values(runs).items() if len(v) == 1 and not _fits(name, varied)}
    return {name: value for name, value in shared.items() if name not in BY_SIZE}


def require_alike(one: Mapping[str, str], other: Mapping[str, str], these: str, those: str) -> None:
    """Raise an error if two sets of runs differ in settings that are constant within each set.

    Parameters
    ----------
    one, other : the `common_identity` of each set; settings that only one of them states are not compared
    these, those : what the message calls them

    Raises
    ------
    RunLogError
        Naming the settings and both values.
    """
    differing = [name for name in one if name in other and one[name] != other[name]]
    if differing:
        shown = "; ".join(f"{name} is {one[name]} there and {other[name]} here" for name in differing[:MOST_LINES])
        more = f"; and {', '.join(differing[MOST_LINES : MOST_LINES + 8])}" if len(differing) > MOST_LINES else ""
        raise RunLogError(
            f"{those} cannot be compared with {these}: {shown}{more}. Choose runs of one kind by --where, or, if it "
            f"was varied on purpose: --varied {differing[0]}"
        )


def differing_columns(frame: pd.DataFrame, varied: Iterable[str] = ()) -> list[str]:
    """Return a warning for every column of training settings that differs between runs.

    A learning rate that decays within runs counts by its maximum. Settings that are monotonic in N, with one value per
    N, are a scaling rule and give no warning.

    Parameters
    ----------
    frame : run_id, n_params and all other columns
    varied : columns, or patterns, that may differ
    """
    warnings = []
    for column in map(str, frame.columns):
        known = frame[frame[column].notna()] if SETTINGS.fullmatch(re.split(r"[./]", column.lower())[-1]) else frame[:0]
        if known.empty or _fits(column, varied):
            continue
        values = _highest(known, column)
        pairs = sorted(
            set(zip(known["n_params"].astype(float), values, strict=True)), key=lambda pair: (pair[0], str(pair[1]))
        )
        if values.nunique() < 2 or _one_way(pairs):
            continue
        counts = values.map(value_text).value_counts()
        shown = ", ".join(f"{value} in {n} rows" for value, n in counts[:MOST_VALUES].items())
        more = f" and {len(counts) - MOST_VALUES} more" if len(counts) > MOST_VALUES else ""
        warnings.append(
            f"{column} differs between runs ({shown}{more}), and laws depend on N, D and h only: fit one kind by "
            f"--where {column}={counts.index[0]}; if it was varied on purpose: --varied {column}"
        )
    return warnings


def _highest(frame: pd.DataFrame, column: str) -> "pd.Series[Any]":
    """Return a column; numbers are replaced by the maximum of their run, because learning rates decay within runs."""
    cells = frame[column]
    if not pd.api.types.is_numeric_dtype(cells):
        return cells.astype(str)
    return cells.groupby(frame["run_id"].to_numpy()).transform("max")
