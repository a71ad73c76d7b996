"""How a recommended mixture repeats data, as sentences and as a table of text."""

from typing import Any

import pandas as pd

from mixlaw.advice.recommendation import Recommendation, records
from mixlaw.advice.repeats import Repeats
from mixlaw.tables.units import difference
from mixlaw.text import count_text, percent


def repeats_sentences(answer: Recommendation, found: Repeats) -> list[str]:
    """Return what repetition costs: per domain that h* repeats, and against unlimited tokens of all domains."""
    known = found.scarcity
    if known is None:
        return [f"The {answer.law} law does not know repetition: fit multiplicative-repeats to runs that repeat data."]
    if known.fresh.empty:
        return ["The recommended mixture repeats no domain."]
    gain = difference(f"{known.gain:.4f}", answer.unit)
    endless = f"With unlimited tokens of all domains, the best mixture would have a loss lower by {gain}."
    return [*(_of_domain(row, answer.unit) for row in records(known.fresh)), endless]


def _of_domain(row: dict[str, Any], unit: str) -> str:
    gain = difference(f"{row['gain']:.4f}", unit)
    return (
        f"{row['domain']}: {percent(row['share'])} of the tokens, {row['epochs']:.1f} epochs. Fresh tokens in place of "
        f"repeated ones would lower the loss by {gain} ({row['low']:.4f} to {row['high']:.4f})."
    )


def epochs_table(answer: Recommendation, found: Repeats) -> pd.DataFrame:
    """Return, as text, the tokens of repeated domains, h* with these and with unlimited ones, and epochs by mixture."""
    rows = []
    for row in records(found.epochs):
        domain = row["domain"]
        shown = {"domain": domain, "tokens": count_text(row["available"]), "h*": percent(answer.weights[domain])}
        if found.scarcity:
            shown["h* with unlimited tokens"] = percent(found.scarcity.unlimited[domain])
        mixtures = [name for name in row if name not in ("domain", "available")]
        rows.append(shown | {f"epochs, {name}": f"{row[name]:.1f}" for name in mixtures})
    return pd.DataFrame(rows)
