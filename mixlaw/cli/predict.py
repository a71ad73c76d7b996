"""`mixlaw predict`: the losses of a table's rows, or of a run on given mixtures, with intervals."""

import argparse
from pathlib import Path

import pandas as pd

from mixlaw.advice.ask import read_baseline, usual_mixtures
from mixlaw.advice.constraints import read_mixture
from mixlaw.advice.extrapolation import far_warnings, phase_warnings, rows_of
from mixlaw.advice.phase_plan import require_phases
from mixlaw.benchmarks.saved import Benchmarks
from mixlaw.benchmarks.two_stages import predict_scores
from mixlaw.cli.options import number, share
from mixlaw.cli.reading import print_warnings, read_like, reading_options, require_like_fit
from mixlaw.console import remark, say
from mixlaw.errors import ConfigError, unknown_name
from mixlaw.fileio import strict_json
from mixlaw.fitting.saved import FittedLaws
from mixlaw.mixture import Mixture
from mixlaw.phased_mixture import PhasedMixture
from mixlaw.tables.phase_mixtures import run_of
from mixlaw.tables.table import Table
from mixlaw.tables.units import NATS
from mixlaw.text import text_table


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options of `mixlaw predict`."""
    sub.add_argument("laws", metavar="LAWS")
    sub.add_argument("table", nargs="*", metavar="TABLE", help="the runs; or state one by --mixture")
    _run_options(sub)
    sub.add_argument("--law", help="one of the fitted laws; default: the chosen one")
    sub.add_argument(
        "--level", type=share, default=0.9, metavar="SHARE", help="coverage of the intervals; default: 0.9"
    )
    compared = "add the gain of every row over this mixture: uniform, natural, D=W,..., or a file"
    sub.add_argument("--baseline", metavar="MIXTURE", help=compared)
    scored = "output of `mixlaw benchmarks`: adds the predicted scores of every row"
    sub.add_argument("--benchmarks", type=Path, metavar="FILE", help=scored)
    sub.add_argument("--out", type=Path, help="write a CSV file; default: print a table")
    sub.add_argument("--json", action="store_true", help="print JSON: one record per row and target")
    reading_options(sub)


def _run_options(sub: argparse.ArgumentParser) -> None:
    """Add the options that state one run."""
    group = sub.add_argument_group("one run instead of a table")
    weights = "uniform, natural, D=W,..., or a file; repeat it for a run that changes its mixture"
    group.add_argument("--mixture", action="append", default=[], metavar="MIXTURE", help=weights)
    ends = "share of the tokens at which a mixture ends, for each but the last"
    group.add_argument("--until", action="append", type=share, default=[], metavar="SHARE", help=ends)
    group.add_argument("--n-params", type=number, metavar="N", help="its parameters")
    group.add_argument("--n-tokens", type=number, metavar="D", help="its tokens")


def run(options: argparse.Namespace) -> None:
    """Predict the losses of every row of a table, or of one run."""
    laws = FittedLaws.load(options.laws)
    name = options.law or laws.chosen
    if name not in laws.fits:
        raise ConfigError(f"--law: {unknown_name('law', name, laws.fits)}")
    mixture = _stated(laws, name, options)
    for warning in laws.fits[name].warnings:
        remark(f"warning: {warning}")
    table = _read(laws, options) if mixture is None else run_of(mixture, options.n_params, options.n_tokens)
    baseline = read_baseline(laws, name, options.baseline) if options.baseline else None
    predictions = laws.fits[name].predict(table, level=options.level, baseline=baseline)
    units = {target: laws.fits[name].target(target).unit for target in predictions["target"].unique()}
    if set(units.values()) != {NATS}:
        predictions["unit"] = predictions["target"].map(units)
    if options.benchmarks:
        scored = predict_scores(Benchmarks.load(options.benchmarks), laws.fits[name], table, options.level)
        predictions = pd.concat([predictions.assign(unit=predictions["target"].map(units)), scored], ignore_index=True)
    unseen = phase_warnings(laws, mixture.phases) if isinstance(mixture, PhasedMixture) else []
    for warning in [*far_warnings(laws, name, rows_of(laws, name, table)), *unseen]:
        remark(f"warning: {warning}")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        predictions.to_csv(options.out, index=False)
        say(f"{len(predictions)} predictions of the {name} law written to {options.out}")
    elif options.json:
        say(strict_json(predictions.to_dict("records"), indent=1))
    else:
        say(text_table(predictions))


def _read(laws: FittedLaws, options: argparse.Namespace) -> Table:
    """Return the table of the options; print its warnings."""
    table = read_like(options.table, options, laws, need_losses=False)
    print_warnings(table)
    require_like_fit(laws.identity, table, options)
    return table


def _stated(laws: FittedLaws, law: str, options: argparse.Namespace) -> Mixture | None:
    """Return the mixture of the run that the options state; None if they name a table."""
    stated = bool(options.mixture or options.until or options.n_params or options.n_tokens)
    if bool(options.table) == stated or (stated and not (options.n_params and options.n_tokens)):
        raise ConfigError("predict takes a table of runs, or --mixture, --n-params and --n-tokens of one run")
    if not stated:
        return None
    domains = laws.fits[law].domains
    usual = usual_mixtures(domains, laws.sizes)
    mixture = PhasedMixture.parse_phases([read_mixture(m, domains, usual) for m in options.mixture], options.until)
    if isinstance(mixture, PhasedMixture):
        require_phases(laws.fits[law], "--until")
    return mixture
