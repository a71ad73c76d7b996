"""`mixlaw forecast`: seal predictions before a run, score them after it, and keep the record."""

import argparse
from pathlib import Path

from mixlaw.cli.reading import read, reading_options, require_like_fit
from mixlaw.console import remark, say
from mixlaw.forecast.evidence import beginnings, changed_laws
from mixlaw.forecast.ledger import NAME, Ledger, record
from mixlaw.forecast.scoring import score
from mixlaw.forecast.sealed import Forecast
from mixlaw.forecast.sealing import default_path, seal
from mixlaw.forecast.words import gains_table, history, losses_table, moment, sealed_table, totals, verdict
from mixlaw.text import count_text, text_table


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the three actions of `mixlaw forecast` with their options."""
    actions = sub.add_subparsers(required=True, metavar="ACTION")
    _seal_options(actions.add_parser("seal", help="write the forecast of an answer, before the run starts"))
    _score_options(actions.add_parser("score", help="compare a sealed forecast with runs, and add it to the ledger"))
    _ledger_options(actions.add_parser("ledger", help="print the record of all scored forecasts"))


def run(options: argparse.Namespace) -> None:
    """Do what the action says."""
    options.act(options)


def _seal_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("laws", metavar="LAWS")
    sub.add_argument("answer", metavar="ANSWER", help="output of `mixlaw recommend --out`")
    sub.add_argument("--out", type=Path, metavar="FILE", help="default: forecast.json beside the answer")
    sub.set_defaults(act=_seal)


def _seal(options: argparse.Namespace) -> None:
    out = options.out or default_path(options.answer)
    forecast = seal(options.laws, options.answer, out)
    size = f"N = {count_text(forecast.n_params)}, D = {count_text(forecast.n_tokens)}"
    say(f"forecast of the {forecast.law} law for {size}\n\n{text_table(sealed_table(forecast))}\n")
    say(f"{out}: sealed {moment(forecast.sealed)}; score it by `mixlaw forecast score {out} RUNS`")
    say(f"post this where its date is on record (a commit, a ticket): sha256 {forecast.seal}")


def _score_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("forecast", type=Path, metavar="FILE", help="output of `mixlaw forecast seal`")
    sub.add_argument("table", nargs="+", metavar="RUNS", help="run directories or tables of the runs that it is about")
    sub.add_argument("--ledger", type=Path, metavar="FILE", help=f"default: {NAME} beside the forecast")
    reading_options(sub)
    sub.set_defaults(act=_score)


def _score(options: argparse.Namespace) -> None:
    forecast = Forecast.load(options.forecast)
    runs = read(options.table, options)
    require_like_fit(forecast.identity, runs, options)
    began = beginnings(options.table, runs.frame["run_id"].unique(), forecast.time)
    found = score(forecast, runs, began)
    for note in found.notes:
        remark(f"note: {note}")
    if changed := changed_laws(forecast, options.forecast.parent):
        remark(f"warning: {changed}")
    tables = [text_table(table) for table in (losses_table(found), gains_table(found)) if len(table)]
    say("\n\n".join([*tables, verdict(found)]))
    ledger = options.ledger or options.forecast.with_name(NAME)
    added = record(ledger, found)
    say(f"added to {ledger}" if added else f"{ledger} holds this score already")


def _ledger_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("ledger", nargs="?", type=Path, default=Path(NAME), metavar="FILE", help=f"default: {NAME}")
    sub.set_defaults(act=_ledger)


def _ledger(options: argparse.Namespace) -> None:
    ledger = Ledger.load(options.ledger)
    say(f"{text_table(history(ledger))}\n\n{totals(ledger)}")
