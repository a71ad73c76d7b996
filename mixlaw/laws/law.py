"""What a law is: a formula as a tree of terms, its parameters, bounds, predictions and exact derivatives."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixlaw.laws.grid import GridJacobian
from mixlaw.laws.jacobian import Array, Jacobian
from mixlaw.laws.terms import PHASES, Box, Inputs
from mixlaw.laws.tree import Nested, jacobian_on_grid, value_of

# A weight of 0 counts as this much. With exact zeros a fit could place a jump between 0 and the smallest other weight
# (h^gamma with a tiny gamma), which moves the optimum; and every domain contains a little of the others.
FLOOR = 1e-4


def lifted(h: Array) -> tuple[Array, Array]:
    """Return the lifted weights that laws see, (h^4 + FLOOR^4)^(1/4), and their derivative by h.

    The lifted weight is FLOOR at 0 and h to within 0.04 % from 5 FLOOR on.
    """
    square = h * h
    seen = np.sqrt(np.sqrt(square * square + FLOOR**4))
    slope = h / seen
    return seen, slope * slope * slope


@dataclass(frozen=True)
class Units:
    """The units of N and D: laws see N / n_params and D / n_tokens."""

    n_params: float
    n_tokens: float

    def inputs(self, n_params: Array, n_tokens: Array, h: Array, **more: Any) -> Inputs:
        """Return a law's inputs from raw parameters (n,), tokens (n,) and mixtures (..., k, n), which are lifted."""
        unit = float(np.log(self.n_tokens))
        log_n, log_d = np.log(n_params / self.n_params), np.log(n_tokens / self.n_tokens)
        return Inputs.of(log_n, log_d, lifted(h)[0], log_d_unit=unit, **more)

    @classmethod
    def of(cls, n_params: Array, n_tokens: Array) -> "Units":
        """Return the geometric means of the data, to one digit; priors of token counts are relative to this unit."""
        return cls(*(float(f"{10.0 ** np.mean(np.log10(x)):.0e}") for x in (n_params, n_tokens)))


@dataclass(frozen=True)
class Law:
    """One law and its description.

    Attributes
    ----------
    name, formula, source : its name, its formula as text, and its reference
    term : root of its tree of terms
    joint_targets : whether the losses of all training domains share one parameter vector
    pools_only : whether it uses the mixture only to count repeated tokens, so that one domain is enough
    contains : name of a special case of this law, whose fit is among the starts of this one
    remark : when it is convex in h, its limits, and what could not be verified
    """

    name: str
    formula: str
    source: str
    term: Nested
    joint_targets: bool = False
    pools_only: bool = False
    contains: str | None = None
    remark: str = ""

    @property
    def uses(self) -> frozenset[str]:
        """Its inputs: of N, D, h, share, and the columns available, before, sparsity."""
        return self.term.uses

    @property
    def mixes(self) -> bool:
        """Whether the loss depends on the mixture."""
        return bool(self.uses & {"h", "share"})

    @property
    def reads_domains(self) -> bool:
        """Whether it reads anything per domain: weights or available tokens."""
        return self.mixes or "available" in self.uses

    def n_free(self, k: int) -> int:
        """Return the number of parameters for k domains."""
        return self.term.size(k)

    def n_open(self, k: int) -> int:
        """Return the number of parameters that only runs determine: the sd of their prior is at least 1."""
        return int((self.term.prior(k)[1] >= 1.0).sum())

    def bounds(self, k: int) -> Box:
        """Return the box (low, high), each (p,), that the free parameters stay in."""
        return self.term.bounds(k)

    def natural(self, theta: Array, domains: Sequence[str]) -> dict[str, float]:
        """Return the parameters in the source's notation by name, N and D in the fit's units."""
        return self.term.natural(theta, domains)

    def convex(self, theta: Array, k: int) -> bool:
        """Return whether the loss is known to be convex at these parameters (p,), in the lifted weights.

        If so, a local minimum whose weights exceed a few `FLOOR` is the global one. False also if convexity is unknown.
        """
        return self.term.convex(theta, k)

    def loss(self, theta: Array, x: Inputs) -> Array:
        """Return (b, n) losses for parameters (b, p)."""
        if x.grid is None or not self.term.separable:
            return self._full(self.term.value(theta, x.without_grid())[0], x)
        return x.grid.rows(value_of(self.term, theta, x)[0])

    def loss_and_factored_jacobian(self, theta: Array, x: Inputs) -> tuple[Array, Jacobian | GridJacobian]:
        """Return losses (b, n) and their derivatives by the parameters in factored form."""
        if x.grid is not None and self.term.separable:
            value, cache = value_of(self.term, theta, x)
            on_grid = GridJacobian((*theta.shape, len(x.log_n)), x.grid)
            jacobian_on_grid(self.term, cache, np.ones((len(theta), 1, 1)), x, on_grid, slice(0, theta.shape[1]))
            return x.grid.rows(value), on_grid
        value, cache = self.term.value(theta, x.without_grid())
        value = self._full(value, x)
        jacobian = Jacobian((*theta.shape, value.shape[1]), x.groups)
        self.term.write_jacobian(cache, np.ones_like(value), jacobian, 0)
        return value, jacobian

    def loss_and_jacobian(self, theta: Array, x: Inputs) -> tuple[Array, Array]:
        """Return losses (b, n) and their derivatives by the parameters (b, p, n)."""
        value, jacobian = self.loss_and_factored_jacobian(theta, x)
        return value, jacobian.full()

    def loss_and_gradient_h(self, theta: Array, x: Inputs) -> tuple[Array, Array]:
        """Return losses (b, n) and their derivatives by each lifted weight (b, k, n), the sum being free."""
        value, cache = self.term.value(theta, x)
        value = self._full(value, x)
        by_h = np.zeros((len(theta), x.h.shape[-2], value.shape[1]))
        self.term.vjp(cache, np.ones_like(value), None, by_h)
        return value, by_h

    def loss_and_gradient_phases(self, theta: Array, x: Inputs) -> tuple[Array, Array]:
        """Return losses (b, n) of runs with phases, and their derivatives by each lifted weight (b, P, k, n)."""
        value, cache = self.term.value(theta, x)
        value = self._full(value, x)
        by_phases = np.zeros((len(theta), *x.column(PHASES).shape[-3:]))
        self.term.vjp(cache, np.ones_like(value), None, by_phases)
        return value, by_phases

    @staticmethod
    def _full(value: Array, x: Inputs) -> Array:
        return np.broadcast_to(value, (len(value), x.h.shape[-1]))
