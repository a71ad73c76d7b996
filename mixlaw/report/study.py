"""Sections of the report on the study: the states of its runs, failures with reasons, and proposed next runs."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mixlaw.advice.decision import Decision
from mixlaw.advice.design import Size, candidates
from mixlaw.advice.next_runs import Proposal, choose
from mixlaw.advice.next_worth import next_worth
from mixlaw.advice.phase_candidates import phase_candidates
from mixlaw.advice.posterior import Points
from mixlaw.advice.recommendation import Recommendation
from mixlaw.errors import MixlawError
from mixlaw.fitting.saved import FittedLaws
from mixlaw.report.page import Section
from mixlaw.report.templating import render
from mixlaw.report.worth import worth_of_next
from mixlaw.runs.study_status import (
    STATES,
    RunState,
    counts,
    eta_s,
    former_runs,
    former_sentence,
    progress,
    run_states,
)
from mixlaw.tables.table import Table
from mixlaw.tables.units import brackets, difference
from mixlaw.text import count_text, percent

COLOURS = {  # of the palette of Okabe and Ito, as in the figures
    "done": "#009E73",
    "running": "#0072B2",
    "queued": "#56B4E9",
    "planned": "#999999",
    "preempted": "#F0E442",
    "failed": "#D55E00",
    "diverged": "#CC79A7",
}
NEED_ATTENTION = ("failed", "diverged", "preempted")  # the most urgent first
DIVERGED = "the loss became NaN or infinite; fits leave the run out"
MOST_ROWS = 20  # runs that need attention and are listed
N_NEXT = 12  # proposed runs
MOST_SHARES = 4  # largest weights in the text of a mixture


def unfinished(states: Sequence[RunState]) -> str:
    """Return a sentence about the runs that are not done; empty if all are."""
    missing = {state: n for state, n in counts(states).items() if state != "done"}
    words = ", ".join(f"{n} {state}" for state, n in missing.items())
    return f"Not all of {len(states)} runs are done: {words}." if missing else ""


def status_section(folder: Path, states: Sequence[RunState] | None = None) -> list[Section]:
    """Return the section on the states of a study's runs; empty if the folder holds no runs."""
    states = run_states(folder) if states is None else states
    if not states:
        return []
    needy = sorted((s for s in states if s.state in NEED_ATTENTION), key=lambda s: NEED_ATTENTION.index(s.state))
    body = render(
        "study",
        head=_head(states),
        states=[{"name": name, "runs": n, "colour": COLOURS[name]} for name, n in counts(states).items()],
        by_size=_by_size(states),
        former=former_sentence(folder, former_runs(folder)),
        needy=_named(needy[:MOST_ROWS]),
        more=max(0, len(needy) - MOST_ROWS),
        study=folder.name,
    )
    return [Section("The study", body)]


def _head(states: Sequence[RunState]) -> str:
    """Return the number of runs per state, the finished share of the compute, and the remaining time."""
    words = ", ".join(f"{n} {state}" for state, n in counts(states).items())
    left, flops = eta_s(states), sum(s.run.flops for s in states)
    ends = f"; about {_duration(left)} to go" if left is not None else ""
    share = f" {percent(progress(states))} of {flops:.3g} FLOPs{ends}." if flops else ""
    return f"{len(states)} runs: {words}.{share}"


def _by_size(states: Sequence[RunState]) -> pd.DataFrame:
    frame = pd.DataFrame({"N": [s.run.n_params for s in states], "state": [s.state for s in states]})
    table = frame.value_counts().unstack(fill_value=0)
    table = table[[s for s in STATES if s in table]].sort_index().reset_index()
    return table.assign(N=[count_text(n) for n in table["N"]]).rename_axis(None, axis=1).replace(0, "")


def _named(states: Sequence[RunState]) -> pd.DataFrame:
    rows = [
        {
            "run": s.run.run_id,
            "state": s.state,
            "reason": s.reason or (DIVERGED if s.state == "diverged" else ""),
            "attempts": s.attempts,
            "N": count_text(s.run.n_params),
            "mixture": mixture_text(s.run.mixture),
        }
        for s in states
    ]
    return pd.DataFrame(rows)


def mixture_text(weights: Mapping[str, float]) -> str:
    """Return the largest weights of a mixture as text.

    >>> mixture_text({"a": 0.1, "b": 0.9, "c": 0.0})
    'b 90 %, a 10 %'
    """
    largest = sorted(((w, name) for name, w in weights.items() if w > 0), reverse=True)
    shown = ", ".join(f"{name} {percent(w)}" for w, name in largest[:MOST_SHARES])
    rest = sum(w for w, _ in largest[MOST_SHARES:])
    return shown + (f", others {percent(rest)}" if rest else "")


def _duration(seconds: float) -> str:
    hours, minutes = seconds / 3600, seconds / 60
    return f"{hours:.1f} h" if hours >= 2 else f"{minutes:.0f} min" if minutes >= 2 else f"{seconds:.0f} s"


def next_section(laws: FittedLaws, table: Table, answer: Recommendation, study: str = "") -> Section:
    """Return the section on next runs: those that would reduce the uncertainty of the recommendation most.

    Parameters
    ----------
    study : name of the study, for the command that plans such runs
    """
    title = "What to run next"
    try:
        proposal = propose(laws, table, answer)
    except MixlawError as error:
        return Section(title, render("no_next", why=str(error)))
    unit = answer.unit
    command = f"python -m sweeps.plan {shlex.quote(study)} --next {N_NEXT}" if study else ""
    rows = _proposed(proposal.runs, laws.best.domains, unit)
    said = worth_of_next(next_worth(laws, answer.question, proposal), unit)
    head = f"{_expected(proposal.runs, unit)} {said}"
    return Section(title, render("next", head=head, runs=rows, command=command))


def _expected(runs: pd.DataFrame, unit: str) -> str:
    before, after = runs["sd_before"].iloc[0], runs["sd_after"].iloc[-1]
    return (
        "Standard deviation of the predicted differences between the candidates for the best mixture: "
        f"{difference(f'{before:#.3g}', unit)}. These {len(runs)} runs, selected by information per FLOP, are "
        f"expected to reduce it to {after:#.3g}."
    )


def _proposed(runs: pd.DataFrame, domains: Sequence[str], unit: str) -> pd.DataFrame:
    columns = {
        "N": runs["n_params"].map(count_text),
        "D": runs["n_tokens"].map(count_text),
        "FLOPs": runs["flops"].map("{:.2g}".format),
        "mixture": [_course_text(row, domains) for row in runs.to_dict("records")],
        f"sd after it {brackets(unit)}": runs["sd_after"].map("{:#.3g}".format),
    }
    return pd.DataFrame(columns)


def _course_text(row: Mapping[Any, Any], domains: Sequence[str]) -> str:
    """Return the mixture of a run, or those of its two phases, as text."""
    if pd.isna(row.get("until@1")):
        return mixture_text({d: row[f"weight_{d}"] for d in domains})
    first, second = (mixture_text({d: row[f"weight_{d}@{p}"] for d in domains}) for p in (1, 2))
    return f"{first}; from {percent(row['until@1'])} of the tokens {second}"


def propose(laws: FittedLaws, table: Table, answer: Recommendation, count: int = N_NEXT) -> Proposal:
    """Return the most informative next runs, among the model sizes and run lengths of a table."""
    question = answer.question
    ends = table.frame.groupby("run_id")[["n_params", "n_tokens"]].max()
    ends["about"] = ends["n_tokens"].map("{:.2g}".format)  # runs of one length differ by part of a step
    lengths = ends.groupby(["n_params", "about"], as_index=False)["n_tokens"].max().to_numpy()
    sizes = [Size(count_text(float(n)), float(n), float(d)) for n, _, d in lengths]
    points = points_of(table)
    until = tuple(answer.phases.until) if answer.phases else (1.0,)
    decision = Decision(laws.best, question, laws.sizes, table, points, until)
    domains, near, phases = laws.best.domains, decision.contenders, decision.phases
    if not answer.phases:
        return choose(decision, candidates(domains, sizes, near), count)
    no_trunks = pd.DataFrame(columns=["model"])  # a table does not tell which checkpoints its runs have
    offered = phase_candidates(domains, sizes, near, phases, no_trunks, [round(until[0], 2)])
    return choose(decision, offered, count)


def points_of(table: Table) -> Points:
    """Return the median number of evaluations per run, and the median ratio of D between consecutive ones."""
    by_run = table.frame.sort_values("n_tokens").groupby("run_id")["n_tokens"]
    ratios = (table.frame.sort_values("n_tokens")["n_tokens"] / by_run.shift()).dropna()
    count = int(np.median(by_run.size()))
    return (count, float(ratios[ratios > 1].median())) if count > 1 and (ratios > 1).any() else (1, 1.3)
