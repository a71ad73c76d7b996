"""`LawFit`, the estimator: fits one law to every target of a table, as a scikit-learn estimator does."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

from mixlaw.errors import ConfigError, FitError, unknown_name
from mixlaw.fitting.assemble import problems
from mixlaw.fitting.bootstrap import resampled_fits, scatter
from mixlaw.fitting.fitted import LEVEL, Data, FittedLaw, FittedTarget, as_table
from mixlaw.fitting.identifiability import check_identifiable
from mixlaw.fitting.levenberg_marquardt import Problem
from mixlaw.fitting.multistart import find_minima, starts_for
from mixlaw.laws.law import Law, Units
from mixlaw.laws.registry import get_law
from mixlaw.tables.columns import LOSS
from mixlaw.tables.table import Table, pick_targets
from mixlaw.tables.units import NATS

ProgressCallback = Callable[[str], None]
CHOICES = {"residuals": ("raw", "log"), "row_weights": ("equal", "error")}


class LawFit:
    """A law to be fitted to every target of a table: a scikit-learn estimator.

    `sklearn.base.clone`, `cross_val_score` and `check_is_fitted` work; scikit-learn itself is not needed. Rows of one
    run share their errors, so cross-validation should split by run: `cv=GroupKFold()`, `groups=frame["run_id"]`.

    Parameters
    ----------
    law : name of the law, see `mixlaw.laws.registry.LAWS`
    delta : Huber threshold [nats]; the paper's is 1e-3
    residuals : "raw" (predicted - observed, the paper's) or "log" (of their ratio; delta is then relative)
    row_weights : "equal", or "error": inverse variance of the evaluations (columns loss_se_<target>)
    prior_strength : weight of the priors of exponents and shapes, in runs; 0 is the paper's fit without priors
    n_starts : starts per target; by default 12, and up to 48 where a table has few rows
    n_bootstrap : bootstrap resamples of whole runs
    seed : of starts and resamples

    Attributes
    ----------
    fitted_ : the `FittedLaw`, after `fit`

    Examples
    --------
    >>> from mixlaw.tables.examples import small_study
    >>> table = small_study()
    >>> fit = LawFit("additive", n_starts=4, n_bootstrap=10).fit(table)
    >>> fit.predict(table).columns.tolist()
    ['row', 'target', 'law', 'predicted', 'low', 'high', 'observed']
    >>> fit.score(table) > -0.5
    True
    """

    fitted_: FittedLaw

    def __init__(
        self,
        law: str = "multiplicative",
        *,
        delta: float = 1e-3,
        residuals: str = "raw",
        row_weights: str = "equal",
        prior_strength: float = 1.0,
        n_starts: int | None = None,
        n_bootstrap: int = 100,
        seed: int = 0,
    ) -> None:
        self.law, self.delta, self.residuals, self.row_weights = law, delta, residuals, row_weights
        self.prior_strength, self.n_starts, self.n_bootstrap, self.seed = prior_strength, n_starts, n_bootstrap, seed

    def __repr__(self) -> str:
        signature = inspect.signature(LawFit.__init__).parameters
        changed = {name: v for name, v in self.get_params().items() if v != signature[name].default or name == "law"}
        return f"LawFit({', '.join(f'{name}={value!r}' for name, value in changed.items())})"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the settings by name."""
        names = list(inspect.signature(LawFit.__init__).parameters)[1:]
        return {name: getattr(self, name) for name in names}

    def set_params(self, **settings: Any) -> "LawFit":
        """Change settings by name.

        Raises
        ------
        FitError
            If there is no such setting.
        """
        for name, value in settings.items():
            if name not in self.get_params():
                raise FitError(unknown_name("setting", name, self.get_params()))
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags; only scikit-learn calls this."""
        from sklearn.utils import InputTags, Tags, TargetTags

        return Tags(
            estimator_type=None,
            target_tags=TargetTags(required=False),
            input_tags=InputTags(two_d_array=False, allow_nan=True),
        )

    def fit(
        self,
        X: Data,
        y: None = None,
        *,
        targets: Iterable[str] = (),
        progress: ProgressCallback | None = None,
    ) -> "LawFit":
        """Fit every target; a law of all domains at once is fitted to all targets jointly.

        Parameters
        ----------
        X : a Table, or a DataFrame with the columns of one; losses are columns loss_<target>
        y : not used
        targets : which losses to fit; all by default
        progress : called with a sentence at the start of each step

        Raises
        ------
        FitError
            If the table has too few runs, sizes, tokens or mixtures for the law.
        """
        law, table = get_law(self.law), as_table(X)
        self._check_settings()
        warnings, names = self._check_table(law, table, list(targets))
        frame = table.frame
        units = Units.of(frame["n_params"].to_numpy(float), frame["n_tokens"].to_numpy(float))
        settings = {
            "delta": self.delta,
            "logarithmic": self.residuals == "log",
            "by_error": self.row_weights == "error",
        }
        found: dict[str, FittedTarget] = {}
        for group, problem in problems(law, table, names, units, **settings):
            found |= self._fit_problem(law, group, problem, table.units, progress)
        fitted = FittedLaw(
            law=law,
            domains=table.domains,
            units=units,
            targets={name: found[name] for name in names},
            ranges={c: (float(frame[c].min()), float(frame[c].max())) for c in ("n_params", "n_tokens")},
            warnings=warnings,
            settings=self.get_params(),
        )
        self.fitted_ = fitted.with_scatter_of(table)
        return self

    def predict(self, X: Data, *, level: float = LEVEL) -> pd.DataFrame:
        """Return `FittedLaw.predict` of the fitted law.

        Raises
        ------
        FitError
            If `fit` has not been called.
        """
        return self._require_fitted().predict(X, level=level)

    def score(self, X: Data, y: None = None) -> float:
        """Return minus the mean relative error [%], the mean over targets; higher is better."""
        return -float(self._require_fitted().scores(X)["mre"].mean())

    def _require_fitted(self) -> FittedLaw:
        if not hasattr(self, "fitted_"):
            raise FitError("this law has not been fitted yet: call fit first")
        return self.fitted_

    def _check_settings(self) -> None:
        above: dict[str, float] = {"n_starts": 1 if self.n_starts is None else self.n_starts}
        above |= {"n_bootstrap": self.n_bootstrap, "delta": self.delta}
        least: dict[str, float] = {"prior_strength": self.prior_strength, "seed": self.seed}
        for name, value in above.items():
            if not value > 0:
                raise ConfigError(f"{name} must be above 0, not {value}")
        for name, value in least.items():
            if not value >= 0:
                raise ConfigError(f"{name} must be at least 0, not {value}")
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ConfigError(unknown_name(name, getattr(self, name), known))

    def _check_table(self, law: Law, table: Table, targets: list[str]) -> tuple[list[str], list[str]]:
        """Return the warnings about a table, and the targets to fit."""
        with_priors, frame = self.prior_strength > 0, table.frame
        warnings = check_identifiable(law, table, with_priors=with_priors)
        names = _wanted(law, table, targets)
        for name in names:
            known = frame[LOSS + name].notna()
            if not known.all():  # else the whole table has been checked already
                check_identifiable(law, table.rows(known), f"the rows with a loss of '{name}'", with_priors)
        return warnings, names

    def _fit_problem(
        self, law: Law, names: list[str], problem: Problem, units: dict[str, str], progress: ProgressCallback | None
    ) -> dict[str, FittedTarget]:
        """Fit the targets of one problem: minima, bootstrap resamples, scatter of runs."""
        rng = np.random.default_rng([self.seed, sum("".join(names).encode()), len(problem.runs)])
        n_starts = self.n_starts or starts_for(len(problem.runs))
        minima = find_minima(problem, n_starts, self.seed, self.prior_strength, progress)
        if progress:
            progress(f"{law.name} law: {self.n_bootstrap} bootstrap resamples of runs")
        draws = resampled_fits(problem, minima, self.n_bootstrap, self.prior_strength, rng)
        noise, found = scatter(problem, minima, rng), {}
        for i, name in enumerate(names):
            at = 0 if law.joint_targets else i
            known = problem.weight[at] > 0
            found[name] = FittedTarget(
                theta=minima.theta[at],
                draws=draws[at].round(6),
                noise=noise[at].round(6),
                objective=float(minima.objective[at]),
                statement=minima.statements[at],
                n_rows=int(known.sum()),
                n_runs=len(np.unique(problem.runs[known])),
                unit=units.get(name, NATS),
            )
        return found


def _wanted(law: Law, table: Table, targets: list[str]) -> list[str]:
    """Return the targets to fit.

    Raises
    ------
    FitError
        If a law of all domains lacks the loss of one, or a requested target is not a domain.
    """
    names = pick_targets(table, targets)
    if not targets:
        names = [n for n in names if table.frame[LOSS + n].notna().any()]
    if not law.joint_targets:
        return names
    if targets and set(names) - set(table.domains):
        raise FitError(f"the {law.name} law predicts the losses of training domains only: {table.domains}")
    missing = [d for d in table.domains if d not in table.targets]
    if missing:
        raise FitError(f"the {law.name} law needs the loss of every domain; there is no loss_{missing[0]}")
    return table.domains
