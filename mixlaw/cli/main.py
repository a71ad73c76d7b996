"""The command line `mixlaw`: the commands, and what they share.

Each command is a module of this package with two functions: `add_options(parser)` and `run(options)`. Only the module
of the command that was asked for is imported, so that `mixlaw --help` needs neither NumPy nor pandas.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module

from mixlaw.console import command, exit_code_of
from mixlaw.fileio import refuse_folder
from mixlaw.paths import expand_options
from mixlaw.version import __version__

EXAMPLES = """examples:
  mixlaw fit example:text --out laws.json
  mixlaw check runs/quickstart
  mixlaw fit runs/quickstart --law base,additive,joint --test runs/quickstart_heldout --out laws.json
  mixlaw fit table.csv --law joint --target wikipedia --out laws.json
  mixlaw fit runs/all --where optim.lr=0.008 --out laws.json
  mixlaw fit mixtures.csv losses.csv --layout regmix --constants n_params=1e6,n_tokens=1e9 --law additive-fixed-nd
  mixlaw predict laws.json new_runs.csv --out predicted.csv
  mixlaw recommend laws.json --n-params 7e9 --n-tokens 150e9 --target average --json
  mixlaw recommend laws.json --n-params 7e9 --n-tokens 150e9 --max-epochs 4 --available wiki=24e9,code=60e9 \\
      --floor code=0.05 --group web=c4+cc:0.2:0.6 --stay-near natural --override configs/mixture/big.yaml
  mixlaw benchmarks table.csv --loss loss_arc --score acc_arc --chance 1/4 --out benchmarks.json --figure arc.png
  mixlaw export recommendation.json --to megatron --paths web=/data/web_text,code=/data/code_text --out blend.txt
  mixlaw forecast seal laws.json answer.json
  mixlaw forecast score forecast.json runs/big
  mixlaw compare table.csv --laws base,additive,joint --holdout scale
  mixlaw report runs/quickstart
  mixlaw plot laws.json optimum --n-params 7e9 --n-tokens 150e9 --out optimum.png
  mixlaw laws

A TABLE is a file (CSV with any separator, JSON, JSON lines, xlsx, parquet, also as .gz), a folder of run directories,
or one of the measured examples: example:text, example:multimodal, example:vision.
Columns: n_params, n_tokens, weight_<domain>..., loss_<target>..., optionally run_id and loss_se_<target>; map other
names with --columns n_params=model_size,loss_*=*_loss,...

exit codes: 0 success, 2 invalid option or setting, 3 unreadable or inconsistent table, 4 output cannot be written,
5 too little data for what was asked, 130 interrupted
"""
OUTPUTS = ("out", "override", "figure")
PATHS = (
    "table laws test proof out override recommendation picture answer forecast ledger".split()
)  # options in which ~ and $NAME are expanded
COMMANDS = {
    "check": "summarise a table: contents, repairs, and the laws that it can support",
    "fit": "fit laws to a table and save them",
    "compare": "compare laws on held-out rows and choose one",
    "predict": "predict the losses of a table's rows, with intervals",
    "recommend": "recommend the mixture of a big run, with intervals and the costs of its limits",
    "benchmarks": "fit benchmark scores as curves of a target's loss, and tell whether runs can predict them",
    "injection": "recommend the share of pretraining data in finetuning that keeps a model from forgetting",
    "export": "write a recommended mixture as the configuration of a trainer",
    "forecast": "seal predictions before a run, score them after it, and keep the record",
    "plot": "draw one figure",
    "report": "write all figures and tables to one HTML file, the figures also as PNG",
    "laws": "list the laws with their formulas and sources",
}


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; a mistake ends in one sentence on stderr, never in a traceback."""
    given = sys.argv[1:] if arguments is None else arguments
    asked = [word for word in given if not word.startswith("-")][:1]
    options = build_parser(asked).parse_args(given)

    def run() -> int:
        expand_options(options, PATHS)
        for output in (getattr(options, name, None) for name in OUTPUTS):
            if output is not None:
                refuse_folder(output)  # now, not after the work
        options.run(options)
        return 0

    return exit_code_of(run, when_interrupted="interrupted")


def build_parser(complete: Iterable[str] = COMMANDS) -> argparse.ArgumentParser:
    """Return the parser of all commands.

    Parameters
    ----------
    complete : the commands that get their options; their modules are imported
    """
    raw = argparse.RawDescriptionHelpFormatter
    about = "Scaling laws for data mixtures."
    parser = argparse.ArgumentParser("mixlaw", description=about, epilog=EXAMPLES, formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"mixlaw {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    wanted = set(complete)
    for name, text in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text, epilog=EXAMPLES, formatter_class=raw)
        if name in wanted:
            module = import_module(f"mixlaw.cli.{name}")
            module.add_options(sub)
            sub.set_defaults(run=module.run)
    return parser
