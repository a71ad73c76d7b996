"""`fit_benchmarks`: curves from loss to score for the benchmarks of a table, each with its verdict."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from mixlaw.benchmarks.curve import ScoreCurve
from mixlaw.benchmarks.fit import LEAST_RUNS, N_DRAWS, fit_curve
from mixlaw.benchmarks.held_out import checked
from mixlaw.benchmarks.points import Points, points_of, score_pairs
from mixlaw.benchmarks.saved import Benchmarks
from mixlaw.benchmarks.verdict import reason_of
from mixlaw.errors import ConfigError, FitError, unknown_name
from mixlaw.fitting.estimator import ProgressCallback
from mixlaw.fitting.fitted import Data, as_table
from mixlaw.tables.clean import prepare
from mixlaw.tables.columns import LOSS, SCORE
from mixlaw.tables.table import Table
from mixlaw.tables.units import NATS


def fit_benchmarks(
    data: Data,
    chance: float | Mapping[str, float],
    *,
    loss: str | Iterable[str] = (),
    score: str | Iterable[str] = (),
    keep_warmup: bool = False,
    n_bootstrap: int = N_DRAWS,
    progress: ProgressCallback | None = None,
) -> Benchmarks:
    """Fit the score of benchmarks as a sigmoid of a target's loss, over all runs and their evaluations.

    Parameters
    ----------
    data : runs with loss_<target> and scores in [0, 1] or in per cent, see `mixlaw.read_table`
    chance : score of guessing, such as 0.25 with four choices and 0 for generated answers; or benchmark -> its chance
    loss, score : names of columns, one loss for each score or one for all; by default every loss_<target> that has a
        score_<target>
    keep_warmup : keep checkpoints that are still in the warm-up of the learning rate
    n_bootstrap : number of resamples of whole runs
    progress : called with a sentence for each benchmark

    Raises
    ------
    ConfigError
        If a column or a chance is missing, or a loss is named as a score.
    RunLogError
        If scores are not between 0 and 1, or 0 and 100.
    FitError
        If fewer runs than a curve needs have both.
    """
    table = prepare(as_table(data), keep_warmup)
    pairs = score_pairs(table, *([each] if isinstance(each, str) else list(each) for each in (loss, score)))
    names = [column.removeprefix(SCORE) for _, column in pairs]
    chances = _chances(chance, names)
    curves, notes = {}, list[str]()
    for name, (of_loss, of_score) in zip(names, pairs, strict=True):
        if progress:
            progress(f"benchmarks: {name}")
        curves[name] = _curve(
            table, name, points_of(table, of_loss, of_score, notes), of_loss, chances[name], n_bootstrap
        )
    return Benchmarks(curves, notes)


def _curve(table: Table, name: str, points: Points, loss: str, chance: float, count: int) -> ScoreCurve:
    if points.n_runs < LEAST_RUNS:
        raise FitError(
            f"{name}: a curve needs {LEAST_RUNS} runs with {loss} and a score; the table has {points.n_runs}"
        )
    target = loss.removeprefix(LOSS)
    unit = table.units.get(target, NATS)
    curve = ScoreCurve(name, target, chance, fit_curve(points, chance, count), points, unit=unit)
    curve = checked(curve)
    return replace(curve, reason=reason_of(curve))


def _chances(chance: float | Mapping[str, float], names: list[str]) -> dict[str, float]:
    """Return the chance of every benchmark."""
    known = dict(chance) if isinstance(chance, Mapping) else dict.fromkeys(names, float(chance))
    for name in known:
        if name not in names:
            raise ConfigError(f"--chance: {unknown_name('benchmark', name, names)}")
    for name in names:
        if name not in known:
            raise ConfigError(
                f"--chance: state the score of guessing for {name}, e.g. {name}=1/4; 0 for generated answers"
            )
        if not 0 <= known[name] < 1:
            raise ConfigError(f"--chance: {name} is {known[name]:g}; the score of guessing is at least 0 and below 1")
    return known
