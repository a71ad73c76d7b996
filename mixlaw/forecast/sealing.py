"""`seal` predicts the big run of an answer along D and writes the sealed forecast."""

import hashlib
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from mixlaw.advice.constraints import RECOMMENDED
from mixlaw.advice.objective import Mixtures, Objective
from mixlaw.advice.outcomes import outcomes_of
from mixlaw.advice.phased_objective import PhasedObjective
from mixlaw.advice.recommendation import Recommendation, records
from mixlaw.errors import ConfigError
from mixlaw.fileio import file_sha256, strict_json
from mixlaw.fitting.fitted import LEVEL, FittedLaw
from mixlaw.fitting.saved import FittedLaws, fit_to_json
from mixlaw.forecast.sealed import Forecast
from mixlaw.mixture import Mixture
from mixlaw.phased_mixture import PhasedMixture

NAME = "forecast.json"  # default, beside the answer
PHASES = "phases"  # name of the recommended phases among the mixtures
OBJECTIVE = "(objective)"  # name of an objective of several targets
STEPS = range(-12, 2)  # sealed values of D: from 1/64 of the big run's to 1.4 times it, in factors of sqrt(2)
AGREES = 1e-6  # relative difference between the answer's predictions and these


def seal(laws: str | Path, answer: str | Path, out: str | Path | None = None) -> Forecast:
    """Seal the forecast of an answer: losses and gains of all its mixtures and targets, at its N and along D.

    Parameters
    ----------
    laws : `laws.json` of `mixlaw fit`
    answer : what `mixlaw recommend --out` wrote
    out : the file to write; by default forecast.json beside the answer

    Returns
    -------
    The forecast in the file: an earlier one with the same contents keeps its time.

    Raises
    ------
    ConfigError
        If the answer was made from another fit, or the file holds another forecast.
    RunLogError
        If a file cannot be read.
    """
    fitted, saved = FittedLaws.load(laws), Recommendation.load(answer)
    if not _fits(fitted, saved) or not _agrees(made := forecast_of(fitted, saved), saved):
        raise ConfigError(f"{answer} was made from another fit than {laws}: run `mixlaw recommend` again")
    out = Path(out or default_path(answer))
    files = {"laws": Path(laws), "answer": Path(answer)}
    hashed = {n: {"file": os.path.relpath(p, out.parent), "sha256": file_sha256(p)} for n, p in files.items()}
    replace(made, hashes=made.hashes | hashed).save(out)
    return Forecast.load(out)


def default_path(answer: str | Path) -> Path:
    """Return where the forecast of an answer is written by default."""
    return Path(answer).with_name(NAME)


def forecast_of(laws: FittedLaws, answer: Recommendation) -> Forecast:
    """Return the forecast of an answer, sealed now, without the hashes of files."""
    fit, question = laws.fits[answer.law], answer.question
    alone = len(question.targets) == 1
    objective = next(iter(question.targets)) if alone else OBJECTIVE
    targets = {objective: question.targets} | {t: {t: 1.0} for t in fit.targets if t != objective}
    mixtures = {n: Mixture.of(m, fit.domains) for n, m in ({RECOMMENDED: answer.weights} | answer.baselines).items()}
    if answer.phases:
        mixtures[PHASES if PHASES not in mixtures else f"{PHASES} of the answer"] = answer.phases.mixture
    tokens = [question.n_tokens * 2 ** (step / 2) for step in STEPS]
    answered = Objective(fit, question, laws.sizes)  # its resampled laws are those of the answer, at every D
    asked = [
        (name, replace(question, n_tokens=d, targets=weights)) for name, weights in targets.items() for d in tokens
    ]
    curves = [
        _outcomes(answered.asking(part), mixtures, question.n_tokens).assign(target=name, n_tokens=part.n_tokens)
        for name, part in asked
    ]
    return Forecast(
        sealed=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        law=fit.name,
        level=LEVEL,
        interval_name=fit.interval_name(),
        n_params=question.n_params,
        n_tokens=question.n_tokens,
        objective=objective,
        targets=targets,
        units={name: fit.unit_of(weights) for name, weights in targets.items()},
        identity=laws.identity,
        mixtures=mixtures,
        tokens=tokens,
        curves=pd.concat(curves, ignore_index=True).drop(columns="weights"),
        hashes={"parameters": _parameters_sha256(fit), "data": laws.data_sha256},
    )


def _outcomes(objective: Objective, mixtures: Mixtures, n_tokens: float) -> pd.DataFrame:
    """Return the outcomes of all mixtures; one that changes during n_tokens is the run so far, or longer."""
    plain = {name: h for name, h in mixtures.items() if not isinstance(h, PhasedMixture)}
    tables = [outcomes_of(objective, plain, LEVEL)]
    for name, changing in mixtures.items():
        if isinstance(changing, PhasedMixture):
            so_far = changing.at(objective.question.n_tokens / n_tokens)
            own = PhasedObjective(objective, so_far.ends) if isinstance(so_far, PhasedMixture) else objective
            tables.append(outcomes_of(own, {RECOMMENDED: mixtures[RECOMMENDED], name: so_far}, LEVEL)[1:])
    return pd.concat(tables, ignore_index=True)


def _parameters_sha256(fit: FittedLaw) -> str:
    """Return the hash of the law as `laws.json` holds it: parameters, resamples, scatter and widening."""
    return hashlib.sha256(strict_json(fit_to_json(fit)).encode()).hexdigest()


def _fits(laws: FittedLaws, answer: Recommendation) -> bool:
    """Return whether an answer is of the same table, law, domains and targets as fitted laws."""
    if answer.outdated(laws):
        return False
    fit = laws.fits[answer.law]
    return set(answer.weights) == set(fit.domains) and set(answer.question.targets) <= set(fit.targets)


def _agrees(forecast: Forecast, answer: Recommendation) -> bool:
    """Return whether the answer states the losses that the forecast predicts."""
    pairs = [
        (stated, forecast.at(str(row["mixture"]), target, forecast.n_tokens)["predicted"])
        for row in records(answer.per_target)
        for target, stated in row.items()
        if target != "mixture"
    ]
    return all(np.isclose(stated, ours, rtol=AGREES) for stated, ours in pairs)
