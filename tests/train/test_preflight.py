"""What a run will need of its machine is said before it begins, in one sentence."""

import shutil
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data.stream.loader import WeightedStream
from mixlaw.errors import ConfigError
from tests.marks import slow
from tests.train.tiny import image_run
from train.compose import compose_config, plan_run
from train.config import TrainConfig
from train.loop import run
from train.models.attention import suits_flex
from train.plan import Plan
from train.preflight import (
    FLEX_HEAD_DIM,
    FLEX_PLACES,
    SHARED_MEMORY,
    check_compiler,
    check_shared_memory,
    item_bytes,
    needs_compiler,
    ranks_of_node,
)

Plans = Callable[..., Plan]
Tiny = Callable[..., list[str]]
COMPILERS = [("cuda", "gcc"), ("cpu", "g++")]


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(("device", "name"), COMPILERS)
def test_a_machine_without_a_compiler_is_told_how_to_get_one(device: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"need a C compiler, and this machine has none: install gcc"):
        check_compiler(device, {"PATH": str(tmp_path)})
    variable = {"cuda": "CC", "cpu": "CXX"}[device]
    with pytest.raises(ConfigError, match=rf"\${variable} names /no/such/compiler, which is not there"):
        check_compiler(device, {"PATH": str(tmp_path), variable: "/no/such/compiler -O2"})


@pytest.mark.parametrize(("device", "name"), COMPILERS)
def test_the_compiler_that_is_there_is_tried(device: str, name: str, tmp_path: Path) -> None:
    if not (shutil.which(name) and Path(sysconfig.get_paths()["include"], "Python.h").exists()):
        pytest.skip("no compiler, or no Python.h")
    check_compiler(device, {"PATH": "/usr/local/bin:/usr/bin:/bin"})
    without = script(
        tmp_path / "cc", "echo 'probe.c:1:10: fatal error: Python.h: No such file or directory' >&2; exit 1"
    )
    broken = script(tmp_path / "broken", "echo 'cc1: Exec format error' >&2; exit 1")
    variable = {"cuda": "CC", "cpu": "CXX"}[device]
    with pytest.raises(ConfigError, match=r"need Python's headers, and .* holds no Python\.h"):
        check_compiler(device, {"PATH": "/usr/bin:/bin", variable: str(without)})
    with pytest.raises(ConfigError, match=r"broken cannot compile: cc1: Exec format error; install"):
        check_compiler(device, {"PATH": "/usr/bin:/bin", variable: str(broken)})


def test_a_compiled_run_says_so_before_it_begins(plan: Plans, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", "/no/such/compiler")
    with pytest.raises(ConfigError, match="CXX names /no/such/compiler"):
        run(plan("machine.compile=true"))
    assert not list((tmp_path / "runs").rglob("run.json"))
    assert run(plan()) == "finished"  # which compiles nothing


@pytest.mark.slow
def test_masks_on_gpus_are_compiled_too() -> None:
    def config(*more: str) -> TrainConfig:
        return compose_config(["data.root=/none", *more])

    assert not needs_compiler(config(), "cuda")
    assert needs_compiler(config("machine.compile=true"), "cpu")
    masked = ["model.document_mask=true", "stream.seq_len=256"]
    assert needs_compiler(config(*masked), "cuda")
    assert not needs_compiler(config(*masked), "cpu")
    assert not needs_compiler(config(*masked, "model.head_dim=8"), "cuda")  # a dense mask
    assert not needs_compiler(config(masked[0], "stream.seq_len=128"), "cuda")


def test_masks_are_dense_exactly_where_no_compiler_is_asked_for() -> None:
    class OnGpu(torch.Tensor):
        is_cuda = True  # type: ignore[assignment]

    for head_dim, places in ((16, 129), (15, 129), (16, 128)):
        like = torch.zeros(1, places).as_subclass(OnGpu)
        assert suits_flex(like, head_dim) == (head_dim >= FLEX_HEAD_DIM and places > FLEX_PLACES)


@pytest.mark.parametrize("family", ["text", slow("multimodal"), "vision"])
def test_a_batch_has_the_bytes_that_are_counted(family: str, tiny: Tiny, tmp_path: Path) -> None:
    plan = plan_run(compose_config(tiny() if family == "text" else image_run(tmp_path, family)))
    layout, n = plan.config.layout(), plan.config.stream.batch_size
    batch = WeightedStream(plan.manifest, plan.weights, layout, n, 0)[0]
    assert sum(t.numel() * t.element_size() for t in batch.values()) == n * item_bytes(layout)


def test_batches_that_do_not_fit_into_shared_memory_are_refused(tiny: Tiny, plan: Plans) -> None:
    config = compose_config(tiny("machine.workers=3"))
    needed = 2 * 7 * 2 * item_bytes(config.layout())  # 2 ranks here of 2, 3 x 2 + 1 batches of 2 sequences each
    check_shared_memory(config, 2, 2, needed)
    check_shared_memory(config, 2, 1, needed // 2)
    with pytest.raises(ConfigError, match=r"machine\.workers=3: .* --ipc=host \(or --shm-size=1g\), or lower"):
        check_shared_memory(config, 2, 2, needed - 1)
    too_many = shutil.disk_usage(SHARED_MEMORY).total // (4 * item_bytes(config.layout()))
    with pytest.raises(ConfigError, match="start the container with --ipc=host"):
        run(plan(f"machine.workers={too_many}"))


@pytest.mark.parametrize(
    ("environment", "n"),
    [
        ({}, 16),
        ({"LOCAL_WORLD_SIZE": "8"}, 8),
        ({"SLURM_STEP_TASKS_PER_NODE": "8(x2)"}, 8),
        ({"SLURM_STEP_TASKS_PER_NODE": "4(x2),8"}, 8),
        ({"SLURM_STEP_TASKS_PER_NODE": "?"}, 16),
    ],
)
def test_ranks_of_a_node_are_those_that_its_launcher_tells(environment: dict[str, str], n: int) -> None:
    assert ranks_of_node(environment, 16) == n
