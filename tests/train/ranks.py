"""Several processes as the ranks of one run, started in a fraction of a second from a server that knows torch."""

import os
import socket
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

from tests.forkserver import server_context

TIMEOUT_S = 240
Prepare = Callable[[int], None]  # called with the rank before the run; a function of a module


def run_ranks(n: int, overrides: Sequence[str], prepare: Prepare | None = None) -> list[str]:
    """Train one run on n ranks; return what each says: its status, or the sentence of its error."""
    return on_ranks(n, _train, list(overrides), prepare)


def on_ranks(n: int, task: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call a function of a module with (rank, *arguments) in n processes that know each other; return the answers."""
    context = server_context()
    port, pipes, theirs, processes = _free_port(), [], [], []
    for rank in range(n):
        here, there = context.Pipe()
        place = (rank, n, port, there, task, arguments)
        processes.append(context.Process(target=_be_rank, args=place, daemon=True))
        pipes.append(here)
        theirs.append(there)
    try:
        for process in processes:
            process.start()
        for there in theirs:
            there.close()  # so that the death of a rank is heard
        answers = [_answer(pipe) for pipe in pipes]
        for process in processes:
            process.join(10)
        codes = [process.exitcode for process in processes]
        return answers if not any(codes) else [f"{a}, exit {code}" for a, code in zip(answers, codes, strict=True)]
    finally:
        for process in processes:
            process.kill()
            process.join()


def _answer(pipe: Any) -> Any:
    if not pipe.poll(TIMEOUT_S):
        return "no answer"
    try:
        return pipe.recv()
    except EOFError:
        return "died"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _be_rank(rank: int, n: int, port: int, pipe: Connection, task: Callable[..., Any], arguments: Any) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(n), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    pipe.send(task(rank, *arguments))


def _train(rank: int, overrides: list[str], prepare: Prepare | None) -> str:
    from mixlaw.errors import MixlawError
    from train.compose import compose_config, plan_run
    from train.loop import run

    if prepare:
        prepare(rank)
    try:
        return run(plan_run(compose_config(overrides)))
    except (MixlawError, OSError) as error:
        return str(error)


def in_world(rank: int, task: Callable[..., Any], limits: dict[str, float], *arguments: Any) -> Any:
    """Return what `task(world, *arguments)` gives on a rank of gloo, or its sentence; `limits`: of join_world."""
    from mixlaw.errors import MixlawError
    from train.distributed import join_world, leave_world

    world = join_world("cpu", **limits)
    try:
        return task(world, *arguments)
    except MixlawError as error:
        return str(error)
    finally:
        leave_world()
