"""The phases of a recommendation as text: the verdict, and a table of both mixtures."""

import pandas as pd

from mixlaw.advice.recommendation import Recommendation
from mixlaw.tables.units import difference
from mixlaw.text import percent, span, text_table


def phases_verdict(answer: Recommendation) -> list[str]:
    """Return the sentence that says whether two phases pay; none if they were not asked for."""
    plan = answer.phases
    if plan is None:
        return []
    gain = plan.gains.iloc[0]
    amount = difference(f"{gain['gain']:+.4f}", answer.unit)
    over = f"{amount} over the best single mixture ({gain['low']:+.4f} to {gain['high']:+.4f})"
    if plan.certain:
        return [f"Two phases gain {over}; the second begins at {100 * plan.until[0]:g} % of the tokens."]
    return [f"Two phases gain nothing that two runs could show: {over}. Train one mixture."]


def phases_table(answer: Recommendation) -> pd.DataFrame:
    """Return, as text, one row per domain: h*, and its weight in each phase with its interval; empty without phases."""
    plan = answer.phases
    if plan is None:
        return pd.DataFrame()
    shown = {"domain": list(answer.weights), "h* of one mixture": [percent(w) for w in answer.weights.values()]}
    for phase, (begin, end) in enumerate(zip([0.0, *plan.until], plan.until, strict=False), 1):
        own = plan.table[plan.table["phase"] == phase]
        shown[f"{100 * begin:g} to {100 * end:g} % of D"] = [percent(w) for w in own["weight"]]
        shown[f"{answer.interval_name}, phase {phase}"] = list(map(span, own["low"], own["high"]))
    return pd.DataFrame(shown)


def phases_block(answer: Recommendation) -> str:
    """Return the table, the losses of other switches and the override for a terminal; empty without phases."""
    plan = answer.phases
    if plan is None:
        return ""
    tried = ", ".join(f"{100 * s['switch']:g} %: {s['predicted']:.4f}" for s in plan.switches.to_dict("records"))
    lines = [text_table(phases_table(answer)), f"(predicted loss by where the second phase begins: {tried})"]
    return "\n".join([*lines, *([f"train the phases with: {plan.override}"] if plan.override else [])])
