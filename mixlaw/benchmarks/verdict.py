"""Whether a score is predictable from these runs: what held-out runs and the runs near chance say."""

import numpy as np
import pandas as pd
from scipy.stats import binomtest, spearmanr

from mixlaw.benchmarks.curve import ScoreCurve
from mixlaw.benchmarks.points import Points
from mixlaw.benchmarks.scatter import binomial
from mixlaw.text import percent

CHANCE_OF_RISE = 0.01  # p value above which a rise of the score may be luck
FEWEST = 5  # runs: fewer can be in order by luck with a probability of 1/4! = 0.04 or more
CHANCE_BELOW = 0.01  # p value below which scores below chance are no luck
LEAST_RISE = 2.0  # sds of an evaluation by which the curve rises above chance
LEAST_INSIDE = 0.5  # of the runs of the largest size in their 90 % intervals


def reason_of(curve: ScoreCurve) -> str:
    """Return why a score is not predictable from these runs, in a sentence; empty if it is."""
    ends = curve.points.ends
    return _no_rise(ends, curve.chance) or _below(ends, curve.chance) or _at_chance(curve) or _missed(curve.held)


def _no_rise(ends: Points, chance: float) -> str:
    """Return a sentence if the last scores of runs do not rise significantly as their losses fall."""
    if np.ptp(ends.score) == 0:
        return f"all {ends.n_runs} runs end with the same score, {percent(ends.score.max())}"
    if np.ptp(ends.loss) == 0:
        return f"all {ends.n_runs} runs end with the same loss, {ends.loss.max():.4g}"
    if ends.n_runs < FEWEST:
        return f"{ends.n_runs} runs are too few to tell a rise of the score from luck: {FEWEST} are needed"
    rank = spearmanr(ends.loss, ends.score, alternative="less")
    if rank.pvalue <= CHANCE_OF_RISE:
        return ""
    trend, hint = "does not rise significantly", ""
    if rank.pvalue >= 1 - CHANCE_OF_RISE:
        trend, hint = "falls", "; if it is an error rate, state 1 minus it"
    span = f"{percent(ends.score.min())} to {percent(ends.score.max())} over {ends.n_runs} runs"
    correlated = f"the score {trend} as the loss falls (rank correlation {-rank.statistic:.2f})"
    return f"{correlated}: {span}, chance is {percent(chance)}{hint}"


def _below(ends: Points, chance: float) -> str:
    """Return a sentence if most runs score below chance, so that chance is not what runs start from."""
    below = int((ends.score < chance).sum())
    if binomtest(below, ends.n_runs, 0.5, alternative="greater").pvalue > CHANCE_BELOW:
        return ""
    start = "state the score that runs start from as chance"
    return f"{below} of {ends.n_runs} runs score below chance, {percent(chance)}: {start}"


def _at_chance(curve: ScoreCurve) -> str:
    """Return a sentence if the curve at the lowest loss of the runs is within the scatter of evaluations at chance."""
    best = float(curve.score(np.array(curve.losses[:1]))[0])
    sd = curve.fit.scatter.total * float(binomial(np.array(best)))
    if best - curve.chance >= LEAST_RISE * sd:
        return ""
    noise = f"less than {LEAST_RISE:g} sds of an evaluation ({percent(sd)})"
    return f"the best runs are near chance, {percent(curve.chance)}: the curve gives them {percent(best)}, {noise} more"


def _missed(held: pd.DataFrame) -> str:
    """Return a sentence if runs of the largest size lie outside of what smaller ones predict."""
    if held.empty or held.iloc[-1]["inside"] >= LEAST_INSIDE:
        return ""
    last = held.iloc[-1]
    measured, predicted = percent(last["measured"]), percent(last["predicted"])
    inside = f"{round(last['inside'] * last['n_runs'])} of {last['n_runs']} lie in their 90 % intervals"
    missed = f"held-out runs ({last['held_out']}) score {measured} on average, where the others predict {predicted}"
    return f"{missed}: {inside}"
