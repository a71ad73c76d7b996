"""python -m scripts.bench_tasks RUNS [--out FILE]: do benchmarks tell the mixtures of a study apart?

For each size and task: bits per byte of the right answers, accuracy, and how many pairs of mixtures differ by more than
twice the standard error of their difference. All runs answer the same questions, so the error is that of the paired
differences, which is smaller than that of either loss. Reads the newest checkpoint of every run; --out writes the
table of all evaluations.
"""

import argparse
import itertools
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import mixlaw
from data.store.questions import task_names
from data.store.tokens import open_manifest
from data.stream.questions import task_set
from mixlaw.runs.load import find_runs
from train.distributed import ALONE
from train.evaluate import Evaluator
from train.export import Trained, read_run

BATCH = 64
TOLD_APART = 2.0  # standard errors of a paired difference
Floats = NDArray[np.float64]


def main() -> None:
    """Print the table of a study."""
    parser = argparse.ArgumentParser("python -m scripts.bench_tasks", description=__doc__.split("\n\n")[0])
    parser.add_argument("runs", type=Path, metavar="RUNS", help="the folder of a study whose targets are tasks")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all evaluations to this CSV")
    options = parser.parse_args()
    runs = [read_run(folder) for folder in find_runs([options.runs])]
    answers = {run.facts["run_id"]: answered(run) for run in runs}
    print(by_size(runs, answers).to_string(index=False))
    if options.out:
        written(mixlaw.read_table([options.runs]).frame).to_csv(options.out, index=False, float_format="%.5g")


def answered(run: Trained) -> dict[str, Floats]:
    """Return task -> (n_questions,) bits per byte of the right answer of each question."""
    config, manifest = run.config, open_manifest(run.config.data.folder)
    evaluator = Evaluator(manifest, config.evaluation, config.layout(), BATCH)
    sums = evaluator.by_sequence(run.model, ALONE, config.precision) or {}
    found = {}
    for name in task_names(manifest):
        choices = task_set(manifest, name, config.layout(), config.evaluation.max_questions, BATCH).choices
        bits = sums[name]["text"][:, 0].numpy() / math.log(2) / choices.n_bytes
        right = np.flatnonzero(choices.right)
        found[name] = bits[right][np.argsort(choices.question[right])]
    return found


def by_size(runs: list[Trained], answers: Mapping[str, Mapping[str, Floats]]) -> pd.DataFrame:
    """Return one row per size and task, over the mixtures that every size has."""
    sizes: dict[int, dict[str, Trained]] = {}
    for run in runs:
        sizes.setdefault(run.facts["n_params"]["total"], {})[str(run.facts["mixture"])] = run
    common = sorted(set.intersection(*map(set, sizes.values())))
    rows = []
    for n_params, of_size in sorted(sizes.items()):
        kept = [of_size[mixture] for mixture in common]
        for task in answers[kept[0].facts["run_id"]]:
            apart = told_apart([answers[run.facts["run_id"]][task] for run in kept])
            rows.append({"n_params": n_params, "task": task} | measured(kept, task) | apart)
    return pd.DataFrame(rows)


def measured(runs: list[Trained], task: str) -> dict[str, float]:
    """Return the means over runs of what the run log has of a task."""
    keys = [key for key in ("loss", "loss_se", "score", "score_se") if key in runs[0].losses[task]]
    return {f"mean {key}": round(float(np.mean([run.losses[task][key] for run in runs])), 3) for key in keys}


def told_apart(losses: list[Floats]) -> dict[str, float | str]:
    """Return how much the losses of mixtures differ, and how many pairs differ beyond the error of their difference.

    Parameters
    ----------
    losses : of each mixture (n_questions,)
    """
    differences = [a - b for a, b in itertools.combinations(losses, 2)]
    errors = [error(d) for d in differences]
    apart = sum(abs(d.mean()) > TOLD_APART * e for d, e in zip(differences, errors, strict=True))
    spread = float(np.std([loss.mean() for loss in losses], ddof=1))
    shown = {"sd of mixtures": round(spread, 3), "se of a difference": round(float(np.mean(errors)), 3)}
    return shown | {"told apart": f"{apart} of {len(differences)}"}


def error(differences: Floats) -> float:
    """Return the standard error of a mean."""
    return float(np.std(differences, ddof=1) / len(differences) ** 0.5)


def written(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that a fit reads, and the scores."""
    kept = ("run_id", "seed", "n_params", "n_tokens", "weight_", "loss_", "score_")
    return frame[[c for c in map(str, frame) if c.startswith(kept)]]


if __name__ == "__main__":
    main()
