"""python -m scripts.wandb_fit runs/STUDY [--test runs/STUDY_heldout] [--project mixlaw]: a fit as a W&B page.

The page has job type "fit" and the study as its group, beside the runs that the laws were fitted to. On it:

    law-STUDY     artifact of type "law": laws.json, runs.csv (the fitted table), and report.html and
                  recommendation.json if they exist; its metadata have the law, the scores, h* and the runs
    scores        table: each law's errors per target, on held-out runs and on the fitted ones
    predictions   table: predicted and observed losses of the chosen law, with intervals
    optimum       table: h* with its interval per domain, if there is a recommendation
    phases        table: the same in each phase, if it has phases; phase_gains: what they gain over the best single
                  mixture, by target; switches: the predicted loss by where the mixture changes
    report        the page that `mixlaw report` wrote, with its sliders, if there is one

Lineage: the page uses the artifact runs-STUDY (type "runs": run.json, metrics.jsonl and done.json of each run that the
laws were fitted to) and logs law-STUDY. W&B's `use_artifact` does not work offline, so the use is recorded with the log
records of the artifact and `wandb sync` completes it; law-STUDY also states run ids and the digest of runs-STUDY. W&B
keeps all its files below runs/STUDY/wandb, where scripts/sync_wandb.sh finds them. Logging the same laws again updates
the same page. If the server does not answer within WANDB_INIT_TIMEOUT, the script stops.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pandas as pd

from mixlaw.advice.recommendation import Recommendation
from mixlaw.errors import ConfigError, MixlawError
from mixlaw.fileio import file_sha256
from mixlaw.fitting.saved import FittedLaws
from mixlaw.paths import path_option
from mixlaw.runs.load import find_runs
from mixlaw.runs.log import read_facts
from mixlaw.tables.clean import prepare
from mixlaw.tables.read import read_table
from mixlaw.tables.table import Table
from scripts.wandb_tables import (
    FITTED,
    HELD_OUT,
    PREDICTIONS,
    SCORES,
    answer_facts,
    answer_tables,
    numbers_of,
    prediction_table,
    score_table,
)

LOGS = ("run.json", "metrics.jsonl", "done.json")
REPORT = "report.html"
OUTPUTS = ("laws.json", REPORT, "recommendation.json")
PATIENCE_S = 12  # timeout of opening a page; W&B's default is 90 s, without a message
ANSWER_S = 3


@dataclass(frozen=True)
class Fit:
    """A study's laws, their table, and the recommendation.

    Attributes
    ----------
    folder : runs/STUDY, with laws.json
    runs : run id -> run directory, of the runs in the table
    answer : recommendation.json, or None
    """

    folder: Path
    laws: FittedLaws
    table: Table
    runs: dict[str, Path]
    answer: Recommendation | None

    @property
    def study(self) -> str:
        return self.folder.resolve().name


def read_fit(folder: Path) -> Fit:
    """Read a study and the laws that were fitted to it.

    Raises
    ------
    MixlawError
        If runs or laws cannot be read, the laws were fitted to other runs, or the recommendation is of other laws.
    """
    laws = FittedLaws.load(folder / "laws.json")
    table = laws.table_of(folder)
    ids = set(table.frame["run_id"])
    runs = {run_id: path for path in find_runs([folder]) if (run_id := read_facts(path)["run_id"]) in ids}
    path = folder / "recommendation.json"
    answer = Recommendation.load(path) if path.exists() else None
    if answer and answer.outdated(laws):
        raise ConfigError(f"{path} was not made from {folder}/laws.json: run `mixlaw recommend` again, or delete it")
    return Fit(folder, laws, table, runs, answer)


def metadata_of(fit: Fit, runs_digest: str) -> dict[str, Any]:
    """Return the metadata of the law's artifact: law, scores, h*, phases and runs."""
    laws = fit.laws
    facts: dict[str, Any] = {
        "law": laws.chosen,
        "reason": laws.reason,
        "laws": list(laws.fits),
        "data_sha256": laws.data_sha256,
        "scores": laws.scores,
        "run_ids": sorted(fit.runs),
        "runs_digest": runs_digest,
    }
    return facts | answer_facts(fit.answer)


@contextmanager
def wandb_errors(otherwise: str) -> Iterator[None]:
    """Context that turns errors of W&B (missing, wrong settings, unreachable, no access) into a ConfigError.

    Parameters
    ----------
    otherwise : advice for the error if the server does not answer

    Raises
    ------
    ConfigError
        Saying what to do.
    """
    try:
        import wandb
    except ImportError as error:
        raise ConfigError(f"W&B is not installed ({error}): pip install -e '.[train]'") from None
    os.environ.setdefault("WANDB_INIT_TIMEOUT", str(PATIENCE_S))
    try:
        read_settings()
        yield
    except wandb.errors.Error as error:
        if isinstance(error, wandb.errors.CommError):
            must_answer(otherwise)
        raise ConfigError(f"W&B refused it ({str(error).splitlines()[0]}): `wandb login` first") from None


def read_settings() -> None:
    """Load W&B's settings from environment variables and W&B's files.

    Raises
    ------
    ConfigError
        If W&B rejects a value.
    """
    import wandb
    from pydantic import ValidationError

    try:
        wandb.setup()
    except ValidationError as error:
        wrong = error.errors()[0]
        raise ConfigError(f"WANDB_{str(wrong['loc'][0]).upper()}={wrong['input']}: {wrong['msg']}") from None


def must_answer(otherwise: str) -> None:
    """Raise if the server does not answer, instead of waiting.

    Raises
    ------
    ConfigError
        Saying what to do otherwise.
    """
    import wandb

    server = wandb.setup().settings.base_url
    if not answers(server):
        raise ConfigError(f"W&B's server {server} does not answer; {otherwise}")


def answers(server: str) -> bool:
    """Return whether a server answers without a server error; W&B's own exceptions do not show this."""
    try:
        with urlopen(server, timeout=ANSWER_S):
            return True
    except HTTPError as error:
        return error.code < 500
    except (OSError, HTTPException):
        return False


def log_fit(fit: Fit, project: str, test: Table | None) -> None:
    """Write a fit to W&B, online or offline.

    Raises
    ------
    ConfigError
        If W&B is disabled.
    """
    import wandb

    os.environ["WANDB_DATA_DIR"] = str((fit.folder / "wandb").resolve())  # keeps copies of files beside their records
    sha256 = file_sha256(fit.folder / "laws.json")
    run = wandb.init(
        project=project,
        group=fit.study,
        job_type="fit",
        tags=[fit.laws.chosen],
        id=f"fit-{fit.study}-{sha256[:12]}",
        name=f"fit-{fit.study}",
        resume="allow",
        dir=str(fit.folder),
        config={key: getattr(fit.laws, key) for key in ("chosen", "reason", "data_sha256")},
        settings=wandb.Settings(silent=True, console="off", x_disable_stats=True, disable_git=True),
    )
    if run.disabled:
        raise ConfigError("nothing is logged, because WANDB_MODE=disabled: unset it, or set it to offline")
    runs = runs_artifact(fit)
    run._log_artifact(runs, use_after_commit=True)  # what use_artifact does, which works online only
    scores = score_table(fit.laws, fit.table)
    predictions = [prediction_table(fit.laws, fit.table, FITTED)]
    if test is not None:
        predictions.append(prediction_table(fit.laws, test, HELD_OUT))
    run.log_artifact(law_artifact(fit, runs.digest))
    tables = {SCORES: scores, PREDICTIONS: pd.concat(predictions, ignore_index=True)}
    tables |= answer_tables(fit.answer)
    page = fit.folder / REPORT
    shown = {"report": wandb.Html(page, inject=False)} if page.exists() else {}
    run.log({name: wandb.Table(dataframe=table) for name, table in tables.items()} | shown)
    run.summary.update(numbers_of(scores, fit.answer))
    run.finish()


def runs_artifact(fit: Fit) -> Any:
    """Return the artifact of the logs of the fitted runs."""
    import wandb

    ids = sorted(fit.runs)
    artifact = wandb.Artifact(f"runs-{fit.study}", "runs", metadata={"study": fit.study, "run_ids": ids})
    for run_id, folder in sorted(fit.runs.items()):
        for name in LOGS:
            artifact.add_file(str(folder / name), name=f"{run_id}/{name}")
    return artifact


def law_artifact(fit: Fit, runs_digest: str) -> Any:
    """Return the artifact of the laws, their table, report and recommendation."""
    import wandb

    artifact = wandb.Artifact(f"law-{fit.study}", "law", metadata=metadata_of(fit, runs_digest))
    for name in OUTPUTS:
        if (fit.folder / name).exists():
            artifact.add_file(str(fit.folder / name), name=name)
    with artifact.new_file("runs.csv", encoding="utf-8") as file:
        fit.table.frame.to_csv(file, index=False)
    return artifact


def main(argv: Sequence[str] | None = None) -> int:
    """Log one study's fit."""
    parser = argparse.ArgumentParser("python -m scripts.wandb_fit", description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=path_option, help="runs/STUDY, which contains laws.json")
    parser.add_argument("--test", nargs="*", default=[], help="held-out runs, for the table of predictions")
    parser.add_argument("--project", default="mixlaw")
    options = parser.parse_args(argv)
    try:
        fit = read_fit(options.folder)
        test = prepare(read_table(options.test)) if options.test else None
        with wandb_errors("WANDB_MODE=offline does without it, and scripts/sync_wandb.sh sends the page later"):
            log_fit(fit, options.project, test)
    except MixlawError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"fit-{fit.study}: {fit.laws.chosen} law of {len(fit.runs)} runs, below {fit.folder}/wandb")
    return 0


if __name__ == "__main__":
    sys.exit(main())
