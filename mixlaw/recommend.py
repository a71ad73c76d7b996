"""The mixture for a big run: where the predicted loss is lowest, how sure that is, and what it costs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mixlaw.artefact import FittedLaws
from mixlaw.costs import flat_frontier, other_laws, path, prices
from mixlaw.errors import ConfigError, RunLogError, unknown_name
from mixlaw.fit import LawFit
from mixlaw.laws import get_law
from mixlaw.mixture import hydra_override, proportional, uniform
from mixlaw.objective import Objective, clean, drawn_optima, optimum, run_noise
from mixlaw.question import Question
from mixlaw.simplex import starts
from mixlaw.slopes import Array
from mixlaw.uncertainty import interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TABLES = ("outcomes", "per_target", "prices", "path", "others")
LIMITS = ("floors", "caps", "pins", "groups", "max_epochs")  # of a question, beside what is available
FAR_MIXTURE = 0.25  # share of the tokens by which h* may differ from every mixture that was trained


@dataclass
class Recommendation:
    """The answer.

    Attributes
    ----------
    weights : the recommended mixture h*
    table : per domain: weight, low and high (interval over resampled laws), flat_low and flat_high (what the others
        can make up for within the noise of one run), pull [nats per unit of weight moved to it], unconstrained,
        uniform and, where known, natural weights
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

    def to_json(self) -> dict[str, Any]:
        """Return the answer as plain data; `override` is what the trainer takes as is, empty where names forbid it."""
        tables = {n: getattr(self, n).to_dict(orient="records") for n in TABLES}
        return {
            "law": self.law,
            "reason": self.reason,
            "n_params": self.question.n_params,
            "n_tokens": self.question.n_tokens,
            "targets": self.question.targets,
            "available": self.question.available,
            "limits": {name: getattr(self.question, name) for name in LIMITS},
            "data_sha256": self.laws.data_sha256,
            "weights": self.weights,
            "override": hydra_override(self.weights),
            "domains": self.table.to_dict(orient="records"),
            "noise": self.noise,
            "warnings": self.warnings,
        } | tables

    def _repr_html_(self) -> str:
        from mixlaw.display import answer_html

        return answer_html(self)

    def plot_optimum(self, ax: "Axes | None" = None) -> "Axes":
        """Draw h* with its interval and flat frontier; `.figure` of what is returned shows it in a notebook."""
        from mixlaw.plots_mixture import optimum

        return optimum(ax, self)

    def plot_path(self, ax: "Axes | None" = None) -> "Axes":
        """Draw h* from the smallest run to the big one."""
        from mixlaw.plots_mixture import path

        return path(ax, self)

    def plot_ternary(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the predicted loss over all mixtures of three domains."""
        from mixlaw.plots_ternary import ternary

        return ternary(ax, self, self.laws)

    def plot_parallel(self, ax: "Axes | None" = None) -> "Axes":
        """Draw trained mixtures as lines over the domains, coloured by the loss that the big run would have on them."""
        from mixlaw.plots_mixture import parallel

        return parallel(ax, self, self.laws)

    def summary(self) -> str:
        """Return the answer as text for a terminal."""
        n, d = self.question.n_params, self.question.n_tokens
        targets = ", ".join(f"{t} {w:.2f}" if w < 1 else t for t, w in self.question.targets.items())
        lines = [f"{self.law} law ({self.reason})", f"N = {n:.4g} parameters, D = {d:.4g} tokens, target: {targets}"]
        lines += ["", *self._domain_lines(), "", *self._outcome_lines()]
        if len(self.prices):
            lines += ["", "limits that cost something [nats]:"]
            lines += [f"  {row.constraint:<24}{row.cost:.4f}" for row in self.prices.itertuples()]
        lines += [*self._path_lines(), *self._other_lines()]
        nameless = "`--override FILE` writes the weights as YAML; Hydra's command line cannot hold these names"
        lines += ["", f"train it with: {hydra_override(self.weights) or nameless}"]
        return "\n".join(lines + [f"warning: {w}" for w in self.warnings])

    def _domain_lines(self) -> list[str]:
        others = [c for c in ("unconstrained", "uniform", "natural") if c in self.table]
        wide = max(16, 2 + max(map(len, self.weights)))
        lines = [f"{'domain':<{wide}}{'h*':>7}   90 % interval    flat frontier " + "".join(f"{c:>14}" for c in others)]
        for row in self.table.to_dict(orient="records"):
            shares = "".join(f"{row[c]:>14.3f}" for c in others)
            flat = f"{row['flat_low']:.3f} to {row['flat_high']:.3f}"
            lines.append(
                f"{row['domain']:<{wide}}{row['weight']:>7.3f}   {row['low']:.3f} to {row['high']:.3f}   {flat}{shares}"
            )
        return [
            *lines,
            f"(flat frontier: what the others can make up for within the noise of one run, {self.noise:.4f} nats)",
        ]

    def _path_lines(self) -> list[str]:
        """Return h* with its interval over scale: a column per step, a line per domain; none where there is no path."""
        if self.path.empty:
            return []
        steps, wide = self.path.to_dict("records"), max(16, 2 + max(map(len, self.weights)))
        head = [("N", "n_params", ".3g"), ("D", "n_tokens", ".3g"), ("regret [nats]", "regret", ".4f")]
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
            f"what other laws predict for their own h*, and what theirs would cost by the {self.law} law [nats]:",
        ]
        for row in self.others.to_dict("records"):
            h = " ".join(f"{row['weights'][name]:.3f}" for name in self.weights)
            lines.append(f"  {row['law']:<24}{row['predicted']:.4f}  {row['regret']:.4f}   {h}")
        return lines

    def _outcome_lines(self) -> list[str]:
        lines = [f"{'mixture':<16}{'predicted':>9}   90 % interval      gain of h* over it [nats/token]"]
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
        If the file cannot be read, or holds anything else.
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
    ConfigError
        If its limits are none.
    """
    limits = {name: value for name, value in (answer.get("limits") or {}).items() if name in LIMITS}
    try:
        limits["groups"] = {name: (tuple(m), low, high) for name, (m, low, high) in limits.get("groups", {}).items()}
        available = {d: float(n) for d, n in (answer.get("available") or {}).items()}
        return Question(answer["n_params"], answer["n_tokens"], dict(answer["targets"]), available=available, **limits)
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"the recommendation's limits cannot be read: {error}") from None


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
        If the law was not fitted, or limits contradict each other or name unknown domains.
    FitError
        If the law does not depend on the mixture, or a target was not fitted.
    """
    fit = laws.fits.get(law or laws.chosen)
    if fit is None:
        raise ConfigError(unknown_name("law", law or laws.chosen, laws.fits))
    objective, rivals = Objective(fit, question, laws.sizes), baselines(fit.domains_, laws.sizes)
    best, free = optimum(objective, rivals), optimum(objective.asking(question.unlimited()), rivals)
    mixtures = {"recommended": dict(zip(fit.domains_, clean(best), strict=True))} | rivals
    clouds = drawn_optima(objective.drawn(), [best, free, starts(objective.limits)[0]])
    noise = run_noise(objective, laws.noise)
    spread = interval(clouds, level)
    table = _domain_table(objective, mixtures, spread)
    table.insert(4, "unconstrained", clean(free))
    table[["flat_low", "flat_high"]] = flat_frontier(objective, best, noise)
    outcomes = _outcomes(objective, mixtures, level)
    points = np.vstack([free, *(list(h.values()) for h in rivals.values())])
    smallest = laws.ranges["n_params"][0], laws.ranges["n_tokens"][1]
    return Recommendation(
        fit.law, laws.reason if fit is laws.best else "named by hand", question, mixtures["recommended"], table,
        outcomes, _per_target(objective, mixtures), prices(objective, best, points),
        path(objective, smallest, best, spread, rivals, level), other_laws(laws, objective, best, rivals), noise,
        [*fit.warnings_, *far_warnings(laws, fit, question, best), *gain_warnings(outcomes, noise, question)], laws,
    )  # fmt: skip


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
    columns: dict[str, Any] = {"domain": objective.fit.domains_, "weight": weight}
    columns |= {"low": np.minimum(spread[0], weight), "high": np.maximum(spread[1], weight)}
    columns |= {"pull": gradient[0] - gradient[0] @ even[0]}
    return pd.DataFrame(columns | {n: list(m.values()) for n, m in mixtures.items() if n != "recommended"})


def _outcomes(objective: Objective, mixtures: dict[str, dict[str, float]], level: float) -> pd.DataFrame:
    """Return, per mixture, the predicted loss and the gain of the recommended one over it, each with its interval."""
    drawn, rng = objective.drawn(), np.random.default_rng(0)
    wider = max(objective.fit.target(t).widened for t in objective.question.targets)
    cloud = {name: drawn.loss(np.tile(list(h.values()), (drawn.count, 1))) for name, h in mixtures.items()}
    best, rows = objective.at(mixtures["recommended"]), []
    for name, weights in mixtures.items():
        value = objective.at(weights)
        gain, gains = value - best, cloud[name] - cloud["recommended"]
        scatter = _scatter(objective, value, rng)
        row = {"mixture": name} | _ends("gain", gain, gain + wider * (gains - gain), level)
        row |= {"predicted": value} | _ends("", value, value + wider * (cloud[name] - value) + scatter, level)
        rows.append(row | {"weights": weights})
    return pd.DataFrame(rows)


def _ends(name: str, value: float, draws: Array, level: float) -> dict[str, float]:
    """Return a value and its interval, which holds it, as columns."""
    low, high = (float(end) for end in interval(draws, level))
    ends = {f"{name}_low".strip("_"): min(low, value), f"{name}_high".strip("_"): max(high, value)}
    return ({name: value} if name else {}) | ends


def _scatter(objective: Objective, value: float, rng: np.random.Generator) -> Array:
    """Return (b,) how far one run may fall from its law, targets weighted by importance."""
    importance = objective.question.targets.items()
    parts = [w * objective.fit.scattered(t, np.full(1, value), rng)[:, 0] for t, w in importance]
    total: Array = np.sum(parts, axis=0)
    return total


def _per_target(objective: Objective, mixtures: dict[str, dict[str, float]]) -> pd.DataFrame:
    """Return the predicted loss of every fitted target under every mixture."""
    each = {t: objective.of(t) for t in objective.fit.targets_}
    return pd.DataFrame([{"mixture": m} | {t: o.at(w) for t, o in each.items()} for m, w in mixtures.items()])


def far_warnings(laws: FittedLaws, fit: LawFit, question: Question, best: Array) -> list[str]:
    """Say how far outside of the data the question and its answer lie."""
    warnings, uses = [], get_law(fit.law).uses
    for name, value, letter in (("n_params", question.n_params, "N"), ("n_tokens", question.n_tokens, "D")):
        low, high = laws.ranges[name]
        if letter not in uses:
            warnings.append(f"the {fit.law} law does not depend on {letter}: losses are those of the runs' {name}")
            continue
        if value > 10 * high or value < low / 10:
            warnings.append(f"{name} {value:.3g} is far outside of the data ({low:.3g} to {high:.3g})")
    for i, domain in enumerate(fit.domains_):
        low, high = laws.mixtures[:, i].min(), laws.mixtures[:, i].max()
        if best[i] > high + 0.05 or best[i] < low - 0.05:
            warnings.append(f"h* has {best[i]:.2f} of '{domain}', runs had {low:.2f} to {high:.2f}: train one near it")
    nearest = np.abs(laws.mixtures - best).sum(1).min() / 2
    if nearest > FAR_MIXTURE:
        warnings.append(f"the nearest mixture that was trained differs from h* in {100 * nearest:.0f} % of its tokens")
    return warnings


def gain_warnings(outcomes: pd.DataFrame, noise: float, question: Question) -> list[str]:
    """Say which gains single runs could not show, and which mixtures the limits keep h* from."""
    limited = bool(question.constraints()) or question.pull > 0
    warnings = []
    for row in outcomes.to_dict("records"):
        if row["predicted"] <= 0:
            warnings.append(f"the law predicts {row['predicted']:.2f} nats for {row['mixture']}, which cannot be")
        gain = f"{row['gain']:.4f} nats"
        if row["mixture"] == "recommended":
            continue
        if row["gain"] < 0 and limited:
            warnings.append(f"{row['mixture']} is predicted to be better by {gain[1:]}: the limits keep h* from it")
        elif row["gain"] < noise * 2**0.5:
            two = f"what two single runs differ by ({noise * 2**0.5:.4f})"
            warnings.append(f"the gain over {row['mixture']}, {gain}, is below {two}")
    return warnings
