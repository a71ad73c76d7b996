"""Several ranks train what one process trains: the same mixture, the same losses, one run directory, any sharding."""

import itertools
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

import train.loop
from data.stream.loader import Batch
from mixlaw.errors import ConfigError, MixlawError
from mixlaw.runs.load import load_runs
from mixlaw.runs.log import read_status
from tests.commands import call, start
from tests.marks import all_slow_but, slow
from tests.train.ranks import run_ranks
from train.checkpoint import newest_checkpoint, read_part
from train.distributed import ALONE, World, adopt_slurm, first_host, join_world, leave_world
from train.loop import run
from train.models.build import build_model
from train.plan import Plan

Plans = Callable[..., Plan]
Tiny = Callable[..., list[str]]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone"]
LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo"}
PARALLEL = {  # hsdp: of four ranks, each two share a copy
    "alone": [],
    "ddp": ["machine.parallel=ddp"],
    "fsdp": ["machine.parallel=fsdp"],
    "hsdp": ["machine.parallel=fsdp", "machine.shards=2"],
}
MORE = ("", "machine.micro_batch=1", "machine.activation_checkpointing=true")
SETTINGS = ["evaluation.average=0.5", "schedule.n_tokens=1280"]  # 20 steps


def rows(runs: Path) -> list[dict[str, Any]]:
    [log] = runs.glob("*/*/metrics.jsonl")  # one run directory, whatever the number of processes
    return [json.loads(line) for line in log.read_text().splitlines()]


def assert_same_run(one: Path, many: Path) -> None:
    """Equal to fp32 rounding: rtol 1e-6 on every loss and gradient norm."""
    for a, b in zip(rows(one), rows(many), strict=True):
        for key in ("loss", "grad_norm"):
            assert b.get(key, 0) == pytest.approx(a.get(key, 0), rel=1e-6)
        assert b.get("loss_se", 0) == pytest.approx(a.get("loss_se", 0), rel=1e-5)  # of differences of losses
        rounded = ("loss", "loss_se", "grad_norm")
        assert {k: v for k, v in b.items() if k not in rounded} == {k: v for k, v in a.items() if k not in rounded}


def weights_of(plan: Plan, runs: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a run's last checkpoint, read by one process whoever wrote it."""
    path = newest_checkpoint(runs / plan.folder_name / "checkpoints")
    assert path is not None
    weights = build_model(plan.config.model, 256, plan.config.layout(), seed=99).state_dict()
    read_part(path, "model", weights)
    return weights


@pytest.fixture
def alone(trained: Plans) -> Path:
    """Return the runs folder of a run on one process."""
    return Path(trained(*SETTINGS).config.machine.runs)


@pytest.mark.parametrize(
    ("n", "parallel", "more"),
    all_slow_but(
        [(2, "fsdp", "")],
        (case for case in itertools.product((2, 4), ("ddp", "fsdp", "hsdp"), MORE) if case[:2] != (2, "hsdp")),
    ),
    ids=str,
)
def test_ranks_train_the_run_that_one_process_trains(
    n: int, parallel: str, more: str, plan: Plans, tiny: Tiny, alone: Path, tmp_path: Path
) -> None:
    many = tmp_path / "many"
    overrides = tiny(*SETTINGS, f"machine.runs={many}", *PARALLEL[parallel], *more.split())
    assert run_ranks(n, overrides) == ["finished"] * n
    assert len(list(many.glob("*/*/done.json"))) == 1
    assert_same_run(alone, many)
    this = plan(*SETTINGS)
    for (name, a), b in zip(weights_of(this, alone).items(), weights_of(this, many).values(), strict=True):
        assert float((a - b).norm() / a.norm()) < 1e-5, name  # Adam makes steps of gradients that are rounding only


@pytest.mark.slow
def test_shards_in_bf16_are_close_to_one_process_in_bf16(plan: Plans, tiny: Tiny, tmp_path: Path) -> None:
    """Shards are gathered in bf16 and summed in fp32; one process casts what autocast says."""
    half = ["precision=bf16", "machine.compile=false"]
    run(plan(*half, f"machine.runs={tmp_path / 'one'}"))
    assert run_ranks(2, tiny(*half, "machine.parallel=fsdp")) == ["finished"] * 2
    for a, b in zip(rows(tmp_path / "one"), rows(tmp_path / "runs"), strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=0.01)
    weights = weights_of(plan(*half), tmp_path / "runs")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def stop_after_ten_steps(rank: int) -> None:
    """Let the last rank get a scheduler's warning during step 10; the others hear of it from it."""
    if rank == int(os.environ["WORLD_SIZE"]) - 1:
        plain = train.loop.clip_gradients
        calls = iter(range(1, 100))

        def clip(model: torch.nn.Module, limit: float) -> torch.Tensor:
            if next(calls) == 10:
                os.kill(os.getpid(), signal.SIGUSR2)
            return plain(model, limit)

        train.loop.clip_gradients = clip


@pytest.mark.parametrize(
    ("saved", "loaded"),
    [
        ("alone", "fsdp 2"),
        slow("fsdp 2", "ddp 2"),
        slow("fsdp 2", "alone"),
        slow("fsdp 2", "fsdp 4"),
        slow("fsdp 4", "ddp 2"),
        slow("ddp 2", "fsdp 2"),
        slow("hsdp 4", "alone"),
        slow("fsdp 2", "hsdp 4"),
    ],
)
def test_what_some_ranks_save_any_other_number_goes_on_with(
    saved: str, loaded: str, plan: Plans, tiny: Tiny, alone: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "elastic"

    def go(how: str, **more: Any) -> set[str]:
        parallel, _, n = how.partition(" ")
        where = [f"machine.runs={runs}", *PARALLEL[parallel]]
        return set(run_ranks(int(n or 1), tiny(*SETTINGS, *where), **more))

    assert go(saved, prepare=stop_after_ten_steps) == {"again"}
    folder = runs / plan(*SETTINGS).folder_name
    newest = newest_checkpoint(folder / "checkpoints")
    assert newest is not None
    assert newest.name == "step-00000010"
    kinds = {p.suffix for p in newest.rglob("*") if p.is_file()}
    assert kinds == {".safetensors", ".json"}  # nothing that could run code
    assert newest.joinpath("model").is_dir() == saved.startswith(("fsdp", "hsdp"))
    assert go(loaded) == {"finished"}
    assert_same_run(alone, runs)


def poison_rank_1_at_step_3(rank: int) -> None:
    """Let the third loss of the second rank be no number."""
    plain, calls = train.loop.backward, iter(range(1, 100))

    def backward(model: torch.nn.Module, batch: Batch, *more: Any) -> torch.Tensor:
        if next(calls) == 3 and rank == 1:
            with torch.no_grad():
                list(model.parameters())[-1].fill_(float("nan"))
        return plain(model, batch, *more)

    train.loop.backward = backward


@pytest.mark.parametrize("parallel", ["ddp", slow("fsdp")])
def test_a_loss_that_is_no_number_on_one_rank_stops_all_at_the_same_step(
    parallel: str, plan: Plans, tiny: Tiny, tmp_path: Path
) -> None:
    this = plan()
    overrides = tiny(f"machine.parallel={parallel}", "checkpoint.every_steps=1")
    assert run_ranks(2, overrides, poison_rank_1_at_step_3) == ["diverged"] * 2
    folder = tmp_path / "runs" / this.folder_name
    seal = json.loads((folder / "done.json").read_text())
    assert (seal["status"], seal["step"]) == ("diverged", 2)
    newest = newest_checkpoint(folder / "checkpoints")
    assert newest is not None
    assert newest.name == "step-00000002"
    other = plan("seed=1")
    run(other)
    excluded = load_runs(tmp_path / "runs").excluded
    assert excluded == {str(folder): f"{folder} is left out: its status is 'diverged'"}


def test_a_run_that_is_in_use_is_refused_on_all_ranks(plan: Plans, tiny: Tiny) -> None:
    answers: list[str] = []

    def progress(n_tokens: int, loss: float) -> None:
        if n_tokens == 64:
            answers.extend(run_ranks(2, tiny()))

    assert run(plan(), progress) == "finished"
    assert f"is in use by process {os.getpid()} on " in answers[0]
    assert answers[1] == "stopped, because another rank of this run failed: see what it says"


@pytest.mark.slow
def test_torchrun_starts_the_ranks_and_a_signal_to_one_saves_on_all(plan: Plans, tiny: Tiny, tmp_path: Path) -> None:
    long = ["schedule.n_tokens=12800", "checkpoint.every_steps=1000"]
    one, this = plan(*long, f"machine.runs={tmp_path / 'one'}"), plan(*long)
    folder = tmp_path / "runs" / this.folder_name
    with start(*TORCHRUN, "--nproc_per_node=2", "-m", "train", *tiny(*long), **LOOPBACK) as agent:
        while agent.poll() is None and not (folder / "run.json").exists():
            time.sleep(0.002)
        first_rank = int((folder / ".lock").read_text().split()[1])
        os.kill(first_rank, signal.SIGUSR1)
        agent.communicate(timeout=120)
    assert agent.returncode != 0
    assert read_status(folder) == "unfinished"
    assert len(list(folder.glob("checkpoints/step-*"))) == 1
    assert run(this) == "finished"
    run(one)
    for a, b in zip(rows(tmp_path / "one"), rows(tmp_path / "runs"), strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)  # 200 steps let rounding grow


@pytest.mark.slow
def test_srun_tells_the_ranks_in_its_own_words(trained: Plans, tiny: Tiny, tmp_path: Path) -> None:
    one = Path(trained().config.machine.runs)
    job = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "localhost", "SLURM_JOB_ID": str(os.getpid())}
    arguments = ["-m", "train", *tiny()]
    tasks = [job | {"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)} | LOOPBACK for i in range(2)]
    with start(*arguments, **tasks[1]) as second:
        code, _, err = call(*arguments, **tasks[0])
        second.communicate(timeout=60)
    assert (code, second.returncode) == (0, 0), err
    assert_same_run(one, tmp_path / "runs")


def test_the_words_of_slurm_become_those_of_torch() -> None:
    job = {"SLURM_JOB_ID": "41234", "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_NTASKS": "8"}
    batch_script = dict(job)
    adopt_slurm(batch_script)
    assert batch_script == job  # an allocation of 8 tasks, and this is none of them
    step = job | {"SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NODELIST": "gpu[03-04]"}
    adopt_slurm(step)
    assert {k: v for k, v in step.items() if "SLURM" not in k} == {
        "RANK": "5",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "1",
        "MASTER_ADDR": "gpu03",
        "MASTER_PORT": "21234",
    }
    inside_torchrun = step | {"RANK": "0", "WORLD_SIZE": "2"}
    before = dict(inside_torchrun)
    adopt_slurm(inside_torchrun)
    assert inside_torchrun == before
    hosts = ("node7", "a[1,3]", "a-b[001-100,200],c", "x,y")
    assert [first_host(nodes) for nodes in hosts] == ["node7", "a1", "a-b001", "x"]
    with pytest.raises(ConfigError, match="names no host"):
        first_host("[1-2]")


def test_a_world_of_one_needs_no_process_group() -> None:
    world = join_world("cpu")
    assert (world.rank, world.size, world.is_first) == (0, 1, True)
    assert not dist.is_initialized()
    assert world.maximum(3) == 3
    assert world.total(torch.tensor(2.0)).item() == 2.0
    with pytest.raises(MixlawError, match="own"), world.together():
        raise MixlawError("its own")
    leave_world()
    assert isinstance(ALONE, World)
