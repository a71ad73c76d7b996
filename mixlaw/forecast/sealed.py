"""`Forecast`: predicted losses and gains of a big run, sealed before it starts; saved as `forecast.json`.

The file is canonical JSON in one line. Its last check is `sha256`, of everything else in it. A file is read only if it
has the bytes that the seal was made of, so that any edit is noticed.
"""

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mixlaw.advice.constraints import RECOMMENDED
from mixlaw.errors import ConfigError, RunLogError
from mixlaw.fileio import canonical_json, write_atomically
from mixlaw.mixture import Mixture
from mixlaw.phased_mixture import PhasedMixture
from mixlaw.version import __version__

FORMAT = 1
LOSS = ["predicted", "low", "high"]
GAIN = ["gain", "gain_low", "gain_high"]
FACTS = (
    *("sealed", "mixlaw_version", "law", "level", "interval_name", "n_params", "n_tokens"),
    *("objective", "targets", "units", "identity", "tokens", "hashes"),
)
MADE_LATER = ("sealed", "mixlaw_version", "sha256")  # may differ between two forecasts of the same contents


@dataclass(frozen=True, repr=False)
class Forecast:
    """Predictions for the recommended mixture and the baselines at one N and along D.

    Attributes
    ----------
    sealed : UTC time, as in 2026-11-29T12:00:00Z
    law : name of the law
    level, interval_name : nominal coverage of the intervals, and their name in tables
    n_params, n_tokens : N and D of the big run
    objective : name of the objective among `targets`
    targets : name -> {target: importance}: the objective, then every other fitted target
    units : name -> unit of its losses
    identity : settings that the fitted runs share
    mixtures : name -> mixture, the recommended single one first; the phases of the answer, if any, last
    tokens : (g,) increasing D around `n_tokens`, which is one of them
    curves : one row per mixture, target and D: mixture, target, n_tokens, predicted, low, high, and the gain of the
        recommended mixture over this one: gain, gain_low, gain_high
    hashes : sha256s of laws.json and of the answer with their paths, of the law's parameters, and of the fitted table
    """

    sealed: str
    law: str
    level: float
    interval_name: str
    n_params: float
    n_tokens: float
    objective: str
    targets: dict[str, dict[str, float]]
    units: dict[str, str]
    mixtures: dict[str, Mixture]
    tokens: list[float]
    curves: pd.DataFrame
    identity: dict[str, str] = field(default_factory=dict)
    hashes: dict[str, Any] = field(default_factory=dict)
    mixlaw_version: str = __version__

    def __repr__(self) -> str:
        return f"Forecast(N = {self.n_params:.4g}, D = {self.n_tokens:.4g}; sealed {self.sealed}; {self.seal[:12]})"

    @property
    def domains(self) -> list[str]:
        """Names of the domains."""
        return list(self.mixtures[RECOMMENDED])

    @property
    def baselines(self) -> list[str]:
        """Names of the other mixtures, first the one in use today."""
        return [name for name in self.mixtures if name != RECOMMENDED]

    @property
    def unit(self) -> str:
        """Unit of the objective."""
        return self.units[self.objective]

    @property
    def time(self) -> float:
        """Time of the seal in seconds since 1970."""
        return datetime.fromisoformat(self.sealed).timestamp()

    @cached_property
    def seal(self) -> str:
        """The sha256 of the contents: post it where its date is on record."""
        return _sha256(self.to_json())

    def at(self, mixture: str, target: str, n_tokens: float) -> dict[str, float]:
        """Return predicted, low, high, gain, gain_low and gain_high at D, interpolated between the sealed values."""
        curves = self.curves
        curve = curves[(curves["mixture"] == mixture) & (curves["target"] == target)]
        x, known = np.log(n_tokens), np.log(self.tokens)
        losses = {name: float(np.exp(np.interp(x, known, np.log(curve[name].to_numpy(float))))) for name in LOSS}
        return losses | {name: float(np.interp(x, known, curve[name].to_numpy(float))) for name in GAIN}

    def to_json(self) -> dict[str, Any]:
        """Return the contents as plain data, without the seal."""
        facts = {"format": FORMAT} | {name: getattr(self, name) for name in FACTS}
        facts |= {"mixtures": [{"mixture": name} | _mixture_facts(m) for name, m in self.mixtures.items()]}
        pairs = self.curves.groupby(["mixture", "target"], sort=False)
        curves = [
            {"mixture": m, "target": t} | {name: curve[name].tolist() for name in (*LOSS, *GAIN)}
            for (m, t), curve in pairs
        ]
        return facts | {"curves": curves}

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> "Forecast":
        """Return the forecast of `to_json`."""
        curves = [pd.DataFrame({**curve, "n_tokens": facts["tokens"]}) for curve in facts["curves"]]
        order = dict.fromkeys(curve["target"] for curve in facts["curves"])  # which JSON's sorted keys lose
        return cls(
            **{name: facts[name] for name in FACTS} | {"targets": {name: facts["targets"][name] for name in order}},
            mixtures={m["mixture"]: _mixture(m) for m in facts["mixtures"]},
            curves=pd.concat(curves, ignore_index=True),
        )

    def save(self, path: str | Path) -> None:
        """Write the file; one that holds the same forecast is kept as it is.

        Raises
        ------
        ConfigError
            If the file exists and holds anything else: a sealed forecast is never overwritten.
        """
        path = Path(path)
        if path.exists():
            self._require_same(path)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, _text(self.to_json() | {"sha256": self.seal}))

    def _require_same(self, path: Path) -> None:
        try:
            old = Forecast.load(path)
        except RunLogError as error:
            raise ConfigError(f"{error}; it is not overwritten: give --out another name") from None
        if _lasting(old.to_json()) != _lasting(self.to_json()):
            raise ConfigError(
                f"{path} holds another forecast, sealed {old.sealed}, which is never overwritten: "
                "give --out another name"
            )

    @classmethod
    def load(cls, path: str | Path) -> "Forecast":
        """Read a sealed forecast.

        Raises
        ------
        RunLogError
            If the file is absent, was edited or damaged, or has another format.
        """
        try:
            raw = Path(path).read_bytes()
            facts = json.loads(raw)
            if facts["sealed"] and facts["format"] != FORMAT:
                made = f"mixlaw {facts['mixlaw_version']} wrote"
                raise RunLogError(f"{path} has format {facts['format']}, which {made}; this one reads {FORMAT}")
            seal = facts.pop("sha256")
            whole = raw.decode() == _text(facts | {"sha256": seal}) and seal == _sha256(facts)
        except OSError as error:
            raise RunLogError(f"{path} cannot be read: {error.strerror}") from None
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            if isinstance(error, RunLogError):
                raise
            raise RunLogError(f"{path} is not a file of `mixlaw forecast seal`, or it is damaged") from None
        if not whole:
            raise RunLogError(f"{path} was edited after it was sealed (its sha256 differs): restore the sealed file")
        return cls.from_json(facts)


def _mixture_facts(mixture: Mixture) -> dict[str, Any]:
    """Return a mixture as plain data: its weights, or its phases if it changes."""
    return {"phases": mixture.to_json()} if isinstance(mixture, PhasedMixture) else {"weights": dict(mixture)}


def _mixture(facts: dict[str, Any]) -> Mixture:
    """Return the mixture of `_mixture_facts`."""
    if "phases" in facts:
        return PhasedMixture.from_json(facts["phases"])
    return Mixture.of(facts["weights"], where=facts["mixture"])


def _text(facts: dict[str, Any]) -> str:
    return canonical_json(facts) + "\n"


def _sha256(facts: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(facts).encode()).hexdigest()


def _lasting(facts: dict[str, Any]) -> str:
    """Return the contents that do not depend on when, or by which version, they were sealed."""
    return canonical_json({name: value for name, value in facts.items() if name not in MADE_LATER})
