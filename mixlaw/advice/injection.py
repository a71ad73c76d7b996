"""Which share of pretraining data keeps a finetuned model from forgetting, and what it costs the finetuning domain.

A finetuning run reads the finetuning domain with the weight 1 - p, and the pretraining domains with p times their
weights in pretraining. A law of forgetting predicts how far the pretraining loss rises over its value before
(Bethune et al. 2025, arXiv 2502.06042); a law of the finetuning domain's own loss predicts what the share p costs it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixlaw.errors import ConfigError, FitError, unknown_name
from mixlaw.fitting.bootstrap import interval
from mixlaw.fitting.fitted import LEVEL, FittedLaw
from mixlaw.laws.jacobian import Array
from mixlaw.laws.terms import Inputs
from mixlaw.mixture import Mixture

SHARES = np.concatenate([[0.0], np.geomspace(1e-4, 1.0, 401)])  # at which the law is evaluated
SHOWN = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Tuning:
    """A finetuning run.

    Attributes
    ----------
    n_params, n_tokens : N, and D with the injected tokens
    domain : what it is finetuned on
    pretraining : weights of the pretraining domains in pretraining, without `domain`
    """

    n_params: float
    n_tokens: float
    domain: str
    pretraining: Mapping[str, float]

    def mixtures(self, shares: Array, domains: list[str]) -> Array:
        """Return the mixtures (k, n) with the shares p (n,) of pretraining data.

        Raises
        ------
        ConfigError
            If a domain is unknown, weights do not sum to one, or the finetuning domain is a pretraining domain.
        """
        if self.domain not in domains:
            raise ConfigError(f"--finetuning: {unknown_name('domain', self.domain, domains)}")
        before = Mixture.of(self.pretraining, domains, "--pretraining")
        if before[self.domain]:
            raise ConfigError(f"--pretraining: '{self.domain}' is the finetuning domain, so it was not pretrained on")
        own = np.array([float(domain == self.domain) for domain in domains])
        injected = np.array([before[domain] for domain in domains])
        return np.outer(own, 1 - shares) + np.outer(injected, shares)


@dataclass(frozen=True)
class Injection:
    """The share of pretraining data that keeps most of the forgetting away.

    Attributes
    ----------
    kept : which part of the forgetting it keeps away
    share, low, high : the share, with its interval; infinite where no share does
    table : share, forgotten (rise of the pretraining loss, mean over its domains by weight) with its interval, kept
        away [%]; and with a law of the finetuning domain, its cost: the rise of that loss over the one at share 0
    """

    kept: float
    share: float
    low: float
    high: float
    table: pd.DataFrame

    def cost(self) -> tuple[float, float, float] | None:
        """Return the cost of the share to the finetuning domain, with its interval; None without a law of it."""
        if "cost" not in self.table or not np.isfinite(self.share):
            return None
        row = self.table[self.table["share"] == self.share].iloc[0]
        return float(row["cost"]), float(row["cost_low"]), float(row["cost_high"])


def injection(
    fit: FittedLaw, tuning: Tuning, kept: float = 0.9, own: FittedLaw | None = None, level: float = LEVEL
) -> Injection:
    """Return the share of pretraining data that keeps a part of the forgetting away, and its cost.

    Parameters
    ----------
    fit : a law of forgetting, fitted to pretraining domains
    kept : the part of the forgetting that the share must keep away, in (0, 1)
    own : a law of the finetuning domain's loss that depends on the mixture
    level : of the intervals

    Raises
    ------
    ConfigError
        If domains are unknown, or none of the fitted targets is a pretraining domain.
    FitError
        If `fit` is no law of forgetting, or `own` does not depend on the mixture.
    """
    centre, drawn = _forgotten(fit, tuning, SHARES)
    share = float(_reached(centre[None], 1 - kept)[0])
    tail = (1 - level) / 2
    low, high = np.quantile(_reached(drawn, 1 - kept), [tail, 1 - tail], method="nearest")  # may be infinite
    shown = np.array(sorted({*SHOWN, *([share] if np.isfinite(share) else [])}))
    table = _table(*_forgotten(fit, tuning, shown), shown, level)
    if own is not None:
        table |= _costs(own, tuning, shown, level)
    return Injection(kept, share, float(low), float(high), pd.DataFrame(table))


def _forgotten(fit: FittedLaw, tuning: Tuning, shares: Array) -> tuple[Array, Array]:
    """Return the rise of the pretraining loss (n,), and (b, n) under the resampled parameters."""
    if "before" not in fit.law.uses:
        raise FitError(f"the {fit.name} law does not say what is forgotten: fit the pretraining domains by forgetting")
    weights = {target: w for target, w in tuning.pretraining.items() if target in fit.targets and w > 0}
    if not weights:
        raise ConfigError(f"--pretraining: the law is fitted to {', '.join(fit.targets)}, and none has a weight there")
    centre, drawn = np.zeros(len(shares)), np.zeros((1, len(shares)))
    for target, weight in weights.items():
        x = _inputs(fit, tuning, shares, target)
        centre = centre + weight * fit.law.loss(fit.target(target).theta[None], x)[0]
        drawn = drawn + weight * fit.draws(target, x)
    total = sum(weights.values())
    return centre / total, drawn / total


def _inputs(fit: FittedLaw, tuning: Tuning, shares: Array, target: str) -> Inputs:
    """Return the inputs of a law for the shares; the loss before is 0, so that a law of forgetting returns the rise."""
    n = len(shares)
    return fit.units.inputs(
        np.full(n, float(tuning.n_params)),
        np.full(n, float(tuning.n_tokens)),
        tuning.mixtures(shares, fit.domains),
        target=np.full(n, fit.domains.index(target)),
        columns={"before": np.zeros(n)},
    )


def _reached(forgotten: Array, left: float) -> Array:
    """Return (b,) the least share at which at most the part `left` of the forgetting (b, n) remains, or infinity."""
    ratio = forgotten / forgotten[:, :1]
    below = ratio <= left
    last = np.maximum(below.argmax(1), 2)  # between it and the share before it
    rows = np.arange(len(ratio))
    one, other = ratio[rows, last - 1], ratio[rows, last]
    part = np.clip((one - left) / np.maximum(one - other, 1e-300), 0, 1)
    found = SHARES[last - 1] * (SHARES[last] / SHARES[last - 1]) ** part
    return np.where(below.any(1), found, np.inf)


def _table(centre: Array, drawn: Array, shares: Array, level: float) -> dict[str, Array]:
    low, high = interval(drawn, level)
    ends = {"low": np.minimum(low, centre), "high": np.maximum(high, centre)}
    return {"share": shares, "forgotten": centre, **ends, "kept_away": 100 * (1 - centre / centre[0])}


def _costs(own: FittedLaw, tuning: Tuning, shares: Array, level: float) -> dict[str, Array]:
    """Return by how much the shares raise the loss of the finetuning domain, with intervals."""
    if not own.law.mixes:
        raise FitError(f"the {own.name} law does not depend on the mixture, so injection costs nothing: fit d-cpt")
    x = _inputs(own, tuning, shares, tuning.domain)
    centre, drawn = own.law.loss(own.target(tuning.domain).theta[None], x)[0], own.draws(tuning.domain, x)
    centre, (low, high) = centre - centre[0], interval(drawn - drawn[:, :1], level)
    return {"cost": centre, "cost_low": np.minimum(low, centre), "cost_high": np.maximum(high, centre)}
