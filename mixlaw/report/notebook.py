"""Rich display in notebooks: `show`, and the HTML of laws, comparisons, recommendations and tables of runs."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial, singledispatch

import matplotlib
import pandas as pd
from markupsafe import Markup

from mixlaw.advice.recommendation import Recommendation
from mixlaw.benchmarks.saved import Benchmarks
from mixlaw.errors import ConfigError
from mixlaw.fitting.fitted import FittedLaw
from mixlaw.fitting.identifiability import distinct
from mixlaw.fitting.saved import FittedLaws
from mixlaw.report import plots_laws as plots
from mixlaw.report.answer_tables import (
    losers_sentences,
    outcomes_table,
    path_table,
    question,
    scores_sentences,
    scores_table,
    sentences,
    weights_table,
)
from mixlaw.report.benchmark_section import benchmarks_html
from mixlaw.report.drawings import OF_MIXTURES, Drawing, answer_drawings, choose_drawings, draw_curve
from mixlaw.report.fonts import any_script
from mixlaw.report.material import Material
from mixlaw.report.pictures import drawn
from mixlaw.report.templating import render
from mixlaw.selection.compare import Comparison
from mixlaw.selection.splits import KINDS
from mixlaw.tables.table import Table
from mixlaw.tables.units import NATS
from mixlaw.text import count_text


@dataclass(frozen=True, repr=False)
class Display:
    """HTML that a notebook displays where this is the last value of a cell, or an argument of `display`."""

    html: Markup

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return "<HTML for a notebook: make it the last value of a cell>"


@singledispatch
def show(thing: object, laws: FittedLaws | None = None) -> Display:
    """Return tables and figures of a fitted law, fitted laws, a comparison, a recommendation, or a table of runs.

    Parameters
    ----------
    thing : FittedLaw, FittedLaws, Comparison, Recommendation, Benchmarks or Table
    laws : of a recommendation; with them the predicted loss is drawn over the simplex

    Raises
    ------
    ConfigError
        If it is anything else.
    """
    known = "FittedLaw, FittedLaws, Comparison, Recommendation, Benchmarks or Table"
    raise ConfigError(f"show takes a {known}, not a {type(thing).__name__}")


@show.register
def _(fit: FittedLaw) -> Display:
    return _display(fit_html(fit), [lambda ax: plots.parameters(ax, fit)])


@show.register
def _(laws: FittedLaws) -> Display:
    return _display(laws_html(laws), choose_drawings(Material(laws)).values())


@show.register
def _(found: Comparison) -> Display:
    title = f"Error on {KINDS[found.kind].split(',')[0]}"
    return _display(comparison_html(found), [lambda ax: plots.errors_by_law(ax, found.targets, title)])


@show.register
def _(answer: Recommendation, laws: FittedLaws | None = None) -> Display:
    drawings = answer_drawings(answer)
    if laws:
        chosen = choose_drawings(Material(laws, answer=answer))
        drawings = {name: draw for name, draw in chosen.items() if name in OF_MIXTURES}
    return _display(answer_html(answer), drawings.values())


@show.register
def _(benchmarks: Benchmarks) -> Display:
    return _display(benchmarks_html(benchmarks, []), [partial(draw_curve, curve) for curve in benchmarks.values()])


@show.register
def _(table: Table) -> Display:
    return _display(table_html(table), [])


def _display(body: Markup, drawings: Iterable[Drawing]) -> Display:
    with matplotlib.rc_context(plots.STYLE), any_script():
        pictures = [drawn(draw(None)) for draw in drawings]
    return Display(render("notebook", body=body, pictures=pictures))


def comparison_html(found: Comparison) -> Markup:
    """Return the errors of laws on held-out rows, and the chosen law."""
    return render(
        "notebook_comparison",
        chosen=found.chosen,
        reason=found.reason,
        held_out=KINDS[found.kind],
        laws=found.laws,
        refused=[f"{law} was left out: {why}" for law, why in found.refused.items()],
        targets=found.targets,
    )


def table_html(table: Table) -> Markup:
    """Return the number of runs, the range of every column, warnings and notes."""
    sizes, tokens, mixtures = distinct(table)
    return render(
        "notebook_table",
        rows=len(table.frame),
        runs=table.frame["run_id"].nunique(),
        sizes=sizes,
        tokens=tokens,
        mixtures=mixtures,
        columns=_ranges(table),
        warnings=table.warnings,
        notes=table.notes,
    )


def _ranges(table: Table) -> pd.DataFrame:
    """Return lowest and highest value and the number of empty cells of N, D, every weight and every loss."""
    units = dict.fromkeys(["n_params", "n_tokens", *(f"weight_{domain}" for domain in table.domains)], "")
    units |= {f"loss_{target}": table.units.get(target, NATS) for target in table.targets}
    frame = table.frame[list(units)]
    columns = {"column": list(units), "lowest": frame.min(), "highest": frame.max(), "empty": frame.isna().sum()}
    return pd.DataFrame(columns | {"unit": list(units.values())})


def fit_html(fit: FittedLaw) -> Markup:
    """Return the formula, the convergence per target, and the folded parameters of a law."""
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
    """Return per target its runs, rows, interval widening and convergence; units if one is not nats per token."""
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


def answer_html(answer: Recommendation) -> Markup:
    """Return the recommended mixture, its gains, the costs of its limits, and the Hydra override."""
    return render(
        "notebook_answer",
        question=question(answer),
        weights=weights_table(answer),
        sentences=[*losers_sentences(answer), *sentences(answer)],
        outcomes=outcomes_table(answer),
        scores=scores_table(answer),
        unpredictable=scores_sentences(answer),
        warnings=answer.warnings,
        override=answer.override,
        path=path_table(answer),
    )


def laws_html(laws: FittedLaws) -> Markup:
    """Return the fitted laws, the chosen one, and their held-out errors."""
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
