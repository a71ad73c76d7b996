"""Scores of forecasts as text: a verdict, tables of predicted and measured values, and the history of the ledger."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from mixlaw.advice.constraints import RECOMMENDED
from mixlaw.advice.recommendation import records
from mixlaw.forecast.ledger import Ledger
from mixlaw.forecast.scoring import Score
from mixlaw.forecast.sealed import Forecast
from mixlaw.tables.notes import listed
from mixlaw.tables.units import kind_of
from mixlaw.text import count_text

MOST_RUNS = 3  # named in a sentence


def moment(sealed: str) -> str:
    """Return the time of a seal as text.

    >>> moment("2026-11-29T12:00:05Z")
    '2026-11-29 12:00:05 UTC'
    """
    return sealed.replace("T", " ").replace("Z", " UTC")


def sealed_table(forecast: Forecast) -> pd.DataFrame:
    """Return the predicted losses and gains at the forecast's D, one row per target and mixture."""
    ends = forecast.curves[forecast.curves["n_tokens"] == forecast.n_tokens]
    compared = ends["mixture"] != RECOMMENDED
    return pd.DataFrame(
        {
            "target": ends["target"],
            "mixture": ends["mixture"],
            "predicted": ends["predicted"].map("{:.4f}".format),
            forecast.interval_name: _spans(ends["low"], ends["high"], "{:.4f}"),
            "gain of h* over it": ends["gain"].map("{:+.4f}".format).where(compared, ""),
            "its interval": pd.Series(_spans(ends["gain_low"], ends["gain_high"], "{:+.4f}"), ends.index).where(
                compared, ""
            ),
        }
    )


def verdict(score: Score) -> str:
    """Return when the forecast was sealed, how much lies inside its intervals, and the objective's gains."""
    losses, gains = _coverage([score.losses], "losses"), _coverage([score.gains], "gains")
    counted = " and ".join(filter(None, [losses, gains]))
    said = f"Sealed {moment(score.sealed)}{_order(score)}: {counted} lie inside their {score.interval_name}s."
    return " ".join([said, *(_gain_sentence(row, score.unit) for row in _of_objective(score))])


def _of_objective(score: Score) -> list[dict[str, Any]]:
    """Return the objective's gain over each baseline, first over the one in use today."""
    return records(score.gains[score.gains["target"] == score.objective])


def _gain_sentence(row: dict[str, Any], unit: str) -> str:
    where = "inside" if row["inside"] else "outside"
    measured, predicted = (f"{row[name]:+.4f}" for name in ("measured", "predicted"))
    return (
        f"Gain over {row['mixture']}: {measured} {kind_of(unit).after}, {where} {_span(row)} (predicted {predicted})."
    )


def _span(row: dict[str, Any]) -> str:
    return f"{row['low']:+.4f} to {row['high']:+.4f}"


def _order(score: Score) -> str:
    """Return whether the seal is older than the runs."""
    if score.early:
        named = listed(score.early, MOST_RUNS)
        return f", not before the run ({len(score.early)} of {len(score.runs)} runs began earlier: {named})"
    if score.undated:
        return "; no file shows when the runs began"
    return ", before the runs began"


def _coverage(tables: Iterable[pd.DataFrame], what: str) -> str:
    inside = [bool(value) for table in tables for value in table["inside"]]
    return f"{sum(inside)} of {len(inside)} {what}" if inside else ""


def losses_table(score: Score) -> pd.DataFrame:
    """Return predicted against measured losses, one row per mixture and target."""
    error = 100 * (score.losses["predicted"] / score.losses["measured"] - 1)
    return _table(score, score.losses, "{:.4f}").assign(**{"error [%]": error.map("{:+.2f}".format)})


def gains_table(score: Score) -> pd.DataFrame:
    """Return the predicted against the measured gain of the recommended mixture, one row per baseline and target."""
    return _table(score, score.gains, "{:+.4f}").rename(columns={"mixture": "gain over"})


def _table(score: Score, rows: pd.DataFrame, form: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "mixture": rows["mixture"],
            "target": rows["target"],
            "D": rows["n_tokens"].map(count_text),
            "predicted": rows["predicted"].map(form.format),
            score.interval_name: _spans(rows["low"], rows["high"], form),
            "measured": rows["measured"].map(form.format),
            "inside": rows["inside"].map({True: "yes", False: "no"}),
            "runs": rows["n_runs"],
        }
    )


def _spans(low: Iterable[float], high: Iterable[float], form: str) -> list[str]:
    return [f"{form.format(start)} to {form.format(end)}" for start, end in zip(low, high, strict=True)]


def history(ledger: Ledger) -> pd.DataFrame:
    """Return one row per forecast: its seal, N, D, how much lies inside, and the gain over the first baseline."""
    return pd.DataFrame([_summary(score) for score in ledger.scores])


def _summary(score: Score) -> dict[str, str]:
    row = {
        "forecast": score.seal[:12],
        "sealed": moment(score.sealed),
        "N": count_text(score.n_params),
        "D": count_text(score.n_tokens),
        "losses inside": _coverage([score.losses], "").strip(),
        "gains inside": _coverage([score.gains], "").strip(),
        "gain over": "",
        "predicted": "",
        "interval": "",
        "measured": "",
        "sealed first": "no" if score.early else "unknown" if score.undated else "yes",
    }
    for gain in _of_objective(score)[:1]:
        row |= {"gain over": gain["mixture"], "interval": _span(gain)}
        row |= {name: f"{gain[name]:+.4f}" for name in ("predicted", "measured")}
    return row


def totals(ledger: Ledger) -> str:
    """Return in a sentence how much lies inside over all forecasts that were not sealed after a run had begun."""
    counted, late = ledger.sealed_first, len(ledger.scores) - len(ledger.sealed_first)
    parts = [_coverage([getattr(score, name) for score in counted], name) for name in ("losses", "gains")]
    left = f"; {late} more not sealed before the run" * bool(late)
    inside = " and ".join(filter(None, parts))
    return (
        f"{len(counted)} forecast{'s' * (len(counted) != 1)}"
        + f": {inside} inside the intervals" * bool(inside)
        + f"{left}."
    )
