"""What a recommendation is worth in compute, as sentences and as a table."""

from typing import Any

import pandas as pd

from mixlaw.advice.compute_optimal import SIZES
from mixlaw.advice.equivalents import MOST
from mixlaw.advice.gains import OBJECTIVE
from mixlaw.advice.next_worth import NextWorth
from mixlaw.advice.recommendation import Recommendation, records
from mixlaw.counts import flops
from mixlaw.tables.units import difference
from mixlaw.text import count_text

LEAST_SAVED = 5e-4  # share of the big run's compute; a smaller saving is none
SPENT = {"tokens": "the tokens at this N", "flops": "the FLOPs along the compute-optimal path"}


def times(factor: float) -> str:
    """Return a factor of compute.

    >>> times(1.204), times(12.345), times(0.012345), times(1000.0), times(0.001)
    ('1.20x', '12.3x', '0.0123x', 'more than 1000x', 'less than 0.001x')
    """
    if factor >= 0.999 * MOST:
        return f"more than {MOST:g}x"
    if factor <= 1.001 / MOST:
        return f"less than {1 / MOST:g}x"
    return f"{factor:.2f}x" if 0.1 <= factor < 10 else f"{factor:.3g}x"


def with_interval(row: dict[str, Any], of: str = "") -> str:
    """Return a factor, of what it is, and its interval.

    >>> with_interval({"factor": 1.2, "low": 1.121, "high": 1.27}, "the tokens")
    '1.20x the tokens (1.12 to 1.27)'
    >>> with_interval({"factor": 1000.0, "low": 1000.0, "high": 1000.0})
    'more than 1000x'
    """
    low, high = (times(row[end]).removesuffix("x") for end in ("low", "high"))
    return f"{times(row['factor'])} {of}".strip() + (f" ({low} to {high})" if low != high else "")


def worth(answer: Recommendation) -> list[str]:
    """Return a sentence per baseline: how much compute it needs to reach the loss of the recommended mixture."""
    said = dict[str, list[str]]()
    for row in records(answer.equivalents):
        if row["target"] == OBJECTIVE and row["by"] in SPENT:
            said.setdefault(row["mixture"], []).append(with_interval(row, SPENT[row["by"]]))
    return [f"To reach the loss of h*, {name} needs {', or '.join(parts)}." for name, parts in said.items()]


def balance(answer: Recommendation) -> list[str]:
    """Return the sentence on what the study cost and what h* saves over the first baseline; none if not known."""
    if answer.break_even.empty:
        return []
    row, compute = records(answer.break_even)[0], flops(answer.question.n_params, answer.question.n_tokens)
    cost = f"The study cost {share(row['study'])} of the big run's FLOPs"
    ends = f"({share(row['saved_low'])} to {share(row['saved_high'])})"
    if row["saved"] < LEAST_SAVED:
        return [f"{cost}; over {row['mixture']}, h* saves none of them {ends}."]
    saving = f"{cost}; over {row['mixture']}, h* saves {share(row['saved'])} of them {ends}"
    if row["net"] >= 0:
        return [f"{saving}, a net saving of {share(row['net'])}."]
    return [f"{saving}: it breaks even at a big run of {compute * row['study'] / row['saved']:.2g} FLOPs."]


def worth_of_next(worth: NextWorth, unit: str) -> str:
    """Return the sentence on what the next runs are expected to be worth, in the loss's unit and in compute."""
    regret, gain = (difference(f"{value:.4f}", unit) for value in (worth.regret, worth.gain))
    saved = "" if worth.saved is None else f", worth {share(worth.saved)} of the big run's FLOPs"
    return (
        f"The expected regret of h* is {regret}: the rise of the loss because laws are uncertain. These runs are "
        f"expected to reduce it by {gain}{saved}; they cost {share(worth.cost)} of the big run's FLOPs."
    )


def share(part: float) -> str:
    """Return a share of the big run's compute in per cent; losses of more than 100 % are cut.

    >>> share(0.123), share(0.00123), share(-0.05), share(-999.0), share(0.999), share(1e-9)
    ('12 %', '0.12 %', '-5 %', 'less than -100 %', '100 %', 'less than 0.001 %')
    """
    if part < -1:
        return "less than -100 %"
    if 0 < part < 1e-5:
        return "less than 0.001 %"
    return f"{100 * part:.0f} %" if abs(part) >= 0.095 else f"{100 * part:.2g} %"


def optimal_size(answer: Recommendation) -> list[str]:
    """Return the sentence on the compute-optimal N and D, if the question was about FLOPs."""
    rows = {row["count"]: {name: count_text(row[name]) for name in SIZES[1:]} for row in records(answer.sizes)}
    if not rows or not answer.question.flops:
        return []
    n, d = ("{value} ({low} to {high})".format(**rows[count]) for count in ("n_params", "n_tokens"))
    flat = "N from {flat_low} to {flat_high} raises the loss by less than the noise of one run".format(
        **rows["n_params"]
    )
    compute = f"{answer.question.flops:.4g} FLOPs"
    return [f"Compute-optimal at {compute}: {n} parameters on {d} tokens; {flat}, h* following."]


def worth_table(answer: Recommendation) -> pd.DataFrame:
    """Return, as text, the compute-equivalent gains over every baseline by target; empty where there are none."""
    rows = dict[tuple[str, str], dict[str, str]]()
    for row in records(answer.equivalents):
        cells = rows.setdefault((row["mixture"], row["target"]), {})
        cells |= {"baseline": row["mixture"], "target": row["target"]}
        cells |= {SPENT[row["by"]].removeprefix("the "): with_interval(row)} if row["by"] in SPENT else {}
    return pd.DataFrame(list(rows.values()))
