"""The phases of a recommendation as text: the verdict, and a table of both mixtures."""

import pandas as pd

from mixlaw.advice.phase_plan import PhasePlan
from mixlaw.advice.recommendation import Recommendation
from mixlaw.tables.units import difference
from mixlaw.text import text_table


def verdict(answer: Recommendation) -> list[str]:
    """Return the sentence that says whether two phases pay; none if they were not asked for."""
    plan = answer.phases
    if plan is None:
        return []
    gain = plan.gains.iloc[0]
    amount = difference(f"{gain['gain']:+.4f}", answer.unit)
    over = f"{amount} over the best single mixture ({gain['low']:+.4f} to {gain['high']:+.4f})"
    if plan.certain:
        return [f"two phases gain {over}; the second begins at {100 * plan.until[0]:g} % of the tokens"]
    return [f"two phases gain nothing that two runs could show: {over}; train one mixture"]


def phases_block(answer: Recommendation) -> str:
    """Return the mixtures of both phases with their intervals, and the override; empty if there are none."""
    plan = answer.phases
    if plan is None:
        return ""
    shown = {"domain": list(answer.weights), "h*": list(answer.weights.values())}
    rows = plan.table
    for phase, where in enumerate(_spans(plan), 1):
        own = rows[rows["phase"] == phase]
        shown[where] = own["weight"].tolist()
        low_high = zip(own["low"], own["high"], strict=True)
        shown[f"{answer.interval_name} ({phase})"] = [f"{low:.3f} to {high:.3f}" for low, high in low_high]
    tried = ", ".join(f"{100 * s['switch']:g} %: {s['predicted']:.4f}" for s in plan.switches.to_dict("records"))
    lines = [
        text_table(pd.DataFrame(shown), decimals=3),
        f"(predicted loss by the share where the second begins: {tried})",
    ]
    return "\n".join([*lines, *([f"train the phases with: {plan.override}"] if plan.override else [])])


def _spans(plan: PhasePlan) -> list[str]:
    begins = [0.0, *plan.until[:-1]]
    return [f"{100 * a:g} to {100 * b:g} % of D" for a, b in zip(begins, plan.until, strict=True)]
