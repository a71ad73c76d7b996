"""What the page needs to know: the law, its resamples, the mixtures to compare with, and the limits, as JSON."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from mixlaw.advice.ask import usual_mixtures
from mixlaw.advice.constraints import RECOMMENDED, Question, read_targets
from mixlaw.advice.extrapolation import FAR_WEIGHT
from mixlaw.advice.objective import Objective
from mixlaw.advice.recommendation import Recommendation
from mixlaw.benchmarks.saved import Benchmarks
from mixlaw.fitting.differences import QUARTILE
from mixlaw.fitting.fitted import LEVEL, FittedLaw
from mixlaw.fitting.widening import Ranges
from mixlaw.laws.jacobian import Array
from mixlaw.laws.terms import PHASES
from mixlaw.mixture import Mixture
from mixlaw.report.explore.law_json import term_json
from mixlaw.report.explore.scores_json import curve_json
from mixlaw.report.material import Material
from mixlaw.report.phase_text import PHASED
from mixlaw.tables.columns import LOSS
from mixlaw.tables.table import Table

BASE64 = 4 / 3
LEAST_DRAWS = 20  # resamples in a page, even where it has no room
STEPS = 32767  # in which 16 bits count from the fit to the furthest resample
BELOW, ABOVE, FURTHER = 0.5, 10.0, 1000.0  # ends of sliders: below the smallest run, above the big run and all runs

Phases = list[tuple[float, Mixture]]  # the share of the run's tokens at the end of each phase, and its mixture


@dataclass(frozen=True)
class Explorer:
    """The content of the explorer.

    Attributes
    ----------
    fit : the law
    term : its JSON form
    question : the big run, its targets and limits
    mixtures : name -> phases, one where the mixture does not change: what is recommended first, then the baselines
    until : ends of the phases with sliders, as shares of the tokens; one for a law that does not tell phases apart
    seen : n_params, n_tokens -> (low, high) of the runs
    ranges : target -> the same of the runs that have its loss
    trained : (P, 2, k) lowest and highest weight of every domain in each phase of the runs
    kept : (b,) indices of the resamples that are in the page
    over : (m,) indices of those in the mean that the recommendation minimises; empty if losses are of the best fit
    benchmarks : curves from losses to scores
    """

    fit: FittedLaw
    term: dict[str, Any]
    question: Question
    mixtures: dict[str, Phases]
    until: list[float]
    seen: Ranges
    ranges: dict[str, Ranges]
    trained: Array
    kept: NDArray[np.int64]
    over: NDArray[np.int64]
    benchmarks: Benchmarks

    @property
    def count(self) -> int:
        """Number of resamples of the fit."""
        return _count(self.fit)

    @property
    def recommended(self) -> str | None:
        """The name of the recommended mixture; None without a recommendation."""
        return next(iter(self.mixtures)) if RECOMMENDED in self.mixtures else None

    @property
    def mixes(self) -> bool:
        """Whether there are mixtures to choose from."""
        return len(self.fit.domains) > 1 and "h" in self.fit.law.uses

    @property
    def scales(self) -> dict[str, tuple[float, float]]:
        """The ends of the sliders: n_params, n_tokens -> (low, high)."""
        ends = {}
        for name, (low, high) in self.seen.items():
            asked = getattr(self.question, name)
            ends[name] = BELOW * min(low, asked), max(FURTHER * high, ABOVE * asked)
        return ends

    @property
    def most(self) -> int:
        """The end of the sliders of weights [%]: twice what any mixture or run has."""
        largest = max(self.trained.max(), *(h.array.max() for each in self.mixtures.values() for _, h in each))
        return min(10 * int(np.ceil(20 * largest)), 100)

    def to_json(self) -> dict[str, Any]:
        """Return what the scripts of the page read."""
        fit, question = self.fit, self.question
        return {
            "law": {
                "term": self.term,
                "units": vars(fit.units),
                "logarithmic": fit.logarithmic,
                "phased": PHASES in fit.law.uses,
            },
            "domains": fit.domains,
            "targets": [self._target(name) for name in fit.targets],
            "benchmarks": [curve_json(curve, fit, self.kept) for curve in self.benchmarks.values()],
            "draws": len(self.kept),
            "over": np.searchsorted(self.kept, self.over).tolist(),
            "level": LEVEL,
            "normal": {"end": float(ndtri(0.5 + LEVEL / 2)), "quartile": QUARTILE},
            "correlations": fit.correlations.round(4).tolist(),
            "ranges": fit.ranges,
            "seen": self.seen,
            "scales": self.scales,
            "mixtures": [{"name": name} | _phases_json(phases) for name, phases in self.mixtures.items()],
            "recommended": self.recommended,
            "in_use": next(iter(question.baselines)) if question.not_worse else None,
            "asked": {"n_params": question.n_params, "n_tokens": question.n_tokens} | self._first(),
            "limits": self._limits(),
            "trained": [{"low": low.tolist(), "high": high.tolist(), "far": FAR_WEIGHT} for low, high in self.trained],
        }

    def _first(self) -> dict[str, Any]:
        """Return, as JSON, the phases at which the page begins: one mixture is that of all of them."""
        if not self.fit.domains:
            return {"phases": [[]], "until": [1.0]}
        first = next(iter(self.mixtures.values()), [(1.0, Mixture.uniform(self.fit.domains))])
        return _phases_json(first if len(first) > 1 else [(end, first[0][1]) for end in self.until])

    def _target(self, name: str) -> dict[str, Any]:
        """Return the fit of one target; resampled parameters are steps of 16 bits from the fit's."""
        target = self.fit.targets[name]
        moved = target.draws[self.kept] - target.theta
        scale = np.abs(moved).max(axis=0) / STEPS
        steps = np.round(moved / np.where(scale > 0, scale, 1.0)).astype("<i2")
        return {
            "name": name,
            "unit": target.unit,
            "importance": self.question.targets.get(name, 0.0),
            "theta": _base64(target.theta.astype("<f8")),
            "scale": _base64(scale.astype("<f8")),
            "steps": _base64(steps),
            "run_errors": self.fit.run_errors(name)[self.kept, 0].tolist(),
            "scatter": target.scatter and vars(target.scatter),
            "noise": float(np.std(target.noise)),
            "factor": target.widening.factor,
            "reach": target.widening.reach,
            "ranges": self.ranges[name],
        }

    def _limits(self) -> dict[str, Any]:
        asked = self.question
        return {
            "floors": asked.floors | asked.pins,
            "caps": asked.caps | asked.pins,
            "groups": [[name, list(members), low, high] for name, (members, low, high) in asked.groups.items()],
            "available": [asked.available.get(d) for d in self.fit.domains],
            "max_epochs": asked.max_epochs,
            "not_worse": asked.not_worse,
        }


def explorer_of(m: Material, room: float = np.inf) -> Explorer | None:
    """Return the explorer of the answer's law, or else of the chosen one; None if the browser cannot evaluate it.

    Parameters
    ----------
    room : most bytes of its JSON; as many resamples as fit are in it
    """
    fit = m.fit
    term = term_json(fit.law.term, len(fit.domains))
    available = _available(m)
    if term is None or ("available" in fit.law.uses and set(fit.domains) - set(available)):
        return None
    ranges = {name: _ranges(m.table, name, m.laws.ranges) for name in fit.targets}
    if (answer := _answer_of(m)) is None:
        question, named = _largest_run(m, available), usual_mixtures(fit.domains, available) if fit.domains else {}
        over = np.zeros(0, np.int64)
    else:
        question = replace(answer.question, available=available)
        named = {RECOMMENDED: answer.weights} | answer.baselines
        over = np.sort(Objective(fit, question, available).over)
    mixtures = _recommended_phases(answer) | {n: [(1.0, Mixture.of(h, fit.domains))] for n, h in named.items()}
    until = _ends(m, mixtures)
    trained, kept = _trained(m, len(until)), _kept(fit, room, over)
    return Explorer(fit, term, question, mixtures, until, m.laws.ranges, ranges, trained, kept, over, m.benchmarks)


def _recommended_phases(answer: Recommendation | None) -> dict[str, Phases]:
    """Return the recommended phases by their name; empty if none were asked for."""
    if answer is None or answer.phases is None:
        return {}
    weights = [Mixture.of(h, list(answer.weights)) for h in answer.phases.weights]
    return {PHASED: list(zip(answer.phases.until, weights, strict=True))}


def _ends(m: Material, mixtures: Mapping[str, Phases]) -> list[float]:
    """Return the ends of the recommended phases, or else of as many equal ones as the runs had."""
    if PHASED in mixtures:
        return [end for end, _ in mixtures[PHASED]]
    count = max(len(m.laws.phase_ranges), 1) if PHASES in m.fit.law.uses else 1
    return [(p + 1) / count for p in range(count)]


def _trained(m: Material, count: int) -> Array:
    """Return (P, 2, k) the lowest and highest weights of phases in the runs; of the last known one for later phases."""
    known = m.laws.phase_ranges
    if count > 1 and known:
        each = [[known[min(p, len(known) - 1)][d] for d in m.fit.domains] for p in range(count)]
        return np.array(each).transpose(0, 2, 1)
    runs = m.laws.mixtures if m.laws.mixtures.size else np.ones((1, len(m.fit.domains)))
    return np.tile(np.stack([runs.min(0), runs.max(0)]), (count, 1, 1))


def _phases_json(phases: Phases) -> dict[str, Any]:
    return {"phases": [h.array.tolist() for _, h in phases], "until": [end for end, _ in phases]}


def _answer_of(m: Material) -> Recommendation | None:
    """Return the recommendation if it is one of this law; a file of other laws may have other domains and targets."""
    fit, answer = m.fit, m.answer
    if answer is None or answer.law != fit.name or set(answer.weights) != set(fit.domains):
        return None
    return answer if set(answer.question.targets) <= set(fit.targets) else None


def _largest_run(m: Material, available: dict[str, float]) -> Question:
    """Return a question about the largest run, for a page without a recommendation."""
    (_, n_params), (_, n_tokens) = m.laws.ranges["n_params"], m.laws.ranges["n_tokens"]
    return Question(n_params, n_tokens, read_targets("average", m.fit), available=available)


def _available(m: Material) -> dict[str, float]:
    """Return the tokens of every domain where they are known; different pools of runs count as their largest."""
    found = dict(m.laws.sizes)
    for domain in m.fit.domains:
        column = f"available_{domain}"
        if m.table is not None and column in m.table.frame and domain not in found:
            found[domain] = float(m.table.frame[column].max())
    return found | (m.answer.question.available if m.answer else {})


def _ranges(table: Table | None, target: str, default: Ranges) -> Ranges:
    """Return the range of N and D of the runs that have a target's loss."""
    if table is None or LOSS + target not in table.frame:
        return default
    frame = table.frame.dropna(subset=LOSS + target)
    return {name: (float(frame[name].min()), float(frame[name].max())) for name in default} if len(frame) else default


def _count(fit: FittedLaw) -> int:
    return len(next(iter(fit.targets.values())).draws)


def _kept(fit: FittedLaw, room: float, over: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the indices of the resamples that there is room for: those of the mean, and others evenly spaced."""
    count, n_free = _count(fit), fit.law.n_free(len(fit.domains))
    best = 2 * 8 * BASE64 * n_free  # fit and scale of a target
    each = 2 * BASE64 * n_free + len(str(0.1 + 0.2))  # a resample of a target, with its scatter
    most = int(min(max(room / len(fit.targets) - best, 0) / each, count))
    others = np.setdiff1d(np.arange(count), over)
    more = min(max(most, LEAST_DRAWS) - len(over), len(others))
    spaced = others[np.linspace(0, len(others) - 1, max(more, 0)).round().astype(np.int64)]
    return np.union1d(over, spaced)


def _base64(values: NDArray[Any]) -> str:
    """Return the bytes of an array, row by row, as text."""
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
