"""Which GPU a process takes: one of those that were left to us, whatever they are called."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.errors import ConfigError
from train.distributed import gpu_of
from train.gpus import VARIABLE, visible_gpus

UUID = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
SLICES = ["MIG-63b2a1b6-4f6f-5f7c-8b53-f6a3e3cbd3ae", f"MIG-{UUID}/1/0"]


@pytest.mark.parametrize(
    ("variable", "n_seen", "names"),
    [
        (None, 0, []),
        (None, 3, ["0", "1", "2"]),
        ("", 0, []),
        ("-1", 0, []),
        ("NoDevFiles", 0, []),  # what Slurm sets for a job without GPUs
        ("4,5", 2, ["4", "5"]),
        (" 7 , 2 ", 2, ["7", "2"]),
        ("3", 1, ["3"]),
        ("0,1,99", 2, ["0", "1"]),  # there is no GPU 99: CUDA shows those before it
        ("2,-1,3", 1, ["2"]),
        (f"{UUID},GPU-1a2b", 2, [UUID, "GPU-1a2b"]),
        (",".join(SLICES), 1, SLICES),  # CUDA shows a process one slice only
        (SLICES[0], 1, SLICES[:1]),
        (",".join(SLICES), 0, []),  # no driver
    ],
)
def test_gpus_are_those_that_are_visible(variable: str | None, n_seen: int, names: list[str]) -> None:
    assert visible_gpus(n_seen, {} if variable is None else {VARIABLE: variable}) == names


@given(numbers=st.lists(st.integers(0, 15), min_size=1, max_size=8, unique=True))
def test_a_name_means_the_gpu_that_cuda_numbers_so_here(numbers: list[int]) -> None:
    names = visible_gpus(len(numbers), {VARIABLE: ",".join(map(str, numbers))})
    assert [int(name) for name in names] == numbers
    assert all(visible_gpus(1, {VARIABLE: name}) == [name] for name in names)  # and so on, process in process


def test_ranks_of_a_node_have_a_gpu_each() -> None:
    assert [gpu_of(local, 4) for local in range(4)] == [0, 1, 2, 3]
    assert [gpu_of(local, 1) for local in (0, 5)] == [0, 0]  # srun --gpus-per-task: each sees its own only
    with pytest.raises(ConfigError, match="rank 2 of this node finds 2 GPUs: start one process per GPU"):
        gpu_of(2, 2)
