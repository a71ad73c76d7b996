"""What a report says of a study itself: how far its runs are, what failed and why, and what to run next."""

import html
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mixlaw.advice.design import Size, candidates
from mixlaw.advice.next_runs import Decision, Points, Proposal, next_runs
from mixlaw.advice.recommend import question_of_answer
from mixlaw.errors import MixlawError
from mixlaw.fitting.saved import FittedLaws
from mixlaw.report.display import html_table
from mixlaw.report.page import scroll
from mixlaw.runs.study_status import (
    STATES,
    RunState,
    counts,
    eta_s,
    former_in_words,
    former_runs,
    progress,
    run_states,
)
from mixlaw.tables.table import Table
from mixlaw.tables.units import NATS, brackets, difference
from mixlaw.text import in_words, percent

COLOURS = {  # of Okabe and Ito's palette, as in the figures
    "done": "#009E73", "running": "#0072B2", "queued": "#56B4E9", "planned": "#999999", "preempted": "#F0E442",
    "failed": "#D55E00", "diverged": "#CC79A7",
}  # fmt: skip
NEEDY = ("failed", "diverged", "preempted")  # the most urgent first
LOST = "its loss became no number; fits leave it out"
MOST_ROWS = 20  # runs in need of somebody that are named one by one
N_NEXT = 8  # runs that are proposed
MOST_SHARES = 4  # weights that a mixture is named by


def unfinished(states: Sequence[RunState]) -> list[str]:
    """Return one line, as HTML, about the runs that are not done; nothing where all are."""
    missing = {state: n for state, n in counts(states).items() if state != "done"}
    if not missing:
        return []
    words = ", ".join(f"{n} {state}" for state, n in missing.items())
    return [f'<p class="note">Not all of {len(states)} runs are done: {words}. <a href="#the-study">The study</a></p>']


def status_section(folder: Path, states: Sequence[RunState] | None = None) -> list[str]:
    """Return how far a study is, as HTML; nothing where the folder holds no runs."""
    states = run_states(folder) if states is None else states
    if not states:
        return []
    found, left = counts(states), eta_s(states)
    words = ", ".join(f"{n} {state}" for state, n in found.items())
    ends = f"; about {_duration(left)} to go" if left is not None else ""
    flops = sum(s.run.flops for s in states)
    share = f" {percent(progress(states))} of {flops:.3g} FLOPs{ends}." if flops else ""
    head = f"{len(states)} runs: {words}.{share}"
    parts = ["<h2>The study</h2>", f"<p>{html.escape(head)}</p>", _bar(found), scroll(html_table(_by_size(states)))]
    if former := former_in_words(folder, former_runs(folder)):
        parts.append(f"<p>{html.escape(former)}: neither counted nor fitted.</p>")
    needy = sorted((s for s in states if s.state in NEEDY), key=lambda s: NEEDY.index(s.state))
    if needy:
        parts += ["<h3>Runs to look at</h3>", scroll(html_table(_named(needy[:MOST_ROWS])))]
    if len(needy) > MOST_ROWS:
        command = f"python -m sweeps.status {html.escape(folder.name)} --all"
        parts.append(f"<p>and {len(needy) - MOST_ROWS} more: <code>{command}</code></p>")
    return parts


def _bar(found: Mapping[str, int]) -> str:
    """Return one bar whose parts are as long as there are runs."""
    parts = "".join(
        f'<span style="flex:{n};background:{COLOURS[state]}" title="{n} {state}"></span>' for state, n in found.items()
    )
    key = "".join(f'<li><i style="background:{COLOURS[s]}"></i>{n} {s}</li>' for s, n in found.items())
    return f'<div class="bar" role="img" aria-label="runs by state">{parts}</div><ul class="key">{key}</ul>'


def _by_size(states: Sequence[RunState]) -> pd.DataFrame:
    frame = pd.DataFrame({"N": [s.run.n_params for s in states], "state": [s.state for s in states]})
    table = frame.value_counts().unstack(fill_value=0)
    table = table[[s for s in STATES if s in table]].sort_index().reset_index()
    return table.assign(N=[in_words(n) for n in table["N"]]).rename_axis(None, axis=1).replace(0, "")


def _named(states: Sequence[RunState]) -> pd.DataFrame:
    return pd.DataFrame([
        {"run": s.run.run_id, "state": s.state, "reason": s.reason or (LOST if s.state == "diverged" else ""),
         "attempts": s.attempts, "N": in_words(s.run.n_params), "mixture": mixture_in_words(s.run.mixture)}
        for s in states
    ])  # fmt: skip


def mixture_in_words(weights: Mapping[str, float]) -> str:
    """Return a mixture by its largest weights.

    >>> mixture_in_words({"a": 0.1, "b": 0.9, "c": 0.0})
    'b 90 %, a 10 %'
    """
    largest = sorted(((w, name) for name, w in weights.items() if w > 0), reverse=True)
    shown = ", ".join(f"{name} {percent(w)}" for w, name in largest[:MOST_SHARES])
    rest = sum(w for w, _ in largest[MOST_SHARES:])
    return shown + (f", others {percent(rest)}" if rest else "")


def _duration(seconds: float) -> str:
    hours, minutes = seconds / 3600, seconds / 60
    return f"{hours:.1f} h" if hours >= 2 else f"{minutes:.0f} min" if minutes >= 2 else f"{seconds:.0f} s"


def next_section(laws: FittedLaws, table: Table, answer: Mapping[str, Any], study: str = "") -> list[str]:
    """Return what to run next, as HTML: the runs that would tell most about the recommendation; of which study."""
    title = "<h2>What to run next</h2>"
    try:
        proposal = propose(laws, table, answer)
    except MixlawError as error:
        return [title, f"<p>Nothing is proposed: {html.escape(str(error))}.</p>"]
    runs, domains, unit = proposal.runs, laws.best.domains_, str(answer.get("unit", NATS))
    before, after = runs["sd_before"].iloc[0], runs["sd_after"].iloc[-1]
    sd = difference(f"{before:#.3g}", unit)
    head = (
        f"How uncertain the differences between mixtures that may be the best one are: {sd}. These "
        f"{len(runs)} runs, chosen for what they tell for each FLOP, are expected to make that {after:#.3g}."
    )
    rows = [
        {"N": in_words(row["n_params"]), "D": in_words(row["n_tokens"]), "FLOPs": f"{row['flops']:.2g}",
         "mixture": mixture_in_words({d: row[f"weight_{d}"] for d in domains}),
         f"then uncertain by {brackets(unit)}": f"{row['sd_after']:#.3g}"}
        for row in runs.to_dict("records")
    ]  # fmt: skip
    parts = [title, f"<p>{html.escape(head)}</p>", scroll(html_table(pd.DataFrame(rows)))]
    return [*parts, f"<p>{_how_to_plan(study)}</p>"] if study else parts


def _how_to_plan(study: str) -> str:
    command = f"python -m sweeps.plan {shlex.quote(study)} --next {N_NEXT}"
    return (
        f"<code>{html.escape(command)}</code> writes such runs as a study to launch, without mixtures that are "
        "held out or planned already, and without those that would read a domain too often."
    )


def propose(laws: FittedLaws, table: Table, answer: Mapping[str, Any], count: int = N_NEXT) -> Proposal:
    """Return the runs that would tell most about an answer, of the sizes and lengths that a table has."""
    question = question_of_answer(answer)
    ends = table.frame.groupby("run_id")[["n_params", "n_tokens"]].max()
    ends["about"] = ends["n_tokens"].map("{:.2g}".format)  # steps are whole: runs of one length differ a little
    lengths = ends.groupby(["n_params", "about"], as_index=False)["n_tokens"].max().to_numpy()
    sizes = [Size(in_words(float(n)), float(n), float(d)) for n, _, d in lengths]
    points = points_of(table)
    near = Decision(laws.best, question, laws.sizes, table, points).contenders
    offered = candidates(laws.best.domains_, sizes, near)
    return next_runs(laws, question, table, offered, count, points)


def points_of(table: Table) -> Points:
    """Return how many evaluations the runs of a table have, and the ratio of D between neighbours; medians."""
    by_run = table.frame.sort_values("n_tokens").groupby("run_id")["n_tokens"]
    ratios = (table.frame.sort_values("n_tokens")["n_tokens"] / by_run.shift()).dropna()
    count = int(np.median(by_run.size()))
    return (count, float(ratios[ratios > 1].median())) if count > 1 and (ratios > 1).any() else (1, 1.3)
