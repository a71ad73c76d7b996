"""The server that forks processes for tests: it has imported what they need, so that one starts in a moment."""

import multiprocessing
from multiprocessing.context import ForkServerContext

# One list for all tests, because a process has one server: the list of the first test that starts it counts.
PRELOAD = [
    "sweeps.processes",
    "sweeps.local",
    "train.__main__",
    "torch._dynamo",
    "mixlaw.cli.main",
    "mixlaw.report.build",
    "tests.train.ranks",
    "pytest",
    "hypothesis",
]


def server_context() -> ForkServerContext:
    """Return the context whose processes are forked from the server."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    return context
