"""A recommendation as text for a terminal."""

import pandas as pd

from mixlaw.advice.recommendation import Recommendation, records
from mixlaw.report.answer_tables import losers_sentences, scores_sentences, scores_table, worst_sentences
from mixlaw.report.phase_text import phases_block, phases_verdict
from mixlaw.report.worth import balance, optimal_size, worth
from mixlaw.tables.units import NATS, brackets, difference, kind_of
from mixlaw.text import text_table

NO_OVERRIDE = "Hydra's command line cannot hold these names; --override FILE writes the weights as YAML"


def summary(answer: Recommendation) -> str:
    """Return a recommendation as text for a terminal: tables, the Hydra override, and warnings."""
    blocks = [
        _head(answer),
        phases_block(answer),
        _domains(answer),
        _outcomes(answer),
        _scores(answer),
        _prices(answer),
        _path(answer),
        _others(answer),
    ]
    last = [f"train it with: {answer.override or NO_OVERRIDE}", *(f"warning: {text}" for text in answer.warnings)]
    return "\n\n".join([*filter(None, blocks), "\n".join(last)])


def _head(answer: Recommendation) -> str:
    n, d = answer.question.n_params, answer.question.n_tokens
    targets = ", ".join(f"{t} {w:.2f}" if w < 1 else t for t, w in answer.question.targets.items())
    asked = f"N = {n:.4g} parameters, D = {d:.4g} tokens, target: {targets}"
    return "\n".join(
        [
            *phases_verdict(answer),
            f"{answer.law} law ({answer.reason})",
            asked,
            *optimal_size(answer),
            *worst_sentences(answer),
            *losers_sentences(answer),
            *worth(answer),
            *balance(answer),
        ]
    )


def _domains(answer: Recommendation) -> str:
    table = answer.table
    columns = {"domain": table["domain"], "h*": table["weight"], answer.interval_name: _spans(table, "low", "high")}
    if epochs := answer.epochs:
        columns["epochs"] = [f"{epochs[d]:.1f}" if d in epochs else "" for d in table["domain"]]
    columns["flat frontier"] = _spans(table, "flat_low", "flat_high")
    if "others_low" in table:
        columns["other laws' h*"] = _spans(table, "others_low", "others_high")
    columns |= {name: table[name] for name in ("unconstrained",) if name in table}
    columns |= {name: [mixture[d] for d in table["domain"]] for name, mixture in answer.baselines.items()}
    noise = difference(f"{answer.noise:.4f}", answer.unit)
    note = f"(flat frontier: range of each weight in which the loss rises by less than the noise of one run, {noise})"
    return f"{text_table(pd.DataFrame(columns), decimals=3)}\n{note}"


def _spans(table: pd.DataFrame, low: str, high: str) -> list[str]:
    return [f"{a:.3f} to {b:.3f}" for a, b in zip(table[low], table[high], strict=True)]


def _outcomes(answer: Recommendation) -> str:
    level = NATS if answer.unit == NATS else kind_of(answer.unit).difference
    rows = [
        {
            "mixture": row["mixture"],
            "predicted": row["predicted"],
            answer.interval_name: f"{row['low']:.4f} to {row['high']:.4f}",
            f"gain of h* over it [{level}]": ""
            if row["mixture"] == "recommended"
            else f"{row['gain']:+.4f} ({row['gain_low']:+.4f} to {row['gain_high']:+.4f})",
        }
        for row in records(answer.outcomes)
    ]
    return text_table(pd.DataFrame(rows))


def _scores(answer: Recommendation) -> str:
    """Return the predicted scores of benchmarks by mixture; empty without any."""
    if answer.scores.empty:
        return ""
    title = f"predicted scores, through law and curve ({answer.interval_name}):"
    return "\n".join([title, text_table(scores_table(answer)), *scores_sentences(answer)])


def _prices(answer: Recommendation) -> str:
    """Return the cost of each limit; empty where none costs anything."""
    if answer.prices.empty:
        return ""
    frame = answer.prices[["constraint", "cost"]].rename(columns={"constraint": "limit"})
    return f"limits that cost something {brackets(answer.unit)}:\n{text_table(frame)}"


def _path(answer: Recommendation) -> str:
    """Return h* with its interval over scale: a column per step, a row per domain; empty where there is no path."""
    if answer.path.empty:
        return ""
    steps = records(answer.path)
    rows = [["D", *(f"{step['n_tokens']:.3g}" for step in steps)]]
    rows.append([f"regret {brackets(answer.unit)}", *(f"{step['regret']:.4f}" for step in steps)])
    for name in answer.weights:
        cells = [(step["weights"][name], *step["interval"][name]) for step in steps]
        rows.append([name, *(f"{h:.3f} ({low:.2f}-{high:.2f})" for h, low, high in cells)])
    frame = pd.DataFrame(rows, columns=["N", *(f"{step['n_params']:.3g}" for step in steps)])
    title = "h* from the smallest run to this one, and what training this run on it would cost:"
    return f"{title}\n{text_table(frame)}"


def _others(answer: Recommendation) -> str:
    """Return what other fitted laws would recommend; empty where there are none."""
    if answer.others.empty:
        return ""
    rows = [
        {"law": row["law"], "predicted": row["predicted"], "cost": row["regret"]} | dict(row["weights"])
        for row in records(answer.others)
    ]
    title = f"h* of the other laws, and its cost by the {answer.law} law {brackets(answer.unit)}:"
    return f"{title}\n{text_table(pd.DataFrame(rows))}"
