"""Recommend the mixture of a big run: the minimum of the predicted loss, its interval and its sensitivity."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from mixlaw.advice.ask import ask, law_of, require_mixture, usual_mixtures
from mixlaw.advice.break_even import break_even
from mixlaw.advice.compute_optimal import SIZES, optimal_sizes
from mixlaw.advice.constraints import RECOMMENDED, Question
from mixlaw.advice.equivalents import equivalents
from mixlaw.advice.extrapolation import Asked, far_warnings, phase_warnings
from mixlaw.advice.gains import gains
from mixlaw.advice.losers import losers
from mixlaw.advice.objective import Mixtures, Objective, as_mixture, run_noise
from mixlaw.advice.optima import drawn_optima, optimum, require_met
from mixlaw.advice.outcomes import outcomes_of
from mixlaw.advice.phase_plan import AskedPhases, plan_phases, require_phases
from mixlaw.advice.recommendation import Recommendation
from mixlaw.advice.scores import scores_of
from mixlaw.advice.sensitivity import flat_frontier, other_laws, path, prices
from mixlaw.advice.simplex import starts
from mixlaw.advice.snr import signals
from mixlaw.benchmarks.saved import Benchmarks
from mixlaw.errors import ConfigError
from mixlaw.fitting.bootstrap import interval
from mixlaw.fitting.estimator import ProgressCallback
from mixlaw.fitting.fitted import LEVEL, FittedLaw, require_level
from mixlaw.fitting.saved import FittedLaws
from mixlaw.laws.jacobian import Array
from mixlaw.tables.units import NATS, difference, mixed_warning

FEW_HELD = 0.8  # share of differences in their nominal 90 % intervals below which a warning says so
USUAL = ("uniform", "natural")  # baselines whose weights stand in the table of domains
APART, MOST_NAMED = 0.02, 5  # difference of weights that is reported; maximum number of domains in the report


def recommend(
    laws: FittedLaws,
    question: Question | None = None,
    *,
    law: str | None = None,
    level: float = LEVEL,
    phases: int = 1,
    switch: float | Sequence[float] | None = None,
    beyond_runs: bool = False,
    benchmarks: Benchmarks | None = None,
    progress: ProgressCallback | None = None,
    **asked: Any,
) -> Recommendation:
    """Find the best mixture h* of a big run with the chosen law, or another of the fitted ones.

    h* minimises the mean loss over resampled laws; the minimum of a single fit would be the mixture that this fit is
    most optimistic about. The interval of h* is the spread of the minima of all resampled laws.

    Parameters
    ----------
    question : the question; or give the arguments of `mixlaw.advice.ask.ask` instead: n_params and n_tokens, or flops,
        target, floors, caps, pins, groups, max_epochs, available, stay_near, kl_penalty, baselines, not_worse and
        objective
    law : one of the fitted laws; the chosen one by default
    level : of all intervals, in (0, 1)
    phases : number of phases, up to 4, of a run whose mixture changes; every phase then has the limits of weights, and
        the whole run those of epochs and losses
    switch : shares of the tokens at which its phases end, except the last; the best ones by default
    beyond_runs : whether phases may have weights that no phase of the runs had
    benchmarks : curves of benchmarks whose scores are predicted under every mixture, see `mixlaw.fit_benchmarks`
    progress : called with a sentence at the start of each step

    Raises
    ------
    ConfigError
        If the law or a target was not fitted, limits contradict each other or name unknown domains or targets, or the
        law does not tell phases apart.
    FitError
        If the law does not depend on the mixture.
    """
    wanted = AskedPhases.of(phases, switch, () if beyond_runs else laws.phase_ranges)
    if (question is None) == (not asked):
        raise ConfigError("give recommend either a question or n_params, n_tokens, target and limits, not both")
    require_level(level)
    tell, fit = progress or _silent, law_of(laws, law)
    require_mixture(laws, fit.name)
    if phases > 1:
        require_phases(fit)
    benchmarks = benchmarks or Benchmarks({})
    benchmarks.require_law(fit)
    tell("recommend: the question")
    question = question or ask(laws, law=law, **asked)
    objective = Objective(fit, question, laws.sizes)
    return _answer(laws, objective, level, wanted, benchmarks, tell)


def _answer(
    laws: FittedLaws,
    objective: Objective,
    level: float,
    wanted: AskedPhases,
    benchmarks: Benchmarks,
    tell: ProgressCallback,
) -> Recommendation:
    """Return the recommendation for a checked question; see `recommend`."""
    fit, question = objective.fit, objective.question
    baselines = question.baselines | usual_mixtures(fit.domains, laws.sizes | question.available)
    tell("recommend: the best mixture, with and without limits")
    best, free = optimum(objective, baselines), optimum(objective.unlimited(), baselines)
    require_met(objective, best)
    mixtures = {RECOMMENDED: as_mixture(fit.domains, best)} | baselines
    tell("recommend: its interval, from the best mixtures of all resampled laws")
    clouds = drawn_optima(objective.drawn(), [best, free, starts(objective.limits)[0]])
    noise, spread = run_noise(objective, laws.noise), interval(clouds, level)
    tell("recommend: other laws and the flat frontier")
    others = other_laws(laws, objective, best, baselines)
    table = _domain_table(objective, mixtures, spread, free)
    table = table.assign(**_ranges(objective, best, noise, others))
    tell("recommend: gains, and what they are worth in compute")
    compared = _compared(laws, objective, mixtures, level)
    tell("recommend: costs of limits, and the path over scale")
    points = np.vstack([free, *(h.array for h in baselines.values())])
    smallest = laws.ranges["n_params"][0], laws.ranges["n_tokens"][1]
    if wanted.count > 1:
        tell(f"recommend: {wanted.count} phases")
    plan = plan_phases(objective, best, baselines, wanted, level) if wanted.count > 1 else None
    beyond = phase_warnings(laws, plan.weights) if plan else []
    return Recommendation(
        law=fit.name,
        reason=laws.reason if fit is laws.best else "named by hand",
        question=question,
        weights=mixtures[RECOMMENDED],
        table=table,
        **compared,
        scores=scores_of(objective, mixtures, benchmarks, level, plan),
        signals=signals(laws, fit, laws.sizes | question.available, question.targets),
        sizes=optimal_sizes(objective, best, noise, level) if question.flops else pd.DataFrame(columns=SIZES),
        prices=prices(objective, best, points),
        path=path(objective, smallest, best, spread, baselines, level),
        others=others,
        noise=noise,
        warnings=[*_warnings(laws, fit, question, best, compared["outcomes"]), *disagreement(table), *beyond],
        unit=fit.unit_of(question.targets),
        units={target: found.unit for target, found in fit.targets.items()},
        interval_name=fit.interval_name(),
        data_sha256=laws.data_sha256,
        phases=plan,
    )


def _compared(laws: FittedLaws, objective: Objective, mixtures: Mixtures, level: float) -> dict[str, pd.DataFrame]:
    """Return the tables of a recommendation that compare mixtures, by name."""
    per_target, gained = _per_target(objective, mixtures), gains(objective, mixtures, level)
    worth = equivalents(objective, mixtures, gained, level)
    return {
        "outcomes": outcomes_of(objective, mixtures, level),
        "per_target": per_target,
        "gains": gained,
        "losers": losers(per_target, gained),
        "equivalents": worth,
        "break_even": break_even(worth, objective.question, laws.study_flops),
    }


def _ranges(objective: Objective, best: Array, noise: float, others: pd.DataFrame) -> dict[str, Array]:
    """Return the columns of the flat frontier, and of the range of h* over other laws, if there are any."""
    flat = dict(zip(("flat_low", "flat_high"), flat_frontier(objective, best, noise).T, strict=True))
    if not len(others):
        return flat
    shares = np.array([h.array for h in others["weights"]])
    return flat | {"others_low": shares.min(0), "others_high": shares.max(0)}


def _silent(text: str) -> None:
    """Show no progress."""


def _warnings(laws: FittedLaws, fit: FittedLaw, question: Question, best: Array, outcomes: pd.DataFrame) -> list[str]:
    """Return the warnings about the table, the units, the fit, the extrapolation and the gains."""
    units = {target: found.unit for target, found in fit.targets.items()}
    said = [*laws.doubts, *mixed_warning(question.targets, units), *fit.warnings]
    return [
        *said,
        *held_warning(fit),
        *far_warnings(laws, fit.name, big_run(question, best)),
        *gain_warnings(outcomes, question, fit.unit_of(question.targets)),
    ]


def _domain_table(objective: Objective, mixtures: Mixtures, spread: tuple[Array, Array], free: Array) -> pd.DataFrame:
    """Return one row per domain; its gradient, at the uniform mixture, is negative if more of it lowers the loss."""
    even = np.full((1, len(objective.fit.domains)), 1 / len(objective.fit.domains))
    _, gradient = objective.asking(replace(objective.question, kl_penalty=0.0))(even)
    weight = mixtures[RECOMMENDED].array
    columns: dict[str, Any] = {"domain": objective.fit.domains, "weight": weight}
    columns |= {"low": np.minimum(spread[0], weight), "high": np.maximum(spread[1], weight)}
    columns |= {"unconstrained": as_mixture(objective.fit.domains, free).array}
    columns |= {"gradient": gradient[0] - gradient[0] @ even[0]}
    return pd.DataFrame(columns | {n: mixtures[n].array for n in USUAL if n in mixtures})


def _per_target(objective: Objective, mixtures: Mixtures) -> pd.DataFrame:
    """Return the predicted loss of every fitted target under every mixture."""
    each = {t: objective.of(t) for t in objective.fit.targets}
    return pd.DataFrame([{"mixture": m} | {t: o.at(w) for t, o in each.items()} for m, w in mixtures.items()])


def held_warning(fit: FittedLaw) -> list[str]:
    """Return a warning if the intervals of gains held too few differences between held-out runs; at most one."""
    if not fit.held_gains < FEW_HELD:  # also for NaN, without such runs
        return []
    share = f"{100 * fit.held_gains:.0f} %"
    return [f"the intervals of gains held {share} of the differences between held-out runs: take them as too narrow"]


def big_run(question: Question, best: Array) -> Asked:
    """Return the big run on h* (k,), for the extrapolation warnings."""
    return Asked(np.array([question.n_params]), np.array([question.n_tokens]), best[None], rows=False)


def disagreement(table: pd.DataFrame) -> list[str]:
    """Return a warning if optima of other fitted laws lie outside the interval of h*; at most one."""
    if "others_low" not in table:
        return []
    outside = (table["others_low"] < table["low"] - APART) | (table["others_high"] > table["high"] + APART)
    shown = [
        f"{r['domain']} {r['others_low']:.2f} to {r['others_high']:.2f} (here {r['low']:.2f} to {r['high']:.2f})"
        for r in table[outside].to_dict("records")[:MOST_NAMED]
    ]
    more = f" and {outside.sum() - MOST_NAMED} more domains" if outside.sum() > MOST_NAMED else ""
    text = (
        f"h* of other fitted laws lies outside this interval: {', '.join(shown)}{more}; compare its regret in the table"
    )
    return [text] if shown else []


def gain_warnings(outcomes: pd.DataFrame, question: Question, unit: str = NATS) -> list[str]:
    """Return warnings about gains that may be none, better mixtures that the limits exclude, and losses below zero."""
    limited = bool(question.constraints()) or question.kl_penalty > 0
    warnings = []
    for row in outcomes.to_dict("records"):
        if row["predicted"] <= 0:
            level = difference(f"{row['predicted']:.2f}", unit)
            warnings.append(
                f"the law predicts {level} for {row['mixture']}, which is impossible: do not use it at this N and D"
            )
        gain = difference(f"{row['gain']:.4f}", unit)
        if row["mixture"] == RECOMMENDED:
            continue
        if row["gain"] < 0 and limited:
            warnings.append(f"{row['mixture']} is predicted to be better by {gain[1:]}, but the limits exclude it")
        elif row["gain_low"] <= 0:
            warnings.append(
                f"the gain over {row['mixture']}, {gain}, is not certain: its interval, {row['gain_low']:+.4f} to "
                f"{row['gain_high']:+.4f}, holds 0"
            )
    return warnings
