"""Synthetic domains of known entropy: texts of a Markov chain over letters.

The entropy rate is the least loss that a model can reach, which makes trainers, mixtures and laws testable.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from data.config import MarkovConfig, SourceConfig
from mixlaw.errors import ConfigError

LETTERS = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", np.uint8)
Floats = NDArray[np.float64]


def check_markov(config: MarkovConfig, where: str) -> None:
    """Check the settings of a chain.

    Raises
    ------
    ConfigError
        Naming the setting.
    """
    if not 2 <= config.n_symbols <= len(LETTERS):
        raise ConfigError(f"{where}.markov.n_symbols is {config.n_symbols}; it must be 2 to {len(LETTERS)}")
    if not config.concentration > 0 or config.n_documents < 1 or config.n_chars < 2:
        raise ConfigError(f"{where}.markov: concentration, n_documents and n_chars must be above 0 (n_chars above 1)")


def transitions(config: MarkovConfig) -> Floats:
    """Return the transition probabilities (n, n); rows are drawn from a symmetric Dirichlet distribution."""
    rng = np.random.default_rng([config.seed, 0])
    rows = rng.dirichlet(np.full(config.n_symbols, config.concentration), config.n_symbols)
    return 0.999 * rows + 0.001 / config.n_symbols  # no zeros, so that the stationary distribution is unique


def stationary(rows: Floats) -> Floats:
    """Return the stationary distribution (n,) of a transition matrix."""
    n = len(rows)
    balance = np.vstack([rows.T - np.eye(n), np.ones(n)])
    return np.linalg.lstsq(balance, np.append(np.zeros(n), 1.0), rcond=None)[0]


def entropy_rate(config: MarkovConfig) -> float:
    """Return the entropy rate of the chain [nats/letter], the least loss that a model can reach."""
    rows = transitions(config)
    return float(-np.sum(stationary(rows)[:, None] * rows * np.log(rows)))


def synthetic(source: SourceConfig) -> Iterator[str]:
    """Yield the documents of a chain; each starts from the stationary distribution."""
    config = source.markov
    rows = transitions(config)
    steps, first = np.cumsum(rows, axis=1), np.cumsum(stationary(rows))
    rng = np.random.default_rng([config.seed, 1])
    batch = 1024
    for start in range(0, config.n_documents, batch):
        n = min(batch, config.n_documents - start)
        luck = rng.random((config.n_chars, n))
        states = np.empty((config.n_chars, n), np.int64)
        states[0] = np.minimum(np.searchsorted(first, luck[0]), config.n_symbols - 1)
        for i in range(1, config.n_chars):
            states[i] = np.minimum((steps[states[i - 1]] < luck[i][:, None]).sum(1), config.n_symbols - 1)
        for document in LETTERS[states].T:
            yield document.tobytes().decode("ascii")
