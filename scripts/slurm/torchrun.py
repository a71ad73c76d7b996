"""torchrun that forwards signals to its workers and returns their exit code.

torchrun kills workers 30 seconds after a signal and exits with 1, whatever their exit code was. This wrapper only
forwards TERM, USR1 and USR2: the workers save as long as they need and exit, and so does this process, with their code
(75: requeue the job).
"""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run


def children() -> list[int]:
    """Return the child processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # gone meanwhile
            parent = path.read_text().rpartition(")")[2].split()[1]
            if int(parent) == os.getpid():
                found.append(int(path.parent.name))
    return found


def forward(number: int, frame: FrameType | None) -> None:
    """Send a signal to every worker."""
    for process in children():
        with suppress(ProcessLookupError):
            os.kill(process, number)


def main() -> int:
    """Run workers as torchrun does; return the exit code of the first that failed."""
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, forward)
    try:
        run(parse_args(["--signals-to-handle=SIGINT", *sys.argv[1:]]))
    except ChildFailedError as error:
        code: int = error.get_first_failure()[1].exitcode
        return code if code >= 0 else 128 - code
    return 0


if __name__ == "__main__":
    sys.exit(main())
