"""`mixlaw compare`: score laws on the same held-out rows, one split after the other, and choose one for each."""

import argparse
from typing import Any

import pandas as pd

from mixlaw.cli import check
from mixlaw.cli.reading import doubt, names_of, read_clean
from mixlaw.cli.scores import score_table
from mixlaw.cli.solver import ProgressLine, settings_of, solver_options
from mixlaw.console import remark, say
from mixlaw.errors import ConfigError, FitError, unknown_name
from mixlaw.fileio import strict_json
from mixlaw.laws.registry import LAWS
from mixlaw.selection.compare import AUTO, Trial, choose, usual_laws
from mixlaw.selection.paired import mean_errors, on_shared_targets
from mixlaw.selection.protocol import judge
from mixlaw.selection.splits import KINDS


def add_options(sub: argparse.ArgumentParser) -> None:
    check.add_options(sub)
    sub.add_argument(
        "--laws", default="",
        help="names with commas between; by default base and the laws of auto; auto: what fit would choose from the "
        "fitted part; all: every law",
    )  # fmt: skip
    sub.add_argument("--holdout", choices=[*KINDS], nargs="+", default=["scale"], help="one or more splits")
    sub.add_argument("--against", help="the law that the others' errors are subtracted from; joint by default")
    sub.add_argument("--target", nargs="+", default=[])
    solver_options(sub)


def run(options: argparse.Namespace) -> None:
    """Score laws on the same held-out rows, one split after the other, and choose one for each."""
    table = read_clean(options.table, options)
    doubt(table)
    names = [*LAWS, AUTO] if options.laws == "all" else names_of(options.laws) or usual_laws(table)
    joint = [name for name in names if name.partition("-fixed")[0] == "joint"]
    against = options.against or (*joint, names[0])[0]
    if against not in names:
        raise ConfigError(f"--against: {unknown_name('law', against, names)}")
    records, impossible = [], []
    for kind in options.holdout:
        try:
            with ProgressLine() as bar:
                verdicts, trials = judge(table, names, kind, against, options.target, bar, **settings_of(options))
        except FitError as error:
            impossible.append(error)
            remark(f"left out: {error}")
            continue
        records.append(_verdict(verdicts, trials, kind))
        if not options.json:
            _show_verdict(records[-1], verdicts)
    if not records:
        raise impossible[0]
    if options.json:
        say(strict_json(records, indent=1))


def _verdict(verdicts: pd.DataFrame, trials: list[Trial], kind: str) -> dict[str, Any]:
    """Return what `mixlaw compare` found on one split, as plain data."""
    scored = pd.concat([trial.scores() for trial in trials])
    scored = scored[scored["law"].isin(verdicts["law"])]
    errors = on_shared_targets({law: pd.concat([t.errors(law) for t in trials]) for law in verdicts["law"]})
    chosen, reason = choose(
        mean_errors(errors), dict(zip(verdicts["law"], verdicts["n_free"], strict=True)), KINDS[kind]
    )
    by_target = scored.groupby(["law", "target"], sort=False, as_index=False)[["mre", "mae", "bias", "coverage"]].mean()
    took = list(dict.fromkeys(trial.chosen for trial in trials if trial.chosen[0]))
    refused = {law: why for trial in trials for law, why in trial.refused.items()}
    return {
        "kind": kind, "chosen": chosen, "reason": reason, "laws": verdicts.to_dict("records"),
        "targets": by_target.to_dict("records"), "auto": took, "refused": refused,
    }  # fmt: skip


def _show_verdict(found: dict[str, Any], verdicts: pd.DataFrame) -> None:
    for name, why in found["refused"].items():
        remark(f"left out: {name}: {why}")
    say(f"MRE [%] on {KINDS[found['kind']]}:\n{score_table(pd.DataFrame(found['targets']))}\n")
    say("means over targets; difference: of the mre to that of the law named last, with a 90 % interval over runs:")
    say(verdicts.to_string(index=False, float_format=lambda v: f"{v:.3f}"))
    for law, why in found["auto"]:
        say(f"auto took {law} ({why})")
    say(f"\nchosen: {found['chosen']} ({found['reason']})\n")
