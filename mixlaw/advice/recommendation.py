"""`Recommendation`: a recommended mixture with its uncertainty and sensitivity, saved as `recommendation.json`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from mixlaw.advice.break_even import BREAK_EVEN
from mixlaw.advice.compute_optimal import SIZES
from mixlaw.advice.constraints import MEAN, RECOMMENDED, Question
from mixlaw.advice.equivalents import EQUIVALENTS
from mixlaw.advice.gains import GAINS
from mixlaw.advice.phase_plan import PhasePlan
from mixlaw.advice.scores import SCORES
from mixlaw.errors import RunLogError
from mixlaw.fileio import strict_json, write_atomically
from mixlaw.fitting.saved import FittedLaws
from mixlaw.mixture import Mixture
from mixlaw.tables.units import NATS

TABLES = "outcomes per_target scores signals gains losers equivalents break_even sizes prices path others".split()
LIMITS = ("floors", "caps", "pins", "groups", "max_epochs", "not_worse")  # of a question, without `available`
PRICES = ["constraint", "cost", "weight", "weight_without"]
NUMBERS = {
    "equivalents": EQUIVALENTS,
    "break_even": BREAK_EVEN,
    "sizes": SIZES,
    "scores": SCORES,
}  # tables of names and numbers
NAMES = ("mixture", "target", "by", "count", "benchmark", "reason")  # their columns of names
LOSSES = ["predicted", "low", "high"]
FORMER_NAMES = {"pull": "gradient"}  # columns of `domains` until version 0.1


@dataclass(frozen=True, repr=False)
class Recommendation:
    """The recommended mixture of a big run.

    Attributes
    ----------
    law, reason : name of the law that was used, and why it was chosen
    question : the big run, its targets, and the constraints on the mixture
    weights : the recommended mixture h*
    table : per domain: weight, low and high (interval over resampled laws), gradient of the loss at the uniform mixture
        [nats per unit of weight moved to the domain], weight without constraints and with unlimited tokens of all
        domains (unconstrained), uniform and, if known, natural weight, flat_low and flat_high (range in which the loss
        rises by less than the noise of one run, with the other weights reoptimised), others_low and others_high (range
        of h* over other fitted laws, if any)
    outcomes : per mixture (recommended, then the baselines): weights, predicted loss with interval, and gain of the
        recommended mixture over it [nats, with interval]
    per_target : predicted loss of every target under every mixture
    scores : predicted score of benchmarks under every mixture, if their curves were given; see
        `mixlaw.advice.scores.scores_of`
    gains : gain of h* over every baseline, with interval, as two real runs would show it; of the objective (as in
        outcomes) and of every target
    signals : importance, signal and noise of every target, see `mixlaw.advice.snr.signals`
    losers : targets that are worse on the recommended mixture than on a baseline, see `mixlaw.advice.losers.losers`
    equivalents : how many times the tokens or FLOPs a baseline needs for the loss of the recommended mixture, for the
        objective and every target, with intervals; see `mixlaw.advice.equivalents.equivalents`
    break_even : what the study cost and what the mixture saves, in shares of the big run's compute, against every
        baseline; see `mixlaw.advice.break_even.break_even`
    sizes : compute-optimal N and D, with intervals, if the question has `flops`; see
        `mixlaw.advice.compute_optimal.optimal_sizes`
    prices : per active constraint: its cost [nats] and, for a constraint on one domain, the weight with and without it
    path : h* with its interval from the smallest run to the big one, and the regret of training the big run on it
    others : h* of the other fitted laws, and its regret under this law
    noise : standard deviation of single runs [nats]
    warnings : one sentence each
    unit, units : unit of the weighted targets, and of each target
    interval_name : name of the intervals, see `FittedLaw.interval_name`
    data_sha256 : hash of the table that the laws were fitted to
    phases : mixtures of a run that changes its mixture once, if they were asked for
    """

    law: str
    reason: str
    question: Question
    weights: Mixture
    table: pd.DataFrame
    outcomes: pd.DataFrame
    per_target: pd.DataFrame = field(default_factory=pd.DataFrame)
    scores: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=SCORES))
    gains: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=GAINS))
    signals: pd.DataFrame = field(default_factory=pd.DataFrame)
    losers: pd.DataFrame = field(default_factory=pd.DataFrame)
    equivalents: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=EQUIVALENTS))
    break_even: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=BREAK_EVEN))
    sizes: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=SIZES))
    prices: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=PRICES))
    path: pd.DataFrame = field(default_factory=pd.DataFrame)
    others: pd.DataFrame = field(default_factory=pd.DataFrame)
    noise: float = 0.0
    warnings: list[str] = field(default_factory=list)
    unit: str = NATS
    units: dict[str, str] = field(default_factory=dict)
    interval_name: str = "90 % interval"
    data_sha256: str = ""
    phases: PhasePlan | None = None

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={weight:.4f}" for name, weight in self.weights.items())
        return f"Recommendation({shown}; by the {self.law} law)"

    @property
    def epochs(self) -> dict[str, float]:
        """Domain -> how often the big run on h* reads its tokens; empty if it reads none of known size twice."""
        found = self.epochs_of(self.weights)
        return found if max(found.values(), default=0.0) > 1 else {}

    def epochs_of(self, mixture: Mixture) -> dict[str, float]:
        """Return how often the big run on a mixture reads the tokens of each domain of known size."""
        available, n_tokens = self.question.available, self.question.n_tokens
        return {d: weight * n_tokens / available[d] for d, weight in mixture.items() if d in available}

    @property
    def override(self) -> str:
        """The mixture as a Hydra override of the trainer; empty if Hydra cannot express the names."""
        return self.weights.hydra_override()

    @property
    def baselines(self) -> dict[str, Mixture]:
        """The mixtures that it is compared with: those of the question, then uniform and, if known, natural."""
        return {row["mixture"]: row["weights"] for row in records(self.outcomes) if row["mixture"] != RECOMMENDED}

    def outdated(self, laws: FittedLaws) -> bool:
        """Return whether this was made from a fit to other runs, or by a law that is not among `laws`."""
        return self.law not in laws.fits or self.data_sha256 not in ("", laws.data_sha256)

    def to_json(self) -> dict[str, Any]:
        """Return the recommendation as plain data; the trainer accepts its `override`."""
        tables = {n: [_plain(row) for row in records(getattr(self, n))] for n in TABLES}
        return {
            "law": self.law,
            "reason": self.reason,
            "n_params": self.question.n_params,
            "n_tokens": self.question.n_tokens,
            "flops": self.question.flops,
            "targets": self.question.targets,
            "unit": self.unit,
            "units": self.units,
            "objective": self.question.objective,
            "available": self.question.available,
            "limits": {name: getattr(self.question, name) for name in LIMITS},
            "baselines": {name: dict(mixture) for name, mixture in self.question.baselines.items()},
            "data_sha256": self.data_sha256,
            "weights": dict(self.weights),
            "override": self.override,
            "domains": self.table.to_dict(orient="records"),
            "noise": self.noise,
            "interval": self.interval_name,
            "warnings": self.warnings,
            "phases": self.phases and self.phases.to_json(),
        } | tables

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> "Recommendation":
        """Return the recommendation of `to_json`; keys that later versions added may be absent.

        Raises
        ------
        ValueError
            If a key is missing or has another type; names it.
        """
        for key, kind in {"outcomes": list, "domains": list, "weights": dict, "targets": dict}.items():
            part = facts.get(key)
            if not isinstance(part, kind) or (kind is list and not all(isinstance(row, dict) for row in part)):
                raise ValueError(f"{key} is missing")
        table = pd.DataFrame(facts["domains"]).rename(columns=FORMER_NAMES)
        missing = {"domain", "weight", "low", "high"} - set(table)
        if missing:
            raise ValueError(f"{', '.join(sorted(missing))} of the domains is missing")
        tables = {name: pd.DataFrame([_with_mixture(row) for row in facts.get(name) or []]) for name in TABLES}
        losses = tables["outcomes"].reindex(columns=LOSSES).apply(pd.to_numeric, errors="coerce")
        if losses.empty or losses.isna().any(axis=None):
            raise ValueError(f"outcomes need numbers as {', '.join(LOSSES)}")
        for name, columns in NUMBERS.items():
            tables[name] = _with_numbers(name, tables[name], columns)
        tables["prices"] = tables["prices"].reindex(columns=PRICES).astype(dict.fromkeys(PRICES[1:], float))
        return cls(
            law=str(facts.get("law", "")),
            reason=str(facts.get("reason", "")),
            question=_question(facts),
            weights=Mixture.of(facts["weights"], where="weights"),
            table=table,
            **tables,
            noise=float(facts.get("noise") or 0.0),
            warnings=[str(text) for text in facts.get("warnings") or []],
            unit=str(facts.get("unit", NATS)),
            units=dict(facts.get("units") or {}),
            interval_name=str(facts.get("interval", "90 % interval")),
            data_sha256=str(facts.get("data_sha256", "")),
            phases=PhasePlan.from_json(facts["phases"]) if facts.get("phases") else None,
        )

    def save(self, path: str | Path) -> None:
        """Write `recommendation.json`."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, strict_json(self.to_json(), indent=1))

    @classmethod
    def load(cls, path: str | Path) -> "Recommendation":
        """Read `recommendation.json`.

        Raises
        ------
        RunLogError
            If the file cannot be read or is not a recommendation.
        """
        try:
            return cls.from_json(_mapping(json.loads(Path(path).read_text(encoding="utf-8"))))
        except OSError as error:
            raise RunLogError(f"{path} cannot be read: {error.strerror}") from None
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise RunLogError(f"{path} is not a file of `mixlaw recommend --out`: {str(error)[:100]}") from None


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of one of a recommendation's tables, column -> value."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of a table with mixtures as dicts, for JSON."""
    return {name: dict(value) if isinstance(value, Mixture) else value for name, value in row.items()}


def _with_mixture(row: dict[str, Any]) -> dict[str, Any]:
    """Return a saved row with its weights, if it has any, as a `Mixture`."""
    return row | ({"weights": Mixture.of(row["weights"], where="weights")} if "weights" in row else {})


def _with_numbers(name: str, table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Return a saved table with these columns, checked: all but its names are numbers."""
    table = table.reindex(columns=columns)
    numbers = table[[column for column in columns if column not in NAMES]].apply(pd.to_numeric, errors="coerce")
    if numbers.isna().any(axis=None):
        raise ValueError(f"{name} needs numbers as {', '.join(numbers)}")
    return table.assign(**numbers)


def _mapping(facts: Any) -> Mapping[str, Any]:
    if not isinstance(facts, Mapping):
        raise ValueError("it is not a JSON object")
    return facts


def _question(facts: Mapping[str, Any]) -> Question:
    """Return the question of a saved recommendation with constraints and baselines (`stay_near` is not saved).

    Raises
    ------
    ValueError
        If N, D or a constraint is missing or not a number.
    """
    scale = {name: facts.get(name) for name in ("n_params", "n_tokens")}
    for name, value in scale.items():
        if not isinstance(value, int | float):
            raise ValueError(f"{name} is missing")
    limits = {name: value for name, value in (facts.get("limits") or {}).items() if name in LIMITS}
    try:
        limits["groups"] = {name: (tuple(m), low, high) for name, (m, low, high) in limits.get("groups", {}).items()}
        available = {d: float(n) for d, n in (facts.get("available") or {}).items()}
        baselines = {name: Mixture.of(h, where=name) for name, h in (facts.get("baselines") or {}).items()}
        targets = dict(facts["targets"])
        more = {"available": available, "baselines": baselines, "flops": facts.get("flops")}
        more |= {"objective": str(facts.get("objective", MEAN))}
        return Question(**scale, targets=targets, **more, **limits)  # type: ignore[arg-type]
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"its limits cannot be read: {error}") from None
