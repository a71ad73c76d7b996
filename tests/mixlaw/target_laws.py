"""Parameters of laws of several targets that want different mixtures of code, docs and web."""

import numpy as np

from mixlaw.laws.jacobian import Array

DECAYS = np.log([0.30, 0.30, 0.25, 0.30])  # A, alpha, B, beta


def additive(c: Array, gamma: Array, lowest: float = 1.6) -> Array:
    """Return parameters of the additive law from C_i and gamma_i (k,) and its constant [nats]."""
    return np.concatenate([[np.log(lowest)], np.log(c), np.log(gamma), DECAYS])


def opposed() -> dict[str, Array]:
    """Return two targets: one needs code, the other needs web."""
    gamma = np.full(3, 0.6)
    return {"one": additive(np.array([4.0, 0.5, 0.5]), gamma), "two": additive(np.array([0.5, 0.5, 4.0]), gamma)}


def random_targets(seed: int, count: int, k: int = 3) -> dict[str, Array]:
    """Return `count` targets of the additive law, which is convex in h."""
    rng = np.random.default_rng(seed)
    return {
        f"t{i}": additive(np.exp(rng.normal(0, 1, k)), rng.uniform(0.3, 0.8, k), rng.uniform(0.5, 2))
        for i in range(count)
    }
