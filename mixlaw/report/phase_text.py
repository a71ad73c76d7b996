"""The phases of a recommendation as text: the verdict, and tables of their mixtures, gains and switches."""

from collections.abc import Sequence

import pandas as pd

from mixlaw.advice.phase_plan import PhasePlan
from mixlaw.advice.recommendation import Recommendation, records
from mixlaw.tables.units import difference
from mixlaw.text import percent, span, text_table

PHASED = "the phases"  # what tables, charts and pages call the recommended ones
MOST_SWITCHES = 9  # whose losses are shown
COUNTS = {2: "Two", 3: "Three", 4: "Four"}


def phases_verdict(answer: Recommendation) -> list[str]:
    """Return the sentence that says whether phases pay; none if they were not asked for."""
    plan = answer.phases
    if plan is None:
        return []
    gain, count = plan.gains.iloc[0], COUNTS.get(len(plan.until), str(len(plan.until)))
    amount = difference(f"{gain['gain']:+.4f}", answer.unit)
    over = f"{amount} over the best single mixture ({gain['low']:+.4f} to {gain['high']:+.4f})"
    if plan.certain:
        ends = " and ".join(end_text(end) for end in plan.until[:-1])
        return [f"{count} phases gain {over}; the mixture changes at {ends} of the tokens."]
    return [f"{count} phases gain nothing that two runs could show: {over}. Train one mixture."]


def part_of_run(until: Sequence[float]) -> list[str]:
    """Return which part of the run each phase is.

    >>> part_of_run([0.8, 1.0])
    ['0 to 80 % of D', '80 to 100 % of D']
    """
    return [f"{100 * begin:.4g} to {end_text(end)} of D" for begin, end in zip([0.0, *until], until, strict=False)]


def end_text(end: float) -> str:
    """Return the end of a phase, a share of the run's tokens, in per cent.

    >>> end_text(0.625)
    '62.5 %'
    """
    return f"{100 * end:.4g} %"


def phases_table(answer: Recommendation) -> pd.DataFrame:
    """Return, as text, one row per domain: h*, and its weight in each phase with its interval; empty without phases."""
    plan = answer.phases
    if plan is None:
        return pd.DataFrame()
    shown = {"domain": list(answer.weights), "h* of one mixture": [percent(w) for w in answer.weights.values()]}
    for phase, part in enumerate(part_of_run(plan.until), 1):
        own = plan.table[plan.table["phase"] == phase]
        shown[part] = [percent(w) for w in own["weight"]]
        shown[f"{answer.interval_name}, phase {phase}"] = list(map(span, own["low"], own["high"]))
    return pd.DataFrame(shown)


def phase_gains_table(answer: Recommendation) -> pd.DataFrame:
    """Return, as text, the gain of the phases over the best single mixture by target; empty without phases."""
    if answer.phases is None:
        return pd.DataFrame()
    return pd.DataFrame(
        {
            "target": row["target"],
            "gain over one mixture": difference(f"{row['gain']:+.4f}", answer.units.get(row["target"], answer.unit)),
            answer.interval_name: f"{row['low']:+.4f} to {row['high']:+.4f}",
        }
        for row in records(answer.phases.gains)
    )


def switches_text(answer: Recommendation) -> str:
    """Return the predicted losses of the best switches that were tried; empty without phases."""
    if answer.phases is None:
        return ""
    columns, tried = switch_columns(answer.phases), answer.phases.switches
    shown = tried.loc[tried["predicted"].nsmallest(MOST_SWITCHES).index.sort_values()]
    texts = [f"{' + '.join(end_text(s[c]) for c in columns)}: {s['predicted']:.4f}" for s in records(shown)]
    best = "the best " if len(shown) < len(tried) else ""
    return f"predicted loss by {best}ends of the phases before the last: {', '.join(texts)}"


def switch_columns(plan: PhasePlan) -> list[str]:
    """Return the columns of a plan's table of switches that hold the ends of its phases, in order."""
    return [str(column) for column in plan.switches if str(column).startswith("switch")]


def phases_block(answer: Recommendation) -> str:
    """Return the table, the losses of other switches and the override for a terminal; empty without phases."""
    plan = answer.phases
    if plan is None:
        return ""
    lines = [text_table(phases_table(answer)), f"({switches_text(answer)})"]
    return "\n".join([*lines, *([f"train the phases with: {plan.override}"] if plan.override else [])])
