"""Predicted against measured compute-equivalents, between runs of the largest size of real tables.

    python -m scripts.bench_equivalents [TABLE...]

Laws are fitted as by `mixlaw fit` without the largest size. A run A of that size that ends below the last loss of a run
B met it earlier, after a share of its tokens: that share is measured, without a law. It is compared with the factor of
tokens that A's mixture is predicted to need for B's loss, for every target and up to `MOST_RUNS` runs B.
"""

import argparse
import sys
from collections.abc import Iterator

import numpy as np
import pandas as pd

from mixlaw.advice.constraints import RECOMMENDED, Question
from mixlaw.advice.equivalents import equivalents
from mixlaw.advice.gains import OBJECTIVE, gains
from mixlaw.advice.objective import Objective
from mixlaw.fitting.fitted import LEVEL, FittedLaw
from mixlaw.laws.jacobian import Array
from mixlaw.mixture import Mixture
from mixlaw.report.proof_worth import factor
from mixlaw.selection.fit_laws import fit_and_choose
from mixlaw.tables.columns import LOSS
from mixlaw.tables.table import Table
from scripts.bench_gains import TABLES, parts

SHOWN = ("slimpajama", "mixinglaws-3", "text", "multimodal", "vision")
MOST_RUNS = 12


def measure(name: str) -> pd.DataFrame:
    """Return predicted and measured factors of one table, a row per pair of runs and target."""
    table = TABLES[name]()
    fitted, held = parts(table, "scale")
    choice = fit_and_choose(table.rows(fitted), ["auto"], n_bootstrap=100)
    fit, runs = choice.fits[choice.chosen], table.rows(held)
    return pd.DataFrame(factors(fit, runs)).assign(table=name)


def factors(fit: FittedLaw, runs: Table) -> Iterator[dict[str, float | str]]:
    """Yield target, measured factor, and the predicted one with its interval, for pairs of runs."""
    by_run = {str(run): rows.sort_values("n_tokens") for run, rows in runs.frame.groupby("run_id")}
    weights = [f"weight_{d}" for d in fit.domains]
    shares = {run: rows[weights].iloc[0].to_numpy(float) for run, rows in by_run.items()}
    mixtures = {run: Mixture(fit.domains, h / h.sum()) for run, h in shares.items()}
    tokens = min(float(rows["n_tokens"].iloc[-1]) for rows in by_run.values())
    question = Question(float(runs.frame["n_params"].median()), tokens, dict(Mixture.uniform(list(fit.targets))))
    objective = Objective(fit, question, runs.sizes)
    for run in list(by_run)[:MOST_RUNS]:
        asked = {RECOMMENDED: mixtures[run]} | {other: h for other, h in mixtures.items() if other != run}
        table = equivalents(objective, asked, gains(objective, asked, LEVEL), LEVEL)
        for row in table[(table["by"] == "tokens") & (table["target"] != OBJECTIVE)].to_dict("records"):
            baseline, goal = (_curve(by_run[r], str(row["target"]), tokens) for r in (str(row["mixture"]), run))
            measured = factor(baseline, float(goal[1][-1]), lambda gain: float("nan"))
            if np.isfinite(measured):
                yield {str(column): value for column, value in row.items()} | {"measured": measured}


def _curve(rows: pd.DataFrame, target: str, tokens: float) -> tuple[Array, Array]:
    known = rows[(rows["n_tokens"] <= 1.01 * tokens) & rows[LOSS + target].notna()]
    return known["n_tokens"].to_numpy(float), known[LOSS + target].to_numpy(float)


def summary(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return, by table, the pairs, how many lie inside their intervals, and median errors of the factors [%]."""
    rows = []
    for name, each in pairs.groupby("table", sort=False):
        inside = (each["low"] <= each["measured"]) & (each["measured"] <= each["high"])
        error = (each["factor"] / each["measured"] - 1).abs().median()
        saving = (1 - each["measured"]).median()
        rank = each["factor"].corr(each["measured"], method="spearman")
        rows.append((name, len(each), 100 * inside.mean(), 100 * error, 100 * saving, rank))
    return pd.DataFrame(rows, columns=["table", "pairs", "inside %", "error %", "saving %", "rank correlation"])


def main() -> int:
    """Measure the tables and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"some of {', '.join(SHOWN)}")
    asked = parser.parse_args().tables or SHOWN
    if unknown := set(asked) - set(SHOWN):
        parser.error(f"no such table: {', '.join(sorted(unknown))}")
    pairs = pd.concat([measure(name) for name in asked])
    print(summary(pairs).to_string(index=False, float_format=lambda value: f"{value:.2f}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
