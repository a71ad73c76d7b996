"""The artefact `laws.json`: laws fitted to one table, which of them is trusted most, and why.

It predicts elsewhere in three lines:

    from mixlaw.fitting.saved import FittedLaws
    laws = FittedLaws.load("laws.json")
    laws.best.predict(frame)      # a DataFrame with n_params, n_tokens and weight_<domain>
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import mixlaw
from mixlaw.errors import FitError, RunLogError
from mixlaw.fileio import canonical_json, strict_json, write_atomically
from mixlaw.fitting.bootstrap import seed_noise
from mixlaw.fitting.estimator import LawFit, TargetFit
from mixlaw.fitting.identifiability import mixtures_vary
from mixlaw.fitting.widening import Widening
from mixlaw.laws.jacobian import Array
from mixlaw.laws.registry import Units, get_law
from mixlaw.tables.clean import prepare
from mixlaw.tables.read import read_table
from mixlaw.tables.table import Table
from mixlaw.tables.units import NATS

FORMAT = 2
MOST_MIXTURES = 2000  # training mixtures that are remembered, to say how far from them a question lies


@dataclass
class FittedLaws:
    """The artefact `laws.json`: several laws fitted to the same table, and which of them is trusted most.

    Attributes
    ----------
    fits : law name -> fit
    chosen, reason : the law to use, and the sentence why
    ranges : n_params, n_tokens -> (low, high) of the data
    mixtures : (m, k) the mixtures of the data
    sizes : domain -> tokens available, where known
    noise : target -> sd of runs that differ in their seed only [nats], where runs were repeated
    scores : rows of law, target, mre, ... on held-out runs, where there were any
    data_sha256 : of the table that the laws were fitted to
    doubts : what casts doubt on every fit to that table
    identity : the settings that all its runs share, where they were run directories
    choice : how its runs were chosen: where, varied, former, ends_only
    """

    fits: dict[str, LawFit]
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

    @property
    def best(self) -> LawFit:
        """The law that is trusted most."""
        return self.fits[self.chosen]

    @property
    def mixed(self) -> bool:
        """Whether the runs have several mixtures, so that there is one to recommend."""
        return len(self.best.domains_) > 1 and mixtures_vary(self.mixtures)

    @classmethod
    def of(cls, fits: dict[str, LawFit], table: Table, chosen: str, reason: str, scores: pd.DataFrame) -> "FittedLaws":
        """Return the artefact of some laws and the table that they were fitted to."""
        ranges = {c: (float(table.frame[c].min()), float(table.frame[c].max())) for c in ("n_params", "n_tokens")}
        noise = seed_noise(table)
        floor = dict(zip(noise["target"], noise["sd"].astype(float), strict=True)) if len(noise) else {}
        mixtures = np.unique(table.mixtures.round(4), axis=0)[:MOST_MIXTURES]
        rows = [{str(k): v for k, v in row.items()} for row in scores.to_dict("records")]
        return cls(
            fits, chosen, reason, ranges, mixtures, table.sizes, floor, rows, data_sha256(table), table.doubts,
            table.identity, table.choice,
        )  # fmt: skip

    def table_of(self, folder: Path) -> Table:
        """Return the runs in a folder as the table that these laws were fitted to, whose hash they state.

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
        raise FitError(f"these laws were fitted to other runs than those in {folder} now: `mixlaw fit {folder}` again")

    def save(self, path: Path) -> None:
        """Write the artefact."""
        facts = {
            "format": FORMAT, "mixlaw_version": mixlaw.__version__, "chosen": self.chosen, "reason": self.reason,
            "ranges": self.ranges, "mixtures": self.mixtures.tolist(), "sizes": self.sizes, "noise": self.noise,
            "scores": self.scores, "data_sha256": self.data_sha256, "doubts": self.doubts, "identity": self.identity,
            "choice": self.choice,
            "laws": {name: fit_to_json(fit) for name, fit in self.fits.items()},
        }  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, strict_json(facts | {"sha256": _sha256(facts)}))

    @classmethod
    def load(cls, path: str | Path) -> "FittedLaws":
        """Read the artefact.

        Raises
        ------
        RunLogError
            If the file is absent, damaged, or of another format.
        """
        try:
            facts = json.loads(Path(path).read_bytes())
            if facts["format"] != FORMAT:
                raise RunLogError(f"{path} has format {facts['format']}; this mixlaw reads {FORMAT}: fit again")
            if facts.pop("sha256") != _sha256(facts):
                raise RunLogError(f"{path} is not what `mixlaw fit` wrote (its sha256 differs): copy it or fit again")
            fits = {name: fit_from_json(f) for name, f in facts["laws"].items()}
            ranges = {k: (float(v[0]), float(v[1])) for k, v in facts["ranges"].items()}
            mixtures = np.asarray(facts["mixtures"], float).reshape(len(facts["mixtures"]), -1)
            return cls(
                fits, facts["chosen"], facts["reason"], ranges, mixtures, facts["sizes"], facts["noise"],
                facts["scores"], facts["data_sha256"], facts.get("doubts", []), facts.get("identity", {}),
                facts.get("choice", {}),
            )  # fmt: skip
        except FileNotFoundError:
            raise RunLogError(f"{path} does not exist: make it with `mixlaw fit TABLE --out {path}`") from None
        except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            if isinstance(error, RunLogError):
                raise
            raise RunLogError(
                f"{path} is not a file of laws ({type(error).__name__}: {str(error)[:100]}): fit again"
            ) from None


def _sha256(facts: dict[str, Any]) -> str:
    """Return the seal of an artefact: the hash of everything else in it."""
    return hashlib.sha256(canonical_json(json.loads(strict_json(facts))).encode()).hexdigest()


def data_sha256(table: Table) -> str:
    """Return the hash of the numbers that a fit saw, whatever file they came from."""
    columns = ["n_params", "n_tokens", *(f"weight_{d}" for d in table.domains), *(f"loss_{t}" for t in table.targets)]
    hashed = pd.util.hash_pandas_object(table.frame[columns], index=False).to_numpy()
    return hashlib.sha256(",".join(columns).encode() + hashed.tobytes()).hexdigest()


def fit_to_json(fit: LawFit) -> dict[str, Any]:
    """Return everything needed to predict elsewhere, and what a reader asks about it."""
    law = get_law(fit.law)
    low, high = law.bounds(len(fit.domains_))
    intervals = fit.intervals_of_params()
    targets = {
        name: {
            "theta": t.theta.tolist(), "draws": t.draws.tolist(), "noise": t.noise.tolist(), "objective": t.objective,
            "statement": t.statement, "n_rows": t.n_rows, "n_runs": t.n_runs,
            "widened": t.widening.factor, "reach": t.widening.reach, "unit": t.unit,
            "parameters": {
                row["parameter"]: [row["value"], row["low"], row["high"]]
                for row in intervals[intervals["target"] == name].to_dict("records")
            },
        }
        for name, t in fit.targets_.items()
    }  # fmt: skip
    return {
        "settings": fit.get_params(), "formula": law.formula, "source": law.source, "remark": law.remark,
        "domains": fit.domains_, "units": {"n_params": fit.units_.n_params, "n_tokens": fit.units_.n_tokens},
        "ranges": fit.ranges_, "held": fit.held_ if fit.held_ == fit.held_ else None,
        "bounds": [low.tolist(), high.tolist()], "warnings": fit.warnings_, "targets": targets,
    }  # fmt: skip


def fit_from_json(facts: dict[str, Any]) -> LawFit:
    """Return the fit that `fit_to_json` described."""
    fit = LawFit(**facts["settings"])
    get_law(fit.law)
    fit.domains_, fit.warnings_, fit.units_ = facts["domains"], facts["warnings"], Units(**facts["units"])
    fit.ranges_ = {name: (float(low), float(high)) for name, (low, high) in facts.get("ranges", {}).items()}
    fit.held_ = float("nan") if facts.get("held") is None else float(facts["held"])
    for name, t in facts["targets"].items():
        theta, draws, noise = (np.asarray(t[key], float) for key in ("theta", "draws", "noise"))
        fit.targets_[name] = TargetFit(
            theta, draws, noise, t["objective"], t["statement"], t["n_rows"], t["n_runs"],
            Widening(t["widened"], t.get("reach", {})), t.get("unit", NATS),
        )  # fmt: skip
    return fit
