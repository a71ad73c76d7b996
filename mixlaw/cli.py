"""The command line: mixlaw check | fit | predict | recommend | compare | report.

Exit codes: 0 done; 2 a wrong argument; 3 a table or run that cannot be trusted; 5 a law that the runs cannot support.
Heavy imports wait until a command needs them, so that --help is instant.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixlaw.errors import ConfigError, MixlawError

if TYPE_CHECKING:
    from mixlaw.tables import Table

EXAMPLES = """examples:
  mixlaw check runs/quickstart
  mixlaw fit runs/quickstart --law base,additive,joint --test runs/quickstart_heldout --out laws.json
  mixlaw fit table.csv --law joint --target wikipedia --out laws.json
  mixlaw predict laws.json new_runs.csv --out predicted.csv
  mixlaw recommend laws.json --n-params 7e9 --n-tokens 150e9 --target average --json
  mixlaw compare table.csv --laws base,additive,joint --holdout scale

A TABLE is a CSV or parquet file, or a folder of run directories. Columns: n_params, n_tokens, weight_<domain>...,
loss_<target>..., optionally run_id and loss_se_<target>; other names by --columns n_params=model_size,...
"""
HOLDOUTS = ["scale", "mixture", "tokens"]
Command = Callable[[argparse.Namespace], None]
Options = Callable[[argparse.ArgumentParser], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; a mistake ends in one sentence on stderr, never in a traceback."""
    options = build_parser().parse_args(arguments)
    try:
        options.command(options)
    except MixlawError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"error: {error.filename or 'output'}: {error.strerror or error}\n")
        return 4
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    raw = argparse.RawDescriptionHelpFormatter
    about = "Scaling laws for data mixtures."
    parser = argparse.ArgumentParser("mixlaw", description=about, epilog=EXAMPLES, formatter_class=raw)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (run, options, text) in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text, epilog=EXAMPLES, formatter_class=raw)
        sub.set_defaults(command=run)
        options(sub)
    return parser


def _table_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("table", nargs="+", metavar="TABLE")
    sub.add_argument("--columns", default="", metavar="NAME=YOURS,...", help="your names of the standard columns")
    counts = ["n_params", "n_params_non_embedding"]
    sub.add_argument("--count", choices=counts, default="n_params", help="which N of run directories")


def _fit_options(sub: argparse.ArgumentParser) -> None:
    _table_options(sub)
    sub.add_argument("--law", default="auto", help="names with commas between, or auto: additive and joint, one chosen")
    sub.add_argument("--target", nargs="+", default=[], help="targets to fit; all by default")
    sub.add_argument("--test", nargs="+", default=[], metavar="TABLE", help="runs to score the laws on; never fitted")
    sub.add_argument("--holdout", choices=HOLDOUTS, help="score on a part of TABLE, fitted on the rest")
    sub.add_argument("--out", type=Path, help="where the laws are written, e.g. laws.json")
    _solver_options(sub)


def _predict_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("laws", metavar="LAWS")
    _table_options(sub)
    sub.add_argument("--law", help="one of the fitted laws; the chosen one by default")
    sub.add_argument("--out", type=Path, help="a CSV file; the terminal by default")


def _recommend_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("laws", metavar="LAWS")
    sub.add_argument("--n-params", type=_number, required=True, help="N of the big run, e.g. 7e9")
    sub.add_argument("--n-tokens", type=_number, required=True, help="D of the big run, e.g. 150e9")
    sub.add_argument("--target", default="average", help="average (of the domains), NAME, or NAME:2,OTHER:1")
    sub.add_argument("--law", help="one of the fitted laws; the chosen one by default")
    sub.add_argument("--min", default="", metavar="D=W,...", help="least weight of domains")
    sub.add_argument("--max", default="", metavar="D=W,...", help="most weight of domains")
    sub.add_argument("--max-epochs", type=_number, help="cap weights so that no domain is repeated more often")
    sub.add_argument("--available", default="", metavar="D=TOKENS,...", help="tokens of domains, for --max-epochs")
    sub.add_argument("--json", action="store_true", help="print everything as JSON")
    sub.add_argument("--out", type=Path, help="also write the JSON to a file")


def _compare_options(sub: argparse.ArgumentParser) -> None:
    _table_options(sub)
    sub.add_argument("--laws", default="base,additive,joint")
    sub.add_argument("--holdout", choices=HOLDOUTS, default="scale")
    sub.add_argument("--target", nargs="+", default=[])
    sub.add_argument("--json", action="store_true")
    _solver_options(sub)


def _report_options(sub: argparse.ArgumentParser) -> None:
    _table_options(sub)
    sub.add_argument("--laws", required=True, type=Path)
    sub.add_argument("--test", nargs="+", default=[], metavar="TABLE", help="runs that the laws were scored on")
    sub.add_argument("--recommendation", type=Path, help="JSON written by `mixlaw recommend --out`")
    sub.add_argument("--proof", nargs="+", default=[], metavar="TABLE", help="runs that test the recommendation")
    sub.add_argument("--out", type=Path, default=Path("report.html"))


def _solver_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--starts", type=int, default=24, help="descents per target")
    sub.add_argument("--bootstrap", type=int, default=100, help="resamples of runs behind the intervals")
    sub.add_argument("--delta", type=_number, default=1e-3, help="Huber threshold [nats]")
    sub.add_argument("--seed", type=int, default=0)


def _number(text: str) -> float:
    value = float(text.replace("_", ""))
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def say(text: str) -> None:
    """Print a line for a person; results in files and JSON go elsewhere."""
    sys.stdout.write(text + "\n")


def _read(paths: Sequence[str], options: argparse.Namespace) -> "Table":
    from mixlaw.tables import read_table

    pairs = [part.partition("=")[::2] for part in options.columns.split(",") if part]
    if any(not yours for _, yours in pairs):
        raise ConfigError(f"--columns {options.columns}: write NAME=YOURS,NAME=YOURS")
    table = read_table(paths, {yours: name for name, yours in pairs}, options.count)
    for note in table.notes:
        sys.stderr.write(f"note: {note}\n")
    return table


def run_check(options: argparse.Namespace) -> None:
    """Say what a table holds."""
    table = _read(options.table, options)
    frame = table.frame
    say(f"{len(frame)} rows of {frame['run_id'].nunique()} runs, {len(table.notes)} notes")
    for column, unit in (("n_params", "parameters"), ("n_tokens", "tokens")):
        values = sorted(frame[column].unique())
        say(f"{column}: {len(values)} values, {values[0]:.3g} to {values[-1]:.3g} {unit}")
    for domain in table.domains:
        weight = frame[f"weight_{domain}"]
        say(f"weight_{domain}: {weight.min():.3f} to {weight.max():.3f}, {weight.round(4).nunique()} values")
    for target in table.targets:
        loss = frame[f"loss_{target}"]
        say(f"loss_{target}: {loss.min():.3f} to {loss.max():.3f} nats, {int(loss.isna().sum())} empty")


def run_fit(options: argparse.Namespace) -> None:
    """Fit, score, choose, write."""
    import pandas as pd

    from mixlaw.artefact import FittedLaws, choose_law
    from mixlaw.fit import LawFit
    from mixlaw.splits import held_out
    from mixlaw.uncertainty import seed_noise

    table = _read(options.table, options)
    names = ["additive", "joint"] if options.law == "auto" else options.law.split(",")
    settings = {"delta": options.delta, "n_starts": options.starts, "seed": options.seed}
    scored = []
    if options.holdout:
        held = held_out(table, options.holdout)
        scored = [
            LawFit(n, n_bootstrap=options.bootstrap, **settings)
            .fit(table.rows(~held), options.target)
            .score(table.rows(held))
            for n in names
        ]
    with Progress(len(names) * len(options.target or table.targets)) as bar:
        fits = {n: LawFit(n, n_bootstrap=options.bootstrap, **settings).fit(table, options.target, bar) for n in names}
    if options.test:
        test = _read(options.test, options)
        scored = [fit.score(test) for fit in fits.values()]
    for name, fit in fits.items():
        for warning in fit.warnings_:
            sys.stderr.write(f"warning: {name} law: {warning}\n")
        for target, result in fit.targets_.items():
            say(f"{name:<10} {target:<16} {result.n_rows} rows of {result.n_runs} runs; {result.statement}")
    if scored:
        say("\nMRE [%] on runs that the fit never saw:")
        say(score_table(pd.concat(scored)))
    noise = seed_noise(table)
    if len(noise):
        shown = ", ".join(f"{r.target} {r.percent:.2f} %" for r in noise.itertuples())
        say(f"\nseed noise (sd over {noise['n_runs'].max()} runs that differ in their seed only): {shown}")
    chosen, reason = choose_law(table, names, options.target, **settings)
    say(f"\nchosen: {chosen} ({reason})")
    ranges = {c: (float(table.frame[c].min()), float(table.frame[c].max())) for c in ("n_params", "n_tokens")}
    rows = pd.concat(scored).to_dict(orient="records") if scored else []
    if options.out:
        FittedLaws(fits, chosen, reason, ranges, table.sizes, rows).save(options.out)  # type: ignore[arg-type]
        say(f"written to {options.out}")


def score_table(scored: Any) -> str:
    """Return MRE per target and law as text, the mean below."""
    wide = scored.pivot(index="target", columns="law", values="mre")
    wide = wide.loc[list(dict.fromkeys(scored["target"])), list(dict.fromkeys(scored["law"]))]
    wide.loc["mean"] = wide.mean()
    return str(wide.to_string(float_format=lambda v: f"{v:.2f}"))


def run_predict(options: argparse.Namespace) -> None:
    """Predict every row of a table."""
    from mixlaw.artefact import FittedLaws
    from mixlaw.errors import FitError, unknown_name

    laws = FittedLaws.load(options.laws)
    name = options.law or laws.chosen
    if name not in laws.fits:
        raise FitError(unknown_name("law", name, laws.fits))
    predictions = laws.fits[name].predict(_read(options.table, options))
    if options.out:
        predictions.to_csv(options.out, index=False)
        say(f"{len(predictions)} predictions of the {name} law written to {options.out}")
    else:
        say(predictions.to_string(index=False, float_format=lambda v: f"{v:.4f}"))


def run_recommend(options: argparse.Namespace) -> None:
    """Recommend a mixture."""
    from mixlaw.artefact import FittedLaws
    from mixlaw.recommend import Question, read_pairs, read_targets, recommend
    from mixlaw.runlog import write_atomically

    laws = FittedLaws.load(options.laws)
    caps = read_pairs(options.max)
    if options.max_epochs:
        available = laws.sizes | read_pairs(options.available)
        if not available:
            raise ConfigError("--max-epochs needs the tokens of each domain: --available code=3e9,docs=1e9,...")
        for domain, tokens in available.items():
            caps[domain] = min(caps.get(domain, 1.0), options.max_epochs * tokens / options.n_tokens)
    targets = read_targets(options.target, laws.fits.get(options.law, laws.best))
    question = Question(options.n_params, options.n_tokens, targets, read_pairs(options.min), caps)
    answer = recommend(laws, question, options.law)
    text = json.dumps(answer.to_json(), indent=1)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(options.out, text)
    say(text if options.json else answer.summary())


def run_compare(options: argparse.Namespace) -> None:
    """Score laws on the same held-out rows."""
    import pandas as pd

    from mixlaw.fit import LawFit
    from mixlaw.splits import KINDS, held_out

    table = _read(options.table, options)
    held = held_out(table, options.holdout)
    settings = {
        "delta": options.delta,
        "n_starts": options.starts,
        "seed": options.seed,
        "n_bootstrap": options.bootstrap,
    }
    names = options.laws.split(",")
    with Progress(len(names) * len(options.target or table.targets)) as bar:
        fits = [LawFit(name, **settings).fit(table.rows(~held), options.target, bar) for name in names]
    scored = pd.concat([fit.score(table.rows(held)) for fit in fits])
    if options.json:
        say(scored.to_json(orient="records", indent=1))
        return
    means = scored.groupby("law", sort=False)["mre"].mean()
    say(f"MRE [%] on {KINDS[options.holdout]}:\n{score_table(scored)}\n\nlowest mean: {means.idxmin()}")


def run_report(options: argparse.Namespace) -> None:
    """Draw the report."""
    from mixlaw.artefact import FittedLaws
    from mixlaw.report import write_report

    def optional(paths: list[str]) -> "Table | None":
        return _read(paths, options) if paths else None

    answer = json.loads(options.recommendation.read_text()) if options.recommendation else None
    laws = FittedLaws.load(options.laws)
    pictures = write_report(
        options.out, laws, _read(options.table, options), optional(options.test), answer, optional(options.proof)
    )
    say(f"{options.out} and {len(pictures)} PNGs in {pictures[0].parent}")


class Progress:
    """A bar on a terminal, nothing otherwise; called with what is being fitted."""

    def __init__(self, total: int) -> None:
        from tqdm import tqdm

        self._bar = tqdm(total=total, disable=not sys.stderr.isatty(), leave=False)

    def __enter__(self) -> "Progress":
        return self

    def __call__(self, text: str) -> None:
        self._bar.set_description(text)
        self._bar.update()

    def __exit__(self, *error: object) -> None:
        self._bar.close()


COMMANDS: dict[str, tuple[Command, Options, str]] = {
    "check": (run_check, _table_options, "read a table and say what is in it, and what is wrong with it"),
    "fit": (run_fit, _fit_options, "fit laws to a table and write them to a file"),
    "predict": (run_predict, _predict_options, "predict the losses of a table's rows, with intervals"),
    "recommend": (run_recommend, _recommend_options, "find the mixture for a big run"),
    "compare": (run_compare, _compare_options, "score laws side by side on held-out rows"),
    "report": (run_report, _report_options, "draw everything into one self-contained HTML file and PNGs beside it"),
}


if __name__ == "__main__":
    sys.exit(main())
