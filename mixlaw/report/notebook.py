"""Fits, laws and recommendations as small pieces of HTML for notebooks."""

import pandas as pd
from markupsafe import Markup

from mixlaw.fitting.fitted import FittedLaw
from mixlaw.fitting.saved import FittedLaws
from mixlaw.report.answer_tables import Answer, facts, outcomes_table, path_table, question, sentences, weights_table
from mixlaw.report.templating import render
from mixlaw.tables.units import NATS
from mixlaw.text import count_text


def fit_html(fit: FittedLaw) -> Markup:
    """Return what a fitted law is and how sure its minimum is; its parameters fold out."""
    return render(
        "notebook_fit",
        name=fit.name,
        formula=fit.law.formula,
        targets=_targets_table(fit),
        warnings=fit.warnings,
        units=f"N in {fit.units.n_params:g} parameters, D in {fit.units.n_tokens:g} tokens",
        intervals=fit.intervals_of_params(),
    )


def _targets_table(fit: FittedLaw) -> pd.DataFrame:
    """Return per target the runs and rows of its fit, and how sure the minimum is; units where one is not nats."""
    targets = fit.targets
    columns = {
        "target": list(targets),
        "unit": [found.unit for found in targets.values()],
        "runs": [found.n_runs for found in targets.values()],
        "rows": [found.n_rows for found in targets.values()],
        "intervals widened by": [found.widening.factor for found in targets.values()],
        "minimum": [found.statement for found in targets.values()],
    }
    frame = pd.DataFrame(columns)
    return frame.drop(columns="unit") if set(frame["unit"]) == {NATS} else frame


def answer_html(answer: Answer) -> Markup:
    """Return the recommended mixture, what it gains and costs, and how to train it."""
    known = facts(answer)
    return render(
        "notebook_answer",
        question=question(answer),
        weights=weights_table(answer),
        sentences=sentences(answer),
        outcomes=outcomes_table(answer),
        warnings=known.get("warnings", []),
        override=known["override"],
        path=path_table(answer),
    )


def laws_html(laws: FittedLaws) -> Markup:
    """Return which laws were fitted, which is trusted, and their errors on held-out runs."""
    ends = {name: f"{count_text(low)} to {count_text(high)}" for name, (low, high) in laws.ranges.items()}
    rows = [
        {"law": name, "domains": len(fit.domains), "targets": len(fit.targets), "formula": fit.law.formula}
        for name, fit in laws.fits.items()
    ]
    return render(
        "notebook_laws",
        chosen=laws.chosen,
        reason=laws.reason,
        n_params=ends.get("n_params", "?"),
        n_tokens=ends.get("n_tokens", "?"),
        mixtures=len(laws.mixtures),
        laws=pd.DataFrame(rows),
        scores=_scores_table(laws),
    )


def _scores_table(laws: FittedLaws) -> pd.DataFrame:
    """Return a row per target and a column per law; empty without scores."""
    if not laws.scores:
        return pd.DataFrame()
    wide = pd.DataFrame(laws.scores).pivot_table(index="target", columns="law", values="mre", sort=False)
    return wide.reset_index().rename_axis(None, axis=1)
