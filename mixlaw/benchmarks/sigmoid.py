"""The curve from loss to score: a falling sigmoid between a ceiling and chance, with its exact derivatives.

    score(l) = chance + (1 - chance) q / (1 + exp(s (l - m)))

The free parameters are (log m, log s, logit q): midpoint and slope are positive, and the ceiling lies between chance
and 1. Sigmoids of the loss of the right answer forecast accuracies in The Llama 3 Herd of Models (2024, section 3.2.1);
Gadre et al. 2024 (2403.08540) use the tail of one, an exponential, for the mean error over tasks.

Legend of shapes: b parameter vectors, n losses.
"""

import numpy as np
from scipy.special import expit

from mixlaw.laws.jacobian import Array

N_FREE = 3


def scores(theta: Array, loss: Array, chance: float) -> Array:
    """Return the scores (..., n) at losses (n,) or (..., n) under parameters (..., 3)."""
    midpoint, slope, ceiling = _parts(theta)
    risen: Array = chance + (1 - chance) * ceiling * expit(-slope * (loss - midpoint))
    return risen


def scores_and_jacobian(theta: Array, loss: Array, chance: float) -> tuple[Array, Array]:
    """Return the scores (n,) at losses (n,) under parameters (3,), and their derivatives (n, 3)."""
    midpoint, slope, ceiling = _parts(theta)
    risen = expit(-slope * (loss - midpoint))
    by_argument = (1 - chance) * ceiling * risen * (1 - risen)
    jacobian = [
        by_argument * slope * midpoint,
        -by_argument * slope * (loss - midpoint),
        (1 - chance) * ceiling * (1 - ceiling) * risen,
    ]
    return chance + (1 - chance) * ceiling * risen, np.stack(jacobian, axis=-1)


def natural(theta: Array, chance: float) -> dict[str, float]:
    """Return the parameters (3,) as midpoint [of the loss], slope [per unit of the loss] and ceiling [score]."""
    midpoint, slope, ceiling = (float(part[0]) for part in _parts(theta))
    return {"midpoint": midpoint, "slope": slope, "ceiling": chance + (1 - chance) * ceiling}


def _parts(theta: Array) -> tuple[Array, Array, Array]:
    """Return midpoint, slope and q, each (..., 1)."""
    return np.exp(theta[..., :1]), np.exp(theta[..., 1:2]), expit(theta[..., 2:3])
