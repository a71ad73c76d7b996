"""The recommended share of pretraining data in finetuning, as sentences and as a table of text."""

import numpy as np
import pandas as pd

from mixlaw.advice.injection import Injection, Tuning
from mixlaw.report.finetuned import Finetuned
from mixlaw.text import count_text, percent


def injection_sentence(found: Injection, tuning: Tuning) -> str:
    """Return which share keeps the asked part of the forgetting away, what it costs, and what the runs support."""
    run = f"at N = {count_text(tuning.n_params)} and D = {count_text(tuning.n_tokens)}"
    kept = f"{percent(found.kept)} of the forgetting away {run}"
    inside = f"{percent(found.most)}, the largest share of the runs, {_does(found, found.most, tuning)}."
    if not np.isfinite(found.share):
        return f"No share of pretraining data keeps {kept}; {inside}"
    high = percent(found.high) if np.isfinite(found.high) else "more than any share"
    told = f"Injecting {percent(found.share)} of pretraining data (90 % interval {percent(found.low)} to {high}) keeps "
    told += f"{kept}{_cost(found, found.share, tuning)}."
    return told if found.share <= found.most else f"{told} This is beyond the runs; {inside}"


def _does(found: Injection, share: float, tuning: Tuning) -> str:
    return f"keeps {found.at(share)['kept_away']:.0f} % away{_cost(found, share, tuning)}"


def _cost(found: Injection, share: float, tuning: Tuning) -> str:
    """Return what a share costs the finetuning domain; empty without a law of it."""
    row = found.at(share)
    if "cost" not in row:
        return ""
    ends = f"{row['cost_low']:+.4f} to {row['cost_high']:+.4f}"
    return f" and adds {row['cost']:.4f} ({ends}) to the loss of {tuning.domain}"


def injection_table(runs: Finetuned) -> pd.DataFrame:
    """Return what shares of pretraining data do, by the number of finetuning tokens."""
    rows = []
    for amount in runs.amounts:
        loss, tuning = amount.tuning.loss_before, amount.tuning
        for row in (amount.found.at(share) for share in amount.found.table["share"]):
            shown = {"tokens": count_text(tuning.n_tokens), "share": percent(row["share"])}
            shown["pretraining loss"] = _with_ends(*(loss + row[name] for name in ("forgotten", "low", "high")))
            shown["forgetting kept away"] = f"{row['kept_away']:.0f} %"
            if "cost" in row:
                shown[f"added to {tuning.domain}"] = _with_ends(row["cost"], row["cost_low"], row["cost_high"])
            rows.append(shown)
    return pd.DataFrame(rows)


def _with_ends(value: float, low: float, high: float) -> str:
    return f"{value:.4f} ({low:.4f} to {high:.4f})"
