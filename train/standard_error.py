"""The standard error of a mean over windows, which are correlated if they share a document."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def standard_error(residuals: Floats, documents: Ints | None = None) -> float:
    """Return the standard error of a mean over windows of independent documents.

    The variance of a sum is the sum of all pairwise covariances; those of windows without a common document are 0
    (Conley 1999, J. Econometrics 92:1; clustered standard errors if no window has several documents). The result is
    corrected for the estimated mean, as n / (n - 1) does for independent windows. It is at least that of independent
    windows, because noise can make covariances negative. If all windows share one document, only the error over its
    windows can be estimated.

    Parameters
    ----------
    residuals : (n,) contribution of each window to the deviation of the mean; their sum is 0
    documents : all pairs (window, document), as (2, m); None: windows are independent

    Returns
    -------
    The standard error; 0 for one window
    """
    n = len(residuals)
    if n < 2:
        return 0.0
    independent = float(np.square(residuals).sum()) * n / (n - 1)
    shared = _over_documents(residuals, documents) if documents is not None else 0.0
    return max(independent, shared) ** 0.5


def _over_documents(residuals: Floats, documents: Ints) -> float:
    """Return the variance from all pairs of windows that share a document; 0 if there are none, or if all do."""
    n, window = len(residuals), documents[0]
    document = np.unique(documents[1], return_inverse=True)[1].reshape(-1)
    several = np.bincount(document)[document] > 1
    window, document = window[several], document[several]
    if not len(window):
        return 0.0
    n_windows = np.bincount(document)
    sums, squares = (np.bincount(document, residuals[window] ** power) for power in (1, 2))
    total = float(np.square(residuals).sum() + (np.square(sums) - squares).sum())  # each window with itself once
    degree = 1.0 + np.bincount(window, n_windows[document] - 1, n)  # windows that share a document with each
    n_pairs = float(degree.sum())
    left = n_pairs - 2 * float(np.square(degree).sum()) / n + (n_pairs / n) ** 2  # after subtracting the mean
    return total * n_pairs / left if left > 1e-9 * n_pairs else 0.0
