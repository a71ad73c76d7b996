"""Runs in processes that die, and what they leave.

A process is forked from a server that has imported torch already, so that a death costs a fraction of a second. It
leads a session of its own, of which nothing outlives the attempt. `tests.crash.harm` is what goes wrong inside.
"""

import json
import os
import resource
import shutil
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from tests.forkserver import server_context
from train.checkpoint import newest_checkpoint
from train.compose import compose_config, plan_run
from train.plan import Plan

FINISHED, AGAIN = 0, 75
TIMEOUT_S = 100  # of an attempt that takes a second on an idle machine
GRACE_S = 3  # what ranks get to notice that one of them died; torchrun gives them 30 s
Harm = Callable[[], Callable[[int, float], None]]  # does its work before the run, and returns the progress display
Artefacts = dict[str, bytes]


@dataclass(frozen=True)
class End:
    """How an attempt ended: the exit code of each process (negative: the signal that killed it), and all of stderr."""

    codes: tuple[int, ...]
    said: str

    @property
    def code(self) -> int:
        """The exit code, where there was one process."""
        (code,) = self.codes
        return code


@dataclass
class Case:
    """One run, what it leaves when nothing happens to it, and a count of what happened to it."""

    overrides: Sequence[str]
    n_ranks: int = 1
    reference: Artefacts = field(default_factory=dict, repr=False)
    duration_s: float = 0.0  # of an attempt that nothing happens to
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.plan = plan_run(compose_config(self.overrides))
        self.folder = Path(self.plan.config.machine.runs) / self.plan.folder_name
        self.checkpoints = self.folder / "checkpoints"
        self._said = Path(self.plan.config.machine.runs).parent / "said"
        self._said.mkdir(parents=True, exist_ok=True)
        self._reached = self._said / "reached"

    def learn(self) -> None:
        """Let the run go undisturbed and remember what it leaves, which must be the same a second time."""
        assert self.attempt().codes == (FINISHED,) * self.n_ranks
        self.reference = self.artefacts()
        self.restart()
        began = time.monotonic()  # now the server is warm
        self.finish()
        self.duration_s = time.monotonic() - began

    def artefacts(self) -> Artefacts:
        """Return the bytes of the log and of every file of tensors in the last checkpoint."""
        last = self.checkpoints / f"step-{self.plan.n_steps:08d}"
        whole = {path.name: path.read_bytes() for path in (self.folder / "metrics.jsonl", *last.glob("*.safetensors"))}
        return whole | {str(path.relative_to(last)): _in_order(path) for path in last.glob("*/*.safetensors")}

    def restart(self, origin: Path | None = None) -> None:
        """Forget the run, or go back to a copy of its directory."""
        self._reached.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        if origin:
            shutil.copytree(origin, self.folder)

    def finish(self) -> None:
        """Run the same command once more: it must end like a run that was left alone. Then forget it."""
        end = self.attempt()
        assert end.codes == (FINISHED,) * self.n_ranks, end.said
        left = self.artefacts()
        different = {name for name in left.keys() | self.reference.keys() if left.get(name) != self.reference.get(name)}
        assert not different
        self.counts["runs that ended with identical bytes"] += 1
        self.restart()

    @contextmanager
    def started(self, harm: Harm | None = None, hurt: int = 0) -> Iterator[list[ForkServerProcess]]:
        """Start the run's processes, harm that of one rank, and kill in the end what is left of them."""
        port = _free_port() if self.n_ranks > 1 else 0
        places = [(rank, self.n_ranks, port) for rank in range(self.n_ranks)]
        with _processes(
            [(_train, self.plan, place, self._reached, harm if place[0] == hurt else None) for place in places],
            self._said,
        ) as processes:
            yield processes

    def attempt(self, harm: Harm | None = None, hurt: int = 0) -> End:
        """Run the command once and see how it ends."""
        with self.started(harm, hurt) as processes:
            return self.ended(processes)

    def struck(self, number: int, delay_s: float) -> End:
        """Run the command once, and send its process a signal after a while."""
        with self.started() as processes:
            connection.wait([process.sentinel for process in processes], delay_s)
            for process in processes:
                if process.exitcode is None and process.pid:
                    os.kill(process.pid, number)
            return self.ended(processes)

    def ended(self, processes: list[ForkServerProcess]) -> End:
        """Wait for all processes of an attempt, and see that no checkpoint was lost that was there before."""
        codes = wait_for(processes)
        n_tokens = int(self._reached.read_bytes() or 0) if self._reached.exists() else 0
        step = n_tokens // self.plan.tokens_per_step  # what was saved after earlier ones must be there
        saved = [earlier for earlier in range(1, step) if self.plan.saves_after(earlier)]
        if self.plan.config.machine.background_saves:
            saved = saved[:-1]  # the last may not have been written yet
        if saved:
            newest = newest_checkpoint(self.checkpoints)
            assert newest
            assert newest.name >= f"step-{saved[-1]:08d}"
        return End(codes, _all_said(self._said, processes))


def _in_order(path: Path) -> bytes:
    """Return a shard with its header sorted: safetensors writes the metadata that torch adds in any order."""
    raw = path.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    return json.dumps(json.loads(raw[8:end]), sort_keys=True).encode() + raw[end:]


def wait_for(processes: list[ForkServerProcess]) -> tuple[int, ...]:
    """Return the exit codes; ranks that outlive another's death are killed, as torchrun would. No hang survives."""
    deadline = time.monotonic() + TIMEOUT_S
    while running := [process for process in processes if process.exitcode is None]:
        left_s = deadline - time.monotonic()
        if not connection.wait([process.sentinel for process in running], max(left_s, 0)):
            assert any(process.exitcode for process in processes), f"the run hangs: nothing for {TIMEOUT_S} s"
            for process in running:
                process.kill()
                process.join(TIMEOUT_S)
        if any(process.exitcode for process in processes):
            deadline = min(deadline, time.monotonic() + GRACE_S)
    return tuple(process.exitcode or 0 for process in processes)


def command(folder: Path, *arguments: str) -> End:
    """Run `python -m train` with some arguments, in a process that may take two seconds of CPU time and not more."""
    with _processes([(_command_line, list(arguments))], folder) as processes:
        return End(wait_for(processes), _all_said(folder, processes))


@contextmanager
def _processes(tasks: list[tuple], said: Path) -> Iterator[list[ForkServerProcess]]:
    context = server_context()
    processes = [context.Process(target=_lead, args=(said, *task), daemon=True) for task in tasks]
    try:
        for process in processes:
            process.start()
        yield processes
    finally:
        for process in processes:
            if process.pid:
                process.kill()
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # what it may have started itself
                process.join(TIMEOUT_S)
                (said / str(process.pid)).unlink(missing_ok=True)


def _all_said(folder: Path, processes: list[ForkServerProcess]) -> str:
    files = [folder / str(process.pid) for process in processes]
    return "".join(file.read_text() for file in files if file.exists())


def _lead(said: Path, task: Callable[..., int], *arguments: object) -> None:
    """Be a process of its own: the leader of a session, whose stderr is a file, whose exit code is the task's."""
    os.setsid()
    os.dup2(os.open(said / str(os.getpid()), os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    sys.exit(task(*arguments))


def _train(plan: Plan, place: tuple[int, int, int], reached: Path, harm: Harm | None) -> int:
    """Be one rank of `python -m train`; the first one notes how many tokens it has seen."""
    from train.exits import EXIT_CODES, run_command
    from train.loop import no_progress, run

    rank, size, port = place
    if size > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    note = os.open(reached if rank == 0 else os.devnull, os.O_WRONLY | os.O_CREAT)
    progress = harm() if harm else no_progress

    def follow(n_tokens: int, loss: float) -> None:
        os.pwrite(note, b"%20d" % n_tokens, 0)
        progress(n_tokens, loss)

    return run_command(lambda: EXIT_CODES[run(plan, follow)])


def _command_line(arguments: list[str]) -> int:
    from train.__main__ import main

    resource.setrlimit(resource.RLIMIT_CPU, (2, 2))
    sys.argv = ["train", *arguments]
    return main()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
