"""`mixlaw report`: all figures and tables in one self-contained HTML file, the figures also as PNG."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mixlaw.advice.recommendation import Recommendation
from mixlaw.benchmarks.saved import Benchmarks
from mixlaw.cli.reading import cleaned_table_options, named_as, print_warnings, read_clean, read_like, warn_of_gaps
from mixlaw.console import remark, say
from mixlaw.errors import ConfigError, FitError
from mixlaw.fitting.saved import FittedLaws
from mixlaw.report.build import write_report, write_status
from mixlaw.runs.comparable import require_alike
from mixlaw.tables.table import Table


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options of `mixlaw report`."""
    cleaned_table_options(sub)
    recommended = "output of `mixlaw recommend --out`; default: recommendation.json in the study folder"
    proof = "runs trained on the recommended and other mixtures; default: STUDY_proof"
    picture = "PNG of model predictions by `python -m train.show`; default: predictions.png in the study folder"
    own = "laws of the finetuning domain, for what injection costs it; default: own.json in the study folder"
    scored = "output of `mixlaw benchmarks`; default: benchmarks.json in the study folder"
    out = "HTML file; default: report.html in the study folder, or in this folder if TABLE is a file"
    sub.add_argument("--laws", type=Path, help="output of `mixlaw fit`; default: laws.json in the study folder")
    sub.add_argument("--test", nargs="+", metavar="TABLE", help="runs that were not fitted; default: STUDY_heldout")
    sub.add_argument("--recommendation", type=Path, help=recommended)
    sub.add_argument("--proof", nargs="+", metavar="TABLE", help=proof)
    sub.add_argument("--picture", type=Path, help=picture)
    sub.add_argument("--own", type=Path, metavar="LAWS", help=own)
    sub.add_argument("--benchmarks", type=Path, metavar="FILE", help=scored)
    sub.add_argument("--out", type=Path, help=out)


def run(options: argparse.Namespace) -> None:
    """Write the report of a table, or of a study folder with the files in it."""
    study = Path(options.table[0]) if len(options.table) == 1 and Path(options.table[0]).is_dir() else None
    out = options.out or (study or Path()) / "report.html"
    fitted = options.laws or _beside(study, "laws.json")
    if fitted is None:
        _report_status(out, study)
        return
    laws = FittedLaws.load(fitted)
    saved = options.recommendation or _beside(study, "recommendation.json")
    answer = Recommendation.load(saved) if saved else None
    own = options.own or _beside(study, "own.json")
    scored = options.benchmarks or _beside(study, "benchmarks.json")
    table, outdated = _table_of(laws, study, options)
    print_warnings(table)
    test = _more_runs(_default_paths(options.test, study, "_heldout"), options, laws, table)
    proof = _more_runs(_default_paths(options.proof, study, "_proof"), options, laws, table) if answer else None
    if answer and answer.outdated(laws):
        outdated.append(f"{saved} was made from other laws than {fitted}: run `mixlaw recommend` again")
    for sentence in outdated:
        remark(f"warning: {sentence}")
    files = write_report(
        out,
        laws,
        table,
        test=test,
        answer=answer,
        proof=proof,
        predictions=options.picture or _beside(study, "predictions.png"),
        study=study,
        outdated=outdated,
        forecasts=fitted.parent,
        own=FittedLaws.load(own) if own else None,
        benchmarks=Benchmarks.load(scored) if scored else None,
    )
    say(f"{out} and {len(files)} PNGs in {files[0].parent}")


def _report_status(out: Path, study: Path | None) -> None:
    """Write the report of a study without laws: the states of its runs."""
    if study is None:
        raise ConfigError("a report needs laws: --laws laws.json, by `mixlaw fit TABLE --out laws.json`")
    write_status(out, study)
    say(f"{out}: the status of the study only, because it has no laws.json yet")


def _default_paths(given: Sequence[str] | None, study: Path | None, suffix: str) -> Sequence[str]:
    """Return the given paths, or else the folder of a study with a suffix behind its name, if there is one."""
    if given is not None or study is None:
        return given or []
    folder = study.with_name(study.name + suffix)
    return [str(folder)] if folder.is_dir() else []


def _more_runs(paths: Sequence[str], options: argparse.Namespace, laws: FittedLaws, table: Table) -> Table | None:
    """Read runs whose settings must equal those of the fitted table; None without paths."""
    if not paths:
        return None
    runs = read_like(paths, options, laws)
    require_alike(table.identity, runs.identity, "the runs of the laws", f"the runs in {', '.join(paths)}")
    return runs


def _table_of(laws: FittedLaws, study: Path | None, options: argparse.Namespace) -> tuple[Table, list[str]]:
    """Return the table that the laws were fitted to, or else the study's present runs with a warning sentence."""
    if study is None:
        return named_as(read_clean(options.table, options), laws), []
    try:
        table = laws.table_of(study)
    except FitError as error:
        return named_as(read_clean(options.table, options), laws), [str(error)]
    for note in table.notes:
        remark(f"note: {note}")
    warn_of_gaps(table)
    return table, []


def _beside(study: Path | None, name: str) -> Path | None:
    """Return a file in a study folder, or None if it does not exist."""
    return study / name if study and (study / name).exists() else None
