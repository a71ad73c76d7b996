"""Which share of pretraining data keeps a finetuned model from forgetting, and what it costs the finetuning domain.

A finetuning run reads the finetuning domain with the weight 1 - p, and the pretraining domains with p times their
weights in pretraining. A law of forgetting predicts how far the pretraining loss rises over its value before
(Bethune et al. 2025, arXiv 2502.06042); a law of the finetuning domain's own loss predicts what the share p costs it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixlaw.errors import ConfigError, FitError, unknown_name
from mixlaw.fitting.bootstrap import interval
from mixlaw.fitting.fitted import LEVEL, FittedLaw
from mixlaw.laws.jacobian import Array
from mixlaw.laws.terms import TINY, Inputs
from mixlaw.mixture import Mixture

SHARES = np.concatenate([[0.0], np.geomspace(1e-4, 1.0, 401)])  # at which the law is evaluated
SHOWN, NEAR = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2), 0.05  # shares of the table, without those so near to `most`


@dataclass(frozen=True)
class Tuning:
    """A finetuning run.

    Attributes
    ----------
    n_params, n_tokens : N, and D with the injected tokens
    domain : what it is finetuned on
    pretraining : weights of the pretraining domains in pretraining, without `domain`
    before : losses of the pretraining domains before finetuning [nats], as the tables of the law have them
    """

    n_params: float
    n_tokens: float
    domain: str
    pretraining: Mapping[str, float]
    before: Mapping[str, float]

    @property
    def loss_before(self) -> float:
        """Mean loss of the pretraining domains before finetuning, by their weights; of those whose loss is known."""
        weights = [self.pretraining.get(name, 0.0) for name in self.before]
        return float(np.average(list(self.before.values()), weights=weights))

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
    most : largest share of pretraining data in the runs
    table : what some shares do, these two among them, see `effects`
    """

    kept: float
    share: float
    low: float
    high: float
    most: float
    table: pd.DataFrame

    def at(self, share: float) -> dict[str, float]:
        """Return the row of the table for a share that it holds."""
        row = self.table[self.table["share"] == share].iloc[0]
        return {str(name): float(value) for name, value in row.items()}


def largest_share(mixtures: Array, domains: list[str], domain: str) -> float:
    """Return the largest share of other domains than the finetuning domain in mixtures (m, k) of runs."""
    return float(1 - mixtures[:, domains.index(domain)].min()) if domain in domains else 0.0


def injection(
    fit: FittedLaw,
    tuning: Tuning,
    most: float,
    kept: float = 0.9,
    own: FittedLaw | None = None,
    level: float = LEVEL,
) -> Injection:
    """Return the share of pretraining data that keeps a part of the forgetting away, and its cost.

    Parameters
    ----------
    fit : a law of forgetting, fitted to pretraining domains
    most : largest share of pretraining data in the runs
    kept : the part of the forgetting that the share must keep away, in (0, 1)
    own : a law of the finetuning domain's loss that depends on the mixture
    level : of the intervals

    Raises
    ------
    ConfigError
        If domains are unknown, none of the fitted targets is a pretraining domain, losses before finetuning are missing
        or of other domains, or `own` is not fitted to the finetuning domain.
    FitError
        If `fit` is no law of forgetting, or `own` does not depend on the mixture.
    """
    centre, drawn = _forgotten(fit, tuning, SHARES)
    share = float(_reached(centre[None], 1 - kept)[0])
    tail = (1 - level) / 2
    low, high = np.quantile(_reached(drawn, 1 - kept), [tail, 1 - tail], method="nearest")  # may be infinite
    usual = {p for p in SHOWN if abs(p - most) > NEAR * most}
    shown = np.array(sorted({*usual, most, *([share] if np.isfinite(share) else [])}))
    return Injection(kept, share, float(low), float(high), most, effects(fit, tuning, shown, own, level))


def effects(
    fit: FittedLaw, tuning: Tuning, shares: Array, own: FittedLaw | None = None, level: float = LEVEL
) -> pd.DataFrame:
    """Return what shares of pretraining data do, the first of them 0; arguments and errors are those of `injection`.

    Returns
    -------
    DataFrame of share, forgotten (the rise of the pretraining loss, mean over its domains by weight) with its interval
    low and high, and kept_away [%]; with a law of the finetuning domain also its cost: the rise of that loss over the
    one at share 0, with cost_low and cost_high.
    """
    centre, drawn = _forgotten(fit, tuning, shares)
    low, high = interval(drawn, level)
    ends = {"low": np.minimum(low, centre), "high": np.maximum(high, centre)}
    columns = {"share": shares, "forgotten": centre, **ends, "kept_away": 100 * (1 - centre / centre[0])}
    return pd.DataFrame(columns if own is None else columns | _costs(own, tuning, shares, level))


def _forgotten(fit: FittedLaw, tuning: Tuning, shares: Array) -> tuple[Array, Array]:
    """Return the rise of the pretraining loss (n,), and (b, n) under the resampled parameters."""
    if "before" not in fit.law.uses:
        raise FitError(f"the {fit.name} law does not say what is forgotten: fit the pretraining domains by forgetting")
    weights = {target: w for target, w in tuning.pretraining.items() if target in fit.targets and w > 0}
    if not weights:
        raise ConfigError(f"--pretraining: the law is fitted to {', '.join(fit.targets)}, and none has a weight there")
    _check_before(tuning, weights)
    centre, drawn = np.zeros(len(shares)), np.zeros((1, len(shares)))
    for target, weight in weights.items():
        before = tuning.before[target]
        x = _inputs(fit, tuning, shares, target, before=np.full(len(shares), before))
        centre = centre + weight * (fit.law.loss(fit.target(target).theta[None], x)[0] - before)
        drawn = drawn + weight * (fit.draws(target, x) - before)
    total = sum(weights.values())
    return centre / total, drawn / total


def _check_before(tuning: Tuning, wanted: Collection[str]) -> None:
    """Check that the losses before finetuning are of pretraining domains, and that those wanted are there."""
    for name, loss in tuning.before.items():
        if name not in tuning.pretraining:
            raise ConfigError(f"--before: {unknown_name('pretraining domain', name, tuning.pretraining)}")
        if not loss > 0:
            raise ConfigError(f"--before {name}={loss:g}: a loss is above 0")
    if missing := [name for name in wanted if name not in tuning.before]:
        raise ConfigError(
            f"--before lacks the loss before finetuning of {', '.join(missing)}: add {missing[0]}=LOSS"
            + ",..." * (len(missing) > 1)
        )


def _inputs(fit: FittedLaw, tuning: Tuning, shares: Array, target: str, **columns: Array) -> Inputs:
    """Return the inputs of a law for the shares."""
    n = len(shares)
    return fit.units.inputs(
        np.full(n, float(tuning.n_params)),
        np.full(n, float(tuning.n_tokens)),
        tuning.mixtures(shares, fit.domains),
        target=np.full(n, fit.domains.index(target)),
        columns=columns,
    )


def _reached(forgotten: Array, left: float) -> Array:
    """Return (b,) the least share at which at most the part `left` of the forgetting (b, n) remains, or infinity."""
    ratio = forgotten / np.maximum(forgotten[:, :1], TINY)
    below = ratio <= left
    last = np.maximum(below.argmax(1), 2)  # between it and the share before it
    rows = np.arange(len(ratio))
    one, other = ratio[rows, last - 1], ratio[rows, last]
    part = np.clip((one - left) / np.maximum(one - other, TINY), 0, 1)
    found = SHARES[last - 1] * (SHARES[last] / SHARES[last - 1]) ** part
    return np.where(below.any(1), found, np.inf)


def _costs(own: FittedLaw, tuning: Tuning, shares: Array, level: float) -> dict[str, Array]:
    """Return by how much the shares raise the loss of the finetuning domain, with intervals."""
    if not own.law.mixes:
        raise FitError(f"the {own.name} law does not depend on the mixture, so injection costs nothing: fit d-cpt")
    if tuning.domain not in own.targets:
        raise ConfigError(f"--own: its laws are of {', '.join(own.targets)}: fit one with --target {tuning.domain}")
    x = _inputs(own, tuning, shares, tuning.domain)
    centre, drawn = own.law.loss(own.target(tuning.domain).theta[None], x)[0], own.draws(tuning.domain, x)
    centre, (low, high) = centre - centre[0], interval(drawn - drawn[:, :1], level)
    return {"cost": centre, "cost_low": np.minimum(low, centre), "cost_high": np.maximum(high, centre)}
