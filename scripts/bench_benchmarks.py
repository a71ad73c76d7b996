"""python -m scripts.bench_benchmarks: forecasts of scores through both stages, on synthetic studies with a known curve.

    python -m scripts.bench_benchmarks                   # 50 studies of every case, about 12 minutes of CPU time
    python -m scripts.bench_benchmarks --only chance --studies 20

A study has 24 runs of three sizes on random mixtures of three domains, evaluated four times. A known law gives their
losses, a known sigmoid of the true loss their scores; both have noise between runs and between evaluations. Law and
curve are fitted as by `mixlaw fit` and `mixlaw benchmarks`, and forecast the measured score of 8 runs that are 4 times
larger. The result, one row per study, is `scripts/benchmarks.csv`.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, ndtr
from tqdm import tqdm

from mixlaw.benchmarks.fit_benchmarks import fit_benchmarks
from mixlaw.benchmarks.two_stages import predict_scores
from mixlaw.laws.law import Units
from mixlaw.laws.registry import get_law
from mixlaw.selection.fit_laws import fit_laws
from mixlaw.tables.check import check_frame

RESULT = Path(__file__).with_name("benchmarks.csv")
Array = NDArray[np.float64]
DOMAINS, UNITS = ("web", "code", "wiki"), Units(1e8, 1e10)
TRUTH = np.log(np.array([0.5, 3.0, 1.5, 6.0, 0.5, 0.4, 0.6, 0.25, 0.35, 0.20, 0.30]))  # of the additive law, bits/byte
SIZES, BIG, SHARES, RUNS, HELD = (2e7, 8e7, 3.2e8), 1.28e9, (5, 10, 20, 40), 24, 8
DIFFICULTY = 0.3  # bits/byte, between questions
LOSS_NOISE = 0.005  # bits/byte, between runs and between evaluations


@dataclass(frozen=True)
class Case:
    """A benchmark: its curve and what scatters around it.

    Attributes
    ----------
    midpoint, slope, ceiling, chance : of the sigmoid of the loss
    questions : of an evaluation
    run : sd of the score between runs of equal loss
    alike : correlation of the errors of two runs on the same question, whose difficulties then differ; 0: no two
        evaluations share a question
    by_mixture : change of the score from no to all code at equal loss, which the curve does not know
    """

    midpoint: float = 1.1
    slope: float = 6.0
    ceiling: float = 0.95
    chance: float = 0.25
    questions: int = 1000
    run: float = 0.01
    alike: float = 0.0
    by_mixture: float = 0.0


CASES = {
    "rising": Case(),
    "few questions": Case(questions=150),
    "same questions": Case(alike=0.7),
    "generated": Case(chance=0.0, ceiling=0.8),
    "near chance": Case(midpoint=0.55),
    "at chance": Case(ceiling=0.25),
    "by mixture": Case(by_mixture=0.1),
    "steep": Case(midpoint=0.92, slope=40.0),
}


def study(case: Case, rng: np.random.Generator, sizes: tuple[float, ...], runs: int, questions: Array) -> pd.DataFrame:
    """Return runs with loss_task [bits/byte] and score_task.

    Parameters
    ----------
    questions : (2, q) normal variates: the difficulty of every question, and what all runs have in common in answering
    """
    rows = []
    for i in range(runs):
        n, h = sizes[i % len(sizes)], rng.dirichlet(np.full(3, 1.5))
        d = n * np.array(SHARES)
        x = UNITS.inputs(np.full(len(d), n), d, np.tile(h[:, None], len(d)))
        true = get_law("additive").loss(TRUTH[None], x)[0] + LOSS_NOISE * rng.normal()
        shift = case.run * rng.normal() + case.by_mixture * (h[1] - 1 / 3)
        score = answered(case, true, shift, rng, questions)
        weights = dict(zip((f"weight_{name}" for name in DOMAINS), h, strict=True))
        measured = {"loss_task": true + LOSS_NOISE * rng.normal(size=len(d)), "score_task": score}
        rows.append(pd.DataFrame({"run_id": f"run{i}", "n_params": n, "n_tokens": d} | weights | measured))
    return pd.concat(rows, ignore_index=True)


def answered(case: Case, loss: Array, shift: float, rng: np.random.Generator, questions: Array) -> Array:
    """Return the scores of a run's evaluations at true losses (n,): the shares of questions that are answered."""
    harder = DIFFICULTY * questions[0] if case.alike else np.zeros(1)
    expected = expit(-case.slope * (loss[:, None] + harder - case.midpoint))
    p = np.clip(case.chance + (case.ceiling - case.chance) * expected + shift, 0, 1)
    if not case.alike:
        return rng.binomial(case.questions, p[:, 0]) / case.questions
    luck = case.alike**0.5 * questions[1] + (1 - case.alike) ** 0.5 * rng.normal(size=p.shape)
    share: Array = (ndtr(luck) < p).mean(1)
    return share


def measure(name: str, seed: int) -> dict[str, object]:
    """Return verdict, coverage and width of the forecasts of one study."""
    case, rng = CASES[name], np.random.default_rng([seed, *name.encode()])
    questions = np.random.default_rng(seed).normal(size=(2, case.questions))
    table = check_frame(study(case, rng, SIZES, RUNS, questions), "the study")
    big = study(case, rng, (BIG,), HELD, questions).groupby("run_id").tail(1).reset_index(drop=True)
    laws = fit_laws(table, "additive", n_jobs=1, seed=seed)
    curve = fit_benchmarks(table, case.chance)
    found = predict_scores(curve, laws.best, check_frame(big, "the big runs"))
    inside = (found["low"] <= big["score_task"]) & (big["score_task"] <= found["high"])
    told = found["reason"] == ""
    return {
        "case": name,
        "study": seed,
        "best_score": curve["task"].points.score.max(),
        "measured": big["score_task"].mean(),
        "predicted": found["predicted"].mean(),
        "predictable": float(curve["task"].reason == ""),
        "verdict": curve["task"].reason.partition(":")[0].partition("(")[0].strip(),
        "told": told.mean(),
        "inside": inside.mean(),
        "inside_told": inside[told].mean(),
        "width": (found["high"] - found["low"]).mean(),
    }


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return, per case: mean scores, the share of studies that are not predictable, and coverage of the forecasts.

    `told` is the share of forecasts that are numbers, `inside` their coverage, and `inside, all` that of all forecasts.
    """
    rows = []
    for name, each in table.groupby("case", sort=False):
        told = each[each["told"] > 0]
        coverage = np.average(told["inside_told"], weights=told["told"]) if len(told) else np.nan
        shares = [each["best_score"].mean(), each["measured"].mean(), 1 - each["predictable"].mean()]
        error = (each["predicted"] - each["measured"]).abs().mean()
        rows.append(
            (
                name,
                len(each),
                *shares,
                each["told"].mean(),
                coverage,
                each["inside"].mean(),
                each["width"].mean(),
                error,
            )
        )
    columns = [
        "case",
        "studies",
        "best score",
        "big runs",
        "not predictable",
        "told",
        "inside",
        "inside, all",
        "width",
        "error",
    ]
    return pd.DataFrame(rows, columns=columns)


def main() -> int:
    """Run missing studies, write the table, print the summary."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", metavar="CASE", help="only cases whose name contains this")
    parser.add_argument("--studies", type=int, default=50, help="of every case; default: 50")
    options = parser.parse_args()
    known = pd.read_csv(RESULT) if RESULT.exists() else pd.DataFrame(columns=["case", "study"])
    wanted = [(name, seed) for seed in range(options.studies) for name in CASES if options.only in name]
    done = set(zip(known["case"], known["study"], strict=True))
    for name, seed in tqdm([key for key in wanted if key not in done], unit="study", mininterval=5):
        known = pd.concat([known, pd.DataFrame([measure(name, seed)])], ignore_index=True)
        known.to_csv(RESULT, index=False, float_format="%.4g")
    print(summary(known).to_string(index=False, float_format=lambda value: f"{100 * value:.0f} %"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
