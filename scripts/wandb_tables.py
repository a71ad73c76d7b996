"""What the W&B page of a fit shows: tables by name, and the numbers of its summary."""

from typing import Any

import pandas as pd

from mixlaw.advice.recommendation import Recommendation, records
from mixlaw.fitting.saved import FittedLaws
from mixlaw.tables.columns import UNTIL, WEIGHT, phase_of
from mixlaw.tables.table import Table

SCORES, PREDICTIONS, OPTIMUM = "scores", "predictions", "optimum"  # tables; scripts.wandb_dashboard draws them
PHASES, PHASE_GAINS, SWITCHES = "phases", "phase_gains", "switches"
FITTED, HELD_OUT = "fitted", "held_out"  # kinds of runs


def score_table(laws: FittedLaws, table: Table) -> pd.DataFrame:
    """Return each law's errors per target, on the held-out runs that `mixlaw fit` saw and on the fitted runs."""
    held_out = pd.DataFrame(laws.scores).assign(runs=HELD_OUT)
    fitted = [law.scores(table).assign(runs=FITTED) for law in laws.fits.values()]
    return pd.concat([held_out, *fitted], ignore_index=True)


def prediction_table(laws: FittedLaws, table: Table, runs: str) -> pd.DataFrame:
    """Return the chosen law's predictions of every row, with the observed loss, N, D, h and its phases."""
    wanted = ["row", "run_id", "n_params", "n_tokens", *(f"weight_{d}" for d in table.domains)]
    of_phases = (WEIGHT, UNTIL)
    wanted += [column for column in map(str, table.frame) if phase_of(column) and column.startswith(of_phases)]
    predicted = laws.best.predict(table).dropna(subset="observed")
    return predicted.merge(table.frame[wanted], on="row").assign(runs=runs)


def answer_tables(answer: Recommendation | None) -> dict[str, pd.DataFrame]:
    """Return h* with its interval per domain; of phases also their mixtures, what they gain, and the tried switches."""
    if answer is None:
        return {}
    plan = answer.phases
    of_phases = {PHASES: plan.table, PHASE_GAINS: plan.gains, SWITCHES: plan.switches} if plan else {}
    return {OPTIMUM: answer.table} | of_phases


def answer_facts(answer: Recommendation | None) -> dict[str, Any]:
    """Return the question and the answer for the metadata of the law's artifact; with phases also these."""
    if answer is None:
        return {}
    facts: dict[str, Any] = {name: getattr(answer.question, name) for name in ("n_params", "n_tokens", "targets")}
    facts[OPTIMUM] = answer.table.set_index("domain")[["weight", "low", "high"]].to_dict("index")
    return facts | ({PHASES: answer.phases.to_json()} if answer.phases else {})


def numbers_of(scores: pd.DataFrame, answer: Recommendation | None) -> dict[str, float]:
    """Return the page's summary: mean errors [%] by law and kind of runs; h* and phases with their intervals."""
    by_law = scores.groupby(["runs", "law"])["mre"]
    numbers = {"/".join(["mre", *map(str, key)]): float(errors.mean()) for key, errors in by_law}
    if answer is None:
        return numbers
    weights = [(OPTIMUM, row) for row in records(answer.table)]
    if plan := answer.phases:
        weights += [(f"phase_{row['phase']}", row) for row in records(plan.table)]
        numbers |= {f"phases_{key}": float(plan.gains[key].iloc[0]) for key in ("gain", "low", "high")}
        numbers |= {f"phase_{p}_until": end for p, end in enumerate(plan.until, 1)}
    for name, row in weights:
        numbers |= {f"{name}_{key}/{row['domain']}": row[key] for key in ("weight", "low", "high")}
    return numbers
