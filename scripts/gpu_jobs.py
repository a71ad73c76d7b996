"""Measurements in separate processes: a crash loses only its own row, and each has a time limit."""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

Row = dict[str, Any]
LEAST = 2.0  # minimum remaining seconds to start a measurement


def say(text: str) -> None:
    """Write a line of progress."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


class Job:
    """One measurement in its own process; its output goes to files, because a full pipe would block it."""

    def __init__(self, command: list[str], alone: bool) -> None:
        self._out: IO[str] = tempfile.TemporaryFile("w+")
        self._err: IO[str] = tempfile.TemporaryFile("w+")
        few = {} if alone else {"TORCHINDUCTOR_COMPILE_THREADS": "2"}  # by default each process starts one per core
        self._process = subprocess.Popen(command, stdout=self._out, stderr=self._err, env=os.environ | few)

    @property
    def code(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._process.poll()

    def found(self) -> Row:
        """Return the measured figures."""
        self._out.seek(0)
        measured: Row = json.loads(self._out.read().strip().splitlines()[-1])
        return measured

    def last_line(self) -> str:
        """Return the last line of its output."""
        self._err.seek(0)
        return (self._err.read().strip().splitlines() or ["no message"])[-1][:200]

    def stop(self) -> None:
        """Kill it if it still runs."""
        self._process.kill()
        self._process.wait()
        self._out.close()
        self._err.close()


@dataclass
class Runner:
    """Starts measurements in separate processes, with a time limit per step."""

    command: list[str]
    minutes: float
    json: Path
    head: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    end: float = 0.0
    faults: list[str] = field(default_factory=list)

    def within(self, share: float) -> None:
        """Begin a step: set its time limit to a share of the total time, and clear errors."""
        self.end = time.monotonic() + 60 * self.minutes * share
        self.faults = []

    def note(self, row: Row) -> None:
        """Store a row in memory and on disk."""
        self.rows.append(row)
        self.json.write_text(json.dumps(self.head | {"rows": self.rows}, indent=1) + "\n")

    def __call__(self, label: str, *jobs: Row) -> list[Row]:
        """Run jobs in parallel; return the figures of each, or None if one failed or timed out."""
        started = time.monotonic()
        if self.end - started < LEAST:
            return self._fault(f"{label}: left out, the time is used up")
        running = [Job([*self.command, "--one", json.dumps(job)], alone=len(jobs) == 1) for job in jobs]
        try:
            while any(job.code is None for job in running) and not any(job.code for job in running):
                if time.monotonic() > self.end:
                    spent = time.monotonic() - started
                    return self._fault(f"{label}: left out, stopped after {spent:.0f} s at the end of its time")
                time.sleep(0.1)
            if broken := next((job for job in running if job.code), None):  # the others would wait for it
                return self._fault(f"{label}: failed, {broken.last_line()}")
            say(f"{label}: {time.monotonic() - started:.0f} s")
            return [job.found() for job in running]
        finally:
            for job in running:
                job.stop()

    def _fault(self, words: str) -> list[Row]:
        """Report and store an error; return None."""
        say(words)
        self.faults.append(words)
        return []
