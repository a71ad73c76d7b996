"""Which runs a forecast is about: by N, by D, and by the weights that they realised."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixlaw.errors import RunLogError
from mixlaw.forecast.sealed import Forecast
from mixlaw.mixture import Mixture
from mixlaw.phased_mixture import PhasedMixture
from mixlaw.tables.columns import WEIGHT
from mixlaw.tables.factor_levels import SAME
from mixlaw.tables.matching import WITHIN, last_rows, on_mixture, on_phases, weights_off
from mixlaw.tables.notes import listed
from mixlaw.tables.table import Table
from mixlaw.text import count_text

STEP = 0.01  # relative difference of D below which a run is said to end at the forecast's D
Frames = Mapping[str, pd.DataFrame]


def require_same(forecast: Forecast, table: Table) -> tuple[list[str], list[str]]:
    """Return the forecast's targets that the runs measured, and a note on the others.

    Raises
    ------
    RunLogError
        If the runs train on other domains, measured none of the targets, or have other units.
    """
    if set(table.domains) ^ set(forecast.domains):
        ours, theirs = listed(forecast.domains), listed(table.domains)
        raise RunLogError(f"the forecast is of mixtures of {ours}; these runs train on {theirs}")
    measured = [name for name, parts in forecast.targets.items() if set(parts) <= set(table.targets)]
    if not measured:
        raise RunLogError(f"the forecast is of {listed(list(forecast.targets))}; these runs have no such loss")
    for name in set(measured) & set(table.units):
        if table.units[name] != forecast.units[name]:
            raise RunLogError(
                f"the forecast of {name} is in {forecast.units[name]}, these runs have {table.units[name]}: "
                f"convert them, or state the unit by --units {name}=UNIT"
            )
    left = [name for name in forecast.targets if name not in measured]
    return measured, [f"not scored, because the runs have no such loss: {listed(left)}"] if left else []


def runs_by_mixture(forecast: Forecast, table: Table) -> dict[str, pd.DataFrame]:
    """Return the rows at the forecast's N, up to its D, on each of its mixtures; mixtures without runs are absent.

    Raises
    ------
    RunLogError
        If no run matches; names the nearest and what differs.
    """
    frame = table.frame
    sized = frame[same_n(forecast, frame) & in_range(forecast, frame)]
    found = {name: sized[_on(forecast, mixture, sized)] for name, mixture in forecast.mixtures.items() if len(sized)}
    found = {name: rows for name, rows in found.items() if len(rows)}
    if not found:
        raise RunLogError(nearest(forecast, frame))
    return found


def _on(forecast: Forecast, mixture: Mixture, frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Return (n,) which rows are runs on a mixture, or, so far, on one that changes during the forecast's D."""
    if isinstance(mixture, PhasedMixture):
        return on_phases(frame, mixture, forecast.n_tokens)
    return on_mixture(frame, mixture)


def same_n(forecast: Forecast, frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Return (n,) which rows have the forecast's N, within 5 %."""
    return np.abs(np.log(frame["n_params"].to_numpy(float) / forecast.n_params)) <= np.log1p(SAME)


def in_range(forecast: Forecast, frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Return (n,) which rows lie between the smallest sealed D and the forecast's, or up to 5 % above it."""
    tokens = frame["n_tokens"].to_numpy(float)
    return (tokens >= forecast.tokens[0]) & (tokens <= forecast.n_tokens * (1 + SAME))


def scored_at(forecast: Forecast, frame: pd.DataFrame) -> float:
    """Return the D of the rows that is nearest to the forecast's; NaN without rows."""
    tokens = frame["n_tokens"].to_numpy(float)
    return float(min(tokens, key=lambda d: abs(np.log(d / forecast.n_tokens)), default=np.nan))


def rows_at(frame: pd.DataFrame, n_tokens: float) -> pd.DataFrame:
    """Return the row of every run that is nearest to D, within 5 %: runs end at whole steps."""
    off = np.log(frame["n_tokens"] / n_tokens).abs()
    near = frame[off <= np.log1p(SAME)]
    return near.loc[off[near.index].sort_values().index].groupby("run_id").head(1)


def scope_notes(forecast: Forecast, found: Frames) -> list[str]:
    """Return notes on mixtures without runs, runs that end before the forecast's D, and runs of another N."""
    absent = [name for name in forecast.mixtures if name not in found]
    notes = [f"not scored, because no run trains on it: {listed(absent)}"] if absent else []
    for name, frame in found.items():
        reached = scored_at(forecast, frame)
        if reached < forecast.n_tokens * (1 - STEP):
            asked, got = count_text(forecast.n_tokens), count_text(reached)
            notes.append(f"the runs on '{name}' end at D = {got} of {asked} and are scored there")
    sizes = {count_text(n) for frame in found.values() for n in frame["n_params"]} - {count_text(forecast.n_params)}
    asked = count_text(forecast.n_params)
    return notes + ([f"N of the runs is {listed(sorted(sizes))}, of the forecast {asked}"] if sizes else [])


def nearest(forecast: Forecast, frame: pd.DataFrame) -> str:
    """Return the sentence that no run matches, with the nearest one and by how much it misses."""
    ends = last_rows(frame).reset_index(drop=True)
    off = np.stack([weights_off(ends, mixture) for mixture in forecast.mixtures.values()])
    sizes = np.abs(np.log(ends["n_params"].to_numpy(float) / forecast.n_params))
    short = ends["n_tokens"].to_numpy(float) < forecast.tokens[0]
    which = int(np.argmin(off.min(0) + sizes + short))
    run, of = ends.iloc[[which]], list(forecast.mixtures)[int(off[:, which].argmin())]
    rows = frame[(frame["run_id"] == run["run_id"].item())]
    misses = [_weight_miss(forecast, of, run)] if off[:, which].min() >= WITHIN else []
    if not same_n(forecast, run).all():
        misses.append(f"its N is {count_text(run['n_params'].item())}, not {count_text(forecast.n_params)}")
    if not in_range(forecast, rows).any():
        low, high = count_text(forecast.tokens[0]), count_text(forecast.n_tokens)
        misses.append(f"its D is {count_text(run['n_tokens'].item())}, outside {low} to {high}")
    return f"no run matches the forecast; the nearest is {run['run_id'].item()}: {', '.join(misses)}"


def _weight_miss(forecast: Forecast, of: str, run: pd.DataFrame) -> str:
    weights, realised = forecast.mixtures[of], {d: run[WEIGHT + d].item() for d in forecast.domains}
    domain = max(weights, key=lambda d: abs(realised[d] - weights[d]))
    return f"its weight of {domain} is {realised[domain]:.3f}, not {weights[domain]:.3f} as in '{of}'"
