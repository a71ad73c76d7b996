"""The run that everything happens to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.harness import FINISHED, Case
from tests.train.tiny import TINY
from train.compose import compose_config, plan_run

SETTINGS = [
    "schedule.n_tokens=1920",  # 30 steps of 4 sequences
    "checkpoint.every_steps=2",
    "evaluation.n_points=7",
    "evaluation.n_sequences=4",
    "mixture.weights={code:0.9,docs:0.1}",
    "stream.max_epochs=100",
]


@pytest.fixture(params=[[], ["evaluation.average=0.3"]], ids=["raw", "averaged"])
def case(request: pytest.FixtureRequest, data_root: Path, tmp_path: Path) -> Iterator[Case]:
    """Return a run and what it leaves when it is left alone; print in the end what happened to it."""
    overrides = [*TINY, *SETTINGS, *request.param, f"data.root={data_root}", f"machine.runs={tmp_path / 'runs'}"]
    case = Case(plan_run(compose_config(overrides)))
    assert case.attempt() == FINISHED
    case.reference = case.artefacts()
    assert len(case.reference) == 3 + bool(request.param)
    case.restart()
    yield case
    for what, n in case.counts.items():
        request.node.user_properties.append((what, n))
        print(f"{request.node.name}: {n} {what}")
