"""Signal and noise of targets: how well the runs tell mixtures apart by each target's loss, and importances from it.

The signal is the standard deviation of a target's predicted loss over the trained mixtures, all at the N and D of the
largest runs. The noise is the standard deviation of single runs: between seeds where runs were repeated, else around
the law. With `--target snr`, importances are proportional to signal / noise.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mixlaw.advice.constraints import Question, read_targets
from mixlaw.advice.objective import Objective, run_noise
from mixlaw.errors import ConfigError
from mixlaw.fitting.estimator import LawFit
from mixlaw.fitting.fitted import FittedLaw
from mixlaw.fitting.saved import FittedLaws
from mixlaw.laws.terms import TINY
from mixlaw.tables.columns import LOSS_SE
from mixlaw.tables.factor_levels import levels
from mixlaw.tables.table import Table

SNR = "snr"
LEAST = 1e-9  # sum of signal / noise; below it the signal is rounding
SIGNALS = ["target", "importance", "signal", "noise", "snr"]


def distinguished(table: Table, law: str, targets: Sequence[str] = (), **settings: Any) -> pd.DataFrame:
    """Return how well the runs of a table tell mixtures apart by each target, the best first.

    Parameters
    ----------
    law : name of the law that is fitted to all runs
    targets : all by default
    settings : of `LawFit`

    Returns
    -------
    DataFrame of target, signal and noise [the target's unit], and snr as in `signals`; noise_of: what the noise is
    measured by, "seeds" or "the law"; evaluation: mean standard error over questions or sequences at the largest N, NaN
    where the table has none. Runs share most of it, since they are evaluated on the same ones

    Raises
    ------
    FitError
        If the law cannot be fitted, or does not depend on the mixture.
    """
    fit = LawFit(law, **settings).fit(table, targets=targets).fitted_
    laws = FittedLaws.of({law: fit}, table, law, "", pd.DataFrame())
    found = signals(laws, fit, laws.sizes, {}).drop(columns="importance")
    found["noise_of"] = ["seeds" if target in laws.noise else "the law" for target in found["target"]]
    size = levels(table.frame["n_params"])
    largest = table.frame[size == size.max()]
    errors = [largest[c].mean() if (c := LOSS_SE + t) in largest else float("nan") for t in found["target"]]
    return found.assign(evaluation=errors).sort_values("snr", ascending=False, ignore_index=True)


def importances(
    wanted: str | Mapping[str, float], laws: FittedLaws, fit: FittedLaw, sizes: Mapping[str, float]
) -> dict[str, float]:
    """Return importance by target, summing to one, from `read_targets`' forms or "snr".

    Raises
    ------
    ConfigError
        If a target was not fitted, or "snr" is asked for and no target depends on the mixture.
    """
    if wanted != SNR or SNR in fit.targets:
        return read_targets(wanted, fit)
    found = signals(laws, fit, sizes, {})
    total = float(found["snr"].sum())
    if total < LEAST:
        raise ConfigError("--target snr: the trained mixtures have the same predicted losses, name the targets instead")
    return dict(zip(found["target"], (found["snr"] / total).tolist(), strict=True))


def signals(
    laws: FittedLaws, fit: FittedLaw, sizes: Mapping[str, float], importance: Mapping[str, float]
) -> pd.DataFrame:
    """Return the signal and the noise of every target.

    Parameters
    ----------
    sizes : domain -> available tokens, for the laws that need them
    importance : target -> importance in the question

    Returns
    -------
    DataFrame of target, importance, signal and noise [the target's unit], and snr = signal / noise
    """
    rows = []
    for target in fit.targets:
        question = Question(laws.ranges["n_params"][1], laws.ranges["n_tokens"][1], {target: 1.0})
        objective = Objective(fit, question, sizes, "best")
        signal, noise = float(objective.loss(laws.mixtures).std()), run_noise(objective, laws.noise)
        rows.append((target, importance.get(target, 0.0), signal, noise, signal / max(noise, TINY)))
    return pd.DataFrame(rows, columns=SIGNALS)
