"""`mixlaw export`: a recommended mixture as the file of a trainer."""

import argparse
from pathlib import Path

from mixlaw.advice.recommendation import Recommendation
from mixlaw.console import remark, say
from mixlaw.export.exported import ALL, export_mixture
from mixlaw.export.registry import FORMATS
from mixlaw.quoted import read_pairs, read_texts


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options of `mixlaw export`."""
    sub.add_argument("recommendation", metavar="ANSWER", type=Path, help="file of `mixlaw recommend --out`")
    sub.add_argument("--to", required=True, metavar="FORMAT", help=f"one of {', '.join(FORMATS)}")
    phase = (
        "which mixture of an answer of `recommend --phases`: 1, 2, ..., or all (hydra); default: the best single one"
    )
    sub.add_argument("--phase", type=_phase, metavar="P", help=phase)
    sub.add_argument(
        "--paths", default="", metavar="D=PATH,...", help="where the trainer reads each domain; default: its name"
    )
    lengths = (
        "mean tokens per sample, for trainers that draw samples (documents, examples); default: all are equally long"
    )
    sub.add_argument("--mean-tokens", default="", metavar="D=LENGTH,...", help=lengths)
    available = "available tokens, for the epochs of each domain; added to those of the answer"
    sub.add_argument("--available", default="", metavar="D=TOKENS,...", help=available)
    sub.add_argument("--out", type=Path, help="file to write; default: standard output")


def _phase(text: str) -> int | str:
    """Return the number of a phase, or "all"."""
    return text if text == ALL else int(text)


def run(options: argparse.Namespace) -> None:
    """Export a mixture."""
    exported = export_mixture(
        Recommendation.load(options.recommendation),
        options.to,
        phase=options.phase,
        paths=read_texts(options.paths),
        mean_tokens=read_pairs(options.mean_tokens),
        available=read_pairs(options.available),
    )
    text = str(exported)  # refuses what the format cannot express, before anything is written
    if options.out:
        exported.save(options.out)
    else:
        say(text.removesuffix("\n"))
    if options.out or not exported.format.comments:
        remark(exported.notes)
