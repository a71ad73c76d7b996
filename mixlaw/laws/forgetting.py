"""Laws of forgetting: the loss of pretraining domains after finetuning with a share p of injected pretraining data.

All read the loss before finetuning, L_before, so that they predict its rise. p is the weight of the target itself:
several pretraining domains with constant proportions put these into B. D is n_tokens of a table, the tokens that a run
has read, injected ones included.
"""

from typing import Any

import numpy as np

from mixlaw.laws.jacobian import Array
from mixlaw.laws.terms import Inputs


def forgetting(p: Any, x: Inputs) -> Array:
    """Bethune's L_before + A D^beta / ((1 + B p) N)^alpha, where p is the share of pretraining data.

    The source's D is the number of unique finetuning tokens, of which a run reads a multiple. Both are the same law for
    ends of runs that read their unique tokens equally often (`--ends-only`), up to the unit of D in A and a factor of
    1 - p.
    """
    grown = p.A * np.exp(p.beta * x.log_d - p.alpha * x.log_n)
    value: Array = x.column("before") + grown * (1 + p.B * x.share()) ** -p.alpha
    return value


def injected(p: Any, x: Inputs) -> Array:
    """L_before + A D^beta / ((1 + B D p)^gamma N^alpha), a form of our own: what counts are the D p injected tokens.

    Bethune's form has one exponent for the share and for N, and the same share works at every D. In `study=forgetting`
    forgetting hardly falls with N and steeply with the share, and a given share keeps more away the longer the run is.
    """
    grown = p.A * np.exp(p.beta * x.log_d - p.alpha * x.log_n)
    value: Array = x.column("before") + grown * (1 + p.B * np.exp(x.log_d) * x.share()) ** -p.gamma
    return value


def saturating(p: Any, x: Inputs) -> Array:
    """L_before + (E - kappa L_before) / (1 + (D1/D)^beta (1 + B D p)^gamma), a form of our own.

    A model has no more to lose than it knows. One that has forgotten everything that finetuning can erase has the loss
    E + (1 - kappa) L_before, so better models lose more; N counts through L_before only. The odds of what is forgotten
    to what is kept grow with the tokens read, and fall with the D p injected ones. No rise is below 0.
    """
    most = p.E - p.kappa * x.column("before")
    kept = np.exp(p.beta * (np.log(p.D1) - x.log_d)) * (1 + p.B * np.exp(x.log_d) * x.share()) ** p.gamma
    value: Array = x.column("before") + np.where(most.real > 0, most, 0.0) / (1 + kept)
    return value
