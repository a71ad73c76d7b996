"""Forecasts sealed before the run: `seal` writes one, `score` compares it with runs, `record` keeps the ledger."""

from mixlaw.forecast.ledger import Ledger, record
from mixlaw.forecast.scoring import Score, score
from mixlaw.forecast.sealed import Forecast
from mixlaw.forecast.sealing import seal

__all__ = ["Forecast", "Ledger", "Score", "record", "score", "seal"]
