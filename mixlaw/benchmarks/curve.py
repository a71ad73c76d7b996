"""`ScoreCurve`: the fitted curve from a target's loss to a benchmark's score, with its verdict."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mixlaw.benchmarks.fit import Fit
from mixlaw.benchmarks.points import Points
from mixlaw.benchmarks.scatter import Scatter, binomial
from mixlaw.benchmarks.sigmoid import N_FREE, natural, scores
from mixlaw.fitting.bootstrap import interval
from mixlaw.fitting.fitted import LEVEL
from mixlaw.laws.jacobian import Array
from mixlaw.tables.units import NATS

FAR = 1.0  # distance below the runs' losses, as a multiple of their range, beyond which a score is not predictable
SEED = 1
WIDEST = 0.5  # width of an interval, as a share of the way from chance to 1, above which a score is not predictable
OWN = ("name", "target", "unit", "chance", "widening", "reason")  # that are text or a number
HELD = ["held_out", "n_runs", "measured", "predicted", "error", "inside", "ratio"]


@dataclass(frozen=True, repr=False)
class ScoreCurve:
    """The score of a benchmark as a function of a target's loss.

    Attributes
    ----------
    name : of the benchmark
    target : whose loss decides it
    chance : score of guessing
    fit : parameters, their resamples, and the scatter of runs
    points : the evaluations that it is fitted to
    held : per size that was predicted from smaller ones: held_out (which), n_runs, measured and predicted (mean scores
        of its runs' last evaluations), error (mean absolute), inside (share of these runs in their 90 % intervals, as
        smaller sizes widen them), ratio (rms error by the sd of the interval before it is widened)
    widening : factor of all deviations from the best curve, from the errors on held-out runs
    reason : why the score is not predictable from these runs, in a sentence; empty if it is
    unit : of the losses
    """

    name: str
    target: str
    chance: float
    fit: Fit
    points: Points
    held: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=HELD))
    widening: float = 1.0
    reason: str = ""
    unit: str = NATS

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {value:.3g}" for name, value in self.params.items())
        return f"ScoreCurve({self.name} by the loss of {self.target}: {self.reason or shown})"

    @property
    def losses(self) -> tuple[float, float]:
        """The lowest and the highest loss of the runs."""
        return float(self.points.loss.min()), float(self.points.loss.max())

    @property
    def params(self) -> dict[str, float]:
        """Midpoint [of the loss], slope [per unit of the loss] and ceiling."""
        return natural(self.fit.theta, self.chance)

    @property
    def lowest(self) -> float:
        """The loss below which no score is predicted."""
        best, worst = self.losses
        return best - FAR * (worst - best)

    @property
    def widest(self) -> float:
        """The width of an interval above which it is no prediction."""
        return WIDEST * (1 - self.chance)

    def score(self, loss: Array) -> Array:
        """Return the scores (n,) that the best curve gives at losses (n,)."""
        return scores(self.fit.theta, loss, self.chance)

    def draws(self, loss: Array) -> Array:
        """Return (b, n) scores of single new runs, from losses (n,), or (b, n) drawn by the first stage."""
        theta, off = self.new_runs(len(self.fit.draws) if loss.ndim == 1 else len(loss))
        centre, expected = (scores(each, np.atleast_2d(loss), self.chance) for each in (self.fit.theta, theta))
        drawn: Array = np.clip(centre + self.widening * (expected + off * binomial(expected) - centre), 0.0, 1.0)
        return drawn

    def new_runs(self, count: int) -> tuple[Array, Array]:
        """Return, for each draw of a new run, a resampled curve (count, 3), and a run's deviation (count, 1) from it.

        Deviations are multiples of sqrt(p (1 - p)); they follow Student's t, because few runs show their size.
        """
        rng, freedom = np.random.default_rng(SEED), max(self.points.n_runs - N_FREE, 1)
        which = rng.permutation(np.resize(np.arange(len(self.fit.draws)), count))
        return self.fit.draws[which], self.fit.scatter.total * rng.standard_t(freedom, (count, 1))

    def predict(self, loss: Array, drawn: Array | None = None, level: float = LEVEL) -> pd.DataFrame:
        """Return the scores of new runs at losses (n,), with intervals and verdicts.

        Parameters
        ----------
        drawn : (b, n) losses of single new runs, drawn by a law; by default the losses are taken as measured
        level : of the intervals, in (0, 1)

        Returns
        -------
        DataFrame of loss, score, low, high, and reason: why the score is not predictable, '' if it is
        """
        centre = self.score(loss)
        low, high = interval(self.draws(loss if drawn is None else drawn), level)
        ends = {"low": np.minimum(low, centre), "high": np.maximum(high, centre)}
        frame = pd.DataFrame({"loss": loss, "score": centre} | ends)
        return frame.assign(
            reason=[self.reason or self._too_far(*row) for row in frame[["loss", "low", "high"]].to_numpy()]
        )

    def _too_far(self, loss: float, low: float, high: float) -> str:
        """Return why a score with an interval is not predictable at a loss; '' if it is."""
        best, worst = self.losses
        range_of_runs = f"the runs' {best:.3g} to {worst:.3g}"
        if loss < self.lowest:
            return f"its loss, {loss:.3g}, lies further below {range_of_runs} than these lie apart"
        if high - low <= self.widest:
            return ""
        where = f"within {range_of_runs}" if loss >= best else f"below {range_of_runs}"
        return f"its interval at a loss of {loss:.3g}, {where}, holds most scores from chance to 1"

    def to_json(self) -> dict[str, Any]:
        """Return the curve as plain data."""
        facts = {name: getattr(self, name) for name in OWN} | {"parameters": self.params}
        fitted = {"theta": self.fit.theta.tolist(), "draws": self.fit.draws.tolist(), "scatter": vars(self.fit.scatter)}
        points = {name: values.tolist() for name, values in vars(self.points).items()}
        return facts | fitted | {"points": points, "held": self.held.to_dict("records")}

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> "ScoreCurve":
        """Return the curve of `to_json`."""
        theta = np.asarray(facts["theta"], float).reshape(N_FREE)
        draws = np.asarray(facts["draws"], float).reshape(-1, N_FREE)
        if not len(draws):
            raise ValueError("no resamples")
        return cls(
            fit=Fit(theta, draws, Scatter(**facts["scatter"])),
            points=Points(**{name: np.asarray(values) for name, values in facts["points"].items()}),
            held=pd.DataFrame(facts["held"], columns=HELD),
            **{name: facts[name] for name in OWN},
        )
