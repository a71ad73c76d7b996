"""`mixlaw report`: draw everything into one self-contained HTML file and PNGs beside it."""

import argparse
from pathlib import Path

from mixlaw.advice.recommend import is_outdated, read_answer
from mixlaw.cli.reading import doubt, named_as, read_clean, read_like, table_options, warn_of_gaps
from mixlaw.console import remark, say
from mixlaw.errors import ConfigError, FitError
from mixlaw.fitting.saved import FittedLaws
from mixlaw.report.build import write_report, write_status
from mixlaw.runs.comparable import require_alike
from mixlaw.tables.table import Table


def add_options(sub: argparse.ArgumentParser) -> None:
    table_options(sub)
    sub.add_argument(
        "--keep-warmup", action="store_true", help="do not leave out checkpoints that are still in warm-up"
    )
    sub.add_argument("--laws", type=Path, help="by default laws.json in the study's folder, as all of these")
    sub.add_argument("--test", nargs="+", metavar="TABLE", help="runs that the laws were scored on; STUDY_heldout")
    sub.add_argument("--recommendation", type=Path, help="by `mixlaw recommend --out`; recommendation.json")
    sub.add_argument("--proof", nargs="+", metavar="TABLE", help="runs that test the recommendation; STUDY_proof")
    sub.add_argument("--picture", type=Path, help="PNG of what a model predicts, by `python -m train.show`")
    sub.add_argument("--out", type=Path, help="report.html in the study's folder, or here where TABLE is a file")


def run(options: argparse.Namespace) -> None:
    """Draw the report of a table, or of a study by the files that its folder holds."""
    study = Path(options.table[0]) if len(options.table) == 1 and Path(options.table[0]).is_dir() else None
    out = options.out or (study or Path()) / "report.html"
    laws = options.laws or _beside(study, "laws.json")
    if laws is None:
        if study is None:
            raise ConfigError("a report needs laws: --laws laws.json, by `mixlaw fit TABLE --out laws.json`")
        write_status(out, study)
        say(f"{out}: the status of the study only, because it has no laws.json yet")
        return
    asked = options.recommendation or _beside(study, "recommendation.json")
    held, proof = (
        [str(folder)] if given is None and study and (folder := study.with_name(study.name + part)).is_dir() else given
        for given, part in ((options.test, "_heldout"), (options.proof, "_proof"))
    )
    answer, fitted = read_answer(asked) if asked else None, FittedLaws.load(laws)
    test, proven = (read_like(paths, options, fitted) if paths else None for paths in (held, proof if asked else None))
    table, outdated = _table_of(fitted, study, options)
    doubt(table)
    for other, paths in ((test, held), (proven, proof if asked else None)):
        if other and paths:
            require_alike(table.identity, other.identity, "the runs of the laws", f"the runs in {', '.join(paths)}")
    if answer and is_outdated(answer, fitted):
        outdated.append(f"{asked} rests on other laws than {laws}: `mixlaw recommend` again")
    for sentence in outdated:
        remark(f"warning: {sentence}")
    picture = options.picture or _beside(study, "predictions.png")
    pictures = write_report(out, fitted, table, test, answer, proven, picture, study, outdated)
    say(f"{out} and {len(pictures)} PNGs in {pictures[0].parent}")


def _table_of(laws: FittedLaws, study: Path | None, options: argparse.Namespace) -> tuple[Table, list[str]]:
    """Return what laws were fitted to, or else the study's runs as they are now and a sentence that says so."""
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
    """Return a file of a study's folder, if it is there."""
    return study / name if study and (study / name).exists() else None
