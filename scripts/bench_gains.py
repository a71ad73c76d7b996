"""Coverage and width of the intervals of gains on held-out runs of real tables, and of synthetic truths.

    python -m scripts.bench_gains              # cases that are in the result table are skipped
    python -m scripts.bench_gains --only text

Laws are fitted as by `mixlaw fit` without the largest size ("scale"), without a fifth of the mixtures ("mixture"), or
to the two smallest sizes, with the largest of four held out ("far"). Then the measured differences between all pairs of
held-out runs of equal N and D are compared with the predicted ones. `before` is the interval of 0.2.0: the difference
of resampled laws alone. The result is `scripts/gains.csv`.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from mixlaw.errors import MixlawError
from mixlaw.fitting.bootstrap import interval
from mixlaw.fitting.differences import SAME_MIXTURE, Pairs
from mixlaw.fitting.fitted import LEVEL, FittedLaw
from mixlaw.selection.fit_laws import fit_and_choose
from mixlaw.selection.pair_scores import pair_scores
from mixlaw.selection.splits import held_out
from mixlaw.tables.clean import prepare
from mixlaw.tables.columns import LOSS
from mixlaw.tables.factor_levels import levels
from mixlaw.tables.read import read_table
from mixlaw.tables.table import Table
from scripts.protocol import mixinglaws, slimpajama, truth

RESULT = Path(__file__).with_name("gains.csv")


def example(name: str) -> Table:
    """One of our own studies that ship with the package."""
    return prepare(read_table([f"example:{name}"]))


TABLES: dict[str, Callable[[], Table]] = {
    "slimpajama": slimpajama,
    "mixinglaws-3": partial(mixinglaws, "tidy_3Mix"),
    "mixinglaws-5": partial(mixinglaws, "tidy_5Mix_small"),
    "text": partial(example, "text"),
    "multimodal": partial(example, "multimodal"),
    "vision": partial(example, "vision"),
    "truth-multiplicative": partial(truth, "multiplicative"),
    "truth-joint": partial(truth, "joint"),
}
CASES = [(table, "scale") for table in TABLES if table != "mixinglaws-5"] + [  # which has two sizes
    (table, "mixture") for table in TABLES if not table.startswith("truth")
]
CASES += [(table, "far") for table in ("text", "multimodal", "vision")]


def measure(name: str, kind: str) -> pd.DataFrame:
    """Return one row per target of one case."""
    table = TABLES[name]()
    fitted, held = parts(table, kind)
    choice = fit_and_choose(table.rows(fitted), ["auto"], n_bootstrap=300)
    fit, test = choice.fits[choice.chosen], table.rows(held)
    scores = pair_scores(fit, test).merge(former(fit, test), on="target")
    return scores.assign(table=name, split=kind, law=choice.chosen, ratio=scores["width"] / scores["error"])


def parts(table: Table, kind: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which rows are fitted, and which are held out."""
    if kind != "far":
        held = held_out(table, kind)
        return ~held, held
    size = levels(table.frame["n_params"])
    return size <= 1, size == size.max()


def former(fit: FittedLaw, held: Table) -> pd.DataFrame:
    """Return the coverage of the interval that holds the difference of two resampled curves only."""
    rows = []
    for target in fit.targets:
        known = held.rows(held.frame[LOSS + target].notna().to_numpy(bool))
        pairs = Pairs.of(known.frame, known.mixtures)
        pairs = pairs.where(pairs.distance > SAME_MIXTURE)
        drawn = fit.draws(target, fit.inputs(known, target))
        low, high = interval(drawn[:, pairs.first] - drawn[:, pairs.second], LEVEL)
        measured = pairs.differences(known.frame[LOSS + target].to_numpy(float))
        inside = (low <= measured) & (measured <= high)
        rows.append({"target": target, "inside_before": 100 * inside.mean(), "width_before": (high - low).mean()})
    return pd.DataFrame(rows)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return, per case, coverage over all pairs, and the mean over targets of mean width by mean error."""
    rows = []
    for (name, kind), each in table.groupby(["table", "split"], sort=False):
        inside = [np.average(each[column], weights=each["n"]) for column in ("inside_before", "inside")]
        rows.append((name, kind, *inside, each["ratio"].mean(), each["width"].sum() / each["error"].sum()))
    return pd.DataFrame(rows, columns=["table", "split", "before %", "inside %", "width/error", "pooled width/error"])


def main() -> int:
    """Run missing cases, write the table, print the summary."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", metavar="TABLE", help="only tables whose name begins with this")
    parser.add_argument("--again", action="store_true", help="also run cases that are in the result table")
    options = parser.parse_args()
    known = pd.read_csv(RESULT) if RESULT.exists() else pd.DataFrame(columns=["table", "split"])
    for name, kind in tqdm([c for c in CASES if c[0].startswith(options.only)], unit="case", mininterval=5):
        there = (known["table"] == name) & (known["split"] == kind)
        if there.any() and not options.again:
            continue
        try:
            known = pd.concat([known[~there], measure(name, kind)], ignore_index=True)
        except MixlawError as error:
            print(f"{name}, {kind}: {error}", file=sys.stderr)
            continue
        known.to_csv(RESULT, index=False, float_format="%.4g")
    print(summary(known).to_string(index=False, float_format=lambda v: f"{v:.1f}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
