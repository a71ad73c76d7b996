"""Metrics where higher is better: declared ones become error rates; others that look like accuracies are refused."""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

import numpy as np
import pandas as pd

from mixlaw.errors import ConfigError, RunLogError, unknown_name
from mixlaw.tables.columns import LOSS, LOSS_SE, WEIGHT
from mixlaw.tables.notes import listed, note_rows

RISING = 0.8  # a column that rises in a larger share of the steps within runs is not a loss
MIN_STEPS = 10  # too few steps below this to tell a trend
HIGHER = re.compile(
    r"(^|[^a-z0-9])(acc|accuracy|f1|bleu|rouge\w?|meteor|chrf|score|em|exact_match|auc|auroc|recall|precision|reward|"
    r"win_?rate|pass[@_-]?(at[_-]?)?[0-9k]+|iou|miou|psnr|ssim|mcc|elo|top[_-]?[15])([^a-z0-9]|$)"
)
LOWER = re.compile(r"(^|[^a-z0-9])(loss|nll|ppl|perplexity|bpb|bpc|ce|error|err|brier)([^a-z0-9]|$)")


def declared_targets(patterns: Iterable[str], targets: list[str], where: str) -> list[str]:
    """Return the targets that are declared as higher-is-better, by names or patterns such as mmlu_*.

    Raises
    ------
    ConfigError
        If a name or pattern matches no target.
    """
    found: list[str] = []
    for pattern in patterns:
        matched = [pattern] if pattern in targets else [t for t in targets if fnmatchcase(t, pattern)]
        if not matched:
            kind = "pattern of targets" if any(c in pattern for c in "*?[") else "target"
            raise ConfigError(f"--higher-is-better {pattern}: {where}: {unknown_name(kind, pattern, targets)}")
        found += matched
    return list(dict.fromkeys(found))


def check_directions(
    frame: pd.DataFrame, targets: list[str], declared: list[str], where: str, notes: list[str]
) -> None:
    """Turn the declared targets into error rates; refuse others that look like accuracies.

    Raises
    ------
    RunLogError
    """
    perfect: list[str] = []
    formulas = [_as_error_rate(frame, target, where, perfect) for target in declared]
    notes += [f"{where}: {listed(formulas)}", *perfect] if formulas else []
    for target in targets:
        reason = "" if target in declared else _why_higher(frame, target)
        if reason:
            raise RunLogError(
                f"{where}: higher seems to be better for loss_{target}: {reason}. Laws describe losses, which fall: "
                f"declare it by --higher-is-better {target}, or, if it is a loss, rename it by --columns loss_NEW=YOURS"
            )


def _why_higher(frame: pd.DataFrame, target: str) -> str:
    """Return why a target looks like a metric where higher is better, or ''."""
    if HIGHER.search(target.lower()) and not LOWER.search(target.lower()):
        return "its name says so"
    if f"before_{target}" in frame:  # finetuning may forget
        return ""
    known = frame[frame[LOSS + target].notna()].sort_values("n_tokens", kind="stable")
    within = "within runs"
    if not known.duplicated("run_id").any():
        known, within = _longer_runs(known, LOSS + target), "from shorter to longer runs"
    steps = known.groupby("run_id")[LOSS + target].diff().to_numpy(float)
    rising, falling = int((steps > 0).sum()), int((steps < 0).sum())
    if rising + falling < MIN_STEPS or rising < RISING * (rising + falling):
        return ""
    last = known.groupby("run_id").tail(1)[["n_params", LOSS + target]]
    if last["n_params"].nunique() > 1 and last.corr("spearman").to_numpy()[0, 1] < 0:  # large models have lower values
        return ""
    return f"it rises in {rising} of {rising + falling} steps {within}"


def _longer_runs(frame: pd.DataFrame, loss: str) -> pd.DataFrame:
    """Return single rows as runs of one N and mixture; losses at the same D are averaged."""
    design = ["n_params", *(c for c in map(str, frame) if c.startswith(WEIGHT))]
    alike = frame.groupby([frame[c].round(4) for c in design], sort=False).ngroup()
    named = frame.assign(run_id=alike)
    return named.groupby(["run_id", "n_params", "n_tokens"])[[loss]].mean().reset_index()


def _as_error_rate(frame: pd.DataFrame, target: str, where: str, notes: list[str]) -> str:
    """Turn accuracies (shares or percentages) into error rates in place; return the formula."""
    column = LOSS + target
    low, high = frame[column].min(), frame[column].max()
    if low < 0 or high > 100:
        raise RunLogError(
            f"{where}: loss_{target} goes from {low:g} to {high:g}; only accuracies in [0, 1] or "
            "in [0, 100] % can be turned into error rates. Give a loss instead"
        )
    whole = 1 if high <= 1 else 100
    frame[column] = (whole - frame[column]) / whole
    if LOSS_SE + target in frame:
        frame[LOSS_SE + target] /= whole
    perfect = frame[column] == 0
    text = lambda _: f"the error rate of {target} is 0, and laws need losses above 0; this cell is left out"  # noqa: E731
    note_rows(
        notes,
        perfect,
        where,
        frame["row"],
        text,
    )
    frame.loc[perfect, column] = np.nan
    return f"loss_{target} is now the error rate " + (f"1 - {target}" if whole == 1 else f"(100 - {target}) / 100")
