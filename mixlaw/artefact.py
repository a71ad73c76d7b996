"""The artefact `laws.json`: laws fitted to one table, which of them is trusted most, and why."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import mixlaw
from mixlaw.errors import FitError
from mixlaw.fit import LawFit
from mixlaw.laws import get_law
from mixlaw.runlog import write_atomically
from mixlaw.splits import KINDS, default_kind, held_out
from mixlaw.tables import Table

FORMAT = 1


@dataclass
class FittedLaws:
    """The artefact `laws.json`: several laws fitted to the same table, and which of them is trusted most.

    Attributes
    ----------
    fits : law name -> fit
    chosen, reason : the law to use, and the sentence why
    ranges : n_params, n_tokens -> (low, high) of the data
    sizes : domain -> tokens available, where known
    scores : rows of law, target, mre, ... on held-out runs, where there were any
    """

    fits: dict[str, LawFit]
    chosen: str
    reason: str
    ranges: dict[str, tuple[float, float]]
    sizes: dict[str, float]
    scores: list[dict[str, Any]]

    @property
    def best(self) -> LawFit:
        """The law that is trusted most."""
        return self.fits[self.chosen]

    def save(self, path: Path) -> None:
        """Write the artefact."""
        facts = {
            "format": FORMAT, "mixlaw_version": mixlaw.__version__, "chosen": self.chosen, "reason": self.reason,
            "ranges": self.ranges, "sizes": self.sizes, "scores": self.scores,
            "laws": {name: fit.to_json() for name, fit in self.fits.items()},
        }  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(facts | {"sha256": _sha256(facts)}, allow_nan=True))

    @classmethod
    def load(cls, path: str | Path) -> "FittedLaws":
        """Read the artefact.

        Raises
        ------
        FitError
            If the file is absent, damaged, or of another format.
        """
        try:
            facts = json.loads(Path(path).read_bytes())
            if facts["format"] != FORMAT:
                raise FitError(f"{path} has format {facts['format']}; this mixlaw reads {FORMAT}: fit again")
            if facts.pop("sha256") != _sha256(facts):
                raise FitError(f"{path} is not what `mixlaw fit` wrote (its sha256 differs): copy it or fit again")
            fits = {name: LawFit.from_json(f) for name, f in facts["laws"].items()}
            ranges = {k: (float(v[0]), float(v[1])) for k, v in facts["ranges"].items()}
            return cls(fits, facts["chosen"], facts["reason"], ranges, facts["sizes"], facts["scores"])
        except FileNotFoundError:
            raise FitError(f"{path} does not exist: make it with `mixlaw fit TABLE --out {path}`") from None
        except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            if isinstance(error, FitError):
                raise
            raise FitError(
                f"{path} is not a file of laws ({type(error).__name__}: {str(error)[:100]}): fit again"
            ) from None


def _sha256(facts: dict[str, Any]) -> str:
    """Return the seal of an artefact: the hash of everything else in it."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def choose_law(table: Table, names: list[str], targets: list[str], **settings: Any) -> tuple[str, str]:
    """Choose between laws from the training table alone; return the name and the sentence why.

    The largest model size is held out where there are three or more, a fifth of the mixtures otherwise; the law with
    the lowest mean MRE there is chosen. Laws that cannot recommend a mixture only compete among themselves.
    """
    rivals = [name for name in names if get_law(name).mixture] or names
    if len(rivals) == 1:
        return rivals[0], "the only fitted law" + (" that depends on the mixture" if len(names) > 1 else "")
    kind = default_kind(table)
    means: dict[str, float] = {}
    for name in rivals:
        try:
            held = held_out(table, kind)
            fit = LawFit(name, n_bootstrap=2, **settings).fit(table.rows(np.logical_not(held)), targets)
            means[name] = float(fit.score(table.rows(held))["mre"].mean())
        except FitError:
            continue
    if not means:
        k = len(table.domains)
        return min(rivals, key=lambda name: get_law(name).n_free(k)), "fewest parameters; too few runs to hold any out"
    best = min(means, key=means.__getitem__)
    shown = ", ".join(f"{name} {value:.2f} %" for name, value in means.items())
    return best, f"lowest mean MRE on {KINDS[kind]}: {shown}"
