"""Whether runs may be fitted as one table: what decides their losses beside N, D, h and the seed must agree.

A run directory states everything that decides its losses (its identity). A learning rate or a batch size that has one
value per model size and goes one way with it is a rule of the study; every other difference is refused, unless a person
chooses some runs (`where`) or says what was varied on purpose (`varied`). Files state little: there the columns that
look like such settings are named.
"""

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import pandas as pd

from mixlaw.errors import ConfigError, RunLogError, unknown_name

FREE = (  # may differ: N, D, h, the seed, where a run happens and when it is measured
    "seed", "study_name", "mixture.*", "machine.*", "logging.*", "checkpoint.*", "data.*", "model.family",
    "model.width", "model.depth", "model.head_dim", "model.ffn_multiple_of", "model.vocab_multiple_of",
    "model.decoder_depth", "schedule.n_tokens", "schedule.warmup_tokens", "evaluation.n_points", "evaluation.ratio",
    "stream.max_epochs",
)  # fmt: skip
BY_SIZE = ("optim.lr", "optim.weight_decay", "stream.batch_size", "precision")  # may follow N
LATER: dict[str, Any] = {  # settings that came after the first runs, with what those runs did
    "evaluation.average": 0.0, "schedule.cooldown": 0.0, "model.document_mask": False, "model.image_size": 32,
    "model.patch_size": 8, "model.image_loss_weight": 0.4, "model.text_loss_weight": 1.0, "stream.unit": "tokens",
    "stream.min_crop": 1.0, "stream.flip": 0.0,
}  # fmt: skip
SETTINGS = re.compile(  # columns of files that say how a run was trained
    r"(tokeni[sz]er|vocab(_size|ulary)?|family|arch(itecture)?|model_(type|family|name)|data(_?set|_version)?|corpus|"
    r"lr|max_lr|peak_lr|learning_?rate|optimi[sz]er|(global_)?batch_?size|weight_?decay|seq_?len(gth)?|"
    r"context(_length)?|precision|dtype)(_name)?"
)
MOST_RUNS = 3  # that are named for each value
MOST_VALUES = 4
MOST_LINES = 3
Identity = Mapping[str, Any]


@dataclass(frozen=True)
class Facts:
    """What is compared of one run: its id, its N, what decides its losses, and everything that can be chosen by."""

    run_id: str
    n_params: float
    identity: Identity
    all: Identity


def facts_of(run: Mapping[str, Any]) -> Facts:
    """Return what a run.json says that decides the run's losses, as flat names and plain values."""
    config = flat(run["config"])
    settings = {name: LATER[name] for name in LATER if name.split(".")[0] in run["config"]} | config
    identity = {name: value for name, value in settings.items() if not _fits(name, FREE)}
    identity["family"] = run["family"]
    if run["tokenizer"]:
        identity["tokenizer"] = _tokenizer(run["tokenizer"])
    pools = {d: pool for d, pool in run["data"].items() if isinstance(pool, Mapping) and "sha256" in pool}
    identity |= {f"data.{d}": str(pool["sha256"])[:12] for d, pool in pools.items()}
    n_params = run["n_params"]["total"]
    names = {"run_id": run["run_id"], "study": run["study"], "n_params": n_params}
    return Facts(run["run_id"], float(n_params), identity, settings | identity | names)


def flat(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return nested settings with dots in their names; lists are text.

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
    """Return a tokenizer as one word, by its kind, size and hash; what it is called elsewhere does not count."""
    parts = [facts.get("kind"), facts.get("vocab_size"), str(facts.get("sha256", ""))[:8]]
    return "-".join(str(part) for part in parts if part) or json.dumps(facts, sort_keys=True)


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def chosen(runs: Sequence[Facts], where: Mapping[str, Sequence[str]]) -> list[Facts]:
    """Return the runs whose settings have the wanted values.

    Raises
    ------
    ConfigError
        If no run states such a setting, or none has the value, naming those that there are.
    """
    for name, wanted in where.items():
        stated = {run.run_id: run.all[name] for run in runs if name in run.all}
        check_name(name, stated, sorted({n for run in runs for n in run.all}))
        kept = [run for run in runs if run.run_id in stated and is_one_of(stated[run.run_id], wanted)]
        check_found(name, wanted, kept, stated.values())
        runs = kept
    return list(runs)


def as_wanted(where: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return setting -> the values that are wanted, as text.

    >>> as_wanted({"optim.lr": 0.008, "family": ["text", "vision"]})
    {'optim.lr': ['0.008'], 'family': ['text', 'vision']}
    """
    lists = {name: list(v) if isinstance(v, list | tuple | set) else [v] for name, v in where.items()}
    return {name: [str(value) for value in values] for name, values in lists.items()}


def check_name(name: str, stated: Collection[Any], known: Sequence[str]) -> None:
    """Refuse a setting that nothing states, with the near match."""
    if not stated:
        raise ConfigError(f"--where {name}=...: {unknown_name('setting or column', name, known)}")


def check_found(name: str, wanted: Sequence[str], kept: Collection[Any], stated: Iterable[Any]) -> None:
    """Refuse a value that nothing has, naming those that there are."""
    if not kept:
        values = ", ".join(dict.fromkeys(_word(v) for v in stated))
        raise ConfigError(f"--where {name}={' or '.join(wanted)}: nothing has this value; there are {values[:300]}")


def is_one_of(value: Any, wanted: Iterable[str]) -> bool:
    """Say whether a setting has one of the values: as a number, as text with * and ?, or by a part of its name.

    >>> is_one_of(0.003, ["3e-3"]), is_one_of("bytes-256-1a2b3c4d", ["bytes"]), is_one_of("The Pile", ["the*"])
    (True, True, True)
    """
    return any(_is(value, text.strip()) for text in wanted)


def _is(value: Any, text: str) -> bool:
    try:
        return math.isclose(float(value), float(text), rel_tol=1e-9)
    except (TypeError, ValueError):
        word = _word(value).lower()
        return fnmatchcase(word, text.lower()) or text.lower() in word.split("-")


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def require_comparable(runs: Sequence[Facts], where: str, varied: Iterable[str] = ()) -> list[str]:
    """Return notes about what follows the model's size; refuse runs that differ in anything else.

    Parameters
    ----------
    runs : those that are to be one table
    where : how messages name them
    varied : names of settings that may differ, * and ? allowed

    Raises
    ------
    RunLogError
        Naming the settings, their values, and runs that have them.
    """
    differing = {name: values for name, values in _values(runs).items() if len(values) > 1 and not _fits(name, varied)}
    notes, refused = [], {}
    for name, values in differing.items():
        rule = _as_rule(name, runs)
        if rule:
            notes.append(f"{where}: {name} follows the model's size: {rule}")
        else:
            refused[name] = values
    if refused:
        raise RunLogError(_refusal(refused, where, len(runs)))
    return notes


def _values(runs: Sequence[Facts]) -> dict[str, dict[str, list[str]]]:
    """Return setting -> value -> the runs that have it; a run that does not state a setting agrees with all."""
    found: dict[str, dict[str, list[str]]] = {}
    for run in runs:
        for name, value in run.identity.items():
            found.setdefault(name, {}).setdefault(_word(value), []).append(run.run_id)
    order = sorted(found, key=lambda name: (name not in ("tokenizer", "family"), name.startswith("data."), name))
    return {name: found[name] for name in order}


def _as_rule(name: str, runs: Sequence[Facts]) -> str:
    """Return in words how a setting follows N, where it has one value per N and goes one way; else nothing."""
    if name not in BY_SIZE:
        return ""
    if name == "optim.lr" and any(run.identity.get("optim.parametrization") == "mup" for run in runs):
        return ""  # muP's rate is the same at all widths
    pairs = sorted({(run.n_params, run.identity[name]) for run in runs if name in run.identity})
    return _one_way(pairs)


def _one_way(pairs: Sequence[tuple[float, Any]]) -> str:
    """Return (N, value) pairs, sorted, in words if every N has one value and values only rise or only fall with N."""
    values = [value for _, value in pairs]
    if len({n for n, _ in pairs}) < len(pairs):
        return ""
    if all(isinstance(v, int | float) for v in values) and values not in (sorted(values), sorted(values)[::-1]):
        return ""
    ends = (pairs[0], pairs[-1])
    return " to ".join(f"{_word(value)} at N = {n:.3g}" for n, value in ends)


def _refusal(refused: Mapping[str, Mapping[str, list[str]]], where: str, n_runs: int) -> str:
    """Return the error about settings that differ; those that divide the runs alike share a line."""
    alike: dict[str, list[str]] = {}
    for name, values in refused.items():
        alike.setdefault(json.dumps(sorted(values.values())), []).append(name)
    lines = []
    for names in list(alike.values())[:MOST_LINES]:
        more = f" (so do {', '.join(names[1:4])}{' ...' if len(names) > 4 else ''})" if len(names) > 1 else ""
        lines.append(f"  {names[0]}: {_values_in_words(refused[names[0]])}{more}")
    others = [name for names in list(alike.values())[MOST_LINES:] for name in names]
    lines += [f"  and {', '.join(others[:8])}"] if others else []
    first = next(iter(refused))
    common = max(refused[first], key=lambda value: len(refused[first][value]))
    return "\n".join([
        f"{where}: {n_runs} runs cannot be fitted as one table, they differ in more than N, D, h and the seed:", *lines,
        f"Fit one kind: --where {first}={common}; or, if it was varied on purpose: --varied {first}",
    ])  # fmt: skip


def _values_in_words(values: Mapping[str, Sequence[str]]) -> str:
    """Return values with how many runs have each, and some of them."""
    parts = []
    for value, runs in sorted(values.items(), key=lambda pair: -len(pair[1]))[:MOST_VALUES]:
        more = " ..." if len(runs) > MOST_RUNS else ""
        parts.append(f"{value} in {len(runs)} run{'s' * (len(runs) > 1)} ({', '.join(runs[:MOST_RUNS])}{more})")
    rest = len(values) - MOST_VALUES
    return ", ".join(parts) + (f", and {rest} more values" if rest > 0 else "")


def common_identity(runs: Sequence[Facts], varied: Iterable[str] = ()) -> dict[str, str]:
    """Return the settings that all runs share, as words: what other runs must share with them."""
    shared = {name: next(iter(v)) for name, v in _values(runs).items() if len(v) == 1 and not _fits(name, varied)}
    return {name: value for name, value in shared.items() if name not in BY_SIZE}


def require_alike(one: Mapping[str, str], other: Mapping[str, str], these: str, those: str) -> None:
    """Refuse two sets of runs that share settings among themselves but not with each other.

    Parameters
    ----------
    one, other : what `common_identity` returned for each; a setting that only one of them states is not compared
    these, those : how the message names them

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


def chosen_rows(frame: pd.DataFrame, where: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Return the rows of a file whose cells have the wanted values.

    Raises
    ------
    ConfigError
        If there is no such column, or no row has the value.
    """
    for name, wanted in where.items():
        check_name(name, [name] * (name in frame), [str(c) for c in frame.columns])
        kept = frame[[is_one_of(cell, wanted) for cell in frame[name]]]
        check_found(name, wanted, list(kept.index), frame[name])
        frame = kept
    return frame


def differing_columns(frame: pd.DataFrame, varied: Iterable[str] = ()) -> list[str]:
    """Return a sentence for every column of a file that says how runs were trained and has several values.

    A rate that falls within runs counts by its highest value; one value per N that goes one way with N is a rule.

    Parameters
    ----------
    frame : run_id, n_params and whatever other columns there are
    """
    said = []
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
        counts = values.map(_word).value_counts()
        shown = ", ".join(f"{value} in {n} rows" for value, n in counts[:MOST_VALUES].items())
        more = f" and {len(counts) - MOST_VALUES} more" if len(counts) > MOST_VALUES else ""
        said.append(
            f"{column} differs between runs ({shown}{more}), and laws see N, D and h only: fit one kind by --where "
            f"{column}={counts.index[0]}; if it was varied on purpose: --varied {column}"
        )
    return said


def _highest(frame: pd.DataFrame, column: str) -> "pd.Series[Any]":
    """Return a column, a number as the highest of its run: schedules fall within runs."""
    cells = frame[column]
    if not pd.api.types.is_numeric_dtype(cells):
        return cells.astype(str)
    return cells.groupby(frame["run_id"].to_numpy()).transform("max")
