"""The section of the report on forecasts that were sealed before runs: scores, history, and those that wait."""

from mixlaw.forecast.folder import ForecastFolder
from mixlaw.forecast.words import gains_table, history, losses_table, moment, totals, verdict
from mixlaw.report.page import Section
from mixlaw.report.templating import render
from mixlaw.text import count_text


def forecast_sections(found: ForecastFolder) -> list[Section]:
    """Return the section on the forecasts of a folder; none if there are no forecasts."""
    if not found:
        return []
    scores = found.ledger.scores
    waiting = [
        {
            "file": path.name,
            "sealed": moment(forecast.sealed),
            "size": f"N = {count_text(forecast.n_params)}, D = {count_text(forecast.n_tokens)}",
            "command": f"mixlaw forecast score {path} RUNS",
        }
        for path, forecast in found.waiting.items()
    ]
    body = render(
        "forecasts",
        scores=[(verdict(score), losses_table(score), gains_table(score)) for score in scores[-1:]],
        history=history(found.ledger),
        totals=totals(found.ledger) if scores else "",
        waiting=waiting,
        faults=found.faults,
    )
    return [Section("The sealed forecast", body)]
