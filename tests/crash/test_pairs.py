"""Two processes started at once on one run directory: one trains."""

import re
import socket

import pytest

from mixlaw.errors import RunLogError
from tests.crash.harness import FINISHED, Case


@pytest.mark.parametrize("n", [1, pytest.param(20, marks=pytest.mark.crash)])
def test_of_two_processes_one_trains(n: int, case: Case) -> None:
    for _ in range(n):
        with case.started() as one, case.started() as other:
            pids = {process.pid for process in (*one, *other)}
            ends = [case.ended(one), case.ended(other)]
        assert FINISHED in {end.code for end in ends}
        for end in ends:
            if end.code != FINISHED:  # else it came when all was over, and found it finished
                assert end.code == RunLogError.exit_code, end.said
                holder = re.fullmatch(r"error: (.*) is in use by process (\d+) on (.*): wait for it.*\n", end.said)
                assert holder, end.said
                assert (holder[1], holder[3]) == (str(case.folder), socket.gethostname())
                assert int(holder[2]) in pids
                case.counts["second processes refused by name"] += 1
        case.counts["pairs of processes on one run"] += 1
        case.finish()
