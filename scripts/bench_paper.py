"""The paper's fitting procedure: the baseline of `scripts.bench_fitter`.

The procedure of "Scaling Laws for Optimal Data Mixtures" (arXiv 2507.09404, section 2.3), implemented
with scipy: random search, then basin-hopping over L-BFGS-B on the Huber objective of the joint law, target by target,

    L = E + 1/sum_i C_i h_i^gamma_i + (sum_i CA_i h_i)^gammaA / N^alpha + (sum_i CB_i h_i)^gammaB / D^beta

It intentionally shares no code with mixlaw's fitter, only the constant FLOOR. Bounds, lifted weights and objective are
those of the fitter; the benchmark checks that.

Theta (p = 4k + 5): log E | log C_i (k), log gamma_i (k) | log A, gammaA, log CA_i / CA_k (k-1) | log alpha | the same
of B | log beta. Legend of shapes: n rows of the table, m distinct mixtures among them, k domains.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import basinhopping

from mixlaw.laws.law import FLOOR  # a weight of 0 counts as this much

Array = NDArray[np.float64]

N_UNIT, D_UNIT = 1e8, 1e10
DELTA = 1e-3  # [nats]
STARTS, HOPS = 1000, 10
# (low, high) of the parameters: log of a loss, log alpha, log gamma_i, gammaA, log of a ratio of C
AMPLITUDE, EXPONENT, SHAPE = (-16.0, 8.0), (np.log(0.01), 0.0), (np.log(0.02), np.log(8.0))
POWER, RATIO = (-6.0, 6.0), (-12.0, 12.0)


@dataclass(frozen=True)
class Runs:
    """The rows that a law is fitted to, in any order.

    Attributes
    ----------
    n_params, n_tokens : (n,)
    h : (n, k) mixtures; rows sum to one
    """

    n_params: Array
    n_tokens: Array
    h: Array


@dataclass(frozen=True)
class Settings:
    """Settings that the paper does not state; the defaults worked best over all targets and three seeds.

    Attributes
    ----------
    history : number of correction pairs of L-BFGS-B
    step : maximum displacement of a parameter in a hop
    temperature : of basin-hopping, on the scaled objective
    ftol, gtol, maxiter : stopping criteria of L-BFGS-B, on the scaled objective
    scale : factor of the objective, which is then near 10: below 1, L-BFGS-B's ftol is absolute
    """

    history: int
    step: float
    ftol: float
    gtol: float
    maxiter: int = 5000  # scipy discards a hop that reaches this
    temperature: float = 0.01
    scale: float = 1 / DELTA**2


# Quick is the better trade-off; thorough lowers the objective by 2 % on average in twice the time.
QUICK = Settings(history=30, step=0.5, ftol=1e-9, gtol=1e-6)
THOROUGH = Settings(history=50, step=1.0, ftol=1e-12, gtol=1e-9)


def box(k: int) -> tuple[Array, Array]:
    """Return low and high of the 4k + 5 parameters."""
    power = [AMPLITUDE, POWER, *[RATIO] * (k - 1), EXPONENT]
    inverse = [(-AMPLITUDE[1], -AMPLITUDE[0])] * k + [SHAPE] * k
    low, high = np.array([AMPLITUDE, *inverse, *power, *power]).T
    return low, high


def random_points(rng: np.random.Generator, count: int, k: int, y: Array) -> Array:
    """Return (count, p) points of the random search: a loss of about the data's, made of parts of about its spread."""
    log_spread = np.log(max(float(y.std()), 1e-6))
    columns = [np.log(y.min() * rng.uniform(0.2, 1.0, (count, 1)))]
    columns += [-log_spread + rng.normal(0.5, 1.0, (count, k)), np.log(rng.uniform(0.1, 1.5, (count, k)))]
    for _ in "AB":
        columns += [log_spread + rng.normal(-0.5, 1.0, (count, 1)), rng.normal(0.0, 1.0, (count, k))]
        columns += [np.log(rng.uniform(0.1, 0.9, (count, 1)))]
    return np.clip(np.concatenate(columns, axis=1), *box(k))


class Objective:
    """Mean Huber loss of the joint law and its gradient, for one parameter vector.

    The gradient is a hand-written backward pass: O(n k), without an n x p Jacobian. The two powers of sums, A and B,
    are the two rows of one array, because at this size a call to numpy costs more than its arithmetic.

    Parameters
    ----------
    once : compute terms of the mixture alone once per distinct mixture, O(n + m k); else row by row (m = n)
    """

    def __init__(self, x: Runs, y: Array, scale: float = 1.0, once: bool = True) -> None:
        self.once = once
        mixtures, place = np.unique(x.h, axis=0, return_inverse=True) if once else (x.h, np.arange(len(y)))
        order = np.argsort(place, kind="stable")  # rows of one mixture lie together, for reduceat
        self.place = place[order]
        self.starts = np.searchsorted(self.place, np.arange(len(mixtures)))
        self.h = (mixtures**4 + FLOOR**4) ** 0.25
        self.log_h = np.log(self.h)
        self.h_ratios, self.h_last = np.ascontiguousarray(self.h[:, :-1]), self.h[:, -1].copy()
        self.log_x = np.stack([np.log(x.n_params / N_UNIT)[order], np.log(x.n_tokens / D_UNIT)[order]])
        self.y, self.k, self.factor = y[order], x.h.shape[1], scale / len(y)
        self.evaluations = 0

    def __call__(self, theta: Array) -> tuple[float, Array]:
        """Return the objective times scale, and its gradient (p,)."""
        self.evaluations += 1
        e, log_c, inverse, powers = self.parts(theta)
        e = np.exp(e)
        gamma = np.exp(inverse)
        terms = np.exp(log_c + gamma * self.log_h)
        m_h = 1.0 / terms.sum(1)
        decays, saved = self._decays(powers)
        residual = decays[0] + decays[1]
        residual += self._spread(m_h + e)
        residual -= self.y
        psi = np.minimum(np.maximum(residual, -DELTA), DELTA)
        residual -= 0.5 * psi
        value = self.factor * float(psi @ residual)  # r^2/2 inside, delta (|r| - delta/2) outside
        psi *= self.factor
        gradient = np.empty_like(theta)
        by_e, by_log_c, by_inverse, by_powers = self.parts(gradient)
        by_m = self._sums(psi)
        by_e[:] = by_m.sum() * e
        by_m = by_m * (-m_h * m_h)
        by_log_c[:] = by_m @ terms
        by_inverse[:] = (by_m @ (terms * self.log_h)) * gamma
        self._decays_back(psi, decays, saved, by_powers)
        return value, gradient

    def parts(self, theta: Array) -> tuple[Array, Array, Array, Array]:
        """Return views of log E (1,), log C_i (k,), log gamma_i (k,) and the parameters of A and B (2, k + 2)."""
        k = self.k
        return theta[:1], theta[1 : k + 1], theta[k + 1 : 2 * k + 1], theta[2 * k + 1 :].reshape(2, k + 2)

    def _spread(self, values: Array) -> Array:
        """Return (..., n) from values of the mixtures (..., m)."""
        spread: Array = values.take(self.place, axis=-1) if self.once else values
        return spread

    def _sums(self, values: Array) -> Array:
        """Return (..., m) sums over each mixture's rows of values (..., n); row by row, the values themselves."""
        sums: Array = np.add.reduceat(values, self.starts, axis=-1) if self.once else values
        return sums

    def _decays(self, powers: Array) -> tuple[Array, tuple[Array, ...]]:
        """Return A(h) / N^alpha and B(h) / D^beta (2, n), and the cache of their gradient."""
        power, ratios, alpha = powers[:, 1:2], np.exp(powers[:, 2:-1]), np.exp(powers[:, -1:])
        total = ratios @ self.h_ratios.T
        total += self.h_last
        log_total = np.log(total)
        rows = self._spread(powers[:, :1] + power * log_total)
        rows -= alpha * self.log_x
        return np.exp(rows, out=rows), (power, ratios, total, log_total, alpha)

    def _decays_back(self, psi: Array, decays: Array, saved: tuple[Array, ...], gradient: Array) -> None:
        """Write the gradient (2, k + 2) by log A, gamma, ratios and log alpha, and the same of B."""
        power, ratios, total, log_total, alpha = saved
        decays *= psi
        by_log = self._sums(decays)
        gradient[:, 0] = by_log.sum(1)
        gradient[:, 1] = np.einsum("am,am->a", by_log, log_total)
        gradient[:, -1] = -alpha[:, 0] * np.einsum("an,an->a", decays, self.log_x)
        by_log *= power / total
        gradient[:, 2:-1] = (by_log @ self.h_ratios) * ratios


def paper_procedure(
    x: Runs, y: Array, seed: int, settings: Settings = QUICK, once: bool = True
) -> tuple[Array, float, int]:
    """Fit the joint law as the paper does: random search, then 10 hops of basin-hopping with L-BFGS-B, in a box.

    Parameters
    ----------
    x : rows
    y : (n,) losses [nats per token]
    seed : of the random search and of the hops
    settings : see `Settings`
    once : see `Objective`

    Returns
    -------
    theta (p,), mean Huber loss, evaluations of objective and gradient
    """
    rng = np.random.default_rng(seed)
    objective = Objective(x, y, settings.scale, once)
    low, high = box(objective.k)
    points = random_points(rng, STARTS, objective.k, y)
    start = points[np.argmin([objective(point)[0] for point in points])]
    options: dict[str, float] = {"maxiter": settings.maxiter, "maxfun": 10**6, "maxcor": settings.history}
    options |= {"ftol": settings.ftol, "gtol": settings.gtol}
    bounds = list(zip(low, high, strict=True))
    found = basinhopping(
        objective,
        start,
        niter=HOPS,
        T=settings.temperature,
        stepsize=settings.step,
        minimizer_kwargs={"method": "L-BFGS-B", "jac": True, "bounds": bounds, "options": options},
        rng=rng,
    )
    theta = np.clip(found.x, low, high)
    return theta, objective(theta)[0] / settings.scale, objective.evaluations
