"""Results, errors and progress do not depend on the number of processes, and none outlives an interrupt.

Only a process without other threads forks, so these checks run in processes of their own.
"""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tqdm import tqdm

import mixlaw
from mixlaw.errors import ConfigError, FitError
from mixlaw.laws.law import Law
from mixlaw.laws.published import Formula
from mixlaw.laws.tree import Sum
from mixlaw.selection.workers import ForkedWorkers, Result, Workers, workers
from tests.forkserver import server_context
from tests.marks import slow

ROOT = Path(__file__).parents[3]
ERRORS = (FitError, TypeError, KeyError)
QUICK = {"targets": ["reviews"], "n_starts": 3, "n_bootstrap": 4}


def alone(check: Callable[..., None], *arguments: Any) -> None:
    """Call a function of this module in a new process, and raise its error here."""
    with ProcessPoolExecutor(1, server_context()) as pool:
        pool.submit(check, *arguments).result()


def work(outcome: int, progress: Callable[[str], None]) -> int:
    """Say a sentence; then return a number, or raise an error if it is negative."""
    progress(f"job {outcome}")
    if outcome < 0:
        raise ERRORS[outcome](f"no {outcome}")
    return outcome


def outcome_of(result: Result[int]) -> Any:
    """Return a result, or the type and text of its error."""
    try:
        return result()
    except ERRORS as error:
        return type(error), str(error)


def outcomes(crew: Workers, jobs: list[int]) -> list[Any]:
    """Return the outcomes of all jobs, which are started together."""
    return [outcome_of(result) for result in [crew.start(partial(work, job)) for job in jobs]]


def processes_change_nothing(n_examples: int) -> None:
    """Compare all outcomes, and the sentences of the jobs that succeed."""

    @settings(max_examples=n_examples, deadline=None, derandomize=True)
    @given(st.lists(st.integers(-len(ERRORS), 9), max_size=6), st.integers(1, 4))
    def compare(jobs: list[int], n_jobs: int) -> None:
        here, there = [], []
        forked = ForkedWorkers(n_jobs, there.append)
        assert outcomes(forked, jobs) == outcomes(Workers(here.append), jobs)
        assert set(here) == set(there)
        assert [there.count(f"job {job}") for job in jobs if job >= 0] == [jobs.count(job) for job in jobs if job >= 0]

    compare()


@pytest.mark.parametrize("n_examples", [8, slow(30)])  # the new process does not know the profile of this one
def test_processes_change_neither_results_nor_errors_nor_progress(n_examples):
    alone(processes_change_nothing, n_examples)


def save_laws(folder: Path, counts: list[int]) -> None:
    """Fit laws, one of them the user's, with some numbers of processes, and save them."""
    free = Formula(lambda p, x: p.E + p.B * (1 - p.s * x.h[..., 0, :]), "h", E=(0.1, 10), B=(0.01, 10), s=(0, 1))
    assert kind_of_workers() is ForkedWorkers
    mixlaw.register(Law("mine", "E + B (1 - s h_1)", "this test", Sum(free)))
    for n_jobs in counts:
        laws = mixlaw.fit_laws(mixlaw.examples.load("text"), ["base", "additive", "mine"], n_jobs=n_jobs, **QUICK)
        laws.save(folder / f"{n_jobs}.json")


@pytest.mark.slow
def test_saved_laws_are_equal_to_the_last_bit_with_any_number_of_processes(tmp_path):
    alone(save_laws, tmp_path, [1, 2, 5])
    saved = [file.read_bytes() for file in tmp_path.iterdir()]
    assert len(saved) == 3
    assert len(set(saved)) == 1


def compare_laws(laws: list[str]) -> None:
    """Compare laws, one that cannot be fitted among them, with one and with several processes."""
    table = mixlaw.examples.load("text")
    one, three = (mixlaw.compare(table, laws, n_jobs=n_jobs, **QUICK) for n_jobs in (1, 3))
    assert set(one.refused) == {"muennighoff"}
    assert str(one.to_json()) == str(three.to_json())


@pytest.mark.parametrize("law", ["additive", slow("auto")])
def test_comparisons_are_equal_with_any_number_of_processes(law):
    alone(compare_laws, ["base", law, "muennighoff"])


def kill_a_process() -> None:
    """Ask for the result of a job whose process is killed."""
    with pytest.raises(ConfigError, match="ended by SIGKILL, perhaps for lack of memory: repeat with fewer processes"):
        ForkedWorkers(2).start(lambda progress: os.kill(os.getpid(), signal.SIGKILL))()


def test_a_killed_process_is_one_sentence():
    alone(kill_a_process)


def run_without_files() -> None:
    """Ask for results where no further file can be opened."""
    crew = ForkedWorkers(2)
    n_open = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (n_open, n_open))
    assert crew.start(lambda progress: os.getpid())() == os.getpid()


def test_where_no_process_can_be_started_the_jobs_run_in_this_one():
    alone(run_without_files)


def kind_of_workers() -> type[Workers]:
    """Return the kind of workers that two processes would be."""
    with workers(2) as crew:
        return type(crew)


def fork_where_it_is_safe() -> None:
    """Ask for workers beside a progress bar's monitor, in one of their processes, and beside another thread."""
    done = threading.Event()
    with tqdm(disable=True), workers(2) as crew:
        assert type(crew) is ForkedWorkers
        assert crew.start(lambda progress: kind_of_workers())() is Workers
    threading.Thread(target=done.wait).start()
    assert kind_of_workers() is Workers
    done.set()


def test_a_process_with_threads_that_may_hold_locks_does_not_fork():
    alone(fork_where_it_is_safe)


def test_a_number_of_processes_below_one_is_refused():
    with pytest.raises(ConfigError, match="n_jobs must be at least 1, not -1"), workers(-1):
        pass


@contextmanager
def long_fit() -> Iterator[subprocess.Popen[str]]:
    """Start `mixlaw fit` in a process group of its own, and wait until two processes fit laws for it."""
    code = "import sys; from mixlaw.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "fit", "example:text", "--n-bootstrap", "5000", "--n-jobs", "2"]
    with subprocess.Popen(command, cwd=ROOT, text=True, start_new_session=True, stderr=subprocess.PIPE) as process:
        wait_for(lambda: len(group(process.pid)) == 3)
        yield process


@pytest.mark.parametrize("interrupt", [os.killpg, slow(os.kill)], ids=["the terminal", "this process"])
def test_after_an_interrupt_no_process_is_left(interrupt):
    """Ctrl-C in a terminal interrupts all processes of the group; `kill -INT` only one."""
    with long_fit() as process:
        interrupt(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "interrupted"
    assert "Traceback" not in errors
    assert not group(process.pid)


@pytest.mark.slow
def test_processes_do_not_outlive_a_killed_parent():
    with long_fit() as process:
        process.kill()
    wait_for(lambda: not group(process.pid))


def group(leader: int) -> list[str]:
    """Return the running processes of a process group."""
    listed = subprocess.run(["ps", "-A", "-o", "pgid=,pid="], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if line.split()[0] == str(leader)]


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    while not condition():  # the test's time limit ends it
        time.sleep(0.05)
