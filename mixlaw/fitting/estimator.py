"""Fitting a law to a table, in scikit-learn's manners: fit, predict, score; what was learned ends in an underscore."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from mixlaw.errors import ConfigError, FitError, RunLogError, unknown_name
from mixlaw.fitting.assemble import inputs, problems
from mixlaw.fitting.bootstrap import interval, lies_inside, resampled_fits, scatter
from mixlaw.fitting.identifiability import check_support
from mixlaw.fitting.levenberg_marquardt import Problem
from mixlaw.fitting.multistart import find_minima, starts_for
from mixlaw.fitting.widening import Ranges, Widening, distances, factors, widened, with_scatter
from mixlaw.laws.jacobian import Array
from mixlaw.laws.registry import Law, Units, get_law
from mixlaw.laws.terms import Inputs
from mixlaw.tables.check import check_frame
from mixlaw.tables.columns import LOSS
from mixlaw.tables.single_domain import rename_domain
from mixlaw.tables.table import Table, pick_targets
from mixlaw.tables.units import NATS, together

Progress = Callable[[str], None]
Data = Table | pd.DataFrame


@dataclass
class TargetFit:
    """One law fitted to one target.

    Attributes
    ----------
    theta : (p,) free parameters at the lowest minimum found
    draws : (b, p) the same after resampling runs
    noise : residuals [nats, or relative where the fit's residuals are], for the scatter of a new run
    objective : mean Huber loss
    statement : in words, how sure the minimum is
    n_rows, n_runs : what it rests on
    widening : by how much intervals were too narrow on held-out runs
    unit : what the target is measured in
    """

    theta: Array
    draws: Array
    noise: Array
    objective: float
    statement: str
    n_rows: int
    n_runs: int
    widening: Widening = field(default_factory=Widening)
    unit: str = NATS


class LawFit:
    """A law fitted to every target of a table.

    Parameters
    ----------
    law : name of the law, see `mixlaw.laws.registry.LAWS`
    delta : Huber threshold [nats]; the paper's is 1e-3
    residuals : "raw" (predicted - observed, the paper's) or "log" (of their ratio; delta is then relative)
    weights : "equal", or "error": rows count by their evaluations' standard errors (columns loss_se_<target>)
    prior : how strongly what is believed of exponents and shapes counts, in runs; 0 is the paper's bare fit
    n_starts : descents per target; by default 12, and up to 48 where a table has few rows and descents cost little
    n_bootstrap : resamples of whole runs behind every interval
    seed : of starts and resamples

    Attributes
    ----------
    targets_ : target -> TargetFit
    params_ : DataFrame, the source's parameters by target
    warnings_ : in plain words, what the table leaves undecided
    units_ : what N and D are divided by in `params_`
    ranges_ : n_params, n_tokens -> (low, high) of the rows that were fitted
    held_ : share of held-out losses inside the intervals after widening; NaN where none could be held out

    Examples
    --------
    >>> from mixlaw.tables.examples import small_study
    >>> table = small_study()
    >>> fit = LawFit("additive", n_starts=4, n_bootstrap=10).fit(table)
    >>> fit.predict(table).columns.tolist()
    ['row', 'target', 'law', 'predicted', 'low', 'high', 'observed']
    >>> bool(fit.score(table)["mre"].item() < 0.5)
    True
    """

    def __init__(
        self,
        law: str = "multiplicative",
        delta: float = 1e-3,
        residuals: str = "raw",
        weights: str = "equal",
        prior: float = 1.0,
        n_starts: int | None = None,
        n_bootstrap: int = 100,
        seed: int = 0,
    ) -> None:
        self.law, self.delta, self.residuals, self.weights = law, delta, residuals, weights
        self.prior, self.n_starts, self.n_bootstrap, self.seed = prior, n_starts, n_bootstrap, seed
        self.domains_: list[str] = []
        self.targets_: dict[str, TargetFit] = {}
        self.warnings_: list[str] = []
        self.units_ = Units(1.0, 1.0)
        self.ranges_: Ranges = {}
        self.held_ = float("nan")

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the settings, as scikit-learn's clone wants them."""
        names = ("law", "delta", "residuals", "weights", "prior", "n_starts", "n_bootstrap", "seed")
        return {name: getattr(self, name) for name in names}

    def set_params(self, **settings: Any) -> "LawFit":
        """Change settings by name."""
        for name, value in settings.items():
            if name not in self.get_params():
                raise FitError(unknown_name("setting", name, self.get_params()))
            setattr(self, name, value)
        return self

    def fit(self, data: Data, targets: Iterable[str] = (), progress: Progress | None = None) -> "LawFit":
        """Fit every target; a law of all domains at once is fitted to all of them together.

        Parameters
        ----------
        data : a Table, or a DataFrame with the columns of one
        targets : which losses to fit; all by default
        progress : called with a sentence when something begins

        Raises
        ------
        FitError
            If the table cannot support the law: too few runs, sizes, tokens or mixtures.
        """
        law, table = get_law(self.law), as_table(data)
        self._check_settings()
        believing = self.prior > 0
        self.warnings_, self.targets_ = check_support(law, table, believing=believing), {}
        self.domains_ = table.domains
        frame = table.frame
        self.units_ = Units.of(frame["n_params"].to_numpy(float), frame["n_tokens"].to_numpy(float))
        self.ranges_ = {c: (float(frame[c].min()), float(frame[c].max())) for c in ("n_params", "n_tokens")}
        names = self._wanted(law, table, targets)
        for name in names:
            check_support(law, table.rows(frame[LOSS + name].notna()), f"the rows with a loss of '{name}'", believing)
        settings = {"delta": self.delta, "logarithmic": self.residuals == "log", "by_error": self.weights == "error"}
        for group, problem in problems(law, table, names, self.units_, **settings):
            self._fit_problem(group, problem, progress)
        self.targets_ = {n: replace(self.targets_[n], unit=table.units.get(n, NATS)) for n in names}
        return self

    def _check_settings(self) -> None:
        counts = (self.n_bootstrap, 1 if self.n_starts is None else self.n_starts)
        if min(counts) < 1 or self.seed < 0 or not self.delta > 0 or not self.prior >= 0:
            raise ConfigError(
                f"n_starts, n_bootstrap and delta must be above 0, prior and seed at least 0: {self.get_params()}"
            )
        for name, known in (("residuals", ("raw", "log")), ("weights", ("equal", "error"))):
            if getattr(self, name) not in known:
                raise ConfigError(unknown_name(name, getattr(self, name), known))

    @staticmethod
    def _wanted(law: Law, table: Table, targets: Iterable[str]) -> list[str]:
        names = pick_targets(table, targets)
        if not list(targets):
            names = [n for n in names if table.frame[LOSS + n].notna().any()]
        if not law.joint_targets:
            return names
        if set(names) - set(table.domains) and list(targets):
            raise FitError(f"the {law.name} law predicts the losses of training domains only: {table.domains}")
        missing = [d for d in table.domains if d not in table.targets]
        if missing:
            raise FitError(f"the {law.name} law needs the loss of every domain; there is no loss_{missing[0]}")
        return table.domains

    def _fit_problem(self, names: list[str], problem: Problem, progress: Progress | None) -> None:
        """Fit the targets that share a problem: their minima, the resamples of their runs, and their scatter."""
        rng = np.random.default_rng([self.seed, sum("".join(names).encode()), len(problem.runs)])
        minima = find_minima(problem, self.n_starts or starts_for(len(problem.runs)), self.seed, self.prior, progress)
        if progress:
            progress(f"{self.law} law: {self.n_bootstrap} resamples of runs")
        draws = resampled_fits(problem, minima, self.n_bootstrap, self.prior, rng)
        noise = scatter(problem, minima, rng)
        for i, name in enumerate(names):
            at = 0 if get_law(self.law).joint_targets else i
            known = problem.weight[at] > 0
            self.targets_[name] = TargetFit(
                minima.theta[at], draws[at].round(6), noise[at].round(6), float(minima.objective[at]),
                minima.statements[at], int(known.sum()), len(np.unique(problem.runs[known])),
            )  # fmt: skip

    def inputs(self, table: Table, target: str) -> Inputs:
        """Return what the law reads of a table's rows.

        Raises
        ------
        RunLogError
            If the table trains on other domains than the fit.
        """
        law, domains = get_law(self.law), self.domains_
        table = table.named_as(domains, list(self.targets_))
        if not law.reads_domains:
            domains = table.domains
        elif len(domains) == 1 and len(table.domains) < 2:
            frame = rename_domain(table.frame, table.domains, domains[0])
            sizes = dict(zip(domains, table.sizes.values(), strict=False))
            table = replace(table, frame=frame, domains=domains, sizes=sizes)
        if set(table.domains) ^ set(domains):
            raise RunLogError(f"the laws were fitted on domains {domains}, the table has {table.domains}")
        return inputs(law, table, domains, self.units_, target)

    def target(self, name: str) -> TargetFit:
        """Return the fit of one target, or raise ConfigError with the near match."""
        if name not in self.targets_:
            raise ConfigError(unknown_name("target", name, self.targets_))
        return self.targets_[name]

    def unit_of(self, names: Iterable[str] = ()) -> str:
        """Return what some targets, by default all, are measured in; mixed where they differ."""
        return together(self.target(name).unit for name in list(names) or self.targets_)

    def draws(self, name: str, x: Inputs) -> Array:
        """Return (b, n) losses under the resampled laws, as far from the fit as held-out runs demand."""
        fit, law = self.target(name), get_law(self.law)
        centre, drawn = law.loss(fit.theta[None], x)[0], law.loss(fit.draws, x)
        return widened(centre, drawn, factors(fit.widening, centre, drawn, self.beyond(x)))

    def beyond(self, x: Inputs) -> dict[str, Array]:
        """Return how far rows lie outside of the fitted data, see `mixlaw.fitting.widening.distances`."""
        n_params, n_tokens = np.exp(x.log_n) * self.units_.n_params, np.exp(x.log_d) * self.units_.n_tokens
        return distances(self.ranges_, n_params, n_tokens)

    def scattered(self, name: str, drawn: Array, rng: np.random.Generator) -> Array:
        """Return (b, n) losses of new runs around the resampled laws' (b, n).

        Every resample has one scatter for all rows, so that a row's interval does not depend on the others.
        """
        noise = rng.choice(self.target(name).noise, (len(self.target(name).draws), 1))
        return with_scatter(drawn, noise * drawn if self.residuals == "log" else noise)

    def predict(self, data: Data, targets: Iterable[str] = (), level: float = 0.9) -> pd.DataFrame:
        """Return predictions with intervals for a new run at every row of a table.

        Returns
        -------
        DataFrame of row, target, law, predicted, low, high [the target's unit], and observed where the table has it;
        intervals hold the parameters' uncertainty and the scatter of a single run.
        """
        if not self.targets_:
            raise FitError("this law has not been fitted yet: call fit first")
        table, law, frames = as_table(data, need_losses=False), get_law(self.law), []
        table = table.named_as(self.domains_, list(self.targets_))
        for name in list(targets) or list(self.targets_):
            fit, x = self.target(name), self.inputs(table, name)
            predicted = law.loss(fit.theta[None], x)[0]
            rng = np.random.default_rng([self.seed, 1])
            low, high = interval(self.scattered(name, self.draws(name, x), rng), level)
            columns = {"row": table.frame["row"].to_numpy(), "target": name, "law": self.law, "predicted": predicted}
            frame = pd.DataFrame(columns | {"low": np.minimum(low, predicted), "high": np.maximum(high, predicted)})
            if LOSS + name in table.frame:
                frame["observed"] = table.frame[LOSS + name].to_numpy(float)
            frames.append(frame)
        return pd.concat(frames, ignore_index=True)

    def score(self, data: Data) -> pd.DataFrame:
        """Return, per target: mre [%], mae [nats], bias [%], spearman, coverage of the 90 % intervals [%], and n."""
        predictions = self.predict(data)
        known = predictions.dropna(subset="observed") if "observed" in predictions else predictions[:0]
        if known.empty:
            raise RunLogError("the table to score on holds none of the fitted targets' losses")
        return pd.DataFrame(
            [{"law": self.law, "target": t, **scores(g)} for t, g in known.groupby("target", sort=False)]
        )

    def interval_name(self, level: float = 0.9) -> str:
        """Return how an interval may be called: by its level, unless fewer held-out losses lay inside."""
        if self.held_ < level:
            return f"interval, held {100 * self.held_:.0f} %"
        return f"{100 * level:g} % interval"

    @property
    def params_(self) -> pd.DataFrame:
        """The source's parameters: one row per target, N and D in `units_`."""
        law = get_law(self.law)
        return pd.DataFrame({t: law.natural(f.theta, self.domains_) for t, f in self.targets_.items()}).T

    def intervals_of_params(self, level: float = 0.9) -> pd.DataFrame:
        """Return low and high of every parameter: DataFrame of target, parameter, value, low, high."""
        law, rows = get_law(self.law), []
        for target, fit in self.targets_.items():
            drawn = pd.DataFrame([law.natural(d, self.domains_) for d in fit.draws])
            low, high = interval(drawn.to_numpy(), level)
            for (name, value), lo, hi in zip(law.natural(fit.theta, self.domains_).items(), low, high, strict=True):
                ends = {"low": min(lo, value), "high": max(hi, value)}
                rows.append({"target": target, "parameter": name, "value": value} | ends)
        return pd.DataFrame(rows)


def as_table(data: Data, need_losses: bool = True) -> Table:
    """Return a table from a DataFrame with its columns, or the table itself."""
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
