"""Studies with two phases, as `sweeps.plan` writes them: switches, trunks and their checkpoints, and savings."""

from collections.abc import Sequence

import pandas as pd

from mixlaw.advice.phase_design import SWITCHES
from mixlaw.counts import flops
from mixlaw.errors import ConfigError
from mixlaw.mixture import Mixture
from sweeps.jobs import resolve
from sweeps.study_file import in_thousandths
from train.branch import Trunk, trunks_in

TRUNK = ["model", "n_params", "n_tokens", "until@1"]  # columns of `trunks_of`, besides the weights

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


def trunks_of(statics: Sequence[tuple[str, float, Sequence[str]]], domains: Sequence[str]) -> pd.DataFrame:
    """Return the static runs of a study from which others can branch, one row for each of their checkpoints.

    Runs with weights finer than those of study files, or with another seed, can be no trunks of planned runs.

    Parameters
    ----------
    statics : (name of its size, D, overrides) of every static run

    Returns
    -------
    DataFrame of model (the name of the size), n_params, n_tokens, until@1 (the share of the tokens at the checkpoint)
    and weight_<domain>
    """
    jobs = resolve([overrides for *_, overrides in statics], any_epochs=True)
    trained = {folder: trunks_in(folder) for folder in {job.folder.parent for job in jobs}}
    rows = []
    for (name, n_tokens, _), job in zip(statics, jobs, strict=True):
        weights, own = Mixture.of(job.plan.phases[0].weights), Trunk.planned(job.plan)
        alike = [t for t in trained[job.folder.parent] if t.shared == own.shared]
        steps = {step for trunk in alike for step in trunk.kept if step <= trunk.steps_of(own)} - {job.plan.n_steps}
        if job.plan.config.seed == 0 and weights == in_thousandths(weights):
            known = {"model": name, "n_params": job.n_params, "n_tokens": n_tokens}
            known |= {f"weight_{domain}": weights[domain] for domain in domains}
            ends = [job.plan.part_of(step).tokens_after(step) / job.plan.n_tokens for step in sorted(steps)]
            rows += [known | {"until@1": end} for end in ends]
    return pd.DataFrame(rows, columns=[*TRUNK, *(f"weight_{domain}" for domain in domains)])


def kept_for_branches(runs: pd.DataFrame, domains: Sequence[str]) -> list[str]:
    """Return, for every run, the override that keeps its checkpoints where others leave it; '' for all others.

    Of runs with the same beginning, the one whose first phase is longest is the trunk, unless they branch from a run of
    the study.

    Parameters
    ----------
    runs : the next runs, as `mixlaw.advice.next_runs.choose` returns them
    """
    found = [""] * len(runs)
    if "until@1" not in runs:
        return found
    until = runs["until@1"].fillna(1.0)
    firsts = [runs[f"weight_{d}@1"].fillna(runs[f"weight_{d}"]) for d in domains]
    for at in runs.groupby([runs["model"], runs["n_tokens"], *firsts], sort=False).indices.values():
        trunk = at[int(until.iloc[at].to_numpy().argmax())]
        if len(at) > 1 and runs["n_taken"].iloc[at].min() == 0:
            switches = {round(until.iloc[i] * runs["n_tokens"].iloc[i]) for i in at if until.iloc[i] < 1}
            found[trunk] = f"checkpoint.permanent=[{','.join(map(str, sorted(switches)))}]"
    return found
