"""The compute-optimal big run: N, D = C / (6 N) and the mixture h that together have the lowest loss at C FLOPs.

The loss at a given N is the lowest one over mixtures; Brent's method (bounded, scipy) finds its minimum over log N.
Limits of epochs bind more at small N, where D is large, so the search begins at the smallest N that they allow.

Source: Hoffmann et al. 2022 (arXiv 2203.15556), approach 3, for a law that also depends on the mixture.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

from mixlaw.advice.constraints import Question, limits
from mixlaw.advice.equivalents import lowest_over_sizes
from mixlaw.advice.goal import Goal
from mixlaw.advice.objective import Mixtures, Objective, as_mixture
from mixlaw.advice.optima import optimum
from mixlaw.advice.sensitivity import inwards
from mixlaw.advice.simplex import ROUGHLY, starts
from mixlaw.counts import flops, tokens_for
from mixlaw.errors import ConfigError, FitError
from mixlaw.fitting.bootstrap import interval
from mixlaw.laws.jacobian import Array
from mixlaw.laws.terms import TINY
from mixlaw.text import count_text

REACH = float(np.log(1e3))  # N is searched up to this log factor from the runs' D / N
PRECISION = 1e-3  # of log N
ALLOWED = 1e-2  # precision of the smallest log N that limits allow
FLAT_STEPS = 24  # values of N on either side of the best one, in its profile
GRID = 200  # values of N at which resampled laws are evaluated
EDGE = 0.1  # of log N; an optimum this close to an end of the search is none
SIZES = ["count", "value", "low", "high", "flat_low", "flat_high"]


@dataclass
class Profile:
    """The lowest loss over mixtures as a function of log N, at the compute of a question.

    Attributes
    ----------
    objective : its question has `flops`
    centre : log N in the middle of the search
    last : (k,) optimal mixture of the last size, where the search for the next one begins
    """

    objective: Objective
    centre: float
    last: Array

    @property
    def compute(self) -> float:
        """C [FLOPs]."""
        return float(self.objective.question.flops or 0.0)

    def question(self, log_n: float) -> Question:
        """Return the question about a run of this size at the same compute."""
        n = float(np.exp(log_n))
        return replace(self.objective.question, n_params=n, n_tokens=tokens_for(self.compute, n))

    def __call__(self, log_n: float) -> float:
        """Return the lowest loss of a run of this size, searched from the last mixture and from the centre."""
        asked = self.asked(log_n)
        goal, middle = Goal(asked), starts(asked.limits)[0]
        ends, values = goal.minimise(np.stack([inwards(self.last, middle), middle]), asked.limits, ROUGHLY)
        self.last = ends[int(values.argmin())]
        return goal.penalised(self.last)

    def asked(self, log_n: float) -> Objective:
        """Return the loss of a run of this size as a function of its mixture."""
        return self.objective.asking(self.question(log_n))

    def bounds(self) -> tuple[float, float]:
        """Return the smallest log N at which some mixture satisfies the limits, and the largest.

        Raises
        ------
        ConfigError
            If no mixture satisfies the limits at any N.
        """
        low, high = self.centre - REACH, self.centre + REACH
        if self._feasible(low):
            return low, high
        limits(self.objective.fit.domains, self.question(high))
        allowed = high
        while allowed - low > ALLOWED:
            middle = (low + allowed) / 2
            low, allowed = (low, middle) if self._feasible(middle) else (middle, allowed)
        return allowed, high

    def _feasible(self, log_n: float) -> bool:
        try:
            limits(self.objective.fit.domains, self.question(log_n))
        except ConfigError:
            return False
        return True


def size_of(
    ranges: Mapping[str, tuple[float, float]], n_params: float | None, n_tokens: float | None, compute: float | None
) -> tuple[float, float]:
    """Return N and D as given, or those at which C FLOPs have the D / N of the runs, where the search begins.

    Parameters
    ----------
    ranges : n_params, n_tokens -> (low, high) of the runs
    compute : C, instead of N and D

    Raises
    ------
    ConfigError
        If not exactly one of the two ways is given, or C is not a finite number above 0.
    """
    if n_params is not None and n_tokens is not None and compute is None:
        return n_params, n_tokens
    if compute is None or n_params is not None or n_tokens is not None:
        raise ConfigError("give the big run's --n-params and --n-tokens, or its --flops instead of both")
    if isinstance(compute, str) or not 0 < compute < np.inf:
        raise ConfigError(f"flops must be a finite number above 0, not {compute!r}")
    ratio = np.sqrt(np.prod(ranges["n_tokens"]) / np.prod(ranges["n_params"]))
    n = float(np.sqrt(compute / flops(1.0, ratio)))
    return n, tokens_for(compute, n)


def best_size(objective: Objective, baselines: Mixtures) -> Question:
    """Return the question with the N and D at which its FLOPs give the lowest loss, searched around its N.

    Parameters
    ----------
    objective : its question has `flops`
    baselines : starts of the search for the mixture

    Raises
    ------
    ConfigError
        If no mixture satisfies the limits at any N.
    FitError
        If the law does not depend on both N and D, or has no compute-optimal N in reach.
    """
    if not {"N", "D"} <= objective.reads:
        name = objective.fit.name
        raise FitError(f"the {name} law does not depend on both N and D, so no N is optimal: give N and D, not FLOPs")
    profile = Profile(objective, float(np.log(objective.question.n_params)), np.zeros(0))
    low, high = profile.bounds()
    profile.last = optimum(profile.asked((low + high) / 2), baselines)
    found = float(minimize_scalar(profile, bounds=(low, high), method="bounded", options={"xatol": PRECISION}).x)
    limited = low > profile.centre - REACH
    if found > high - EDGE or (found < low + EDGE and not limited):
        span = f"{count_text(float(np.exp(low)))} to {count_text(float(np.exp(high)))} parameters"
        raise FitError(
            f"the {objective.fit.name} law has no optimal N at {profile.compute:.4g} FLOPs: its loss is lowest at an "
            f"end of the range {span}; give N and D, not FLOPs"
        )
    return profile.question(found)


def optimal_sizes(objective: Objective, best: Array, noise: float, level: float) -> pd.DataFrame:
    """Return the compute-optimal N and D with intervals, and how far they can move within the noise of one run.

    Parameters
    ----------
    objective : its question has `flops`, and their optimal N and D
    best : (k,) the optimal mixture; the intervals are those of the optimal N of every resampled law at this mixture
    noise : sd of a single run [nats]
    level : of the intervals, in (0, 1)

    Returns
    -------
    DataFrame of count (n_params, n_tokens), value, low, high, flat_low and flat_high
    """
    question, h = objective.question, as_mixture(objective.fit.domains, best)
    centre = float(np.log(question.n_params))
    profile = Profile(objective.coarse(), centre, best)
    low, high = profile.bounds()
    grid = np.exp(np.linspace(low, high, GRID))
    losses = objective.drawn().curve(h, grid, np.asarray(tokens_for(profile.compute, grid)))
    drawn = low + (high - low) * lowest_over_sizes(losses[:, None])[1][:, 0] / (GRID - 1)
    ends = np.array([centre, *interval(drawn, level), *(_flat(profile, best, end, noise) for end in (low, high))])
    ends[1:3] = min(ends[1], centre), max(ends[2], centre)
    sizes = np.exp(ends)
    tokens = np.asarray(tokens_for(profile.compute, sizes))[[0, 2, 1, 4, 3]]  # D is smallest where N is largest
    rows = [dict(zip(SIZES, [name, *row], strict=True)) for name, row in (("n_params", sizes), ("n_tokens", tokens))]
    return pd.DataFrame(rows)


def _flat(profile: Profile, best: Array, end: float, noise: float) -> float:
    """Return the log N towards `end` at which the lowest loss has risen by `noise`, or `end` if it has not.

    The search goes outwards in growing steps; the end of the range is interpolated.
    """
    profile.last = best
    lowest = profile(profile.centre)
    at, loss, limit = profile.centre, lowest, lowest + noise
    for part in np.linspace(0, 1, FLAT_STEPS + 1)[1:] ** 2:
        there = profile.centre + float(part) * (end - profile.centre)
        value = profile(there)
        if value > limit:
            return at + (there - at) * (limit - loss) / max(value - loss, TINY)
        at, loss = there, value
    return end
