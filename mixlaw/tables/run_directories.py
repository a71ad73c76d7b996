"""Run directories become one checked `Table`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from mixlaw.errors import RunLogError
from mixlaw.runs.comparable import Facts, common_identity, require_comparable
from mixlaw.runs.filters import select_runs
from mixlaw.runs.load import load_runs
from mixlaw.tables.columns import SCORE, names_after, phase_of
from mixlaw.tables.notes import listed
from mixlaw.tables.table import Table
from mixlaw.tables.units import units_of

LR_STATES = ("constant", "averaged", "cooled")  # kinds of evaluations, the preferred one first


@dataclass(frozen=True)
class Choice:
    """Which run directories are read, and what they may differ in.

    Attributes
    ----------
    where : setting -> the values to keep
    varied : settings that runs may differ in
    former : also read runs that only a former version of their study planned
    """

    where: Mapping[str, Sequence[str]] = field(default_factory=dict)
    varied: Sequence[str] = ()
    former: bool = False


def read_runs(folders: Sequence[Path], count: str, choice: Choice) -> Table:
    """Read run directories into a table; evaluations of plain, averaged and cooled-down weights are never mixed.

    Parameters
    ----------
    folders : run directories, or folders of run directories
    count : which parameter count is N: n_params (total) or n_params_non_embedding
    choice : which runs

    Raises
    ------
    RunLogError
        If runs cannot be read, differ in settings that are not `varied`, or train on different domains.
    """
    runs = load_runs(*folders, former=choice.former)
    where = f"runs in {', '.join(map(str, folders))}"
    notes = [*_excluded(runs.excluded), *(f"left out: {sentence}" for sentence in runs.former)]
    facts = select_runs(list(runs.facts.values()), choice.where)
    if choice.where:
        notes.append(f"{where}: {len(facts)} of {len(runs.facts)} runs are chosen by --where")
    long = runs.table[runs.table["run_id"].isin([run.run_id for run in facts])]
    long = _of_one_lr_state(long, folders, notes)
    facts = _present(facts, long)
    notes += require_comparable(facts, where, choice.varied)
    _require_same_domains(long, folders)
    frame = _wide(long, count)
    targets = list(dict.fromkeys(long["domain"]))
    return Table(
        frame,
        names_after("requested_", long),
        targets,
        notes=notes,
        sizes=runs.sizes,
        sources=[(where, len(frame))],
        units=units_of(frame, targets) | runs.units,
        identity=common_identity(facts, choice.varied),
    )


def _of_one_lr_state(long: pd.DataFrame, folders: Sequence[Path], notes: list[str]) -> pd.DataFrame:
    """Return the evaluations of one kind of weights: plain ones if there are any."""
    states = [state for state in LR_STATES if (long["lr_state"] == state).any()]
    if not states:
        raise RunLogError(f"the runs in {folders[0]} have no evaluations with a known lr_state ({listed(LR_STATES)})")
    same = long["lr_state"] == states[0]
    if not same.all():
        others = ", ".join(f"'{state}'" for state in sorted(set(long["lr_state"][~same])))
        notes.append(
            f"left out: {int((~same).sum())} evaluations with lr_state {others}: those with '{states[0]}' are kept, "
            "and the kinds are never mixed. Put runs of another kind into a folder of their own"
        )
    return long[same]


def _present(facts: Sequence[Facts], long: pd.DataFrame) -> list[Facts]:
    """Return the facts of the runs that still have rows."""
    ids = set(long["run_id"])
    return [run for run in facts if run.run_id in ids]


def _require_same_domains(long: pd.DataFrame, folders: Sequence[Path]) -> None:
    for domain in names_after("requested_", long):
        without = long["run_id"][long[f"weight_{domain}"].isna()].unique()
        if len(without):
            raise RunLogError(
                f"runs in {folders[0]} train on different domains: '{domain}' is not in all of them: it is missing in "
                f"{listed(list(without), 3)}"
            )


def _wide(long: pd.DataFrame, count: str) -> pd.DataFrame:
    """Return one row per run and evaluation point: loss_<target>, loss_se_<target>, before_<target>, score_<target>."""
    domains = names_after("requested_", long)
    of_domains = [f"{prefix}_{domain}" for domain in domains for prefix in ("weight", "requested", "epochs")]
    index = ["run_id", "study", "seed", count, "step", "n_tokens", *of_domains]
    values = [value for value in ("loss", "loss_se", "before", "score", "score_se") if value in long]
    wide = long.pivot(index=index, columns="domain", values=values)
    wide.columns = pd.Index(["_".join(pair) for pair in wide.columns.to_flat_index()])
    scores = wide.filter(regex=f"^{SCORE}")
    wide = wide.drop(columns=scores.columns[scores.isna().all()])  # other targets have none
    by_phase = [c for c in map(str, long.columns) if phase_of(c)]  # empty cells, which a pivot would lose
    available = [f"available_{domain}" for domain in domains]
    others = long[["run_id", "step", *by_phase, *available]].drop_duplicates()
    frame = wide.reset_index().merge(others, on=["run_id", "step"])
    frame = frame.rename(columns={count: "n_params"})
    frame = frame.sort_values(["run_id", "n_tokens"], ignore_index=True)
    frame.insert(0, "row", np.arange(1, len(frame) + 1))
    return frame


def _excluded(sentences: Mapping[str, str]) -> list[str]:
    """Return one line per reason why runs were left out, with the first run and the number of others.

    Parameters
    ----------
    sentences : folder -> why it was left out; the sentence names the folder
    """
    by_reason: dict[str, list[str]] = {}
    for folder, sentence in sentences.items():
        by_reason.setdefault(sentence.replace(folder, "\0"), []).append(folder)
    notes = []
    for reason, folders in by_reason.items():
        others = f" (so {'are' if len(folders) > 2 else 'is'} {listed(folders[1:], 3)})" if len(folders) > 1 else ""
        notes.append(f"left out: {reason.replace(chr(0), folders[0])}{others}")
    return notes
