"""The decision that runs are chosen for: what the big run should read, and how uncertain the alternatives are.

The decision is the mixture of the big run, or the mixtures of its phases, not the law. So we minimise the variance of
differences between candidate optima at the big run's N and D: I-optimality (average variance of predictions) over
contrasts. Because the parameters are not known when runs are chosen, everything is averaged over resampled laws.

Legend of shapes: b parameter vectors, p parameters, c candidate runs of at most m rows each, q contrasts, P phases.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixlaw.advice.constraints import Question
from mixlaw.advice.objective import Objective
from mixlaw.advice.optima import drawn_optima, optimum
from mixlaw.advice.phase_plan import drawn_phases, require_phases, within_seen
from mixlaw.advice.phase_search import Course, best_at
from mixlaw.advice.phased_objective import PhasedObjective
from mixlaw.advice.posterior import Points, Posterior, curves, posterior_of
from mixlaw.advice.simplex import starts
from mixlaw.fitting.fitted import FittedLaw
from mixlaw.laws.jacobian import Array
from mixlaw.tables.phase_mixtures import ranges_by_phase
from mixlaw.tables.table import Table


class Decision:
    """The choice of the big run's mixture, and how uncertain the loss differences between contenders are.

    Parameters
    ----------
    fit : the law
    question : the big run, and the constraints on its mixture
    sizes : tokens per domain, for the laws that need them
    table : the runs that the law was fitted to
    points : evaluations of each further run
    ends : where the phases of the big run end, as shares of its tokens, rising to 1; by default it has one mixture

    Attributes
    ----------
    contenders : (q, k) mixtures that may be the best single one
    phases : (r, P, k) mixtures of phases that may be the best ones; r is 0 for a decision about one mixture
    objective : the big run's loss, as a function of its mixture, or of the mixtures of its phases
    best : the point of `objective` that would be recommended now

    Raises
    ------
    ConfigError
        If there are several phases, and the law does not tell them apart.
    """

    def __init__(
        self,
        fit: FittedLaw,
        question: Question,
        sizes: dict[str, float],
        table: Table,
        points: Points,
        ends: Sequence[float] = (1.0,),
    ) -> None:
        self._domains, self._points, self.table, self.ends = fit.domains, points, table, tuple(ends)
        self.objective = Objective(fit, question, sizes)
        self.best = optimum(self.objective, {})
        self.contenders = drawn_optima(self.objective.drawn(), [self.best, starts(self.objective.limits)[0]])
        self.phases = np.zeros((0, len(ends), len(fit.domains)))
        alternatives = [self.objective.inputs(self.contenders)]
        if len(ends) > 1:
            alternatives.append(self.objective.inputs(self.best[None]))
            self._consider_phases(ends)
            alternatives.append(self.objective.inputs(self.phases.reshape(len(self.phases), -1) / len(ends)))
        recommended = self.objective.inputs(self.best[None])
        self.parts = []
        for target, importance in question.targets.items():
            if importance:
                known = posterior_of(fit, table, target)
                others = np.concatenate([known.jacobian(x) for x in alternatives], -1)
                self.parts.append(Part(known, importance * (others - known.jacobian(recommended))))

    def _consider_phases(self, ends: Sequence[float]) -> None:
        """Let the decision be about phases, within the weights that some phase of the runs had."""
        fit, static = self.objective.fit, self.objective
        require_phases(fit, "the next runs")
        asked = within_seen(static.question, fit.domains, self.best, ranges_by_phase(self.table))
        limited = static.asking(asked)
        course = best_at(limited, tuple(ends), Course((1.0,), self.best[None], np.inf))
        phased = PhasedObjective(limited, ends)
        self.phases = drawn_phases(limited, course)
        self.objective, self.best = phased, phased.point_of(course.phases)

    def sd(self) -> float:
        """Return the sd of loss differences to the best answer [nats], root mean square over contenders and laws."""
        return float(np.sqrt(sum(part.variance() for part in self.parts)))

    def whitened(self, candidates: pd.DataFrame) -> list[Array]:
        """Return, per part, the whitened Jacobian (b, p, c, m) of the candidates' losses; zeros where rows are fewer.

        Parameters
        ----------
        candidates : as in `mixlaw.advice.posterior.curves`
        """
        rows, found = curves(candidates, self._points), []
        run, place = rows["run_id"].to_numpy(), rows.groupby("run_id").cumcount().to_numpy()
        for part in self.parts:
            seen = part.posterior.whitened(rows, self._domains)
            offers = np.zeros((*seen.shape[:2], len(candidates), self._points[0]))
            offers[:, :, run, place] = seen
            found.append(offers)
        return found


@dataclass
class Part:
    """One target of a decision: the posterior of its law, and the Jacobian of the contrasts (b, p, q)."""

    posterior: Posterior
    contrasts: Array

    def variance(self) -> float:
        """Return the mean variance of the contrasts [nats^2]."""
        return float((self.posterior.sd(self.contrasts) ** 2).mean())

    def gain(self, offer: Array) -> Array:
        """Return (c,) the reduction of the contrasts' mean variance by each candidate (b, p, c, m) [nats^2]."""
        flat = self.posterior.covariance.swapaxes(1, 2) @ offer.reshape(*offer.shape[:2], -1)
        spread = flat.reshape(offer.shape).transpose(0, 2, 3, 1)
        within = spread @ offer.transpose(0, 2, 1, 3) + np.eye(offer.shape[-1])
        moments = (self.contrasts @ self.contrasts.swapaxes(1, 2))[:, None]
        shown = np.linalg.solve(within, spread @ moments @ spread.swapaxes(2, 3))
        gained: Array = np.trace(shown, axis1=2, axis2=3).mean(0) / self.contrasts.shape[-1]
        return gained

    def update(self, seen: Array) -> None:
        """Condition the posterior on a run with this whitened Jacobian (b, p, m)."""
        spread = self.posterior.covariance @ seen
        within = seen.swapaxes(1, 2) @ spread + np.eye(seen.shape[-1])
        self.posterior.covariance = self.posterior.covariance - spread @ np.linalg.solve(within, spread.swapaxes(1, 2))
