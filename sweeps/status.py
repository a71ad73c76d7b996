"""python -m sweeps.status STUDY           show the state of every run of a study
python -m sweeps.status retry STUDY     launch failed and interrupted runs again, with the options of their first launch
python -m sweeps.status cancel STUDY    cancel its jobs in Slurm; running ones save first

STUDY is a folder of runs, the name of a folder below runs/, or the name of a file in sweeps/study/.

States: planned (not launched), queued (in Slurm's queue), running, preempted (interrupted; resumes by itself if it is
in Slurm's queue, else by the same command), failed (read the reason, then `retry`), diverged, done.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mixlaw.console import command, exit_code_of
from mixlaw.errors import ConfigError, unknown_name
from mixlaw.paths import expand_path
from mixlaw.runs.ledger import read_jobs, read_plan
from mixlaw.runs.study_status import RunState, former_sentence, run_states
from sweeps import slurm_commands
from sweeps.describe import SHOWN, describe, to_json
from sweeps.jobs import edited, still_planned
from sweeps.slurm import submit
from sweeps.study_path import path_of

WATCH_S = 10.0
VERBS = ("retry", "cancel")


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = build_parser().parse_args(arguments)
    return exit_code_of(lambda: _act(options))


def _act(options: argparse.Namespace) -> int:
    *verb, name = options.words
    if len(verb) > 1 or (verb and verb[0] not in VERBS):
        raise ConfigError(f"'{' '.join(options.words)}': write STUDY, retry STUDY or cancel STUDY")
    folder, plan = find_study(name)
    if verb == ["cancel"]:
        return cancel(folder, look(folder, plan, must=True))
    former = former_of(folder, plan, exactly=bool(verb))
    if verb:
        return retry(folder, look(folder, plan, former, must=True), former)
    return show(folder, plan, former, options)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    usage = "python -m sweeps.status [retry | cancel] STUDY [--watch [S]] [--all] [--json]"
    parser = argparse.ArgumentParser("python -m sweeps.status", usage, __doc__, formatter_class=raw)
    parser.add_argument("words", nargs="+", metavar="STUDY", help=argparse.SUPPRESS)
    parser.add_argument(
        "--watch",
        nargs="?",
        type=_seconds,
        const=WATCH_S,
        metavar="S",
        help="repeat every S seconds until nothing runs",
    )
    parser.add_argument(
        "--all", action="store_true", help=f"list every run, not only those that are {', '.join(SHOWN)}"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds above 0")
    return value


def show(folder: Path, plan: str, former: Sequence[str], options: argparse.Namespace) -> int:
    """Print the state of a study, once or repeatedly until nothing runs."""
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
    """Return the folder of a study, and the name of its study file where only the runs of that file are meant, or ''.

    Parameters
    ----------
    name : a folder of runs, the name of one below runs/, or the name of a study file

    Raises
    ------
    ConfigError
        If there is no such study, or it was not launched yet.
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
    """Return the runs of a folder that the present version of their study file does not describe any more.

    Parameters
    ----------
    plan : the study file; '' for all of the folder
    exactly : always plan the study again, which takes seconds; otherwise only if its file is newer than the ledger
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
    """Return the state of the runs of a study, from its folder and from Slurm.

    Parameters
    ----------
    plan : the study file; '' for all of the folder
    former : runs of a former version, which are left out unless they run or are queued
    must : raise an error if Slurm does not answer
    """
    queue = slurm_commands.ask_queue(folder, must)
    states = run_states(folder, queue)
    forgotten = [s.task for s in states if s.task and s.state in ("failed", "planned")]
    if queue is not None and (ends := slurm_commands.ask_accounting(forgotten)):
        states = run_states(folder, {**ends, **queue})
    own = [s for s in states if plan in ("", s.run.plan)]
    return [s for s in own if s.run.run_id not in former or s.in_queue or s.state in ("running", "queued")]


def retry(folder: Path, states: Sequence[RunState], former: Sequence[str] = ()) -> int:
    """Launch failed and interrupted runs again, on Slurm with the same options or on this machine.

    Parameters
    ----------
    former : runs of a former version, which are not launched again
    """
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
    if sentence := former_sentence(folder, former):
        sys.stdout.write(f"{sentence}: not launched again\n")
    for (options, max_running), group in by_options.items():
        submit(folder, [s.run for s in group], list(options), max_running)
    for state in again:
        if state.task not in jobs and not state.run.overrides:
            sys.stdout.write(f"  {state.run.run_id} was started by hand: repeat its command\n")
    if here:
        from sweeps.jobs import plan_jobs
        from sweeps.local import run_jobs

        run_jobs(plan_jobs([s.run.overrides for s in here]), 0)
    return 0


def cancel(folder: Path, states: Sequence[RunState]) -> int:
    """Cancel a study's tasks in Slurm."""
    # waiting tasks first: they would start as soon as running ones leave
    tasks = [s.task for s in sorted(states, key=lambda s: s.state == "running") if s.in_queue]
    slurm_commands.cancel(tasks)
    sys.stdout.write(f"{len(tasks)} runs cancelled; running ones save first\n")
    if elsewhere := [s for s in states if s.state == "running" and not s.in_queue]:
        places = ", ".join(sorted({s.reason for s in elsewhere})[:3])
        sys.stdout.write(f"{len(elsewhere)} more run outside of Slurm ({places}): Ctrl-C there saves and stops them\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
