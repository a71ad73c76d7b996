"""`Blend`: a mixture with rounded weights, the paths of its domains, their shares of samples, and their epochs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from mixlaw.errors import ConfigError, unknown_name
from mixlaw.mixture import Mixture, round_to_sum

SHARE_DIGITS = 9  # of shares of samples: a rare domain of long documents keeps its share of the tokens
LEAST_SHARE = 100 / 10**SHARE_DIGITS  # rounding changes it by at most 0.5 %
MORE_EPOCHS = 1.01  # by the solver's tolerance, a domain may exceed the limit on its epochs by this factor


@dataclass(frozen=True)
class Domain:
    """One domain of a blend.

    Attributes
    ----------
    name, path : the domain, and where the trainer reads it
    weight : its share of the tokens
    share : its share of the samples that the trainer draws
    epochs : passes over its tokens; None if its number of tokens is unknown
    """

    name: str
    path: str
    weight: float
    share: float
    epochs: float | None


@dataclass(frozen=True)
class Blend:
    """A mixture as a trainer reads it; weights and shares sum to one as decimal numbers.

    Attributes
    ----------
    domains : those with a weight above 0
    notes : one sentence each: what was left out or assumed
    """

    domains: tuple[Domain, ...]
    notes: tuple[str, ...] = ()


def blend(
    mixture: Mixture,
    digits: int,
    *,
    paths: Mapping[str, str] | None = None,
    mean_tokens: Mapping[str, float] | None = None,
    n_tokens: float | None = None,
    available: Mapping[str, float] | None = None,
    max_epochs: float | None = None,
) -> Blend:
    """Return a mixture as a blend.

    Parameters
    ----------
    digits : of the rounded weights
    paths : domain -> path; by default the name of the domain
    mean_tokens : domain -> mean tokens per sample; by default all samples are equally long
    n_tokens : D, tokens of the run
    available : domain -> number of tokens available
    max_epochs : limit on the epochs of every domain

    Raises
    ------
    ConfigError
        If a domain is unknown, a length is missing, a path is unusable or used twice, a share is too small to be
        sampled, or a domain would be repeated more than `max_epochs` times.
    """
    weights = {name: unit / 10**digits for name, unit in mixture.rounded(10**digits).items() if unit}
    sizes = _checked("--available", available or {}, mixture)
    shares = _shares(weights, _checked("--mean-tokens", mean_tokens, mixture)) if mean_tokens else weights
    places = _places(weights, paths or {}, mixture)
    _limit_epochs(_epochs(mixture, n_tokens, sizes), max_epochs)
    epochs = _epochs(weights, n_tokens, sizes)
    domains = tuple(Domain(d, places[d], w, shares[d], epochs.get(d)) for d, w in weights.items())
    return Blend(domains, _left_out(mixture, weights, digits))


def _checked(option: str, values: Mapping[str, float], known: Iterable[str]) -> dict[str, float]:
    """Return numbers of domains, checked to be of known domains, finite and above 0."""
    names = list(known)
    for name, value in values.items():
        if name not in names:
            raise ConfigError(f"{option}: {unknown_name('domain', name, names)}")
        if not 0 < value < np.inf:
            raise ConfigError(f"{option} {name}={value:g}: tokens must be a finite number above 0")
    return dict(values)


def _shares(weights: Mapping[str, float], mean_tokens: Mapping[str, float]) -> dict[str, float]:
    """Return shares of samples: shares of tokens over tokens per sample, scaled to one and rounded."""
    missing = [d for d in weights if d not in mean_tokens]
    if missing:
        raise ConfigError(f"--mean-tokens lacks {', '.join(missing)}: it needs the mean length of every domain")
    samples = np.array([weight / mean_tokens[d] for d, weight in weights.items()])
    units = round_to_sum(samples, 10**SHARE_DIGITS)
    shares = {d: unit / 10**SHARE_DIGITS for d, unit in zip(weights, units, strict=True)}
    rare = min(shares, key=lambda d: shares[d])
    if shares[rare] < LEAST_SHARE:
        raise ConfigError(
            f"'{rare}' would be less than {LEAST_SHARE:g} of the samples, too few to draw: "
            "cut its documents into shorter ones, or pack all domains into samples of equal length"
        )
    return shares


def _places(weights: Iterable[str], paths: Mapping[str, str], known: Iterable[str]) -> dict[str, str]:
    """Return the path of every domain."""
    names = list(known)
    for name in paths:
        if name not in names:
            raise ConfigError(f"--paths: {unknown_name('domain', name, names)}")
    places = {d: paths.get(d, d) for d in weights}
    users: dict[str, str] = {}
    for d, path in places.items():
        if not path.strip() or not path.isprintable():
            raise ConfigError(f"path {path!r} of '{d}' is empty or holds control characters: --paths {d}=PATH")
        if path in users:
            raise ConfigError(f"'{users[path]}' and '{d}' have the same path {path}: give each its own, --paths D=PATH")
        users[path] = d
    return places


def _epochs(weights: Mapping[str, float], n_tokens: float | None, available: Mapping[str, float]) -> dict[str, float]:
    """Return passes over the tokens of every domain with known tokens."""
    if n_tokens is None:
        return {}
    if not 0 < n_tokens < np.inf:
        raise ConfigError(f"n_tokens must be a finite number above 0, not {n_tokens!r}")
    return {d: weight * n_tokens / available[d] for d, weight in weights.items() if d in available}


def _limit_epochs(epochs: Mapping[str, float], max_epochs: float | None) -> None:
    most = max(epochs, key=lambda d: epochs[d], default="")
    if max_epochs and most and epochs[most] > MORE_EPOCHS * max_epochs:
        raise ConfigError(
            f"'{most}' would be read {epochs[most]:.3g} times, above --max-epochs {max_epochs:g} of the answer: "
            "recommend again with the same --available"
        )


def _left_out(mixture: Mixture, weights: Mapping[str, float], digits: int) -> tuple[str, ...]:
    gone = [f"{d} ({weight:.1g})" for d, weight in mixture.items() if d not in weights]
    return (f"left out, as their weights round to 0 at {digits} digits: {', '.join(gone)}",) if gone else ()
