"""Three domains with samples of different lengths, their mixture, and what reading it must give."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mixlaw import Mixture

MIXTURE = Mixture.of({"code": 0.5, "docs": 0.3, "wiki-2": 0.2})
LENGTHS = {"code": 40, "docs": 16, "wiki-2": 4}  # tokens of every sample; by samples, wiki-2 is the largest domain
SAMPLES = 4000
SIGMAS = 4


def words(domain: str) -> str:
    """Return a sample: the domain's name as often as it has tokens."""
    return " ".join([domain] * LENGTHS[domain])


def paths(folder: Path) -> dict[str, str]:
    """Return where the domains lie."""
    return {d: str(folder / d) for d in MIXTURE}


def token_shares(samples: Iterable[str]) -> dict[str, float]:
    """Return the shares of tokens in what was read."""
    tokens = Counter(word for text in samples for word in text.split())
    return {d: tokens[d] / tokens.total() for d in MIXTURE}


def bounds(n_samples: int = SAMPLES) -> dict[str, float]:
    """Return the largest error of every share of tokens, when samples are drawn at random: 4 standard deviations.

    The share is a ratio of means: its variance is E[(x (1_d - w_d))^2] / (n E[x]^2) for samples of x tokens.
    """
    lengths = np.array(list(LENGTHS.values()), float)
    drawn = MIXTURE.array / lengths / (MIXTURE.array / lengths).sum()
    mean = drawn @ lengths
    errors = {}
    for i, (d, weight) in enumerate(MIXTURE.items()):
        deviation = lengths * (np.arange(len(lengths)) == i) - lengths * weight
        errors[d] = SIGMAS * float(np.sqrt(drawn @ deviation**2 / n_samples) / mean)
    return errors


def check(samples: Iterable[str], n_samples: int = SAMPLES) -> None:
    """Assert that token shares are the mixture's, closer than if samples had been drawn by their share of tokens."""
    realised, allowed = token_shares(samples), bounds(n_samples)
    by_samples = Mixture.proportional({d: w * LENGTHS[d] for d, w in MIXTURE.items()})
    assert max(allowed.values()) < by_samples.distance(MIXTURE) / 4
    for d, weight in MIXTURE.items():
        assert abs(realised[d] - weight) < allowed[d], (d, realised, allowed)
