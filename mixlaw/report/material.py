"""The inputs of figures and of the report: fitted laws, and optionally runs and a recommendation."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from mixlaw.advice.recommendation import Recommendation
from mixlaw.advice.repeats import Repeats, Scarcity, repeats
from mixlaw.advice.snr import signals
from mixlaw.advice.tradeoff import Tradeoff, tradeoff
from mixlaw.benchmarks.saved import Benchmarks
from mixlaw.errors import ConfigError
from mixlaw.fitting.fitted import FittedLaw
from mixlaw.fitting.saved import FittedLaws
from mixlaw.forecast.folder import ForecastFolder
from mixlaw.report.finetuned import Finetuned, finetuned
from mixlaw.tables.columns import LOSS
from mixlaw.tables.table import Table


@dataclass(frozen=True)
class Material:
    """Inputs of figures; all but the laws are optional.

    Attributes
    ----------
    laws : fitted laws
    table : the fitted runs
    test : runs that were not fitted
    answer : a recommendation
    outcome : what `mixlaw.report.proof.prove` returned
    needed : what `mixlaw.report.proof_worth.measured_factors` returned
    targets : target of single-target figures, where there is no answer
    forecasts : sealed before runs, and their scores
    own : a law of the finetuning domain's loss, where the laws are of forgetting
    benchmarks : curves from losses to scores
    """

    laws: FittedLaws
    table: Table | None = None
    test: Table | None = None
    answer: Recommendation | None = None
    outcome: list[dict[str, Any]] = field(default_factory=list)
    needed: dict[str, float] = field(default_factory=dict)
    targets: Sequence[str] = ()
    forecasts: ForecastFolder = field(default_factory=ForecastFolder)
    own: FittedLaw | None = None
    benchmarks: Benchmarks = field(default_factory=lambda: Benchmarks({}))

    @property
    def fit(self) -> FittedLaw:
        """The law of the answer, or else the chosen one."""
        return self.laws.fits.get(self.answer.law if self.answer else "", self.laws.best)

    @property
    def asked(self) -> Recommendation:
        """The answer, for figures that need one."""
        return needed(self.answer, "--n-params and --n-tokens")

    @cached_property
    def front(self) -> Tradeoff:
        """The trade-off that the answer has, see `mixlaw.advice.tradeoff.tradeoff`."""
        return tradeoff(self.laws, self.asked)

    @cached_property
    def repeats(self) -> Repeats | None:
        """How the big run of the answer repeats its domains, if it does."""
        return repeats(self.laws, self.asked)

    @property
    def scarcity(self) -> Scarcity | None:
        """What that means, if the law knows repetition."""
        return self.repeats.scarcity if self.repeats else None

    @cached_property
    def finetuned(self) -> Finetuned | None:
        """The largest finetuning runs, if the law predicts forgetting."""
        return finetuned(self.fit, [table for table in (self.table, self.test) if table is not None], self.own)

    @property
    def signals(self) -> pd.DataFrame:
        """Signal and noise of every target: those of the answer, or else by the law."""
        if self.answer is not None and len(self.answer.signals):
            return self.answer.signals
        return signals(self.laws, self.fit, self.laws.sizes, {})

    @property
    def runs(self) -> Table:
        """The test runs, or else the fitted runs, for figures that need runs."""
        return needed(self.test or self.table, "--table TABLE")

    @property
    def seen(self) -> str:
        """The end of a title: which runs `runs` are."""
        return "held-out runs" if self.test else "the runs of the table"

    @property
    def target(self) -> str:
        """The first target of the answer, or else of the fit, that the table has."""
        named = list(self.answer.question.targets) if self.answer else self.targets
        names = [t for t in (*named, *self.fit.targets) if t in self.fit.targets]
        has = self.table.frame if self.table is not None else pd.DataFrame()
        return next((t for t in names if LOSS + t in has), names[0])

    def scores(self) -> tuple[pd.DataFrame, str]:
        """Return the laws' errors, preferably on held-out rows, and a title that says on which."""
        if self.laws.scores:
            return pd.DataFrame(self.laws.scores), "Held-out error by law"
        runs = needed(self.test or self.table, "--table TABLE, or fit with --holdout or --test")
        scored = pd.concat([fit.scores(runs) for fit in self.laws.fits.values()])
        return scored, f"Error by law on {self.seen}"


def needed(thing: Any, how: str) -> Any:
    """Return an input, or raise a ConfigError with the option that adds it."""
    if thing is None:
        raise ConfigError(f"this figure needs more: add {how}")
    return thing
