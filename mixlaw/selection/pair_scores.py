"""Differences between held-out runs of equal N and D: how many lie inside the predicted intervals of gains."""

from dataclasses import replace

import numpy as np
import pandas as pd

from mixlaw.fitting.differences import SAME_MIXTURE, Pairs
from mixlaw.fitting.fitted import LEVEL, FittedLaw
from mixlaw.tables.columns import LOSS
from mixlaw.tables.table import Table

PAIR_SCORES = ["target", "n", "inside", "width", "error"]


def pair_scores(fit: FittedLaw, held: Table, level: float = LEVEL) -> pd.DataFrame:
    """Score predicted against measured differences between runs on different mixtures.

    Parameters
    ----------
    held : rows that the law was not fitted to
    level : of the intervals, in (0, 1)

    Returns
    -------
    DataFrame of target, n (number of pairs), inside [%], width (mean of the intervals) and error (mean absolute) [the
    target's unit]; without targets that have no pair
    """
    held = held.named_as(fit.domains, list(fit.targets))
    rows = []
    for target in fit.targets:
        if LOSS + target not in held.frame:
            continue
        known = held.rows(held.frame[LOSS + target].notna().to_numpy(bool))
        known = replace(known, frame=known.frame.reset_index(drop=True))
        pairs = Pairs.of(known.frame, fit.compared(known))
        pairs = pairs.where(pairs.distance > SAME_MIXTURE)
        if not len(pairs.first):
            continue
        x, loss = fit.inputs(known, target), known.frame[LOSS + target].to_numpy(float)
        gain, low, high = fit.difference(target, x.rows(pairs.first), x.rows(pairs.second), level)
        measured = -pairs.differences(loss)
        inside = 100 * float(((low <= measured) & (measured <= high)).mean())
        off = float(np.abs(measured - gain).mean())
        rows.append((target, len(measured), inside, float((high - low).mean()), off))
    return pd.DataFrame(rows, columns=PAIR_SCORES)
