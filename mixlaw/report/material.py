"""What figures and the report are made from: laws, and whatever else is given."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from mixlaw.advice.recommendation import Recommendation
from mixlaw.errors import ConfigError
from mixlaw.fitting.fitted import FittedLaw
from mixlaw.fitting.saved import FittedLaws
from mixlaw.tables.columns import LOSS
from mixlaw.tables.table import Table


@dataclass(frozen=True)
class Material:
    """What figures are drawn from; only the laws are always there.

    Attributes
    ----------
    laws : fitted laws
    table : the runs that they were fitted to
    test : runs that no law saw
    answer : a recommendation
    outcome : what `mixlaw.report.proof.prove` returned
    targets : which of the targets a figure of one target is about, where no answer says so
    """

    laws: FittedLaws
    table: Table | None = None
    test: Table | None = None
    answer: Recommendation | None = None
    outcome: list[dict[str, Any]] = field(default_factory=list)
    targets: Sequence[str] = ()

    @property
    def fit(self) -> FittedLaw:
        """The law that the answer rests on, or else the trusted one."""
        return self.laws.fits.get(self.answer.law if self.answer else "", self.laws.best)

    @property
    def asked(self) -> Recommendation:
        """The answer, where a figure needs one."""
        return needed(self.answer, "--n-params and --n-tokens")

    @property
    def runs(self) -> Table:
        """Runs that no law saw, or else those of the table, where a figure needs some."""
        return needed(self.test or self.table, "--table TABLE")

    @property
    def seen(self) -> str:
        """What `runs` are, as the end of a title."""
        return "runs it never saw" if self.test else "the runs of the table"

    @property
    def target(self) -> str:
        """The first of the answer's targets, or of the fit's, that the table has."""
        named = list(self.answer.question.targets) if self.answer else self.targets
        names = [t for t in (*named, *self.fit.targets) if t in self.fit.targets]
        has = self.table.frame if self.table is not None else pd.DataFrame()
        return next((t for t in names if LOSS + t in has), names[0])

    def scores(self) -> tuple[pd.DataFrame, str]:
        """Return the laws' errors, of held-out runs where there were any, and a title that says which."""
        if self.laws.scores:
            return pd.DataFrame(self.laws.scores), "Held-out error by law"
        runs = needed(self.test or self.table, "--table TABLE, or fit with --holdout or --test")
        scored = pd.concat([fit.scores(runs) for fit in self.laws.fits.values()])
        return scored, f"Error by law on {self.seen.replace(' it ', ' they ')}"


def needed(thing: Any, how: str) -> Any:
    """Return something that a figure needs, or refuse and say which option adds it."""
    if thing is None:
        raise ConfigError(f"this figure needs more: add {how}")
    return thing
