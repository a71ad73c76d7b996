"""The state of a study, as text for a person and as JSON for scripts."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mixlaw.fileio import strict_json
from mixlaw.runs.study_status import RunState, counts, eta_s, former_sentence, progress
from mixlaw.runs.study_table import summary_line, table_lines

SHOWN = ("running", "preempted", "failed", "diverged")


def describe(folder: Path, states: Sequence[RunState], everything: bool = False, former: Sequence[str] = ()) -> str:
    """Return the counts of a study, a table of its runs, and the command that continues it.

    Parameters
    ----------
    everything : list every run, not only those whose state is in SHOWN
    former : ids of runs that only a former version of the study contains
    """
    shown = [s for s in states if everything or s.state in SHOWN]
    lines = [summary_line(folder, states), *table_lines(shown)]
    if any(s.state == "failed" or (s.state == "preempted" and not s.in_queue) for s in states):
        lines.append(f"again: python -m sweeps.status retry {shlex.quote(str(folder))}")
    if sentence := former_sentence(folder, former):
        lines.append(f"{sentence}: not counted, and not launched again")
    return "\n".join(lines)


def to_json(folder: Path, states: Sequence[RunState], former: Sequence[str] = ()) -> str:
    """Return the state of a study and of every run as JSON."""
    runs = [asdict(s.run) | {k: v for k, v in asdict(s).items() if k not in ("run", "folder")} for s in states]
    facts = {"study": str(folder), "counts": counts(states), "progress": progress(states), "eta_s": eta_s(states)}
    return strict_json({**facts, "former": list(former), "runs": runs})
