"""`Benchmarks`: the curves from loss to score that were fitted to one table; saved as `benchmarks.json`."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from mixlaw.benchmarks.curve import ScoreCurve
from mixlaw.errors import ConfigError, RunLogError, unknown_name
from mixlaw.fileio import strict_json, write_atomically
from mixlaw.fitting.fitted import FittedLaw
from mixlaw.version import __version__

FORMAT = 1


@dataclass(frozen=True, repr=False)
class Benchmarks(Mapping[str, ScoreCurve]):
    """Curves from loss to score, by the name of the benchmark.

    Attributes
    ----------
    curves : name of the benchmark -> its curve
    notes : what was converted in reading the scores; not saved
    """

    curves: dict[str, ScoreCurve]
    notes: list[str] = field(default_factory=list)

    def __getitem__(self, name: str) -> ScoreCurve:
        return self.curves[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.curves)

    def __len__(self) -> int:
        return len(self.curves)

    def __repr__(self) -> str:
        return f"Benchmarks({', '.join(self.curves)})"

    def require_law(self, fit: FittedLaw) -> None:
        """Raise if a law cannot predict the losses of these curves.

        Raises
        ------
        ConfigError
            Naming a benchmark whose target was not fitted, or has another unit.
        """
        for curve in self.curves.values():
            if curve.target not in fit.targets:
                known = unknown_name("target", curve.target, fit.targets)
                raise ConfigError(f"the benchmark {curve.name} needs a law of its loss: {known}")
            if (unit := fit.target(curve.target).unit) != curve.unit:
                raise ConfigError(
                    f"the benchmark {curve.name} was fitted to losses of {curve.target} in {curve.unit}, its law to "
                    f"{unit}: fit both to the same table"
                )

    def summary(self) -> pd.DataFrame:
        """Return the quality of every curve.

        Returns
        -------
        DataFrame of benchmark, target, runs, chance, midpoint, slope and ceiling of the curve, widened (factor of the
        intervals), scatter (sd of a run's score halfway), held_out, error and inside (see `ScoreCurve.held`, of the
        largest size), and reason
        """
        return pd.DataFrame([_summary(curve) for curve in self.curves.values()])

    def to_json(self) -> dict[str, Any]:
        """Return the curves as plain data."""
        facts = {"format": FORMAT, "mixlaw_version": __version__}
        return facts | {"curves": [curve.to_json() for curve in self.curves.values()]}

    def save(self, path: str | Path) -> None:
        """Write `benchmarks.json`."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, strict_json(self.to_json()))

    @classmethod
    def load(cls, path: str | Path) -> "Benchmarks":
        """Read `benchmarks.json`.

        Raises
        ------
        RunLogError
            If the file is absent, of another format, or no file of `mixlaw benchmarks`.
        """
        renew = f"make it with `mixlaw benchmarks TABLE --out {path}`"
        try:
            facts = json.loads(Path(path).read_bytes())
            if facts["format"] != FORMAT:
                raise RunLogError(f"{path} has format {facts['format']}; this mixlaw reads {FORMAT}: {renew}")
            if not facts["curves"]:
                raise RunLogError(f"{path} holds no benchmark: {renew}")
            return cls({each["name"]: ScoreCurve.from_json(each) for each in facts["curves"]})
        except OSError as error:
            raise RunLogError(f"{path} cannot be read ({error.strerror}): {renew}") from None
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            if isinstance(error, RunLogError):
                raise
            raise RunLogError(f"{path} is not a file of `mixlaw benchmarks`: {renew}") from None


def _summary(curve: ScoreCurve) -> dict[str, Any]:
    half = (curve.chance + curve.params["ceiling"]) / 2
    row = {
        "benchmark": curve.name,
        "target": curve.target,
        "runs": curve.points.n_runs,
        "chance": curve.chance,
        **curve.params,
    }
    row |= {"widened": curve.widening, "scatter": curve.fit.scatter.total * (half * (1 - half)) ** 0.5}
    last = curve.held.iloc[-1] if len(curve.held) else {"held_out": "", "error": float("nan"), "inside": float("nan")}
    return row | {name: last[name] for name in ("held_out", "error", "inside")} | {"reason": curve.reason}
