"""The section of the report on benchmarks: their curves, errors on held-out sizes, and verdicts."""

from collections.abc import Sequence

import pandas as pd
from markupsafe import Markup

from mixlaw.benchmarks.curve import ScoreCurve
from mixlaw.benchmarks.saved import Benchmarks
from mixlaw.report.explore.charts import Chart
from mixlaw.report.page import Section
from mixlaw.report.pictures import Picture
from mixlaw.report.templating import render
from mixlaw.text import percent


def benchmark_section(benchmarks: Benchmarks, pictures: Sequence[Picture | Chart]) -> Section:
    """Return the section with the pictures of all curves."""
    return Section("Benchmarks", benchmarks_html(benchmarks, pictures))


def benchmarks_html(benchmarks: Benchmarks, pictures: Sequence[Picture | Chart]) -> Markup:
    """Return the verdicts and the tables of curves and of their errors on held-out runs, with these pictures."""
    return render("benchmarks", sentences=verdicts(benchmarks), pictures=pictures, tables=_tables(benchmarks))


def verdicts(benchmarks: Benchmarks) -> list[str]:
    """Return a sentence for every benchmark: predictable, or why it is not."""
    return [f"{curve.name}: {verdict(curve)}" for curve in benchmarks.values()]


def verdict(curve: ScoreCurve) -> str:
    """Return whether the score is predictable from its runs, and why not."""
    if curve.reason:
        return f"not predictable from these runs: {curve.reason}"
    return "predictable" if len(curve.held) else "predictable, but not tested: too few runs to hold some out"


def curves_table(benchmarks: Benchmarks) -> pd.DataFrame:
    """Return a row per benchmark, as text: loss, chance, curve, scatter of runs halfway up, factor of the intervals."""
    rows = []
    for row in benchmarks.summary().to_dict("records"):
        shown = {name: str(row[name]) for name in ("benchmark", "target", "runs")}
        shown |= {"chance": percent(row["chance"]), "ceiling": percent(row["ceiling"])}
        shown |= {
            "midpoint": f"{row['midpoint']:.3f}",
            "slope": f"{row['slope']:.2f}",
            "scatter": percent(row["scatter"]),
            "widened": f"{row['widened']:.2f}",
        }
        rows.append(shown)
    return pd.DataFrame(rows)


def held_table(benchmarks: Benchmarks) -> pd.DataFrame:
    """Return, as text, how well curves of smaller sizes predict the scores of larger ones: a row per size."""
    rows = []
    for curve in benchmarks.values():
        for row in curve.held.to_dict("records"):
            shares = {"measured": row["measured"], "predicted": row["predicted"], "mean error": row["error"]}
            shares |= {"inside 90 % intervals": row["inside"]}
            shown = {"benchmark": curve.name, "held out": row["held_out"], "runs": str(row["n_runs"])}
            rows.append(shown | {name: percent(value) for name, value in shares.items()})
    return pd.DataFrame(rows)


def _tables(benchmarks: Benchmarks) -> dict[str, pd.DataFrame]:
    held = held_table(benchmarks)
    found = {"The curves": curves_table(benchmarks)}
    return found | ({"Held-out runs, by curves fitted to smaller ones": held} if len(held) else {})
