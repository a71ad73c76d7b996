"""The phases of runs as arrays, for laws and for the distances between runs; `phases` checks the columns."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixlaw.laws.jacobian import Array
from mixlaw.mixture import Mixture
from mixlaw.phased_mixture import PhasedMixture
from mixlaw.tables.check import check_frame
from mixlaw.tables.columns import UNTIL, WEIGHT, phase_of
from mixlaw.tables.phases import n_phases
from mixlaw.tables.table import Table

CHANGED = 0.01  # difference of a weight between two phases above which a run has changed its mixture


@dataclass(frozen=True)
class Phases:
    """The mixtures (n, P, k) of the phases of n rows, and the shares of their tokens at which phases end (n, P).

    Phases that have not begun end at 1, where the phase before them ended.
    """

    weights: Array
    until: Array

    @property
    def shares(self) -> Array:
        """(n, P) shares of the tokens."""
        return np.diff(self.until, axis=1, prepend=0.0)

    @property
    def changed(self) -> NDArray[np.bool_]:
        """(n,) whether the phases of a row differ."""
        read = self.shares[:, :, None] > 0
        low, high = (np.where(read, self.weights, empty) for empty in (np.inf, -np.inf))
        return np.asarray((high.max(1) - low.min(1) > CHANGED).any(1), bool)

    def halves(self) -> Array:
        """Return (n, 2k) half of the mixture of the first half of the tokens, and half of that of the second half.

        The total variation distance of two such rows is the mean of those of both halves of the runs.
        """
        ends = np.concatenate([np.zeros((len(self.until), 1)), self.until], 1)
        early, late = (np.diff(np.clip(ends, *half), axis=1) for half in ((0.0, 0.5), (0.5, 1.0)))
        return np.hstack([(share[:, :, None] * self.weights).sum(1) for share in (early, late)])


def phases_of(table: Table) -> Phases | None:
    """Return the phases of a table's rows, one for runs with one mixture; None if it has no columns of phases."""
    frame, numbers = table.frame, range(1, n_phases(table.frame) + 1)
    if not numbers:
        return None
    ends = np.stack([frame[f"{UNTIL}{p}"].to_numpy(float) for p in numbers], 1)
    cells = [frame[[f"{WEIGHT}{d}@{p}" for d in table.domains]].to_numpy(float) for p in numbers]
    begun = np.isfinite(ends)
    last = np.where(begun, ends, 0.0).max(1, keepdims=True)  # 1, but for rounding in the file
    until = np.where(begun, ends / np.where(last > 0, last, 1.0), 1.0)
    return Phases(np.where(begun[:, :, None], np.stack(cells, 1), table.mixtures[:, None]), until)


def run_of(mixture: Mixture, n_params: float, n_tokens: float) -> Table:
    """Return a table with one run at the end of its training, which may have changed its mixture."""
    cells: dict[str, object] = {"run_id": "run", "n_params": n_params, "n_tokens": n_tokens}
    cells |= {WEIGHT + domain: weight for domain, weight in mixture.items()}
    if isinstance(mixture, PhasedMixture):
        for p, (end, phase) in enumerate(zip(mixture.ends, mixture.phases, strict=True), 1):
            cells |= {f"{UNTIL}{p}": end} | {f"{WEIGHT}{domain}@{p}": weight for domain, weight in phase.items()}
    return check_frame(pd.DataFrame([cells]), "the run", need_losses=False)


def changes_mixture(table: Table) -> bool:
    """Return whether some run of a table changes its mixture."""
    phases = phases_of(table)
    return phases is not None and bool(phases.changed.any())


def without_phases(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows without columns of phases: every run has one mixture."""
    return frame.drop(columns=[c for c in frame.columns if phase_of(str(c))])


def ranges_by_phase(table: Table) -> list[dict[str, tuple[float, float]]]:
    """Return, per phase, domain -> (low, high) of its weights in runs that changed their mixture; empty without any."""
    phases = phases_of(table)
    if phases is None or not phases.changed.any():
        return []
    read = (phases.shares > 0) & phases.changed[:, None]
    weights = [phases.weights[read[:, p], p] for p in range(read.shape[1])]
    return [
        {d: (float(h[:, i].min()), float(h[:, i].max())) for i, d in enumerate(table.domains)}
        for h in weights
        if len(h)
    ]
