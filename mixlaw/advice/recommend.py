"""The mixture for a big run: where the predicted loss is lowest, how sure that is, and what it costs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mixlaw.advice.constraints import Question
from mixlaw.advice.extrapolation import Asked, far_warnings
from mixlaw.advice.objective import Objective, clean, drawn_optima, optimum, run_noise
from mixlaw.advice.sensitivity import flat_frontier, other_laws, path, prices
from mixlaw.advice.simplex import starts
from mixlaw.errors import ConfigError, FitError, RunLogError, unknown_name
from mixlaw.fitting.bootstrap import interval
from mixlaw.fitting.fitted import FittedLaw
from mixlaw.fitting.identifiability import form_of
from mixlaw.fitting.saved import FittedLaws
from mixlaw.fitting.widening import with_scatter
from mixlaw.laws.jacobian import Array
from mixlaw.laws.registry import get_law
from mixlaw.mixture import hydra_override, proportional, uniform
from mixlaw.tables.factor_levels import SAME
from mixlaw.tables.units import NATS, brackets, difference, kind_of, mixed_warning

TABLES = ("outcomes", "per_target", "prices", "path", "others")
LIMITS = ("floors", "caps", "pins", "groups", "max_epochs")  # of a question, beside what is available
APART, MOST_NAMED = 0.02, 5  # weights that differ by more are named, for so many domains


@dataclass
class Recommendation:
    """The answer.

    Attributes
    ----------
    weights : the recommended mixture h*
    table : per domain: weight, low and high (interval over resampled laws), flat_low and flat_high (what the others
        can make up for within the noise of one run), others_low and others_high (h* of the other fitted laws, where
        there are any), pull [nats per unit of weight moved to it], unconstrained, uniform and, where known, natural
        weights
    outcomes : per mixture (recommended, uniform, natural): weights, predicted loss with interval, and how much better
        the recommended one is predicted to be [nats, with interval]
    per_target : predicted loss of every target under every mixture
    prices : per active constraint: what it costs [nats], and, for a limit of one domain, per 1 % of weight
    path : h* with its interval on the way from the smallest run to the big one, and what the mixture that is best there
        would cost here
    others : what the other fitted laws would recommend, and what that would cost by this one
    noise : sd of single runs [nats] that gains and the flat frontier are measured against
    warnings : in plain words, what the answer rests on
    laws : the laws that were asked
    """

    law: str
    reason: str
    question: Question
    weights: dict[str, float]
    table: pd.DataFrame
    outcomes: pd.DataFrame
    per_target: pd.DataFrame
    prices: pd.DataFrame
    path: pd.DataFrame
    others: pd.DataFrame
    noise: float
    warnings: list[str]
    laws: FittedLaws = field(repr=False)

    @property
    def unit(self) -> str:
        """What the targets are measured in."""
        return self.laws.fits[self.law].unit_of(self.question.targets)

    def to_json(self) -> dict[str, Any]:
        """Return the answer as plain data; `override` is what the trainer takes as is."""
        tables = {n: getattr(self, n).to_dict(orient="records") for n in TABLES}
        return {
            "law": self.law,
            "reason": self.reason,
            "n_params": self.question.n_params,
            "n_tokens": self.question.n_tokens,
            "targets": self.question.targets,
            "unit": self.unit,
            "units": {target: fit.unit for target, fit in self.laws.fits[self.law].targets.items()},
            "available": self.question.available,
            "limits": {name: getattr(self.question, name) for name in LIMITS},
            "data_sha256": self.laws.data_sha256,
            "weights": self.weights,
            "override": hydra_override(self.weights),
            "domains": self.table.to_dict(orient="records"),
            "noise": self.noise,
            "interval": self.interval_name,
            "warnings": self.warnings,
        } | tables

    @property
    def interval_name(self) -> str:
        """How its intervals may be called, see `FittedLaw.interval_name`."""
        return self.laws.fits[self.law].interval_name()

    def summary(self) -> str:
        """Return the answer as text for a terminal."""
        n, d = self.question.n_params, self.question.n_tokens
        targets = ", ".join(f"{t} {w:.2f}" if w < 1 else t for t, w in self.question.targets.items())
        lines = [f"{self.law} law ({self.reason})", f"N = {n:.4g} parameters, D = {d:.4g} tokens, target: {targets}"]
        lines += ["", *self._domain_lines(), "", *self._outcome_lines()]
        if len(self.prices):
            lines += ["", f"limits that cost something {brackets(self.unit)}:"]
            lines += [f"  {row.constraint:<24}{row.cost:.4f}" for row in self.prices.itertuples()]
        lines += [*self._path_lines(), *self._other_lines()]
        without = "Hydra's command line cannot hold these names; --override FILE writes the weights as YAML"
        lines += ["", f"train it with: {hydra_override(self.weights) or without}"]
        return "\n".join(lines + [f"warning: {w}" for w in self.warnings])

    def _domain_lines(self) -> list[str]:
        others = [c for c in ("unconstrained", "uniform", "natural") if c in self.table]
        wide = max(16, 2 + max(map(len, self.weights)))
        laws = "others_low" in self.table
        head = f"{'domain':<{wide}}{'h*':>7}   {self.interval_name:<17}{'flat frontier':<17}"
        head += "other laws' h* " if laws else ""
        lines = [(head + "".join(f"{c:>14}" for c in others)).rstrip()]
        for row in self.table.to_dict(orient="records"):
            shares = "".join(f"{row[c]:>14.3f}" for c in others)
            flat = f"{row['flat_low']:.3f} to {row['flat_high']:.3f}  "
            flat += f"{row['others_low']:.3f} to {row['others_high']:.3f} " if laws else ""
            lines.append(
                f"{row['domain']:<{wide}}{row['weight']:>7.3f}   {row['low']:.3f} to {row['high']:.3f}   {flat}{shares}"
            )
        return [
            *lines,
            "(flat frontier: what the others can make up for within the noise of one run, "
            f"{difference(f'{self.noise:.4f}', self.unit)})",
        ]

    def _path_lines(self) -> list[str]:
        """Return h* with its interval over scale: a column per step, a line per domain; none where there is no path."""
        if self.path.empty:
            return []
        steps, regret = self.path.to_dict("records"), f"regret {brackets(self.unit)}"
        wide = max(16, 2 + max(map(len, [*self.weights, regret])))
        head = [("N", "n_params", ".3g"), ("D", "n_tokens", ".3g"), (regret, "regret", ".4f")]
        lines = ["", "h* from the smallest run to this one, and what training this run on it would cost:"]
        lines += [f"{name:<{wide}}" + "".join(f"{row[c]:<20{form}}" for row in steps) for name, c, form in head]
        for name in self.weights:
            cells = [(row["weights"][name], *row["interval"][name]) for row in steps]
            lines.append(f"{name:<{wide}}" + "".join(f"{h:.3f} ({a:.2f}-{b:.2f})   " for h, a, b in cells))
        return [line.rstrip() for line in lines]

    def _other_lines(self) -> list[str]:
        """Return what other fitted laws would recommend."""
        if self.others.empty:
            return []
        lines = [
            "",
            f"what other laws predict for their own h*, and what theirs would cost by the {self.law} law "
            f"{brackets(self.unit)}:",
        ]
        for row in self.others.to_dict("records"):
            h = " ".join(f"{row['weights'][name]:.3f}" for name in self.weights)
            lines.append(f"  {row['law']:<24}{row['predicted']:.4f}  {row['regret']:.4f}   {h}")
        return lines

    def _outcome_lines(self) -> list[str]:
        level = NATS if self.unit == NATS else kind_of(self.unit).difference
        lines = [f"{'mixture':<16}{'predicted':>9}   {self.interval_name:<19}gain of h* over it [{level}]"]
        for row in self.outcomes.to_dict(orient="records"):
            gain = f"{row['gain']:+.4f} ({row['gain_low']:+.4f} to {row['gain_high']:+.4f})"
            shown = "" if row["mixture"] == "recommended" else gain
            lines.append(
                f"{row['mixture']:<16}{row['predicted']:>9.4f}   {row['low']:.4f} to {row['high']:.4f}   {shown}"
            )
        return lines


def read_answer(path: Path) -> dict[str, Any]:
    """Read a recommendation that `mixlaw recommend --out` wrote.

    Raises
    ------
    RunLogError
        If the file cannot be read or holds anything else.
    """
    wanted = {"outcomes": list, "domains": list, "weights": dict, "targets": dict, "override": str}
    try:
        answer = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(answer, dict) or not isinstance(answer.get("n_tokens"), int | float):
            raise ValueError("n_tokens is missing")
        for key, kind in wanted.items():
            parts = answer.get(key)
            if not isinstance(parts, kind) or (kind is list and not all(isinstance(part, dict) for part in parts)):
                raise ValueError(f"{key} is missing")
    except OSError as error:
        raise RunLogError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError) as error:
        raise RunLogError(f"{path} is not what `mixlaw recommend --out` writes: {str(error)[:100]}") from None
    return answer


def question_of_answer(answer: Mapping[str, Any]) -> Question:
    """Return what was asked of a recommendation, limits and all (without the pull towards a prior).

    Raises
    ------
    RunLogError
        If its limits are none.
    """
    limits = {name: value for name, value in (answer.get("limits") or {}).items() if name in LIMITS}
    try:
        limits["groups"] = {name: (tuple(m), low, high) for name, (m, low, high) in limits.get("groups", {}).items()}
        available = {d: float(n) for d, n in (answer.get("available") or {}).items()}
        return Question(answer["n_params"], answer["n_tokens"], dict(answer["targets"]), available=available, **limits)
    except (ValueError, TypeError, AttributeError) as error:
        raise RunLogError(f"the recommendation's limits cannot be read: {error}") from None


def is_outdated(answer: Mapping[str, Any], laws: FittedLaws) -> bool:
    """Return whether an answer rests on a fit to other runs, or on a law that these are without."""
    return answer.get("law") not in laws.fits or answer.get("data_sha256", laws.data_sha256) != laws.data_sha256


def recommend(laws: FittedLaws, question: Question, law: str | None = None, level: float = 0.9) -> Recommendation:
    """Find h* for a question with the trusted law, or another of the fitted ones.

    h* is the mixture whose loss is lowest on average over the resampled laws. Minimising a single fit instead picks the
    mixture that this fit is most optimistic about. Every resample is minimised too: the spread of those minima is the
    interval of h*.

    Raises
    ------
    ConfigError
        If the law or a target was not fitted, or limits contradict each other or name unknown domains.
    FitError
        If the law does not depend on the mixture.
    """
    fit = laws.fits.get(law or laws.chosen)
    if fit is None:
        raise ConfigError(f"--law: {unknown_name('law', law or laws.chosen, laws.fits)}")
    require_mixture(laws, fit.name)
    objective, rivals = Objective(fit, question, laws.sizes), baselines(fit.domains, laws.sizes)
    best, free = optimum(objective, rivals), optimum(objective.asking(question.unlimited()), rivals)
    mixtures = {"recommended": dict(zip(fit.domains, clean(best), strict=True))} | rivals
    clouds = drawn_optima(objective.drawn(), [best, free, starts(objective.limits)[0]])
    noise = run_noise(objective, laws.noise)
    spread = interval(clouds, level)
    table = _domain_table(objective, mixtures, spread)
    table.insert(4, "unconstrained", clean(free))
    table[["flat_low", "flat_high"]] = flat_frontier(objective, best, noise)
    outcomes, others = _outcomes(objective, mixtures, level), other_laws(laws, objective, best, rivals)
    if len(others):
        shares = np.array([[h[d] for d in fit.domains] for h in others["weights"]])
        table["others_low"], table["others_high"] = shares.min(0), shares.max(0)
    points = np.vstack([free, *(list(h.values()) for h in rivals.values())])
    smallest = laws.ranges["n_params"][0], laws.ranges["n_tokens"][1]
    return Recommendation(
        fit.name, laws.reason if fit is laws.best else "named by hand", question, mixtures["recommended"], table,
        outcomes, _per_target(objective, mixtures), prices(objective, best, points),
        path(objective, smallest, best, spread, rivals, level), others, noise,
        [*_warnings(laws, fit, question, best, outcomes, noise), *disagreement(table)], laws,
    )  # fmt: skip


def _warnings(
    laws: FittedLaws, fit: FittedLaw, question: Question, best: Array, outcomes: pd.DataFrame, noise: float
) -> list[str]:
    """Return what an answer rests on, in plain words: the table, the units, the fit, and how far away it is."""
    units = {target: found.unit for target, found in fit.targets.items()}
    said = [*laws.doubts, *mixed_warning(question.targets, units), *fit.warnings]
    return [
        *said,
        *far_warnings(laws, fit.name, big_run(question, best)),
        *gain_warnings(outcomes, noise, question, fit.unit_of(question.targets)),
    ]


def baselines(domains: list[str], sizes: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Return the mixtures that a recommendation must beat."""
    known = all(d in sizes for d in domains)
    natural = {"natural": proportional({d: sizes[d] for d in domains})} if known else {}
    return {"uniform": uniform(domains)} | natural


def _domain_table(
    objective: Objective, mixtures: dict[str, dict[str, float]], spread: tuple[Array, Array]
) -> pd.DataFrame:
    """Return one row per domain; pull < 0 means that more of it lowers the loss at the uniform mixture."""
    even = np.array([list(mixtures["uniform"].values())])
    _, gradient = objective.asking(replace(objective.question, pull=0.0))(even)
    weight = np.array(list(mixtures["recommended"].values()))
    columns: dict[str, Any] = {"domain": objective.fit.domains, "weight": weight}
    columns |= {"low": np.minimum(spread[0], weight), "high": np.maximum(spread[1], weight)}
    columns |= {"pull": gradient[0] - gradient[0] @ even[0]}
    return pd.DataFrame(columns | {n: list(m.values()) for n, m in mixtures.items() if n != "recommended"})


def _outcomes(objective: Objective, mixtures: dict[str, dict[str, float]], level: float) -> pd.DataFrame:
    """Return, per mixture, the predicted loss and the gain of the recommended one over it, each with its interval."""
    drawn, rng = objective.drawn(), np.random.default_rng(0)
    cloud = {name: drawn.loss(np.tile(list(h.values()), (drawn.count, 1))) for name, h in mixtures.items()}
    best, rows = objective.at(mixtures["recommended"]), []
    for name, weights in mixtures.items():
        value = objective.at(weights)
        gain, gains = value - best, cloud[name] - cloud["recommended"]
        row = {"mixture": name} | _ends("gain", gain, gains, level)
        row |= {"predicted": value} | _ends("", value, _scattered(objective, cloud[name], rng), level)
        rows.append(row | {"weights": weights})
    return pd.DataFrame(rows)


def _ends(name: str, value: float, draws: Array, level: float) -> dict[str, float]:
    """Return a value and its interval, which holds it, as columns."""
    low, high = (float(end) for end in interval(draws, level))
    ends = {f"{name}_low".strip("_"): min(low, value), f"{name}_high".strip("_"): max(high, value)}
    return ({name: value} if name else {}) | ends


def _scattered(objective: Objective, losses: Array, rng: np.random.Generator) -> Array:
    """Return (b,) losses of single runs around resampled laws', the scatter of targets weighted by importance."""
    around = [
        w * (objective.fit.scattered(t, losses[:, None], rng)[:, 0] - losses)
        for t, w in objective.question.targets.items()
    ]
    return with_scatter(losses, np.sum(around, axis=0))


def _per_target(objective: Objective, mixtures: dict[str, dict[str, float]]) -> pd.DataFrame:
    """Return the predicted loss of every fitted target under every mixture."""
    each = {t: objective.of(t) for t in objective.fit.targets}
    return pd.DataFrame([{"mixture": m} | {t: o.at(w) for t, o in each.items()} for m, w in mixtures.items()])


def big_run(question: Question, best: Array) -> Asked:
    """Return the big run on h* (k,), to be compared with the runs of the table."""
    return Asked(np.array([question.n_params]), np.array([question.n_tokens]), best[None], rows=False)


def require_mixture(laws: FittedLaws, name: str) -> None:
    """Refuse to recommend, or to draw, a mixture where a law, or the runs, have none.

    Raises
    ------
    FitError
        Saying what to do instead.
    """
    k = len(laws.fits[name].domains)
    mixing = [law for law in laws.fits if get_law(law).mixes and k > 1]
    if name in mixing and (laws.mixed or not get_law(name).pools_only):
        return
    if not laws.mixed:
        why = "all runs have the same mixture" if k > 1 else "the runs have no mixture"
        raise FitError(
            f"{why}, so the laws do not depend on one and cannot recommend one: `mixlaw predict` predicts the loss at "
            "another N and D"
        )
    ends = [laws.ranges[c] for c in ("n_params", "n_tokens")]
    other = f"multiplicative{form_of(*(1 + (high > low * (1 + SAME)) for low, high in ends))}"
    advice = f"ask the {mixing[0]} law (--law {mixing[0]})" if mixing else f"fit another, such as {other}"
    raise FitError(f"the {name} law does not depend on the mixture: {advice}")


def disagreement(table: pd.DataFrame) -> list[str]:
    """Say for which domains other fitted laws have their optimum outside of the interval of h*."""
    if "others_low" not in table:
        return []
    outside = (table["others_low"] < table["low"] - APART) | (table["others_high"] > table["high"] + APART)
    shown = [
        f"{r['domain']} {r['others_low']:.2f} to {r['others_high']:.2f} (here {r['low']:.2f} to {r['high']:.2f})"
        for r in table[outside].to_dict("records")[:MOST_NAMED]
    ]
    more = f" and {outside.sum() - MOST_NAMED} more domains" if outside.sum() > MOST_NAMED else ""
    text = f"other fitted laws have h* outside of this interval: {', '.join(shown)}{more}; see what theirs would cost"
    return [text] if shown else []


def gain_warnings(outcomes: pd.DataFrame, noise: float, question: Question, unit: str = NATS) -> list[str]:
    """Say which gains single runs could not show, and which mixtures the limits keep h* from."""
    limited = bool(question.constraints()) or question.pull > 0
    warnings = []
    for row in outcomes.to_dict("records"):
        if row["predicted"] <= 0:
            level = difference(f"{row['predicted']:.2f}", unit)
            warnings.append(f"the law predicts {level} for {row['mixture']}, which cannot be")
        gain = difference(f"{row['gain']:.4f}", unit)
        if row["mixture"] == "recommended":
            continue
        if row["gain"] < 0 and limited:
            warnings.append(f"{row['mixture']} is predicted to be better by {gain[1:]}: the limits keep h* from it")
        elif row["gain"] < noise * 2**0.5:
            two = f"what two single runs differ by ({noise * 2**0.5:.4f})"
            warnings.append(f"the gain over {row['mixture']}, {gain}, is below {two}")
    return warnings
