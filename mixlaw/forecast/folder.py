"""What a folder holds about forecasts: the ledger, the sealed files that were not scored yet, and what is wrong."""

from dataclasses import dataclass, field
from pathlib import Path

from mixlaw.errors import RunLogError
from mixlaw.forecast.evidence import changed_laws
from mixlaw.forecast.ledger import NAME, Ledger
from mixlaw.forecast.sealed import Forecast

SEALED = "forecast*.json"


@dataclass(frozen=True)
class ForecastFolder:
    """Forecasts in a folder.

    Attributes
    ----------
    ledger : of the forecasts that were scored
    waiting : sealed file -> its forecast, which was not scored yet
    faults : files that cannot be trusted, and laws that changed, one sentence each
    """

    ledger: Ledger = field(default_factory=lambda: Ledger([]))
    waiting: dict[Path, Forecast] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.ledger.scores or self.waiting or self.faults)


def forecasts_in(folder: Path) -> ForecastFolder:
    """Return the ledger and the sealed forecasts of a folder; damaged files become sentences."""
    faults, ledger, waiting = [], Ledger([]), dict[Path, Forecast]()
    try:
        ledger = Ledger.load(folder / NAME) if (folder / NAME).exists() else ledger
    except RunLogError as error:
        faults.append(str(error))
    scored = {score.seal for score in ledger.scores}
    for path in sorted(folder.glob(SEALED)):
        try:
            forecast = Forecast.load(path)
        except RunLogError as error:
            faults.append(str(error))
            continue
        faults += filter(None, [changed_laws(forecast, folder)])
        if forecast.seal not in scored:
            waiting[path] = forecast
    return ForecastFolder(ledger, waiting, faults)
