"""Status of a study as text: a summary line, and a table with one line per run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mixlaw.runs.study_status import RunState, counts, eta_s, progress

_TITLES = ["run", "N", "D", "FLOPs", "mixture", "state", "%", "tries", "reason"]
_SIDES = "<>>><<>><"  # alignment of these columns


def summary_line(folder: Path, states: Sequence[RunState]) -> str:
    """Return the number of runs in each state, the share of FLOPs done, and the remaining time as one line."""
    found = counts(states)
    parts = [", ".join(f"{n} {state}" for state, n in found.items()) or "none"]
    if any(s.run.flops for s in states):
        parts.append(f"{100 * progress(states):.0f} % of {sum(s.run.flops for s in states):.2g} FLOPs")
    if (left := eta_s(states)) is not None:
        parts.append(f"about {duration_text(left)} to go with {found['running']} at a time")
    return f"{folder}: {len(states)} runs: {'; '.join(parts)}"


def table_lines(states: Sequence[RunState]) -> list[str]:
    """Return one line per run below a line of column titles; nothing where there are no runs."""
    if not states:
        return []
    rows = [_TITLES, *map(_cells, states)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_TITLES))]
    lines = [" ".join(f"{v:{side}{w}} " for v, side, w in zip(row, _SIDES, widths, strict=True)) for row in rows]
    return [f"  {line}".rstrip() for line in lines]


def _cells(state: RunState) -> list[str]:
    run = state.run
    sizes = [f"{run.n_params:,}", f"{run.n_tokens:,}", f"{run.flops:.2e}"]
    done = f"{100 * state.progress:.0f}"
    return [run.run_id, *sizes, mixture_text(run.mixture), state.state, done, str(state.attempts), state.reason]


def mixture_text(mixture: Mapping[str, float], most: int = 4) -> str:
    """Return the largest weights of a mixture, in the order of its domains."""
    largest = sorted((w for w in mixture.values() if w > 0), reverse=True)[:most]
    shown = [f"{d} {w:.2f}" for d, w in mixture.items() if largest and w >= largest[-1]][:most]
    return " ".join(shown) + " ..." * (sum(w > 0 for w in mixture.values()) > len(shown))


def duration_text(seconds: float) -> str:
    """Return a duration in the largest unit that leaves a number above 2."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds > 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
