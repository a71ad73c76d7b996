"""Fitting a law to a table, in scikit-learn's manners: fit, predict, score; what was learned ends in an underscore."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from mixlaw.errors import ConfigError, FitError, RunLogError, unknown_name
from mixlaw.laws import Array, Inputs, Law, Units, get_law
from mixlaw.solver import WIDER, minimise, objective
from mixlaw.tables import LOSS, Table, pick_targets
from mixlaw.uncertainty import interval, noise_sample, predictive_draws, resampled_weights

SCREENED = 40  # random points looked at for each start that is descended from
POLISHED = 4  # ends that are descended from further: long valleys take hundreds of steps
SAME_MINIMUM = 1.01  # objectives within this ratio are one minimum
Progress = Callable[[str], None]


@dataclass
class TargetFit:
    """One law fitted to one target.

    Attributes
    ----------
    theta : (p,) free parameters at the lowest minimum found
    draws : (b, p) the same after resampling runs
    noise : residuals [nats], for the scatter of a new run
    objective : mean Huber loss
    statement : in words, how sure the minimum is
    n_rows, n_runs : what it rests on
    """

    theta: Array
    draws: Array
    noise: Array
    objective: float
    statement: str
    n_rows: int
    n_runs: int


class LawFit:
    """A law fitted to every target of a table.

    Parameters
    ----------
    law : name of the law, see `mixlaw.laws.LAWS`
    delta : Huber threshold [nats]; the paper's is 1e-3
    n_starts : descents from the best of 40 times as many random points
    n_bootstrap : resamples of whole runs behind every interval
    seed : of starts and resamples

    Examples
    --------
    >>> fit = LawFit("additive").fit(read_table(["runs.csv"]))   # doctest: +SKIP
    >>> fit.predict(table)                                       # doctest: +SKIP
    """

    def __init__(
        self,
        law: str = "joint",
        delta: float = 1e-3,
        n_starts: int = 24,
        n_bootstrap: int = 100,
        seed: int = 0,
    ) -> None:
        self.law, self.delta, self.n_starts = law, delta, n_starts
        self.n_bootstrap, self.seed = n_bootstrap, seed
        self.domains_: list[str] = []
        self.targets_: dict[str, TargetFit] = {}
        self.warnings_: list[str] = []
        self.units_ = Units(1.0, 1.0)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the settings, as scikit-learn's clone wants them."""
        return {name: getattr(self, name) for name in ("law", "delta", "n_starts", "n_bootstrap", "seed")}

    def set_params(self, **settings: Any) -> "LawFit":
        """Change settings by name."""
        for name, value in settings.items():
            if name not in self.get_params():
                raise FitError(unknown_name("setting", name, self.get_params()))
            setattr(self, name, value)
        return self

    def fit(self, table: Table, targets: Iterable[str] = (), progress: Progress | None = None) -> "LawFit":
        """Fit every target on its own, as the paper does.

        Raises
        ------
        FitError
            If the table cannot support the law: too few runs, sizes, tokens or mixtures.
        """
        law = get_law(self.law)
        if self.n_starts < 1 or self.n_bootstrap < 1 or self.seed < 0 or not self.delta > 0:
            raise ConfigError(f"n_starts, n_bootstrap and delta must be above 0, seed at least 0: {self.get_params()}")
        self.warnings_, self.targets_ = check_support(law, table), {}
        self.domains_ = table.domains
        frame = table.frame
        self.units_ = Units.of(frame["n_params"].to_numpy(float), frame["n_tokens"].to_numpy(float))
        for target in pick_targets(table, targets):
            if progress:
                progress(f"{self.law} law, {target}")
            self.targets_[target] = self._fit_target(law, table, target)
        return self

    def _fit_target(self, law: Law, table: Table, target: str) -> TargetFit:
        known = table.rows(table.frame[LOSS + target].notna())
        check_support(law, known, f"the rows with a loss of '{target}'")
        rng = np.random.default_rng([self.seed, sum(target.encode()), len(known.frame)])
        x, y = self._inputs(known), known.frame[LOSS + target].to_numpy(float)
        theta, objectives = self._minima(law, x, y, rng)
        best, lowest = theta[0], float(objectives[0])
        agree = int((objectives <= lowest * SAME_MINIMUM + 1e-15).sum())
        draws = self._bootstrap(law, x, y, known.runs(), best, rng).round(6)  # as they are saved
        noise = noise_sample(y - law.loss(best[None], x)[0], law.n_free(len(table.domains)), rng).round(6)
        return TargetFit(best, draws, noise, lowest, _statement(agree, len(objectives)), len(y), len(set(known.runs())))

    def _minima(self, law: Law, x: Inputs, y: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        """Return where every start ended (s, p) and the objectives there (s,), the lowest first."""

        def descend(starts: Array, iterations: int, wider: tuple[float, ...]) -> tuple[Array, Array]:
            equal = np.full(len(y), 1 / len(y))
            rows = _rows(y, len(starts)), _rows(equal, len(starts))
            solution = minimise(
                lambda theta: law.loss_and_jacobian(theta, x), *rows, starts, law.bounds(x.h.shape[1]), self.delta,
                iterations, wider,
            )  # fmt: skip
            order = np.argsort(solution.objective)
            return solution.theta[order], solution.objective[order]

        theta, objectives = descend(self._screened_starts(law, x, y, rng), 80, WIDER)
        theta[:POLISHED], objectives[:POLISHED] = descend(theta[:POLISHED], 300, ())
        return theta, objectives

    def _screened_starts(self, law: Law, x: Inputs, y: Array, rng: np.random.Generator) -> Array:
        """Return (n_starts, p): the best of many random points by the loss they begin with."""
        points = law.random(rng, SCREENED * self.n_starts, x.h.shape[1], float(y.min()), float(np.ptp(y)))
        equal = np.full((1, len(y)), 1 / len(y))
        scores = np.concatenate(
            [objective(law.loss(part, x), y[None], equal, 30 * self.delta) for part in np.array_split(points, 20)]
        )
        return points[np.argsort(scores)[: self.n_starts]]

    def _bootstrap(self, law: Law, x: Inputs, y: Array, runs: Array, best: Array, rng: np.random.Generator) -> Array:
        weight = resampled_weights(runs, self.n_bootstrap, rng)
        bounds = law.bounds(x.h.shape[1])
        jitter = rng.normal(0, 0.02, (self.n_bootstrap, len(best)))  # so that flat directions are walked, not kept
        starts = np.clip(best + jitter, *bounds)
        model = lambda theta: law.loss_and_jacobian(theta, x)  # noqa: E731
        return minimise(model, _rows(y, self.n_bootstrap), weight, starts, bounds, self.delta, 30).theta

    def _inputs(self, table: Table) -> Inputs:
        frame = table.frame
        mixtures = frame[[f"weight_{d}" for d in self.domains_]].to_numpy(float)
        return self.units_.inputs(frame["n_params"].to_numpy(float), frame["n_tokens"].to_numpy(float), mixtures)

    def target(self, name: str) -> TargetFit:
        """Return the fit of one target, or raise FitError with the near match."""
        if name not in self.targets_:
            raise FitError(unknown_name("target", name, self.targets_))
        return self.targets_[name]

    def predict(self, table: Table, targets: Iterable[str] = (), level: float = 0.9) -> pd.DataFrame:
        """Return predictions with intervals for a new run at every row of a table.

        Returns
        -------
        DataFrame of row, target, law, predicted, low, high [nats/token], and observed where the table has it; intervals
        hold the parameters' uncertainty and the scatter of a single run.
        """
        if not self.targets_:
            raise FitError("this law has not been fitted yet: call fit first")
        if table.domains != self.domains_:
            known = [d for d in table.domains if d not in self.domains_] or [
                d for d in self.domains_ if d not in table.domains
            ]
            if known:
                raise RunLogError(f"the laws were fitted on domains {self.domains_}, the table has {table.domains}")
        law, x, frames = get_law(self.law), self._inputs(table), []
        for name in list(targets) or list(self.targets_):
            fit = self.target(name)
            predicted = law.loss(fit.theta[None], x)[0]
            rng = np.random.default_rng([self.seed, 1])
            low, high = interval(predictive_draws(law.loss(fit.draws, x), fit.noise, rng), level)
            columns = {
                "row": np.arange(1, len(predicted) + 1),
                "target": name,
                "law": self.law,
                "predicted": predicted,
            }
            frame = pd.DataFrame(columns | {"low": np.minimum(low, predicted), "high": np.maximum(high, predicted)})
            if LOSS + name in table.frame:
                frame["observed"] = table.frame[LOSS + name].to_numpy(float)
            frames.append(frame)
        return pd.concat(frames, ignore_index=True)

    def score(self, table: Table) -> pd.DataFrame:
        """Return, per target: mre [%], mae [nats], spearman, coverage of the 90 % intervals [%], and n."""
        predictions = self.predict(table)
        known = predictions.dropna(subset="observed") if "observed" in predictions else predictions[:0]
        if known.empty:
            raise RunLogError("the table to score on holds none of the fitted targets' losses")
        return pd.DataFrame(
            [{"law": self.law, "target": t, **scores(g)} for t, g in known.groupby("target", sort=False)]
        )

    @property
    def params_(self) -> pd.DataFrame:
        """The paper's parameters: one row per target, N and D in `units_`."""
        law = get_law(self.law)
        return pd.DataFrame({t: law.natural(f.theta, self.domains_) for t, f in self.targets_.items()}).T

    def to_json(self) -> dict[str, Any]:
        """Return everything needed to predict elsewhere."""
        fits = {
            name: {
                "theta": fit.theta.tolist(), "draws": fit.draws.tolist(), "noise": fit.noise.tolist(),
                "objective": fit.objective, "statement": fit.statement,
                "n_rows": fit.n_rows, "n_runs": fit.n_runs,
                "parameters": get_law(self.law).natural(fit.theta, self.domains_),
            }
            for name, fit in self.targets_.items()
        }  # fmt: skip
        return {
            "settings": self.get_params(), "formula": get_law(self.law).formula, "source": get_law(self.law).source,
            "domains": self.domains_, "units": {"n_params": self.units_.n_params, "n_tokens": self.units_.n_tokens},
            "warnings": self.warnings_, "targets": fits,
        }  # fmt: skip

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> "LawFit":
        """Return the fit that `to_json` described."""
        fit = cls(**facts["settings"])
        get_law(fit.law)
        fit.domains_, fit.warnings_, fit.units_ = facts["domains"], facts["warnings"], Units(**facts["units"])
        for name, t in facts["targets"].items():
            theta, draws, noise = (np.asarray(t[key], float) for key in ("theta", "draws", "noise"))
            fit.targets_[name] = TargetFit(
                theta, draws, noise, t["objective"], t["statement"], t["n_rows"], t["n_runs"]
            )
        return fit


def scores(predictions: pd.DataFrame) -> dict[str, float]:
    """Return the scores of predicted against observed losses."""
    observed, predicted = predictions["observed"], predictions["predicted"]
    inside = (observed >= predictions["low"]) & (observed <= predictions["high"])
    varied = len(observed) > 2 and observed.nunique() > 1 and predicted.nunique() > 1
    return {
        "mre": float(100 * ((predicted - observed) / observed).abs().mean()),
        "mae": float((predicted - observed).abs().mean()),
        "spearman": float(spearmanr(predicted, observed).statistic) if varied else float("nan"),
        "coverage": float(100 * inside.mean()),
        "n": len(observed),
    }


def check_support(law: Law, table: Table, what: str = "this table") -> list[str]:
    """Refuse a law that the table cannot determine; return warnings where it only just can.

    Raises
    ------
    FitError
        With what the law needs and what the table has.
    """
    frame, k = table.frame, len(table.domains)
    n_runs, n_free = frame["run_id"].nunique(), law.n_free(k)
    sizes, tokens = frame["n_params"].nunique(), frame["n_tokens"].nunique()
    mixtures = len(np.unique(table.mixtures.round(4), axis=0)) if k else 0
    if law.mixture:
        _require(k >= 2, law, what, f"the law needs weights of at least 2 domains, there are {k}")
        _require(mixtures >= k, law, what, f"{mixtures} different mixtures cannot tell {k} domains apart")
    if law.a:
        _require(sizes >= 2, law, what, "it has one model size, so the N term cannot be fitted; use a fixed-n law")
    if law.b:
        _require(tokens >= 2, law, what, "it has one number of tokens, so the D term cannot be fitted")
    _require(n_runs >= n_free, law, what, f"the law has {n_free} parameters, there are {n_runs} runs")
    warnings = []
    if law.a and sizes == 2:
        warnings.append("two model sizes fit any exponent of N: predictions at larger sizes rest on the bounds")
    if law.mixture and mixtures < 2 * k:
        warnings.append(f"{mixtures} mixtures for {k} domains are few: at least {2 * k} tell their shapes apart")
    for domain, spread in zip(table.domains, np.ptp(table.mixtures, axis=0) if k else [], strict=True):
        if law.mixture and spread < 1e-3:
            warnings.append(f"the weight of '{domain}' never varies, so its effect is not identified")
    return warnings


def _require(fine: bool, law: Law, what: str, why: str) -> None:
    if not fine:
        raise FitError(f"the {law.name} law cannot be fitted to {what}: {why}")


def _statement(agree: int, n_starts: int) -> str:
    if agree > max(2, n_starts // 10):
        return f"{agree} of {n_starts} starts reached the lowest minimum"
    return f"only {agree} of {n_starts} starts reached the lowest minimum: lower ones may exist; try more starts"


def _rows(array: Array, count: int) -> Array:
    return np.broadcast_to(array, (count, len(array)))
