"""The mixture for a big run: minimise the predicted loss over the simplex, and say how sure that is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixlaw.artefact import FittedLaws
from mixlaw.errors import ConfigError, FitError, unknown_name
from mixlaw.fit import LawFit
from mixlaw.laws import FLOOR, TINY, Array, get_law, lifted
from mixlaw.mixture import SUM_TOLERANCE, check_weights, hydra_override, proportional, uniform
from mixlaw.uncertainty import interval

STEPS = 400
SMALLEST = 1e-9  # mirror descent approaches zero but never reaches it; below this a weight is printed as 0


@dataclass(frozen=True)
class Question:
    """What is asked for.

    Attributes
    ----------
    n_params, n_tokens : N and D of the big run
    targets : target -> importance, summing to one
    floors, caps : domain -> the least and the most weight allowed
    """

    n_params: float
    n_tokens: float
    targets: dict[str, float]
    floors: dict[str, float]
    caps: dict[str, float]


@dataclass
class Recommendation:
    """The answer.

    Attributes
    ----------
    weights : the recommended mixture h*
    table : per domain: weight, low and high (interval over resampled laws), pull [nats per unit of weight moved to it],
        uniform and, where known, natural weights
    outcomes : per mixture (recommended, uniform, natural): weights, predicted loss with interval, and how much better
        the recommended one is predicted to be [nats, with interval]
    """

    law: str
    reason: str
    question: Question
    weights: dict[str, float]
    table: pd.DataFrame
    outcomes: pd.DataFrame
    per_target: pd.DataFrame
    warnings: list[str]

    def to_json(self) -> dict[str, Any]:
        """Return the answer as plain data; `override` is what the trainer takes as is."""
        return {
            "law": self.law,
            "reason": self.reason,
            "n_params": self.question.n_params,
            "n_tokens": self.question.n_tokens,
            "targets": self.question.targets,
            "weights": self.weights,
            "override": hydra_override(self.weights),
            "domains": self.table.to_dict(orient="records"),
            "outcomes": self.outcomes.to_dict(orient="records"),
            "per_target": self.per_target.to_dict(orient="records"),
            "warnings": self.warnings,
        }

    def summary(self) -> str:
        """Return the answer as text for a terminal."""
        n, d = self.question.n_params, self.question.n_tokens
        targets = ", ".join(f"{t} {w:.2f}" if w < 1 else t for t, w in self.question.targets.items())
        lines = [
            f"{self.law} law ({self.reason})",
            f"N = {n:.4g} parameters, D = {d:.4g} tokens, target: {targets}",
            "",
        ]
        others = [c for c in ("uniform", "natural") if c in self.table]
        lines.append(f"{'domain':<16}{'h*':>7}   90 % interval" + "".join(f"{c:>10}" for c in others))
        for row in self.table.to_dict(orient="records"):
            shares = "".join(f"{row[c]:>10.3f}" for c in others)
            lines.append(f"{row['domain']:<16}{row['weight']:>7.3f}   {row['low']:.3f} to {row['high']:.3f}{shares}")
        lines += ["", f"{'mixture':<16}{'predicted':>9}   90 % interval    gain of h* over it [nats/token]"]
        for row in self.outcomes.to_dict(orient="records"):
            gain = f"{row['gain']:+.4f} ({row['gain_low']:+.4f} to {row['gain_high']:+.4f})"
            shown = "" if row["mixture"] == "recommended" else gain
            lines.append(
                f"{row['mixture']:<16}{row['predicted']:>9.4f}   {row['low']:.4f} to {row['high']:.4f}   {shown}"
            )
        lines += ["", f"train it with: {hydra_override(self.weights)}"]
        return "\n".join(lines + [f"warning: {w}" for w in self.warnings])


def recommend(laws: FittedLaws, question: Question, law: str | None = None, level: float = 0.9) -> Recommendation:
    """Find h* for a question with the trusted law, or another of the fitted ones.

    Every bootstrap draw of the law is minimised too: the spread of those minima is the interval of h*, and the spread
    of the differences between mixtures under the same draw is the interval of the gain.

    Raises
    ------
    ConfigError
        If limits contradict each other or name unknown domains.
    FitError
        If the law does not depend on the mixture, or a target was not fitted.
    """
    fit = laws.fits.get(law or laws.chosen)
    if fit is None:
        raise FitError(unknown_name("law", law or laws.chosen, laws.fits))
    reason = laws.reason if fit is laws.best else "named by hand"
    if not get_law(fit.law).mixture:
        raise FitError(f"the {fit.law} law does not depend on the mixture; fit additive or joint to recommend one")
    low, high = limits(fit.domains_, question)
    rivals = np.array([list(m.values()) for m in baselines(fit.domains_, laws.sizes).values()])
    points = np.vstack([starts(low, high), project(rivals, low, high)])
    ends = minimise_mixture(Objective(fit, question, None), points, low, high)
    best = ends[0]
    clouds = drawn_optima(Objective(fit, question, fit.targets_), [*ends[:3], points[0]], low, high)
    weights = dict(zip(fit.domains_, clean(best), strict=True))
    mixtures = {"recommended": weights} | baselines(fit.domains_, laws.sizes)
    spread = interval(clouds, level)
    return Recommendation(
        fit.law, reason, question, weights,
        _domain_table(fit, question, mixtures, spread), _outcomes(fit, question, mixtures, level),
        _per_target(fit, question, mixtures), [*fit.warnings_, *extrapolation_warnings(laws, question)],
    )  # fmt: skip


class Objective:
    """The weighted sum of targets' losses as a function of h, for the best parameters or for all draws at once."""

    def __init__(self, fit: LawFit, question: Question, drawn: Mapping[str, Any] | None) -> None:
        self._law, self._fit = get_law(fit.law), fit
        self._importance = question.targets
        self._theta = {t: fit.target(t).draws if drawn else fit.target(t).theta[None] for t in question.targets}
        self.count = len(next(iter(self._theta.values())))
        self._n, self._d = np.array([question.n_params]), np.array([question.n_tokens])

    def __call__(self, h: Array) -> tuple[Array, Array]:
        """Return losses (b,) and gradients (b, k) for mixtures h (b, k); one set of parameters serves any b."""
        total, gradient = np.zeros(len(h)), np.zeros(h.shape)
        for target, importance in self._importance.items():
            theta = self._theta[target]
            theta = np.repeat(theta, len(h), 0) if len(theta) == 1 else theta
            loss, by_h = self._law.loss_and_gradient_h(theta, self._fit.units_.inputs(self._n, self._d, h[:, None, :]))
            total += importance * loss[:, 0]
            gradient += importance * by_h[:, 0]
        return total, gradient * lifted(h)[1]


def drawn_optima(draws: Objective, points: list[Array], low: Array, high: Array) -> Array:
    """Return (b, k) the optimum of every drawn law: the lowest of what is reached from a few points."""
    ends = [minimise_mixture(draws, np.repeat(p[None], draws.count, 0), low, high, ordered=False) for p in points]
    values = np.stack([draws(h)[0] for h in ends])
    return np.stack(ends)[values.argmin(0), np.arange(draws.count)]


def minimise_mixture(objective: Objective, h: Array, low: Array, high: Array, ordered: bool = True) -> Array:
    """Run mirror descent (exponentiated gradient) from every start, steps adapted per start, inside the limits.

    Parameters
    ----------
    h : (b, k) starts

    Returns
    -------
    (b, k) where each start ended, the lowest first unless `ordered` is false
    """
    ends, values = _descend(objective, project(h, low, high), low, high)
    # between 0 and a few FLOOR the lifted weights leave shallow minima: try zero instead
    snapped, snapped_values = _descend(objective, project(np.where(ends < 10 * FLOOR, 0.0, ends), low, high), low, high)
    ends = np.where((snapped_values <= values)[:, None], snapped, ends)
    return ends[np.argsort(np.minimum(values, snapped_values))] if ordered else ends


def _descend(objective: Objective, h: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """Return where mirror descent ends (b, k), and the losses there (b,)."""
    value, gradient = objective(h)
    step = 1.0 / np.maximum(np.ptp(gradient, axis=1), 1e-9)
    for _ in range(STEPS):
        centred = gradient - (h * gradient).sum(1, keepdims=True)
        trial = project(h * np.exp(np.clip(-step[:, None] * centred, -5, 5)), low, high)
        new_value, new_gradient = objective(trial)
        better = new_value <= value
        h = np.where(better[:, None], trial, h)
        gradient = np.where(better[:, None], new_gradient, gradient)
        value = np.where(better, new_value, value)
        step = np.where(better, step * 1.3, step * 0.4)
        if step.max() < 1e-9:
            break
    return h, value


def project(h: Array, low: Array, high: Array) -> Array:
    """Return mixtures that sum to one inside the limits: clip(c h, low, high) (KL projection).

    The sum is piecewise linear in c, so c is interpolated between the knots where a weight meets a limit.
    """
    h = np.maximum(h, SMALLEST)
    knots = np.sort(np.concatenate([low / h, high / h], axis=1), axis=1)
    sums = np.clip(knots[..., None] * h[:, None, :], low, high).sum(2)
    right = np.clip((sums < 1).sum(1), 1, knots.shape[1] - 1)[:, None]
    (c0, c1), (s0, s1) = ([np.take_along_axis(a, i, 1) for i in (right - 1, right)] for a in (knots, sums))
    c = c0 + (c1 - c0) * np.clip((1 - s0) / np.maximum(s1 - s0, TINY), 0, 1)
    clipped = np.clip(c * h, low, high)
    result: Array = clipped / clipped.sum(1, keepdims=True)
    return result


def starts(low: Array, high: Array) -> Array:
    """Return the middle of the simplex and a point near each corner."""
    k = len(low)
    return project(np.vstack([np.full((1, k), 1 / k), 0.8 * np.eye(k) + 0.2 / k]), low, high)


def limits(domains: list[str], question: Question) -> tuple[Array, Array]:
    """Return the least and the most weight of each domain, (k,) each.

    Raises
    ------
    ConfigError
        If a name is unknown or no mixture can satisfy them.
    """
    for name in (*question.floors, *question.caps):
        if name not in domains:
            raise ConfigError(f"limits: {unknown_name('domain', name, domains)}")
    if not all(value >= 0 for value in (*question.floors.values(), *question.caps.values())):  # also refuses NaN
        raise ConfigError(f"limits: weights must be at least 0: {question.floors | question.caps}")
    low = np.array([question.floors.get(d, 0.0) for d in domains])
    high = np.array([min(question.caps.get(d, 1.0), 1.0) for d in domains])
    if (low > high).any():
        bad = domains[int(np.argmax(low > high))]
        raise ConfigError(
            f"limits: '{bad}' must have at least {question.floors[bad]:g} and at most {question.caps.get(bad, 1):g}"
        )
    if low.sum() > 1 + SUM_TOLERANCE or high.sum() < 1 - SUM_TOLERANCE:
        raise ConfigError(f"limits: no mixture fits them: floors sum to {low.sum():.3g}, caps to {high.sum():.3g}")
    return low, high


def clean(h: Array) -> list[float]:
    """Return weights with the numerically zero ones at zero, summing to one."""
    kept = np.where(h < 1e-6, 0.0, h)
    return [float(w) for w in kept / kept.sum()]


def baselines(domains: list[str], sizes: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Return the mixtures that a recommendation must beat."""
    known = all(d in sizes for d in domains)
    natural = {"natural": proportional({d: sizes[d] for d in domains})} if known else {}
    return {"uniform": uniform(domains)} | natural


def _domain_table(
    fit: LawFit, question: Question, mixtures: dict[str, dict[str, float]], spread: tuple[Array, Array]
) -> pd.DataFrame:
    """Return one row per domain; pull < 0 means that more of it lowers the loss at the uniform mixture."""
    uniform_h = np.array([list(mixtures["uniform"].values())])
    _, gradient = Objective(fit, question, None)(uniform_h)
    pull = gradient[0] - gradient[0] @ uniform_h[0]
    columns: dict[str, Any] = {"domain": fit.domains_, "weight": list(mixtures["recommended"].values())}
    columns |= {
        "low": np.minimum(spread[0], columns["weight"]),
        "high": np.maximum(spread[1], columns["weight"]),
        "pull": pull,
    }
    return pd.DataFrame(columns | {n: list(m.values()) for n, m in mixtures.items() if n != "recommended"})


def _outcomes(fit: LawFit, question: Question, mixtures: dict[str, dict[str, float]], level: float) -> pd.DataFrame:
    """Return, per mixture, the predicted loss and the gain of the recommended one over it, each with its interval."""
    best, drawn = Objective(fit, question, None), Objective(fit, question, fit.targets_)
    rng = np.random.default_rng(0)
    scatter = sum(w * rng.choice(fit.target(t).noise, drawn.count) for t, w in question.targets.items())
    rows, reference = [], np.zeros(drawn.count)
    for name, weights in mixtures.items():
        h = np.array([list(weights.values())])
        value, cloud = float(best(h)[0][0]), drawn(np.repeat(h, drawn.count, 0))[0]
        if name == "recommended":
            reference, reference_value = cloud, value
        low, high = interval(cloud + scatter, level)
        gain_low, gain_high = interval(cloud - reference, level)
        row = {
            "mixture": name,
            "predicted": value,
            "low": min(float(low), value),
            "high": max(float(high), value),
        }
        row |= {"gain": value - reference_value, "gain_low": float(gain_low), "gain_high": float(gain_high)}
        rows.append(row | {"weights": weights})
    return pd.DataFrame(rows)


def _per_target(fit: LawFit, question: Question, mixtures: dict[str, dict[str, float]]) -> pd.DataFrame:
    """Return the predicted loss of every fitted target under every mixture."""
    law, rows = get_law(fit.law), []
    n, d = np.array([question.n_params]), np.array([question.n_tokens])
    for name, weights in mixtures.items():
        x = fit.units_.inputs(n, d, np.array([list(weights.values())]))
        losses = {t: float(law.loss(f.theta[None], x)[0, 0]) for t, f in fit.targets_.items()}
        rows.append({"mixture": name} | losses)
    return pd.DataFrame(rows)


def extrapolation_warnings(laws: FittedLaws, question: Question) -> list[str]:
    """Say how far outside of the data the question lies."""
    warnings = []
    for name, value in (("n_params", question.n_params), ("n_tokens", question.n_tokens)):
        low, high = laws.ranges[name]
        if value > 10 * high or value < low / 10:
            warnings.append(f"{name} {value:.3g} is far outside of the data ({low:.3g} to {high:.3g})")
    return warnings


def read_targets(text: str, fit: LawFit) -> dict[str, float]:
    """Return importance by target from 'average', 'NAME', or 'NAME:2,OTHER:1'.

    'average' is the mean over the training domains.
    """
    if text == "average":
        names = [d for d in fit.domains_ if d in fit.targets_] or list(fit.targets_)
        return uniform(names)
    parts = dict(part.partition(":")[::2] for part in text.split(","))
    try:
        raw = {name.strip(): float(weight or 1) for name, weight in parts.items()}
    except ValueError:
        raise ConfigError(f"--target {text}: write NAME or NAME:IMPORTANCE,...") from None
    for name in raw:
        fit.target(name)
    total = sum(raw.values())
    if not 0 < total < np.inf or min(raw.values()) < 0:
        raise ConfigError(f"--target {text}: importances must be finite, at least 0 and not all 0")
    return {name: weight / total for name, weight in raw.items()}


def named_mixture(text: str, domains: list[str]) -> dict[str, float]:
    """Return a mixture from 'NAME=WEIGHT,...'."""
    return check_weights(read_pairs(text), domains)


def read_pairs(text: str) -> dict[str, float]:
    """Return {'a': 0.1, 'b': 0.2} from 'a=0.1,b=0.2'."""
    if not text:
        return {}
    try:
        return {name.strip(): float(value) for name, value in (part.split("=") for part in text.split(","))}
    except ValueError:
        raise ConfigError(f"'{text}': write NAME=NUMBER,NAME=NUMBER") from None
