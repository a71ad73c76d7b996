"""Studies with two phases, as `sweeps.plan --phases 2` writes them: switches, checkpoints of trunks, and savings."""

from collections.abc import Sequence

import pandas as pd

from mixlaw.advice.phase_design import SWITCHES
from mixlaw.counts import flops
from mixlaw.errors import ConfigError

BRANCH_FROM = {"checkpoint": {"branch_from": "${machine.runs}/${study_name}"}}  # settings of a study with trunks


def read_switches(phases: int | None, text: str | None) -> list[float]:
    """Return the switches that were asked for; none for a study without phases.

    Raises
    ------
    ConfigError
        If there are not two phases, or a switch is not inside the run.
    """
    if phases is None:
        if text:
            raise ConfigError("--switch needs --phases 2")
        return []
    if phases != 2:
        raise ConfigError(f"--phases must be 2, not {phases}: leave it out for runs of one mixture")
    try:
        found = sorted({float(part) for part in text.split(",")}) if text else list(SWITCHES)
    except ValueError:
        raise ConfigError(f"--switch {text}: write shares of the tokens with commas between: 0.5,0.75") from None
    if not all(0 < switch < 1 for switch in found):
        raise ConfigError(f"--switch {text}: a switch must be a share of the run's tokens between 0 and 1")
    return found


def check_switches(switches: Sequence[float], shortest: float, per_step: float, cooldown: float) -> None:
    """Refuse switches that leave a phase shorter than a step, or lie behind the last step that trunk and branch share.

    Parameters
    ----------
    shortest : tokens of the shortest run
    per_step : tokens of a step
    cooldown : share of the tokens over which the learning rate falls

    Raises
    ------
    ConfigError
        Naming the switch.
    """
    for switch in switches:
        if min(switch, 1 - switch) * shortest < per_step:
            raise ConfigError(
                f"--switch {switch:g}: a phase would be shorter than a step of {per_step:,.0f} tokens in a run of "
                f"{shortest:,.0f}: raise --tokens-per-param, or move the switch"
            )
        if switch > 1 - cooldown:
            raise ConfigError(
                f"--switch {switch:g} lies in the cool-down (schedule.cooldown={cooldown:g}), where no run can branch: "
                f"lower it to {1 - cooldown:g}"
            )


def kept_by_trunks(runs: pd.DataFrame) -> list[str]:
    """Return, for every run, the override that keeps a trunk's checkpoints where its branches begin; '' for branches.

    Parameters
    ----------
    runs : as `plan_phase_study` returns them
    """
    found = []
    switches = (runs["until@1"] * runs["n_tokens"]).round()
    for row in runs.to_dict("records"):
        branches = switches[(runs["role"] == row["role"]) & (runs["model"] == row["model"])].dropna()
        kept = sorted({int(n) for n in branches if n < row["n_tokens"]})
        is_trunk = pd.isna(row["until@1"]) and kept
        found.append(f"checkpoint.permanent=[{','.join(map(str, kept))}]" if is_trunk else "")
    return found


def savings(runs: pd.DataFrame) -> str:
    """Return the sentence on what branching saves."""
    whole = float(flops(runs["n_params"], runs["n_tokens"].astype(float)).sum())
    pairs, spent = int(runs["until@1"].notna().sum()), float(runs["flops"].sum())
    return (
        f"{pairs} runs with two phases branch from static ones and train their second phase only: {spent:.3g} FLOPs "
        f"instead of {whole:.3g}, {1 - spent / whole:.0%} less"
    )
