"""One forecast with its files for all tests of forecasts; to be read only."""

from pathlib import Path

import pytest

from mixlaw.forecast.sealed import Forecast
from tests.mixlaw.forecasts import sealed


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with laws.json, answer.json and forecast.json."""
    place = tmp_path_factory.mktemp("forecast")
    sealed(place)
    return place


@pytest.fixture(scope="session")
def forecast(folder: Path) -> Forecast:
    return Forecast.load(folder / "forecast.json")
