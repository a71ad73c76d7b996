"""Training compute as scaling laws count it: 6 FLOPs per parameter and token (Kaplan et al. 2020, section 2.1).

Two of the six are the forward pass, four the backward pass. Attention is left out; `train/models/count.py` includes it,
for the utilisation of GPUs.
"""

from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]] | pd.Series[float]

FLOPS_PER_PARAM_AND_TOKEN = 6.0  # a float: C of large runs exceeds an int64 column


@overload
def flops(n_params: float, n_tokens: float) -> float: ...
@overload
def flops(n_params: "float | Array", n_tokens: "Array") -> "Array": ...
def flops(n_params: "float | Array", n_tokens: "float | Array") -> "float | Array":
    """Return the training compute C = 6 N D in FLOPs.

    Parameters
    ----------
    n_params : N, the parameters used by every token
    n_tokens : D, or tokens per second for FLOP/s

    >>> flops(1.4e9, 28e9)
    2.352e+20
    """
    return FLOPS_PER_PARAM_AND_TOKEN * n_params * n_tokens


@overload
def tokens_for(compute: float, n_params: float) -> float: ...
@overload
def tokens_for(compute: "Array", n_params: "float | Array") -> "Array": ...
@overload
def tokens_for(compute: float, n_params: "Array") -> "Array": ...
def tokens_for(compute: "float | Array", n_params: "float | Array") -> "float | Array":
    """Return D = C / (6 N), the inverse of `flops`.

    Parameters
    ----------
    compute : C, FLOPs
    n_params : N

    >>> tokens_for(2.352e20, 1.4e9)
    28000000000.0
    """
    return compute / (FLOPS_PER_PARAM_AND_TOKEN * n_params)
