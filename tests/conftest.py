"""What tests share. Nothing here imports torch before a test asks for it: the fitter's tests run without."""

import functools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.browser import Tab
    from train.config import TrainConfig
    from train.plan import Plan

# Property tests are never judged by their time, and have the same examples in every run. `make slow` chooses
# "thorough" on its command line; "search" looks for new counterexamples: pytest --hypothesis-profile search.
settings.register_profile("fast", deadline=None, max_examples=10, derandomize=True)
settings.register_profile("thorough", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile("fast")
if threading.current_thread() is threading.main_thread():  # started with `&`, it and its children would ignore Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["OMP_NUM_THREADS"] = "1"  # two runs side by side beat one on two threads; also in processes of their own


@pytest.fixture(scope="session")
def tab(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Tab]":
    """Return a page of a browser that the session's tests share; needs a browser."""
    from tests.browser import tab

    with tab(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data.root whose quick start is tiny."""
    from tests.train.tiny import write_corpus
    from train.compose import compose_config

    root = tmp_path_factory.mktemp("data")
    write_corpus(compose_config([f"data.root={root}"]).data.folder)
    return root


@pytest.fixture(scope="session")
def trained(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., "Plan"]:
    """Return what trains a tiny run with some overrides, once in this process; what it leaves is to be read only."""
    from tests.train.tiny import TINY
    from train.compose import compose_config, plan_run
    from train.loop import run

    @functools.cache
    def train(*more: str) -> "Plan":
        places = [f"data.root={data_root}", f"machine.runs={tmp_path_factory.mktemp('trained')}"]
        plan = plan_run(compose_config([*TINY, *places, *more]))
        assert run(plan) == "finished"
        return plan

    return train


@pytest.fixture
def tiny(data_root: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Return the overrides of a run of 12 steps below tmp_path/runs, and more of them."""
    from tests.train.tiny import TINY

    return lambda *more: [*TINY, f"data.root={data_root}", f"machine.runs={tmp_path / 'runs'}", *more]


@pytest.fixture(scope="session")
def composed() -> Callable[..., "TrainConfig"]:
    """Return what composes a configuration of overrides, each only once in this process: 0.1 s of CPU time."""
    from train.compose import compose_config

    @functools.cache
    def compose(folders: str | None, *overrides: str) -> "TrainConfig":
        return compose_config(overrides)

    return lambda *overrides: compose(os.environ.get("MIXLAW_CONFIGS"), *overrides)


@pytest.fixture
def plan(composed: Callable[..., "TrainConfig"], tiny: Callable[..., list[str]]) -> Callable[..., "Plan"]:
    """Return the plan of a tiny run with some overrides."""
    from train.compose import plan_run

    def make(*more: str) -> "Plan":
        of_runs = "machine.runs="  # another one in each test: set afterwards, so that most tests compose the same
        *_, runs = (override for override in tiny(*more) if override.startswith(of_runs))
        config = composed(*(override for override in tiny(*more) if not override.startswith(of_runs)))
        return plan_run(replace(config, machine=replace(config.machine, runs=runs.removeprefix(of_runs))))

    return make
