"""Robust least squares for many parameter vectors at once: batched Levenberg-Marquardt on the Huber loss, in a box.

Starts, targets and bootstrap resamples are rows of one batch, so all of them share each pass through numpy. The Huber
loss is minimised by reweighting (each pass solves a damped least-squares problem whose weights are psi(r)/r), which
never increases the objective; the threshold is lowered in stages, because far from the minimum a small one makes the
problem nearly L1.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mixlaw.laws import Array

Model = Callable[[Array], tuple[Array, Array]]  # theta (b, p) -> values (b, n), jacobian (b, n, p)
WIDER = (30.0, 5.0)  # multiples of delta
MAX_BATCH_FLOATS = 1 << 24  # a jacobian larger than this (128 MiB) is worked through in parts


@dataclass(frozen=True)
class Solution:
    """Where the solver ended, one row per member of the batch.

    Attributes
    ----------
    theta : (b, p)
    objective : (b,) weighted mean Huber loss
    """

    theta: Array
    objective: Array


def huber(residual: Array, delta: float) -> Array:
    """Return r^2/2 inside delta, delta (|r| - delta/2) outside, elementwise."""
    size = np.abs(residual)
    return np.where(size <= delta, 0.5 * size**2, delta * (size - 0.5 * delta))


def objective(values: Array, y: Array, weight: Array, delta: float) -> Array:
    """Return (b,) weighted mean Huber loss of values (b, n) against y (b, n)."""
    total: Array = (weight * huber(np.nan_to_num(values - y, nan=1e6, posinf=1e6), delta)).sum(-1)
    return total


def minimise(
    model: Model,
    y: Array,
    weight: Array,
    theta: Array,
    bounds: tuple[Array, Array],
    delta: float,
    iterations: int,
    wider: tuple[float, ...] = WIDER,
) -> Solution:
    """Minimise the weighted mean Huber loss from every start; no member ends above its start.

    Parameters
    ----------
    model : theta (b, p) -> predictions (b, n) and their jacobian (b, n, p)
    y : (b, n) observations; where weight is 0 they may be anything finite
    weight : (b, n) of each observation; rows sum to 1
    theta : (b, p) starts, inside the box
    bounds : low and high, each (p,)
    delta : Huber threshold [nats]
    iterations : at most this many passes at the final threshold, half as many at each wider one
    wider : multiples of delta that are minimised first
    """
    size = max(1, MAX_BATCH_FLOATS // (y.shape[1] * theta.shape[1]))
    parts = []
    for i in range(0, len(theta), size):
        part, seen, w = theta[i : i + size], y[i : i + size], weight[i : i + size]
        for multiple in wider:
            part = _descend(model, seen, w, part, bounds, multiple * delta, iterations // 2)[0]
        before, after = (objective(model(t)[0], seen, w, delta) for t in (theta[i : i + size], part))
        part = np.where((before < after)[:, None], theta[i : i + size], part)  # a start may be better than the stages
        parts.append(_descend(model, seen, w, part, bounds, delta, iterations))
    return Solution(np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]))


def _descend(
    model: Model,
    y: Array,
    weight: Array,
    theta: Array,
    bounds: tuple[Array, Array],
    delta: float,
    iterations: int,
) -> tuple[Array, Array]:
    """Run damped, reweighted Gauss-Newton steps; members that have converged leave the batch."""
    theta = theta.copy()
    values, jacobian = model(theta)
    best = objective(values, y, weight, delta)
    damping, calm = np.full(len(theta), 1e-2), np.zeros(len(theta), int)
    active = np.arange(len(theta))
    for _ in range(iterations):
        step = _step(values - y[active], jacobian, weight[active], theta[active], bounds, delta, damping[active])
        trial = np.clip(theta[active] + step, *bounds)
        new_values, new_jacobian = model(trial)
        new = objective(new_values, y[active], weight[active], delta)
        better = new < best[active]
        gain = np.where(better, (best[active] - new) / np.maximum(best[active], 1e-300), 0.0)
        theta[active[better]], best[active[better]] = trial[better], new[better]
        values = np.where(better[:, None], new_values, values)
        jacobian = np.where(better[:, None, None], new_jacobian, jacobian)
        damping[active] = np.clip(np.where(better, damping[active] / 3, damping[active] * 5), 1e-10, 1e10)
        calm[active] = np.where(gain > 1e-6, 0, calm[active] + 1)
        going = (calm[active] < 8) & (best[active] > 1e-18)
        if not going.all():
            active, values, jacobian = active[going], values[going], jacobian[going]
        if len(active) == 0:
            break
    return theta, best


def _step(
    residual: Array,
    jacobian: Array,
    weight: Array,
    theta: Array,
    bounds: tuple[Array, Array],
    delta: float,
    damping: Array,
) -> Array:
    """Return (b, p) damped Gauss-Newton steps of the reweighted problem; at a bound that would be crossed, none."""
    psi = weight * np.minimum(1.0, delta / np.maximum(np.abs(residual), 1e-300))
    weighted = psi[..., None] * jacobian
    gradient = np.einsum("bnp,bn->bp", weighted, residual)
    held = ((theta <= bounds[0]) & (gradient > 0)) | ((theta >= bounds[1]) & (gradient < 0))
    free = (~held).astype(float)
    hessian = np.matmul(weighted.transpose(0, 2, 1), jacobian) * free[:, :, None] * free[:, None, :]
    diagonal = np.einsum("bpp->bp", hessian).copy()
    largest = np.maximum(diagonal.max(-1, keepdims=True), 1e-300)
    np.einsum("bpp->bp", hessian)[...] += (
        damping[:, None] * np.maximum(diagonal, 1e-9 * largest) + 1e-14 * largest + held * largest
    )
    step = np.linalg.solve(hessian, -(gradient * free)[..., None])[..., 0]
    return np.clip(step, -4.0, 4.0)
