"""The command line: what a person types. Nothing heavy is imported before a command runs."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mixlaw.console import command, exit_code_of
from mixlaw.paths import expand_options

EXAMPLES = """examples:
  mixlaw check runs/quickstart
  mixlaw fit runs/quickstart --law base,additive,joint --test runs/quickstart_heldout --out laws.json
  mixlaw fit table.csv --law joint --target wikipedia --out laws.json
  mixlaw fit runs/all --where optim.lr=0.008 --out laws.json
  mixlaw fit mixtures.csv losses.csv --layout regmix --set n_params=1e6,n_tokens=1e9 --law additive-fixed-nd
  mixlaw predict laws.json new_runs.csv --out predicted.csv
  mixlaw recommend laws.json --n-params 7e9 --n-tokens 150e9 --target average --json
  mixlaw recommend laws.json --n-params 7e9 --n-tokens 150e9 --max-epochs 4 --available wiki=24e9,code=60e9 \\
      --min code=0.05 --group web=c4+cc:0.2:0.6 --prior natural --pull 0.02 --override configs/mixture/big.yaml
  mixlaw compare table.csv --laws base,additive,joint --holdout scale
  mixlaw report runs/quickstart
  mixlaw plot laws.json optimum --n-params 7e9 --n-tokens 150e9 --out optimum.png
  mixlaw laws

A TABLE is a file (CSV with any separator, JSON, JSON lines, xlsx, parquet, also as .gz) or a folder of run directories.
Columns: n_params, n_tokens, weight_<domain>..., loss_<target>..., optionally run_id and loss_se_<target>; other names
by --columns n_params=model_size,loss_*=*_loss,...

exit codes: 0 done, 2 a wrong option or setting, 3 a table that cannot be read or trusted, 4 output that cannot be
written, 5 runs that cannot support what was asked, 130 interrupted
"""
HOLDOUTS = ["scale", "mixture", "tokens"]
KINDS = "optimum ternary parallel path prices pull parameters predicted residuals tokens errors".split()
PATHS = "table laws test proof out override recommendation picture".split()  # options that name files
LAYOUTS = ["regmix", "olmix", "wandb", "paper", "mixinglaws"]
Options = Callable[[argparse.ArgumentParser], None]


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; a mistake ends in one sentence on stderr, never in a traceback."""
    options = build_parser().parse_args(arguments)
    from mixlaw.cli import commands

    def run() -> int:
        expand_options(options, PATHS)
        getattr(commands, f"run_{options.command}")(options)
        return 0

    return exit_code_of(run, when_interrupted="interrupted")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    raw = argparse.RawDescriptionHelpFormatter
    about = "Scaling laws for data mixtures."
    parser = argparse.ArgumentParser("mixlaw", description=about, epilog=EXAMPLES, formatter_class=raw)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (options, text) in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text, epilog=EXAMPLES, formatter_class=raw)
        sub.set_defaults(command=name)
        options(sub)
    return parser


def _table_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("table", nargs="+", metavar="TABLE")
    _reading_options(sub)


def _reading_options(sub: argparse.ArgumentParser) -> None:
    """Add how tables are read; `mixlaw.cli.commands.read` passes it on."""
    names = sub.add_argument_group("other people's tables")
    names.add_argument(
        "--columns", default="", metavar="NAME=YOURS,...", help="your names; one * on each side is a pattern"
    )
    names.add_argument(
        "--layout", metavar="NAME", help=f"how the files are laid out, by default recognised: {', '.join(LAYOUTS)}"
    )
    names.add_argument("--join", metavar="COLUMN", help="the files are parts of one table, put together by this column")
    names.add_argument("--set", default="", metavar="NAME=VALUE,...", help="columns that the files lack")
    names.add_argument(
        "--higher-is-better", nargs="+", default=[], metavar="TARGET", help="shares of right answers; 'mmlu_*', '*'"
    )
    names.add_argument(
        "--relative-weights", action="store_true", help="only the proportions of weights count, whatever they sum to"
    )
    counts = ["n_params", "n_params_non_embedding"]
    names.add_argument("--count", choices=counts, default="n_params", help="which N of run directories")
    runs = sub.add_argument_group("which rows are one run")
    runs.add_argument("--run-id", default="", metavar="COLUMN,...", help="columns whose values together name a run")
    runs.add_argument("--rows-are-runs", action="store_true", help="every row is a run of its own")
    runs.add_argument("--best", action="store_true", help="keep the lowest loss for each N, D and mixture")
    _choice_options(sub)


def _choice_options(sub: argparse.ArgumentParser) -> None:
    some = sub.add_argument_group("which runs, and what their losses are")
    more: dict[str, Any] = {"action": "append", "default": []}
    some.add_argument(
        "--where",
        metavar="NAME=VALUE",
        help="only runs with this setting or cell; again for another NAME or VALUE",
        **more,
    )
    some.add_argument("--varied", metavar="NAME", help="a setting that runs may differ in, e.g. optim.lr", **more)
    some.add_argument(
        "--unit", metavar="TARGET=UNIT", help="e.g. '*=bits/byte', perplexity; nats/token if nothing tells", **more
    )
    some.add_argument("--ends-only", action="store_true", help="only the last row of every run")
    some.add_argument("--former", action="store_true", help="also runs of a former version of their study")


def _check_options(sub: argparse.ArgumentParser) -> None:
    _table_options(sub)
    sub.add_argument(
        "--keep-warmup", action="store_true", help="do not leave out checkpoints that are still in warm-up"
    )
    sub.add_argument("--json", action="store_true", help="print everything as JSON")


def _fit_options(sub: argparse.ArgumentParser) -> None:
    _check_options(sub)
    sub.add_argument(
        "--law",
        default="auto",
        help="names with commas between, or auto, which chooses one of multiplicative, additive and joint; of base and "
        "coupled (and muennighoff, if tokens are repeated) where nothing is mixed",
    )
    sub.add_argument("--target", nargs="+", default=[], help="targets to fit; all by default")
    sub.add_argument("--test", nargs="+", default=[], metavar="TABLE", help="runs to score the laws on; never fitted")
    sub.add_argument("--holdout", choices=HOLDOUTS, default="", help="score on a part of TABLE, fitted on the rest")
    sub.add_argument("--out", type=Path, help="where the laws are written, e.g. laws.json")
    _solver_options(sub)


def _predict_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("laws", metavar="LAWS")
    _table_options(sub)
    sub.add_argument("--law", help="one of the fitted laws; the chosen one by default")
    sub.add_argument("--level", type=_share, default=0.9, help="of the intervals")
    sub.add_argument("--out", type=Path, help="a CSV file; the terminal by default")
    sub.add_argument("--json", action="store_true", help="print JSON, a record per row and target")


def _question_options(sub: argparse.ArgumentParser, needed: bool) -> None:
    sub.add_argument("--n-params", type=number, required=needed, help="N of the big run, e.g. 7e9")
    sub.add_argument("--n-tokens", type=number, required=needed, help="D of the big run, e.g. 150e9")
    sub.add_argument("--target", default="average", help="average (or mean, of the domains), NAME, or NAME:2,OTHER:1")
    sub.add_argument("--law", help="one of the fitted laws; the chosen one by default")
    limits = sub.add_argument_group("what the mixture may be")
    limits.add_argument("--min", default="", metavar="D=W,...", help="least weight of domains")
    limits.add_argument("--max", default="", metavar="D=W,...", help="most weight of domains")
    limits.add_argument("--pin", default="", metavar="D=W,...", help="weights that are fixed")
    limits.add_argument(
        "--group", nargs="+", default=[], metavar="NAME=D+D:LEAST:MOST", help="limits of a sum of weights"
    )
    limits.add_argument("--max-epochs", type=number, help="cap weights so that no domain is repeated more often")
    limits.add_argument("--available", default="", metavar="D=TOKENS,...", help="tokens of domains, for --max-epochs")
    limits.add_argument("--prior", default="", metavar="MIXTURE", help="uniform, natural, or D=W,...: stay near it")
    limits.add_argument("--pull", type=number, help="how much that counts [nats per unit of KL]; 0.01 by default")


def _recommend_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("laws", metavar="LAWS")
    _question_options(sub, needed=True)
    sub.add_argument("--json", action="store_true", help="print everything as JSON")
    sub.add_argument("--out", type=Path, help="also write the JSON to a file")
    sub.add_argument("--override", type=Path, help="write a Hydra file, e.g. configs/mixture/big.yaml: mixture=big")


def _compare_options(sub: argparse.ArgumentParser) -> None:
    _check_options(sub)
    sub.add_argument(
        "--laws", default="",
        help="names with commas between; by default base and the laws of auto; auto: what fit would choose from the "
        "fitted part; all: every law",
    )  # fmt: skip
    sub.add_argument("--holdout", choices=HOLDOUTS, nargs="+", default=["scale"], help="one or more splits")
    sub.add_argument("--against", help="the law that the others' errors are subtracted from; joint by default")
    sub.add_argument("--target", nargs="+", default=[])
    _solver_options(sub)


def _plot_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("laws", metavar="LAWS")
    sub.add_argument("kind", choices=KINDS, help="what to draw")
    sub.add_argument("--table", nargs="+", default=[], metavar="TABLE", help="runs, for predicted and tokens")
    _reading_options(sub)
    _question_options(sub, needed=False)
    sub.add_argument("--out", type=Path, default=Path("plot.png"), help="a PNG, SVG or PDF file")


def _report_options(sub: argparse.ArgumentParser) -> None:
    _table_options(sub)
    sub.add_argument(
        "--keep-warmup", action="store_true", help="do not leave out checkpoints that are still in warm-up"
    )
    sub.add_argument("--laws", type=Path, help="by default laws.json in the study's folder, as all of these")
    sub.add_argument("--test", nargs="+", metavar="TABLE", help="runs that the laws were scored on; STUDY_heldout")
    sub.add_argument("--recommendation", type=Path, help="by `mixlaw recommend --out`; recommendation.json")
    sub.add_argument("--proof", nargs="+", metavar="TABLE", help="runs that test the recommendation; STUDY_proof")
    sub.add_argument("--picture", type=Path, help="PNG of what a model predicts, by `python -m train.show`")
    sub.add_argument("--out", type=Path, help="report.html in the study's folder, or here where TABLE is a file")


def _laws_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--domains", type=_count, default=7, metavar="K", help="count parameters for so many domains")
    sub.add_argument("--json", action="store_true")


def _solver_options(sub: argparse.ArgumentParser) -> None:
    solver = sub.add_argument_group("how laws are fitted")
    solver.add_argument("--delta", type=number, default=1e-3, help="Huber threshold [nats]")
    solver.add_argument("--residuals", choices=["raw", "log"], default="raw", help="of losses, or of their logarithms")
    solver.add_argument("--weights", choices=["equal", "error"], default="equal", help="error: by columns loss_se_*")
    solver.add_argument(
        "--belief", type=_amount, default=1.0, help="what priors count, in runs; 0 is the paper's bare fit"
    )
    solver.add_argument(
        "--starts", type=int, help="descents per target; by default 12, and up to 48 where rows are few"
    )
    solver.add_argument("--bootstrap", type=int, default=100, help="resamples of runs behind the intervals")
    solver.add_argument("--seed", type=int, default=0)


def number(text: str) -> float:
    """Return an option's value that must be finite and above 0."""
    value = _amount(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def _amount(text: str) -> float:
    from mixlaw.tables.cells import number_of  # which needs pandas: help does not

    value = number_of(text.replace("_", ""), counts=True)
    if value is None:
        raise ValueError(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 0")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 2:
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 2")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


COMMANDS: dict[str, tuple[Options, str]] = {
    "check": (_check_options, "read a table and say what is in it, what was repaired, and what it can support"),
    "fit": (_fit_options, "fit laws to a table and write them to a file"),
    "compare": (_compare_options, "score laws side by side on held-out rows, and choose one"),
    "predict": (_predict_options, "predict the losses of a table's rows, with intervals"),
    "recommend": (_recommend_options, "find the mixture for a big run, what limits cost, and how sure that is"),
    "plot": (_plot_options, "draw one figure"),
    "report": (_report_options, "draw everything into one self-contained HTML file and PNGs beside it"),
    "laws": (_laws_options, "list all laws with their formulas and sources"),
}
