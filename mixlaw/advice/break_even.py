"""Whether a study pays: its compute against the compute that its mixture saves the big run.

If a baseline needs f times the compute to reach the loss of the recommended mixture, a run on the recommended mixture
reaches the baseline's loss with about 1 / f of it, and saves the share 1 - 1 / f of the big run.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mixlaw.advice.constraints import Question
from mixlaw.advice.gains import OBJECTIVE
from mixlaw.counts import flops

BREAK_EVEN = ["mixture", "study", "saved", "saved_low", "saved_high", "net"]


def break_even(equivalents: pd.DataFrame, question: Question, study_flops: float) -> pd.DataFrame:
    """Return the balance against every baseline, in shares of the big run's compute.

    The saving is that of tokens at the N of the big run; along the compute-optimal path if the question is about FLOPs.

    Parameters
    ----------
    equivalents : of `mixlaw.advice.equivalents.equivalents`
    study_flops : compute of the fitted runs [FLOPs]; 0 if unknown

    Returns
    -------
    DataFrame of mixture, study (its compute), saved, saved_low, saved_high, and net (saved minus study); empty if the
    compute of the study is unknown or the law does not depend on D
    """
    if not study_flops:
        return pd.DataFrame(columns=BREAK_EVEN)
    study = study_flops / flops(question.n_params, question.n_tokens)
    by = "flops" if question.flops else "tokens"
    asked = equivalents[(equivalents["target"] == OBJECTIVE) & (equivalents["by"] == by)]
    return pd.DataFrame([_balance(row, study) for row in asked.to_dict("records")], columns=BREAK_EVEN)


def _balance(row: Mapping[Any, Any], study: float) -> dict[str, Any]:
    saved, low, high = (1 - 1 / float(row[name]) for name in ("factor", "low", "high"))
    ends = {"saved": saved, "saved_low": low, "saved_high": high}
    return {"mixture": row["mixture"], "study": study} | ends | {"net": saved - study}
