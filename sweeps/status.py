"""python -m sweeps.status STUDY           how far the runs of a study are
python -m sweeps.status retry STUDY     failed runs, and stopped ones that nobody has, again: as they were launched
python -m sweeps.status cancel STUDY    take its jobs from Slurm; those that run are told to save first

STUDY is a folder of runs, the name of one below runs/, or the name of a file in sweeps/study/.

States: planned (nobody has it), queued (Slurm has it), running, preempted (stopped in between; goes on by itself if it
waits in the queue, by the same command if not), failed (see the reason, then `retry`), diverged, done.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mixlaw.console import command
from mixlaw.errors import ConfigError, MixlawError, unknown_name
from mixlaw.fileio import strict_json
from mixlaw.paths import expand_path
from mixlaw.runs.ledger import read_jobs, read_plan
from mixlaw.runs.study_status import RunState, counts, eta_s, former_in_words, progress, run_states
from sweeps import slurm
from sweeps.former import edited, still_planned
from sweeps.study_path import path_of

SHOWN = ("running", "preempted", "failed", "diverged")
WATCH_S = 10.0
VERBS = ("retry", "cancel")


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; a mistake ends in one sentence on stderr, never in a traceback."""
    options = build_parser().parse_args(arguments)
    *verb, name = options.words
    try:
        if len(verb) > 1 or (verb and verb[0] not in VERBS):
            raise ConfigError(f"'{' '.join(options.words)}': write STUDY, retry STUDY or cancel STUDY")
        folder, plan = find_study(name)
        if verb == ["cancel"]:
            return cancel(folder, look(folder, plan, must=True))
        former = former_of(folder, plan, exactly=bool(verb))
        if verb:
            return retry(folder, look(folder, plan, former, must=True), former)
        return show(folder, plan, former, options)
    except MixlawError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except BrokenPipeError:
        return 0
    except OSError as error:
        sys.stderr.write(f"error: {error.filename or 'output'}: {error.strerror or error}\n")
        return 4
    except KeyboardInterrupt:
        return 130


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    usage = "python -m sweeps.status [retry | cancel] STUDY [--watch [S]] [--all] [--json]"
    parser = argparse.ArgumentParser("python -m sweeps.status", usage, __doc__, formatter_class=raw)
    parser.add_argument("words", nargs="+", metavar="STUDY", help=argparse.SUPPRESS)
    parser.add_argument(
        "--watch", nargs="?", type=_seconds, const=WATCH_S, metavar="S", help="again every S seconds until nothing runs"
    )
    parser.add_argument("--all", action="store_true", help=f"every run, not only those {', '.join(SHOWN)}")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds above 0")
    return value


def show(folder: Path, plan: str, former: Sequence[str], options: argparse.Namespace) -> int:
    """Print how far a study is, once or until nothing runs any more."""
    while True:
        states = look(folder, plan, former)
        text = to_json(folder, states, former) if options.json else describe(folder, states, options.all, former)
        if options.watch and sys.stdout.isatty():
            sys.stdout.write("\x1b[H\x1b[2J")
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
        if not options.watch or not any(s.in_queue or s.state in ("running", "queued") for s in states):
            return 0
        time.sleep(options.watch)


def find_study(name: str) -> tuple[Path, str]:
    """Return the folder that a name means, and the `study=` file whose runs are meant, '' for all runs of the folder.

    Raises
    ------
    ConfigError
        If no launcher made such a study, or nobody launched it.
    """
    for folder in (Path("runs") / name, Path(expand_path(name, "STUDY"))):
        if (folder / "plan.jsonl").exists() or any(folder.glob("*/run.json")):
            return folder, ""
    known = {}
    for path in Path("runs").glob("*/plan.jsonl"):
        known[path.parent.name] = path.parent
        known |= {run.plan: path.parent for run in read_plan(path.parent).values() if run.plan}
    if name in known:
        return known[name], name
    if path_of(name).exists():
        raise ConfigError(f"study '{name}' was not launched yet: python -m train study={name}")
    if Path(name).is_dir():
        raise ConfigError(f"{name} holds no runs, and none are planned there")
    raise ConfigError(unknown_name("study", name, known))


def former_of(folder: Path, plan: str, exactly: bool) -> list[str]:
    """Return the runs that a former version of a study planned: as its launch found, or as its files say now.

    Parameters
    ----------
    exactly : whether the files are always read; else only if they are newer than the plan, because it takes seconds
    """
    runs = [run for run in read_plan(folder).values() if plan in ("", run.plan)]
    names = {run.plan for run in runs} - {""}
    if not exactly:
        names = edited(names, folder / "plan.jsonl")
    asked = [run for run in runs if run.plan in names and not run.former]
    still = still_planned(asked)
    former = {run.run_id for run in asked if run.run_id not in still} | {run.run_id for run in runs if run.former}
    return [run.run_id for run in runs if run.run_id in former and (folder / run.run_id).is_dir()]


def look(folder: Path, plan: str = "", former: Sequence[str] = (), must: bool = False) -> list[RunState]:
    """Return how far the runs of a study are, as its folder and Slurm know it, which `must` answer or need not.

    Runs of a former version are left out, except while they run or wait in the queue.
    """
    queue = slurm.ask_queue(folder, must)
    states = run_states(folder, queue)
    forgotten = [s.task for s in states if s.task and s.state in ("failed", "planned")]
    if queue is not None and (ends := slurm.ask_accounting(forgotten)):
        states = run_states(folder, {**ends, **queue})
    own = [s for s in states if plan in ("", s.run.plan)]
    return [s for s in own if s.run.run_id not in former or s.in_queue or s.state in ("running", "queued")]


def describe(folder: Path, states: Sequence[RunState], everything: bool = False, former: Sequence[str] = ()) -> str:
    """Return a study in words: counts, a table of the runs that somebody may want to look at, what to do next."""
    found = counts(states)
    shown = [s for s in states if everything or s.state in SHOWN]
    words = [", ".join(f"{n} {state}" for state, n in found.items()) or "none"]
    if any(s.run.flops for s in states):
        words.append(f"{100 * progress(states):.0f} % of {sum(s.run.flops for s in states):.2g} FLOPs")
    if (left := eta_s(states)) is not None:
        words.append(f"about {duration(left)} to go with {found['running']} at a time")
    lines = [f"{folder}: {len(states)} runs: {'; '.join(words)}", *table(shown)]
    if found.get("failed") or any(s.state == "preempted" and not s.in_queue for s in states):
        lines.append(f"again: python -m sweeps.status retry {shlex.quote(str(folder))}")
    if sentence := former_in_words(folder, former):
        lines.append(f"{sentence}: not counted, and not launched again")
    return "\n".join(lines)


def table(states: Sequence[RunState]) -> list[str]:
    """Return a line per run, below a line of titles."""
    rows = [["run", "N", "D", "FLOPs", "mixture", "state", "%", "tries", "reason"]]
    for s in states:
        sizes = [f"{s.run.n_params:,}", f"{s.run.n_tokens:,}", f"{s.run.flops:.2e}"]
        done = f"{100 * s.progress:.0f}"
        rows.append([s.run.run_id, *sizes, shares(s.run.mixture), s.state, done, str(s.attempts), s.reason])
    if len(rows) == 1:
        return []
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    sides = "<>>><<>><"
    lines = [" ".join(f"{v:{side}{w}} " for v, side, w in zip(row, sides, widths, strict=True)) for row in rows]
    return [f"  {line}".rstrip() for line in lines]


def shares(mixture: dict[str, float], most: int = 4) -> str:
    """Return the largest weights of a mixture, in its order."""
    largest = sorted((w for w in mixture.values() if w > 0), reverse=True)[:most]
    words = [f"{d} {w:.2f}" for d, w in mixture.items() if largest and w >= largest[-1]][:most]
    return " ".join(words) + " ..." * (sum(w > 0 for w in mixture.values()) > len(words))


def duration(seconds: float) -> str:
    """Return seconds in the largest unit that leaves a number above 2."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds > 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def to_json(folder: Path, states: Sequence[RunState], former: Sequence[str] = ()) -> str:
    """Return everything that is known, for scripts."""
    runs = [asdict(s.run) | {k: v for k, v in asdict(s).items() if k not in ("run", "folder")} for s in states]
    facts = {"study": str(folder), "counts": counts(states), "progress": progress(states), "eta_s": eta_s(states)}
    return strict_json({**facts, "former": list(former), "runs": runs})


def retry(folder: Path, states: Sequence[RunState], former: Sequence[str] = ()) -> int:
    """Launch failed runs, and stopped ones that nobody has, as they were launched before; none of a former version."""
    states = [s for s in states if s.run.run_id not in former]
    again = [s for s in states if not s.in_queue and s.state in ("failed", "preempted")]
    by_options: dict[tuple[tuple[str, ...], int], list[RunState]] = {}
    jobs = {f"{job.job}_{i}": job for job in read_jobs(folder) for i in range(len(job.runs))}
    for state in again:
        if state.task in jobs:
            job = jobs[state.task]
            by_options.setdefault((tuple(job.options), job.max_running), []).append(state)
    here = [s for s in again if s.task not in jobs and s.run.overrides]
    sys.stdout.write(f"{len(again)} of {len(states)} runs again\n")
    if sentence := former_in_words(folder, former):
        sys.stdout.write(f"{sentence}: not launched again\n")
    for (options, max_running), group in by_options.items():
        slurm.submit(folder, [s.run for s in group], list(options), max_running, dry_run=False)
    for state in again:
        if state.task not in jobs and not state.run.overrides:
            sys.stdout.write(f"  {state.run.run_id} was begun by hand: begin it again with the same command\n")
    if here:
        from sweeps.local import plan_jobs, run_jobs

        run_jobs(plan_jobs([s.run.overrides for s in here]), 0)
    return 0


def cancel(folder: Path, states: Sequence[RunState]) -> int:
    """Take a study's tasks from Slurm: those that wait first, or they would begin as the others leave."""
    tasks = [s.task for s in sorted(states, key=lambda s: s.state == "running") if s.in_queue]
    slurm.cancel(tasks)
    sys.stdout.write(f"{len(tasks)} runs cancelled; those that ran save before they leave\n")
    if elsewhere := [s for s in states if s.state == "running" and not s.in_queue]:
        places = ", ".join(sorted({s.reason for s in elsewhere})[:3])
        sys.stdout.write(f"{len(elsewhere)} more run outside of Slurm ({places}): Ctrl-C there saves and stops them\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
