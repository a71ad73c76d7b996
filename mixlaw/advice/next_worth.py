"""What the next runs are expected to be worth: the regret of the recommendation that they remove.

The expected regret is the mean over resampled laws of how far the loss of h* lies above that of the law's own optimum.
Near an optimum the loss is quadratic, so regret is proportional to the variance of the decision, which the planner
predicts (`mixlaw.advice.next_runs`): the runs leave the share (sd after / sd before)^2 of it. To second order, they
remove the expected value of sample information (Raiffa and Schlaifer 1961, Applied Statistical Decision Theory).
"""

from dataclasses import dataclass

import numpy as np

from mixlaw.advice.constraints import Question
from mixlaw.advice.equivalents import fallen, frontiers, more_compute, more_tokens
from mixlaw.advice.gains import OBJECTIVE
from mixlaw.advice.goal import Goal
from mixlaw.advice.next_runs import Proposal
from mixlaw.advice.objective import Objective
from mixlaw.advice.optima import drawn_optima
from mixlaw.advice.phased_objective import PhasedGoal, PhasedObjective
from mixlaw.advice.simplex import starts
from mixlaw.counts import flops
from mixlaw.fitting.saved import FittedLaws
from mixlaw.laws.jacobian import Array

DRAWS = 50  # resampled laws


@dataclass(frozen=True)
class NextWorth:
    """What planned runs are expected to be worth.

    Attributes
    ----------
    regret : expected regret of the recommendation now [nats]
    gain : by how much the runs are expected to reduce it [nats]
    saved : the compute that this gain is worth, as a share of the big run's; None if the law does not depend on D
    cost : compute of the runs, as a share of the big run's
    """

    regret: float
    gain: float
    saved: float | None
    cost: float


def next_worth(laws: FittedLaws, question: Question, proposal: Proposal) -> NextWorth:
    """Return what the runs of a proposal are expected to be worth for the big run of a question."""
    fit, runs = laws.best, proposal.runs
    objective = Objective(fit.widened_by(1.0, {}), question, laws.sizes)
    if len(proposal.ends) > 1:
        objective = PhasedObjective(objective.asking(proposal.question or question), proposal.ends)
    regret = expected_regret(objective, proposal.best)
    left = float(runs["sd_after"].iloc[-1] / runs["sd_before"].iloc[0]) ** 2 if runs["sd_before"].iloc[0] > 0 else 1.0
    gain = regret * max(1 - left, 0.0)
    cost = float(runs["flops"].sum()) / flops(question.n_params, question.n_tokens)
    return NextWorth(regret, gain, saved_by(objective, proposal.best, gain), cost)


def expected_regret(objective: Objective, best: Array) -> float:
    """Return the mean over resampled laws of the loss at the point `best` minus the law's own lowest loss [nats]."""
    drawn = objective.drawn(DRAWS)
    goal = PhasedGoal(drawn) if isinstance(drawn, PhasedObjective) else Goal(drawn)
    optima = drawn_optima(drawn, [best, starts(drawn.limits)[0]], goal)
    excess = drawn.loss(np.tile(best, (drawn.count, 1))) - drawn.loss(optima)
    return float(np.maximum(excess, 0.0).mean())


def saved_by(objective: Objective, best: Array, gain: float) -> float | None:
    """Return the share of the big run's compute that a gain [nats] at the point `best` saves."""
    if "D" not in objective.reads:
        return None
    scales = (more_compute if objective.question.flops else more_tokens)(objective.question)
    loss = frontiers(objective, objective.mixture(best), scales)[OBJECTIVE]
    (log_factor,) = fallen(loss, np.array([gain]), scales)
    return float(1 - np.exp(-log_factor))
