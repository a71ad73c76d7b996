"""python -m train.late_mirror RUNS [--project NAME]: send logs of runs that W&B lacks, completely or in part.

RUNS is a folder of runs (runs/STUDY) or a run directory. The command writes offline W&B runs, from the first row that
was not sent (WANDB_MODE=online sends them at once). scripts/sync_wandb.sh calls it before it syncs offline runs.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

from mixlaw.console import command, exit_code_of
from mixlaw.errors import RunLogError
from mixlaw.paths import path_option
from mixlaw.runs.log import read_facts
from train.journal import only_process
from train.sent import sent_bytes, unsent_rows
from train.sinks import WandbMirror

PATIENCE_S = 90.0  # time-out for one group of runs; W&B may take ten seconds to start
AT_ONCE = 4  # mirrors in parallel


def send_late(runs: Iterable[tuple[Path, str]]) -> tuple[int, int]:
    """Send the missing part of the logs of runs that are not being trained; return the numbers sent and not sent.

    Parameters
    ----------
    runs : run directories, each with its W&B project
    """
    left = iter([(folder, project) for folder, project in runs if unsent_rows(folder)])
    done = failed = 0
    while group := list(islice(left, AT_ONCE)):
        with ExitStack() as held:
            mirrors = []
            for folder, project in group:
                try:
                    held.enter_context(only_process(folder))
                except RunLogError as error:
                    sys.stderr.write(f"not sent: {error}\n")
                    failed += 1
                    continue
                mirrors.append((folder, WandbMirror(folder, project, sent_bytes(folder, 0))))
            for folder, mirror in mirrors:
                mirror.close(PATIENCE_S)
                sent = not unsent_rows(folder)
                done, failed = done + sent, failed + (not sent)
    return done, failed


def find_logs(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the run directories at or below a folder, with their run.json.

    Raises
    ------
    RunLogError
        If there are none.
    """
    found = [path.parent for path in sorted({*folder.glob("run.json"), *folder.glob("*/run.json")})]
    if not found:
        raise RunLogError(f"{folder} holds no run directory (none with run.json)")
    for run in found:
        yield run, read_facts(run)


def project_of(facts: dict[str, Any]) -> str:
    """Return the W&B project that a run was configured with."""
    return str(facts["config"].get("logging", {}).get("project") or "mixlaw")


@command
def main(argv: list[str] | None = None) -> int:
    """Run `python -m train.late_mirror`; return the exit code, 1 if a log could not be sent."""
    parser = argparse.ArgumentParser(
        prog="python -m train.late_mirror", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=path_option, metavar="RUNS")
    parser.add_argument("--project", default="", help="W&B project (default: logging.project of each run)")
    options = parser.parse_args(argv)
    os.environ.setdefault("WANDB_MODE", "offline")
    return exit_code_of(lambda: _send(options.folder, options.project))


def _send(folder: Path, project: str) -> int:
    found = list(find_logs(folder))
    done, failed = send_late((run, project or project_of(facts)) for run, facts in found)
    sys.stdout.write(f"{done} logs written for W&B ({os.environ['WANDB_MODE']}), {failed} not\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
