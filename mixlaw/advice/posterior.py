"""What runs tell about the parameters of a law: the posterior of the law linearised in its parameters.

It has a closed form: the information of the runs' losses adds up, and the variance of any prediction follows (Chaloner
and Verdinelli 1995, Statistical Science 10).

Legend of shapes: b parameter vectors, p parameters, n rows, q predictions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixlaw.errors import FitError
from mixlaw.fitting.assemble import inputs
from mixlaw.fitting.fitted import FittedLaw
from mixlaw.laws.jacobian import Array
from mixlaw.laws.law import Law, Units
from mixlaw.laws.terms import PHASES, Inputs
from mixlaw.tables.columns import LOSS
from mixlaw.tables.table import Table

LINEAR_AT = 16  # resampled laws at which laws are linearised
LEAST_NOISE = 1e-5  # nats; keeps the information of noise-free runs finite
FLAT_PRIOR = 10.0  # sd that stands for a flat prior; most parameters are logarithms
Points = tuple[int, float]  # number of evaluations of a run, and ratio of D between them: evaluation.n_points, ratio


@dataclass(frozen=True)
class Noise:
    """Scatter of losses around a law [nats]: sd between runs (shared by a run's rows) and sd within runs."""

    run: float
    row: float

    @classmethod
    def of(cls, fit: FittedLaw, table: Table, target: str) -> "Noise":
        """Return the noise estimated from the residuals of a fit."""
        table = table.rows(table.frame[LOSS + target].notna())
        seen = fit.predict(table, targets=[target])
        residual = (seen["predicted"] - seen["observed"]).to_numpy(float)
        runs = pd.Series(residual).groupby(table.runs())
        row, run = (1.4826 * float(np.median(np.abs(off))) for off in (residual - runs.transform("mean"), runs.mean()))
        return cls(max(run, LEAST_NOISE), max(row, LEAST_NOISE))

    def whiten(self, jacobian: Array, runs: NDArray[np.int64]) -> Array:
        """Return the Jacobian (b, p, n) of whitened losses; the rows of a run must be consecutive.

        The covariance of a run's m rows, run^2 11' + row^2 I, has the eigenvalues m run^2 + row^2, for their mean, and
        row^2.
        """
        starts = np.flatnonzero(np.append(True, np.diff(runs) != 0))
        length = np.diff(np.append(starts, len(runs)))
        mean = np.add.reduceat(jacobian, starts, axis=-1) / length
        shrunk = mean * (1 - self.row / np.sqrt(self.row**2 + length * self.run**2))
        whitened: Array = (jacobian - np.repeat(shrunk, length, axis=-1)) / self.row
        return whitened


@dataclass
class Posterior:
    """Linearised posterior of one target's law: covariance (b, p, p) around each of b parameter vectors."""

    law: Law
    units: Units
    theta: Array
    noise: Noise
    covariance: Array

    @classmethod
    def prior(cls, law: Law, units: Units, theta: Array, noise: Noise, k: int) -> "Posterior":
        """Return the prior."""
        sd = law.term.prior(k)[1]
        sd = np.where(np.isfinite(sd), sd, FLAT_PRIOR)
        covariance: Array = np.tile(np.diag(sd**2), (len(theta), 1, 1))
        return cls(law, units, theta, noise, covariance)

    def jacobian(self, x: Inputs) -> Array:
        """Return the Jacobian (b, p, n) of the losses at a law's inputs."""
        return self.law.loss_and_jacobian(self.theta, x)[1]

    def whitened(self, rows: pd.DataFrame, domains: Sequence[str]) -> Array:
        """Return the Jacobian (b, p, n) of the whitened losses of rows; those of a run must be consecutive.

        Parameters
        ----------
        rows : run_id, n_params, n_tokens, weight_<domain>, and the columns of phases if runs change their mixture
        """
        x = inputs(self.law, Table(rows, list(domains), []), list(domains), self.units)
        return self.noise.whiten(self.jacobian(x), pd.factorize(rows["run_id"])[0])

    def given(self, runs: pd.DataFrame, domains: Sequence[str], points: Points | None = None) -> "Posterior":
        """Return the posterior given further runs.

        Parameters
        ----------
        runs : runs as in `curves`; or, without `points`, rows as in `whitened`
        """
        rows = runs.sort_values("run_id", kind="stable") if points is None else curves(runs, points)
        seen = self.whitened(rows, domains)
        information = np.linalg.inv(self.covariance) + seen @ seen.swapaxes(1, 2)
        covariance: Any = np.linalg.inv(information)
        return replace(self, covariance=covariance)

    def sd(self, jacobian: Array) -> Array:
        """Return (b, q) the sd [nats] of quantities with this Jacobian (b, p, q)."""
        variance = np.einsum("bpq,bpr,brq->bq", jacobian, self.covariance, jacobian)
        sd: Array = np.sqrt(np.maximum(variance, 0.0))
        return sd


def curves(runs: pd.DataFrame, points: Points) -> pd.DataFrame:
    """Return the rows of planned runs: one per evaluation, on a logarithmic grid that ends at n_tokens.

    Parameters
    ----------
    runs : n_params, n_tokens and weight_<domain>; of runs with two phases also until@1, weight_<domain>@1 and @2; of
        runs that branch n_taken, the tokens that their trunk trains, where they have no rows; empty for others
    """
    count, ratio = points
    rows = runs.loc[runs.index.repeat(count)].assign(run_id=np.repeat(np.arange(len(runs)), count))
    share = np.tile(ratio ** -np.arange(count - 1.0, -1, -1), len(runs))
    whole = rows["n_tokens"].to_numpy(float)
    rows = rows.assign(n_tokens=whole * share)
    if "until@1" in rows:
        rows = _so_far(rows, share)
    return rows[rows["n_tokens"] > rows["n_taken"].fillna(0.0)] if "n_taken" in rows else rows


def _so_far(rows: pd.DataFrame, share: Array) -> pd.DataFrame:
    """Return the rows of runs with one or two phases when they have read a share (n,) of their tokens."""
    first = np.minimum(rows["until@1"].to_numpy(float) / share, 1.0)
    cells = {"until@1": first, "until@2": np.where(first < 1, 1.0, np.nan)}
    for domain in (c.removesuffix("@1") for c in rows.columns if c.startswith("weight_") and c.endswith("@1")):
        early, late = (rows[f"{domain}@{p}"].to_numpy(float) for p in (1, 2))
        mean = np.where(first < 1, first * early + (1 - first) * late, early)
        cells |= {domain: np.where(np.isnan(first), rows[domain], mean)}
        cells |= {f"{domain}@2": np.where(first < 1, late, np.nan)}
    return rows.assign(**cells)


def posterior_of(fit: FittedLaw, table: Table, target: str) -> Posterior:
    """Return the posterior of a target's law given a table of runs, linearised at some of the resampled laws.

    Raises
    ------
    FitError
        If the law has inputs beside N, D, h and phases, which candidates do not have.
    """
    law, draws = fit.law, fit.target(target).draws
    if law.uses - {"N", "D", "h", PHASES} or law.joint_targets:
        raise FitError(f"the {law.name} law cannot say which runs to train next: fit multiplicative, additive or joint")
    every = draws[np.unique(np.linspace(0, len(draws) - 1, LINEAR_AT).round().astype(int))]
    noise = Noise.of(fit, table, target)
    rows = table.frame[table.frame[LOSS + target].notna()]
    return Posterior.prior(law, fit.units, every, noise, len(fit.domains)).given(rows, fit.domains)
