"""`score` compares a sealed forecast with runs: losses and gains, inside or outside their intervals."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mixlaw.advice.constraints import RECOMMENDED
from mixlaw.errors import RunLogError
from mixlaw.fileio import canonical_json
from mixlaw.forecast.matching import Frames, require_same, rows_at, runs_by_mixture, scope_notes, scored_at
from mixlaw.forecast.sealed import GAIN, LOSS, Forecast
from mixlaw.tables.columns import LOSS as LOSS_COLUMN
from mixlaw.tables.notes import listed
from mixlaw.tables.table import Table

COLUMNS = ["mixture", "target", "n_tokens", *LOSS, "measured", "inside", "n_runs"]
OF_FORECAST = ("sealed", "law", "interval_name", "n_params", "n_tokens", "objective", "unit")
OF_RUNS = ("runs", "early", "undated")
TABLES = ("losses", "gains")


@dataclass(frozen=True)
class Score:
    """A forecast compared with runs; what the ledger keeps.

    Attributes
    ----------
    seal : of the forecast
    sealed, law, interval_name, n_params, n_tokens, objective, unit : see `Forecast`
    losses : one row per mixture and target: mixture, target, n_tokens, predicted, low, high, measured (mean over
        runs), inside, n_runs
    gains : the same of the recommended mixture's gain over each baseline, at the largest D that both reached; its
        n_runs count the runs on the recommended mixture
    runs : ids of the runs that were compared
    early : those that began before the seal
    undated : those of which no file shows when they began
    notes : what was left out, one sentence each; not kept
    """

    seal: str
    sealed: str
    law: str
    interval_name: str
    n_params: float
    n_tokens: float
    objective: str
    unit: str
    losses: pd.DataFrame
    gains: pd.DataFrame
    runs: list[str]
    early: list[str] = field(default_factory=list)
    undated: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        """The sha256 of what was compared: the same forecast and runs have the same key."""
        return key_of(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return the score as plain data."""
        tables = {name: getattr(self, name).to_dict("records") for name in TABLES}
        return {name: getattr(self, name) for name in ("seal", *OF_FORECAST, *OF_RUNS)} | tables

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> "Score":
        """Return the score of `to_json`."""
        tables = {name: pd.DataFrame(facts[name], columns=COLUMNS).astype({"inside": bool}) for name in TABLES}
        return cls(**{name: facts[name] for name in ("seal", *OF_FORECAST, *OF_RUNS)} | tables)


def key_of(facts: Mapping[str, Any]) -> str:
    """Return the sha256 of a score as plain data."""
    return hashlib.sha256(canonical_json(facts).encode()).hexdigest()


def score(forecast: Forecast, runs: Table, began: Mapping[str, float] | None = None) -> Score:
    """Compare a forecast with runs.

    A run matches a mixture if its N is within 5 % of the forecast's and every weight that it realised within 0.005. It
    is scored at the forecast's D, or else at the largest D that it reached.

    Parameters
    ----------
    runs : of the recommended mixture, the baselines, or both
    began : run id -> when it began, in seconds since 1970, see `mixlaw.forecast.evidence.beginnings`

    Raises
    ------
    RunLogError
        If the runs train on other domains, have none of the targets or other units, or none matches; names the nearest.
    """
    table, times = runs.named_as(forecast.domains, list(forecast.targets)), began or {}
    targets, notes = require_same(forecast, table)
    found = runs_by_mixture(forecast, table)
    losses = [row for name, frame in found.items() for row in _losses(forecast, name, frame, targets)]
    if not losses:
        raise RunLogError(f"the runs that match the forecast have no loss of {listed(targets)} between its tokens")
    gains = [row for name in forecast.baselines for row in _gains(forecast, name, found, targets)]
    ids = sorted({str(run) for frame in found.values() for run in frame["run_id"].unique()})
    return Score(
        seal=forecast.seal,
        **{name: getattr(forecast, name) for name in OF_FORECAST},
        losses=pd.DataFrame(losses, columns=COLUMNS),
        gains=pd.DataFrame(gains, columns=COLUMNS),
        runs=ids,
        early=[run for run in ids if times.get(run, np.inf) < forecast.time],
        undated=[run for run in ids if run not in times],
        notes=[*notes, *scope_notes(forecast, found)],
    )


def _losses(forecast: Forecast, mixture: str, frame: pd.DataFrame, targets: list[str]) -> list[dict[str, Any]]:
    """Return the rows of one mixture: each target where it was measured nearest to the forecast's D."""
    rows = []
    for target in targets:
        known = _measured(forecast, target, frame)
        if len(known):
            n_tokens = scored_at(forecast, known)
            predicted = forecast.at(mixture, target, n_tokens)
            ends = [predicted[name] for name in LOSS]
            rows.append(_row(mixture, target, n_tokens, ends, rows_at(known, n_tokens)["measured"]))
    return rows


def _gains(forecast: Forecast, baseline: str, found: Frames, targets: list[str]) -> list[dict[str, Any]]:
    """Return the rows of the gain over one baseline: each target at the largest D that both mixtures reached."""
    if baseline not in found or RECOMMENDED not in found:
        return []
    rows = []
    for target in targets:
        both = [_measured(forecast, target, found[name]) for name in (RECOMMENDED, baseline)]
        n_tokens = min(scored_at(forecast, known) for known in both)
        ours, theirs = (rows_at(known, n_tokens)["measured"] for known in both)
        if len(ours) and len(theirs):
            predicted = forecast.at(baseline, target, n_tokens)
            rows.append(_row(baseline, target, n_tokens, [predicted[name] for name in GAIN], theirs.mean() - ours))
    return rows


def _measured(forecast: Forecast, target: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that measured a target or the objective, with its value as `measured`."""
    parts = forecast.targets[target]
    losses = frame[[LOSS_COLUMN + name for name in parts]].to_numpy(float)
    return frame.assign(measured=losses @ np.array(list(parts.values()))).dropna(subset="measured")


def _row(mixture: str, target: str, n_tokens: float, ends: list[float], values: pd.Series) -> dict[str, Any]:
    """Return one row of a table of scores; values are those of single runs."""
    measured, (predicted, low, high) = float(values.mean()), ends
    names = {"mixture": mixture, "target": target, "n_tokens": n_tokens}
    numbers = {"predicted": predicted, "low": low, "high": high, "measured": measured}
    return names | numbers | {"inside": low <= measured <= high, "n_runs": len(values)}
