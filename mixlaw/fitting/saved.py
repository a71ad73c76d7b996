"""`FittedLaws`: the laws fitted to one table, and the chosen one with its reason; saved as `laws.json`.

import mixlaw
laws = mixlaw.FittedLaws.load("laws.json")
laws.best.predict(frame)      # a DataFrame with n_params, n_tokens and weight_<domain>
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mixlaw.errors import FitError, RunLogError
from mixlaw.fileio import canonical_json, strict_json, write_atomically
from mixlaw.fitting.bootstrap import seed_noise
from mixlaw.fitting.differences import Scatter
from mixlaw.fitting.fitted import FittedLaw, FittedTarget
from mixlaw.fitting.identifiability import mixtures_vary
from mixlaw.fitting.widening import Widening
from mixlaw.laws.jacobian import Array
from mixlaw.laws.law import Units
from mixlaw.laws.registry import LAWS, get_law
from mixlaw.tables.clean import prepare
from mixlaw.tables.phase_mixtures import ranges_by_phase
from mixlaw.tables.read import read_table
from mixlaw.tables.table import Table
from mixlaw.tables.units import NATS
from mixlaw.version import __version__

FORMAT = 2
LATER = ("doubts", "identity", "choice", "study_flops", "phase_ranges")  # keys that the first files of this format lack
IN_FILE = ("chosen", "reason", "ranges", "mixtures", "sizes", "noise", "scores", "data_sha256", *LATER)
SETTINGS_IN_FILE = {"row_weights": "weights", "prior_strength": "prior"}  # keys of format 2, where they differ
MOST_MIXTURES = 2000  # training mixtures to save; recommendations report their distance from these


@dataclass(frozen=True, repr=False)
class FittedLaws:
    """Several laws fitted to the same table, one of them chosen.

    Attributes
    ----------
    fits : name of the law -> fitted law
    chosen, reason : name of the law to use, and why, in a sentence
    ranges : n_params, n_tokens -> (low, high) of the data
    mixtures : (m, k) the distinct mixtures of the data
    sizes : domain -> tokens available, if known
    noise : target -> standard deviation over runs that differ only in their seed [nats]; empty without such runs
    scores : rows of law, target, mre, ... on held-out runs, if there were any
    data_sha256 : hash of the fitted table
    doubts : warnings about that table, which affect every fit
    identity : settings that all its runs share, if they were run directories
    choice : selection of its runs: where, varied, former, ends_only; and its aggregates of targets
    study_flops : compute of the fitted runs [FLOPs]; 0 if unknown
    phase_ranges : per phase, domain -> (low, high) of its weights in runs that changed their mixture; empty without any
    intervals : name of the law -> how its intervals were checked on held-out runs; not saved
    """

    fits: dict[str, FittedLaw]
    chosen: str
    reason: str
    ranges: dict[str, tuple[float, float]]
    mixtures: Array
    sizes: dict[str, float] = field(default_factory=dict)
    noise: dict[str, float] = field(default_factory=dict)
    scores: list[dict[str, Any]] = field(default_factory=list)
    data_sha256: str = ""
    doubts: list[str] = field(default_factory=list)
    identity: dict[str, str] = field(default_factory=dict)
    choice: dict[str, Any] = field(default_factory=dict)
    study_flops: float = 0.0
    phase_ranges: list[dict[str, tuple[float, float]]] = field(default_factory=list)
    intervals: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"FittedLaws({', '.join(self.fits)}; chosen: {self.chosen})"

    @property
    def best(self) -> FittedLaw:
        """The chosen law."""
        return self.fits[self.chosen]

    @property
    def mixed(self) -> bool:
        """Whether the runs have several mixtures, so that there is one to recommend."""
        return len(self.best.domains) > 1 and mixtures_vary(self.mixtures)

    @classmethod
    def of(
        cls, fits: dict[str, FittedLaw], table: Table, chosen: str, reason: str, scores: pd.DataFrame
    ) -> "FittedLaws":
        """Return fitted laws with the facts about their table that predictions and reports need."""
        ranges = {c: (float(table.frame[c].min()), float(table.frame[c].max())) for c in ("n_params", "n_tokens")}
        noise = seed_noise(table)
        floor = dict(zip(noise["target"], noise["sd"].astype(float), strict=True)) if len(noise) else {}
        mixtures = np.unique(table.mixtures.round(4), axis=0)[:MOST_MIXTURES]
        rows = [{str(k): v for k, v in row.items()} for row in scores.to_dict("records")]
        return cls(
            fits=fits,
            chosen=chosen,
            reason=reason,
            ranges=ranges,
            mixtures=mixtures,
            sizes=table.sizes,
            noise=floor,
            scores=rows,
            data_sha256=data_sha256(table),
            doubts=table.warnings,
            identity=table.identity,
            choice=table.choice,
            study_flops=table.flops,
            phase_ranges=ranges_by_phase(table),
        )

    def table_of(self, folder: Path) -> Table:
        """Return the runs in a folder as the table that these laws were fitted to, checked by its hash.

        Raises
        ------
        FitError
            If they were fitted to other runs.
        """
        for count in ("n_params", "n_params_non_embedding"):
            table = read_table([folder], count=count, **self.choice)
            for keep_warmup in (False, True):
                if data_sha256(cleaned := prepare(table, keep_warmup)) == self.data_sha256:
                    return cleaned
        raise FitError(
            f"these laws were not fitted to the runs that are in {folder} now: run `mixlaw fit {folder}` again"
        )

    def save(self, path: str | Path) -> None:
        """Write `laws.json`."""
        path = Path(path)
        own = {name: getattr(self, name) for name in IN_FILE}
        facts = {"format": FORMAT, "mixlaw_version": __version__} | own
        facts |= {"mixtures": self.mixtures.tolist()}
        facts |= {"laws": {name: fit_to_json(fit) for name, fit in self.fits.items()}}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, strict_json(facts | {"sha256": _sha256(facts)}))

    @classmethod
    def load(cls, path: str | Path) -> "FittedLaws":
        """Read `laws.json`.

        Raises
        ------
        RunLogError
            If the file is absent, damaged, or of another format.
        """
        renew = f"fit again with `mixlaw fit TABLE --out {path}`"
        try:
            facts = json.loads(Path(path).read_bytes())
            if facts["format"] != FORMAT:
                raise RunLogError(f"{path} has format {facts['format']}; this mixlaw reads {FORMAT}: {renew}")
            if facts.pop("sha256") != _sha256(facts):
                raise RunLogError(
                    f"{path} was changed after `mixlaw fit` wrote it (its sha256 differs): copy it or {renew}"
                )
            own = {name: facts[name] for name in IN_FILE if name in facts or name not in LATER}
            _refuse_unknown(path, facts["laws"])
            own["fits"] = {name: fit_from_json(f) for name, f in facts["laws"].items()}
            own["ranges"] = {k: (float(v[0]), float(v[1])) for k, v in facts["ranges"].items()}
            own["mixtures"] = np.asarray(facts["mixtures"], float).reshape(len(facts["mixtures"]), -1)
            return cls(**own)
        except FileNotFoundError:
            raise RunLogError(f"{path} does not exist: make it with `mixlaw fit TABLE --out {path}`") from None
        except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            if isinstance(error, RunLogError):
                raise
            raise RunLogError(f"{path} is not a laws.json file ({_fault(error)}): {renew}") from None


def _refuse_unknown(path: str | Path, names: Iterable[str]) -> None:
    """Refuse laws that are not registered in this process."""
    unknown = [name for name in names if name not in LAWS]
    if unknown:
        raise RunLogError(
            f"{path} holds the law '{unknown[0]}', which is not registered here: call mixlaw.register before loading it"
        )


def _fault(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    if isinstance(error, json.JSONDecodeError):
        return "it is no JSON"
    return str(error.strerror if isinstance(error, OSError) else error)[:100]


def _sha256(facts: dict[str, Any]) -> str:
    """Return the hash of the facts of a file."""
    return hashlib.sha256(canonical_json(json.loads(strict_json(facts))).encode()).hexdigest()


def data_sha256(table: Table) -> str:
    """Return the hash of the numbers that were fitted; it does not depend on the format of the file."""
    columns = ["n_params", "n_tokens", *(f"weight_{d}" for d in table.domains), *(f"loss_{t}" for t in table.targets)]
    hashed = pd.util.hash_pandas_object(table.frame[columns], index=False).to_numpy()
    return hashlib.sha256(",".join(columns).encode() + hashed.tobytes()).hexdigest()


def fit_to_json(fit: FittedLaw) -> dict[str, Any]:
    """Return the fit as JSON: what `fit_from_json` reads, and formula, source and parameters for other readers."""
    law = fit.law
    low, high = law.bounds(len(fit.domains))
    intervals = fit.intervals_of_params()
    return {
        "settings": {SETTINGS_IN_FILE.get(name, name): value for name, value in fit.settings.items()},
        "formula": law.formula,
        "source": law.source,
        "remark": law.remark,
        "domains": fit.domains,
        "units": {"n_params": fit.units.n_params, "n_tokens": fit.units.n_tokens},
        "ranges": fit.ranges,
        "held": fit.held if fit.held == fit.held else None,
        "held_gains": fit.held_gains if fit.held_gains == fit.held_gains else None,
        "correlations": fit.correlations.round(4).tolist(),
        "bounds": [low.tolist(), high.tolist()],
        "warnings": fit.warnings,
        "targets": {
            name: _target_to_json(target, intervals[intervals["target"] == name])
            for name, target in fit.targets.items()
        },
    }


def _target_to_json(fit: FittedTarget, intervals: pd.DataFrame) -> dict[str, Any]:
    return {
        "theta": fit.theta.tolist(),
        "draws": fit.draws.tolist(),
        "noise": fit.noise.tolist(),
        "objective": fit.objective,
        "statement": fit.statement,
        "n_rows": fit.n_rows,
        "n_runs": fit.n_runs,
        "widened": fit.widening.factor,
        "reach": fit.widening.reach,
        "scatter": asdict(fit.scatter) if fit.scatter else None,
        "unit": fit.unit,
        "parameters": {
            row["parameter"]: [row["value"], row["low"], row["high"]] for row in intervals.to_dict("records")
        },
    }


def fit_from_json(facts: dict[str, Any]) -> FittedLaw:
    """Return the fitted law that `fit_to_json` wrote."""
    ours = {there: here for here, there in SETTINGS_IN_FILE.items()}
    settings = {ours.get(name, name): value for name, value in facts["settings"].items()}
    return FittedLaw(
        law=get_law(settings["law"]),
        domains=facts["domains"],
        units=Units(**facts["units"]),
        targets={name: _target_from_json(target) for name, target in facts["targets"].items()},
        ranges={name: (float(low), float(high)) for name, (low, high) in facts.get("ranges", {}).items()},
        warnings=facts["warnings"],
        settings=settings,
        held=_known(facts.get("held")),
        held_gains=_known(facts.get("held_gains")),
        correlations=_square(facts.get("correlations", [])),
    )


def _target_from_json(facts: dict[str, Any]) -> FittedTarget:
    theta, draws, noise = (np.asarray(facts[key], float) for key in ("theta", "draws", "noise"))
    return FittedTarget(
        theta=theta,
        draws=draws,
        noise=noise,
        objective=facts["objective"],
        statement=facts["statement"],
        n_rows=facts["n_rows"],
        n_runs=facts["n_runs"],
        widening=Widening(facts["widened"], facts.get("reach", {})),
        scatter=_scatter_from_json(facts.get("scatter")),
        unit=facts.get("unit", NATS),
    )


def _scatter_from_json(facts: dict[str, Any] | None) -> Scatter | None:
    if not facts:
        return None
    mixtures = tuple(tuple(float(w) for w in h) for h in facts["mixtures"])
    return Scatter(**facts | {"mixtures": mixtures, "seeds": tuple(facts["seeds"])})


def _square(rows: list[list[float]]) -> Array:
    return np.asarray(rows, float).reshape(len(rows), len(rows))


def _known(share: float | None) -> float:
    return float("nan") if share is None else float(share)
