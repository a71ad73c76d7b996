"""A fitted law: parameters, their resamples and the scatter of runs, and the predictions that follow from them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from mixlaw.errors import ConfigError, FitError, RunLogError, unknown_name
from mixlaw.fitting.assemble import inputs
from mixlaw.fitting.bootstrap import interval, lies_inside
from mixlaw.fitting.differences import Scatter, estimate, gain_interval
from mixlaw.fitting.error_scale import MOST_INFLATED
from mixlaw.fitting.widening import LEAST, Ranges, Widening, distances, factors, widened, with_scatter
from mixlaw.laws.jacobian import Array
from mixlaw.laws.law import Law, Units
from mixlaw.laws.terms import PHASES, TINY, UNTIL, Inputs
from mixlaw.mixture import Mixture
from mixlaw.tables.check import check_frame
from mixlaw.tables.columns import LOSS
from mixlaw.tables.phase_mixtures import Phases, phases_of, without_phases
from mixlaw.tables.single_domain import rename_domain
from mixlaw.tables.table import Table
from mixlaw.tables.units import NATS, together

Data = Table | pd.DataFrame
LEVEL = 0.9  # default level of intervals


@dataclass(frozen=True)
class FittedTarget:
    """One law fitted to one target.

    Attributes
    ----------
    theta : (p,) free parameters at the lowest minimum found
    draws : (b, p) free parameters of each bootstrap resample of runs
    noise : residuals [nats, or relative if residuals are logarithmic], for the scatter of a new run
    objective : mean Huber loss
    statement : convergence in a sentence: how many starts agreed on the minimum
    n_rows, n_runs : size of the data
    widening : correction of intervals from held-out runs
    scatter : of single runs, for the differences between two; None if it is not known
    unit : of the losses
    """

    theta: Array
    draws: Array
    noise: Array
    objective: float = float("nan")
    statement: str = ""
    n_rows: int = 0
    n_runs: int = 0
    widening: Widening = field(default_factory=Widening)
    scatter: Scatter | None = None
    unit: str = NATS


@dataclass(frozen=True, repr=False)
class FittedLaw:
    """A law with fitted parameters for every target: what `LawFit` makes, and advice, plots and reports read.

    Attributes
    ----------
    law : the formula
    domains : names of the k domains, in the order of the parameters
    units : scale of N and D in the parameters
    targets : target -> its fit
    ranges : n_params, n_tokens -> (low, high) of the fitted rows
    warnings : what the data do not identify, one sentence each
    settings : of the `LawFit` that made it
    held : share of held-out losses inside the widened 90 % intervals; NaN if nothing could be held out
    held_gains : share of differences between two held-out runs inside the intervals of gains; NaN without such pairs
    correlations : (t, t) of the targets' scatter; empty if it is not known
    """

    law: Law
    domains: list[str]
    units: Units
    targets: Mapping[str, FittedTarget]
    ranges: Ranges = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    held: float = float("nan")
    held_gains: float = float("nan")
    correlations: Array = field(default_factory=lambda: np.zeros((0, 0)))

    def __repr__(self) -> str:
        return f"FittedLaw({self.name}; domains: {', '.join(self.domains)}; targets: {', '.join(self.targets)})"

    @property
    def name(self) -> str:
        """Name of the law in the registry."""
        return self.law.name

    @property
    def logarithmic(self) -> bool:
        """Whether residuals are of log losses, so that the scatter of runs is relative."""
        return self.settings.get("residuals") == "log"

    def target(self, name: str) -> FittedTarget:
        """Return the fit of one target.

        Raises
        ------
        ConfigError
            If it was not fitted; suggests the nearest name.
        """
        if name not in self.targets:
            raise ConfigError(unknown_name("target", name, self.targets))
        return self.targets[name]

    def unit_of(self, names: Iterable[str] = ()) -> str:
        """Return the common unit of some targets, by default all; "mixed" where they differ."""
        return together(self.target(name).unit for name in list(names) or self.targets)

    def inputs(self, table: Table, target: str) -> Inputs:
        """Return the law's inputs for a table's rows.

        Raises
        ------
        RunLogError
            If the table trains on other domains than the fitted ones.
        """
        domains = self.domains
        table = table.named_as(domains, list(self.targets))
        if not self.law.reads_domains:
            domains = table.domains
        elif len(domains) == 1 and len(table.domains) < 2:
            frame = rename_domain(table.frame, table.domains, domains[0])
            sizes = dict(zip(domains, table.sizes.values(), strict=False))
            table = replace(table, frame=frame, domains=domains, sizes=sizes)
        if set(table.domains) ^ set(domains):
            raise RunLogError(f"the laws were fitted on domains {domains}, the table has {table.domains}")
        return inputs(self.law, table, domains, self.units, target)

    def draws(self, target: str, x: Inputs) -> Array:
        """Return (b, n) losses under the resampled parameters, widened as calibrated on held-out runs."""
        fit = self.target(target)
        centre, drawn = self.law.loss(fit.theta[None], x)[0], self.law.loss(fit.draws, x)
        return widened(centre, drawn, factors(fit.widening, centre, drawn, self.beyond(x)))

    def beyond(self, x: Inputs) -> dict[str, Array]:
        """Return the log distance of rows from the fitted range, see `mixlaw.fitting.widening.distances`."""
        n_params, n_tokens = np.exp(x.log_n) * self.units.n_params, np.exp(x.log_d) * self.units.n_tokens
        return distances(self.ranges, n_params, n_tokens)

    def scattered(self, target: str, drawn: Array, rng: np.random.Generator | None = None) -> Array:
        """Return (b, n) losses of new single runs around the resampled laws' (b, n).

        Each resample draws one residual for all rows, so a row's interval does not depend on the other rows.
        """
        noise = self.run_errors(target, rng)
        return with_scatter(drawn, noise * drawn if self.logarithmic else noise)

    def run_errors(self, target: str, rng: np.random.Generator | None = None) -> Array:
        """Return (b, 1) the residual of a new run that each resample draws, by default as `predict` draws them."""
        fit = self.target(target)
        rng = rng or np.random.default_rng([self.settings.get("seed", 0), 1])
        return rng.choice(fit.noise, (len(fit.draws), 1))

    def with_scatter_of(self, table: Table) -> "FittedLaw":
        """Return the law with the scatter of a table's runs around it, see `mixlaw.fitting.differences`."""
        residuals, inflation = {}, {}
        for name, fit in self.targets.items():
            predicted = self.law.loss(fit.theta[None], self.inputs(table, name))[0]
            off = table.frame[LOSS + name].to_numpy(float) - predicted
            residuals[name] = off / np.maximum(predicted, LEAST)
            size = np.nanmean(np.abs(residuals[name] if self.logarithmic else off))
            inflation[name] = float(np.clip(np.abs(fit.noise).mean() / max(size, TINY), 1.0, MOST_INFLATED))
        found, correlations = estimate(residuals, table.frame, self.compared(table), inflation)
        targets = {name: replace(fit, scatter=found[name]) for name, fit in self.targets.items()}
        return replace(self, targets=targets, correlations=correlations)

    def compared(self, table: Table) -> Array:
        """Return the mixtures of a table's rows whose distances decide how much of the scatter two runs share.

        They are (n, k); for laws of phases (n, 2k), see `mixlaw.tables.phase_mixtures.Phases.halves`.
        """
        phases = phases_of(table) if PHASES in self.law.uses else None
        return table.mixtures if phases is None else phases.halves()

    def scatter_sd(self, target: str, one: Array, other: Array, loss: Array) -> Array:
        """Return (n,) the sd of the difference of two runs around their law [the target's unit].

        Where too few runs of the table have the same N and D, all residuals count as seed noise.

        Parameters
        ----------
        one, other : (n, k) mixtures, or (n, 2k) those of both halves of runs, see `compared`
        loss : (n,) of the runs
        """
        fit, loss = self.target(target), np.maximum(loss, 0.0)
        if fit.scatter:
            one, other = (self._in_halves(h) for h in (one, other))
            return fit.scatter.sd(one, other) * loss
        return np.std(fit.noise) * 2**0.5 * (loss if self.logarithmic else np.ones_like(loss))

    def _in_halves(self, h: Array) -> Array:
        if PHASES in self.law.uses and h.shape[1] == len(self.domains):
            return np.hstack([h, h]) / 2
        return h

    def difference(self, target: str, x: Inputs, baseline: Inputs, level: float = LEVEL) -> tuple[Array, Array, Array]:
        """Return the gains (n,) of runs over runs on a baseline, as two real runs would show, and their intervals.

        Parameters
        ----------
        x, baseline : the inputs of both runs, which differ in the mixture or its phases only
        level : of the intervals, in (0, 1)

        Returns
        -------
        Loss of the run on the baseline minus loss of the run [the target's unit], and the ends of its interval.
        """
        fit = self.target(target)
        here, there = (self.law.loss(fit.theta[None], each)[0] for each in (x, baseline))
        drawn = self.law.loss(fit.draws, baseline) - self.law.loss(fit.draws, x)
        sd = self.scatter_sd(target, _compared(x), _compared(baseline), (here + there) / 2)
        return there - here, *gain_interval(there - here, drawn, sd, level)

    def predict(
        self,
        data: Data,
        *,
        targets: Iterable[str] = (),
        level: float = LEVEL,
        baseline: Mapping[str, float] | None = None,
    ) -> pd.DataFrame:
        """Return predictions with intervals for a new run at every row of a table.

        Parameters
        ----------
        data : a Table, or a DataFrame with n_params, n_tokens and weight_<domain>; losses are not needed
        targets : by default all
        level : of the intervals, in (0, 1)
        baseline : a mixture (domain -> weight) to compare every row with

        Returns
        -------
        DataFrame of row, target, law, predicted, low, high [the target's unit], and observed where the table has it;
        intervals hold the uncertainty of the parameters and the scatter of a single run. With a baseline also gain,
        gain_low and gain_high: the loss of a run on the baseline at the row's N and D, minus the row's loss.

        Raises
        ------
        ConfigError, RunLogError
            If a target was not fitted, or the table or the baseline has other domains.
        FitError
            If there is a baseline, and the law does not depend on the mixture.
        """
        table = as_table(data, need_losses=False).named_as(self.domains, list(self.targets))
        require_level(level)
        names = list(targets) or list(self.targets)
        predicted = pd.concat([self._predicted(table, name, level) for name in names], ignore_index=True)
        if baseline is None:
            return predicted
        gained = pd.concat([self._gained(table, name, baseline, level) for name in names], ignore_index=True)
        return pd.concat([predicted, gained], axis=1)

    def _gained(self, table: Table, target: str, baseline: Mapping[str, float], level: float) -> pd.DataFrame:
        if not self.law.mixes:
            raise FitError(f"the {self.name} law does not depend on the mixture, so it predicts no gain")
        weights = {f"weight_{d}": w for d, w in Mixture.of(baseline, self.domains, "baseline").items()}
        there = replace(table, frame=without_phases(table.frame).assign(**weights))
        ends = self.difference(target, self.inputs(table, target), self.inputs(there, target), level)
        return pd.DataFrame(dict(zip(("gain", "gain_low", "gain_high"), ends, strict=True)))

    def _predicted(self, table: Table, target: str, level: float) -> pd.DataFrame:
        fit, x = self.target(target), self.inputs(table, target)
        predicted = self.law.loss(fit.theta[None], x)[0]
        low, high = interval(self.scattered(target, self.draws(target, x)), level)
        columns = {"row": table.frame["row"].to_numpy(), "target": target, "law": self.name, "predicted": predicted}
        frame = pd.DataFrame(columns | {"low": np.minimum(low, predicted), "high": np.maximum(high, predicted)})
        if LOSS + target in table.frame:
            frame["observed"] = table.frame[LOSS + target].to_numpy(float)
        return frame

    def scores(self, data: Data) -> pd.DataFrame:
        """Return scores by target: law, target, mre [%], mae [nats], bias [%], spearman, coverage [%], n.

        Coverage is of the 90 % intervals.

        Raises
        ------
        RunLogError
            If the table holds none of the targets' losses.
        """
        predictions = self.predict(data)
        known = predictions.dropna(subset="observed") if "observed" in predictions else predictions[:0]
        if known.empty:
            raise RunLogError("the table to score on holds none of the fitted targets' losses")
        rows = [{"law": self.name, "target": t, **scores(g)} for t, g in known.groupby("target", sort=False)]
        return pd.DataFrame(rows)

    def interval_name(self, level: float = LEVEL) -> str:
        """Return the name of an interval: its level, or its measured coverage where that is lower."""
        if self.held < level:
            return f"interval ({100 * self.held:.0f} % coverage)"
        return f"{100 * level:g} % interval"

    @property
    def params(self) -> pd.DataFrame:
        """Parameters in the notation of the law's source: one row per target, N and D in `units`."""
        return pd.DataFrame({t: self.law.natural(f.theta, self.domains) for t, f in self.targets.items()}).T

    def intervals_of_params(self, level: float = LEVEL) -> pd.DataFrame:
        """Return the interval of every parameter: DataFrame of target, parameter, value, low, high."""
        rows = []
        for target, fit in self.targets.items():
            drawn = pd.DataFrame([self.law.natural(d, self.domains) for d in fit.draws])
            low, high = interval(drawn.to_numpy(), level)
            for (name, value), lo, hi in zip(self.law.natural(fit.theta, self.domains).items(), low, high, strict=True):
                ends = {"low": min(lo, value), "high": max(hi, value)}
                rows.append({"target": target, "parameter": name, "value": value} | ends)
        return pd.DataFrame(rows)

    def widened_by(self, factor: float, reach: Mapping[str, dict[str, float]]) -> "FittedLaw":
        """Return the law with wider intervals.

        Parameters
        ----------
        factor : of all deviations of resamples
        reach : target -> n_params, n_tokens -> relative error per unit of log distance beyond the data
        """
        wider = {t: replace(f, widening=Widening(factor, reach.get(t, {}))) for t, f in self.targets.items()}
        return replace(self, targets=wider)


def _compared(x: Inputs) -> Array:
    """Return the mixtures of inputs as `FittedLaw.compared` does those of a table."""
    columns = x.columns or {}
    if PHASES not in columns:
        return x.h.T
    return Phases(columns[PHASES].transpose(2, 0, 1), columns[UNTIL].T).halves()


def as_table(data: Data, need_losses: bool = True) -> Table:
    """Return a table from a DataFrame with its columns, or the table itself."""
    if not isinstance(data, Table | pd.DataFrame):
        raise ConfigError(
            f"this takes a Table or DataFrame, not a {type(data).__name__}: mixlaw.read_table reads files"
        )
    return data if isinstance(data, Table) else check_frame(data, "the table", need_losses=need_losses)


def scores(predictions: pd.DataFrame) -> dict[str, float]:
    """Return the scores of predicted against observed losses."""
    observed, predicted = predictions["observed"], predictions["predicted"]
    varied = len(observed) > 2 and observed.nunique() > 1 and predicted.nunique() > 1
    relative = (predicted - observed) / observed
    return {
        "mre": float(100 * relative.abs().mean()),
        "mae": float((predicted - observed).abs().mean()),
        "bias": float(100 * relative.mean()),
        "spearman": float(predicted.rank().corr(observed.rank())) if varied else float("nan"),
        "coverage": float(100 * lies_inside(predictions).mean()),
        "n": len(observed),
    }


def require_level(level: float) -> None:
    """Raise if the level of intervals is no number in (0, 1).

    Raises
    ------
    ConfigError
        Says what it is.
    """
    if isinstance(level, str) or not 0 < level < 1:
        raise ConfigError(f"the level of intervals must lie between 0 and 1, such as 0.9; it is {level!r}")
