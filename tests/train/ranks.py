"""Several processes as the ranks of one run, started in a fraction of a second from a server that knows torch."""

import multiprocessing
import os
import socket
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

TIMEOUT_S = 120
Prepare = Callable[[int], None]  # called with the rank before the run; a function of a module


def run_ranks(n: int, overrides: Sequence[str], prepare: Prepare | None = None) -> list[str]:
    """Train one run on n ranks; return what each says: its status, or the sentence of its error."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["train.loop", "train.compose", "torch._dynamo"])
    port, pipes, processes = _free_port(), [], []
    for rank in range(n):
        here, there = context.Pipe()
        arguments = (rank, n, port, list(overrides), prepare, there)
        processes.append(context.Process(target=_be_rank, args=arguments, daemon=True))
        pipes.append(here)
    try:
        for process in processes:
            process.start()
        answers = [_answer(pipe) for pipe in pipes]
        for process in processes:
            process.join(10)
        codes = [process.exitcode for process in processes]
        return answers if not any(codes) else [f"{a}, exit {code}" for a, code in zip(answers, codes, strict=True)]
    finally:
        for process in processes:
            process.kill()
            process.join()


def _answer(pipe: Any) -> str:
    if not pipe.poll(TIMEOUT_S):
        return "no answer"
    try:
        return str(pipe.recv())
    except EOFError:
        return "died"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _be_rank(rank: int, n: int, port: int, overrides: list[str], prepare: Prepare | None, pipe: Connection) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(n), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    from mixlaw.errors import MixlawError
    from train.compose import compose_config, plan_run
    from train.loop import run

    if prepare:
        prepare(rank)
    try:
        pipe.send(run(plan_run(compose_config(overrides))))
    except (MixlawError, OSError) as error:
        pipe.send(str(error))


def on_ranks(task: Callable[..., object], *arguments: Any, n: int = 2, **more: float) -> list[str]:
    """Return what `task(world, *arguments)`, a function of a module, says on each of n ranks; `more`: of join_world."""
    context, port, pipes = multiprocessing.get_context("forkserver"), _free_port(), []
    for rank in range(n):
        here, there = context.Pipe()
        context.Process(target=_be, args=(rank, n, port, task, arguments, more, there), daemon=True).start()
        pipes.append(here)
    return [_answer(pipe) for pipe in pipes]


def _be(rank: int, n: int, port: int, task: Any, arguments: Any, more: Any, pipe: Connection) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(n), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    from mixlaw.errors import MixlawError
    from train.distributed import join_world, leave_world

    world = join_world("cpu", **more)
    try:
        said = str(task(world, *arguments))
    except MixlawError as error:
        said = str(error)
    finally:
        leave_world()
    pipe.send(said)
