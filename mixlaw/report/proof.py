"""The proof of a recommendation: measured losses of runs on the recommended and other mixtures, and predictions."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from mixlaw.advice.constraints import RECOMMENDED
from mixlaw.advice.recommendation import Recommendation, records
from mixlaw.errors import RunLogError
from mixlaw.laws.jacobian import Array
from mixlaw.report.phase_text import PHASED
from mixlaw.tables.columns import LOSS
from mixlaw.tables.matching import last_rows, on_mixture, on_phases
from mixlaw.tables.phase_mixtures import phases_of
from mixlaw.tables.table import Table
from mixlaw.tables.units import NATS, difference


def prove(answer: Recommendation, proof: Table) -> list[dict[str, Any]]:
    """Match the runs of the proof with the mixtures of the recommendation; return one row per trained mixture.

    A run matches a mixture if every realised weight is within 0.005 of it and the run has the asked number of tokens.
    Runs that change their mixture are matched with the recommended phases only.
    With several seeds, `measured` is the mean loss and `seeds` lists the losses.
    """
    frame = proof.frame[proof.frame["n_tokens"] >= 0.99 * answer.question.n_tokens]
    wanted = [f"loss_{t}" for t in answer.question.targets] + [f"weight_{d}" for d in answer.weights]
    missing = [column for column in wanted if column not in frame]
    if missing:
        raise RunLogError(f"the runs of the proof have no {', '.join(missing)}, which the recommendation uses")
    phases = phases_of(replace(proof, frame=frame))
    changed = np.zeros(len(frame), bool) if phases is None else phases.changed
    rows = []
    for outcome in [*records(answer.outcomes), *_phased(answer)]:
        phased = outcome["mixture"] == PHASED
        on = on_phases(frame, outcome["weights"], answer.question.n_tokens) if phased else ~changed
        found = last_rows(frame[on & (phased | on_mixture(frame, outcome["weights"]))])
        if len(found):
            seeds = [float(loss) for loss in weighted_losses(answer, found)]
            rows.append({**outcome, "measured": sum(seeds) / len(seeds), "seeds": seeds})
    return rows


def _phased(answer: Recommendation) -> list[dict[str, Any]]:
    """Return the predicted loss of the recommended phases as an outcome; none if there are no phases."""
    plan = answer.phases
    if plan is None or plan.losses.empty:
        return []
    loss = plan.losses.iloc[0]
    return [{"mixture": PHASED, "weights": plan.mixture} | {k: float(loss[k]) for k in ("predicted", "low", "high")}]


def phases_sentence(answer: Recommendation, rows: list[dict[str, Any]]) -> list[str]:
    """Return the measured and the predicted gain of the phases over the best single mixture, if both were trained."""
    measured, plan = {r["mixture"]: r["measured"] for r in rows}, answer.phases
    if plan is None or not {PHASED, RECOMMENDED} <= measured.keys():
        return []
    gain, expected = measured[RECOMMENDED] - measured[PHASED], plan.gains.iloc[0]
    interval = f"{expected['low']:+.4f} to {expected['high']:+.4f}"
    by = difference(f"{gain:+.4f}", answer.unit)
    return [f"The phases gained {by} over the best single mixture; predicted: {expected['gain']:+.4f} ({interval})."]


def weighted_losses(answer: Recommendation, frame: pd.DataFrame) -> Array:
    """Return (n,) the losses of runs, weighted by the importance of the answer's targets."""
    losses: Array = frame[[LOSS + t for t in answer.question.targets]].to_numpy(float)
    return losses @ np.array(list(answer.question.targets.values()))


def verdict(rows: list[dict[str, Any]], unit: str = NATS) -> str:
    """Return whether the recommended mixture had the lowest measured loss, and by how much, in the targets' unit."""
    measured = {r["mixture"]: r["measured"] for r in rows}
    if "recommended" not in measured or len(measured) < 2:
        return "The proof is not complete: train the recommended mixture and another one."
    best = measured.pop("recommended")
    gaps = ", ".join(f"{loss - best:+.4f} to {name}" for name, loss in measured.items())
    seeds: list[float] = next((r["seeds"] for r in rows if len(r["seeds"]) > 1), [])
    noise = f" Two seeds of one mixture differ by {max(seeds) - min(seeds):.4f}." if seeds else ""
    inside = sum(r["low"] <= r["measured"] <= r["high"] for r in rows)
    won = "won" if all(loss > best for loss in measured.values()) else "did not win"
    by = f"{gaps} {NATS}" if unit == NATS else difference(gaps, unit)
    intervals = f"{inside} of {len(rows)} measured losses lie inside their predicted intervals."
    return f"The recommended mixture {won}: {by}.{noise} {intervals}"


def proof_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return predicted against measured losses, one row per mixture."""
    return pd.DataFrame(
        {
            "mixture": r["mixture"],
            "predicted": f"{r['predicted']:.4f}",
            "90 % interval": f"{r['low']:.4f} to {r['high']:.4f}",
            "measured": f"{r['measured']:.4f}",
            "error [%]": f"{100 * (r['predicted'] / r['measured'] - 1):+.2f}",
        }
        for r in rows
    )
