"""A tiny prepared corpus under the quick start's name, and runs on it that take a second."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from data.shards import SPLITS, Manifest, open_manifest, token_dtype, write_manifest, write_split
from train.compose import ROOT, compose_config, plan_run
from train.config import Plan

settings.register_profile("untimed", deadline=None)  # property tests are never judged by their time
settings.load_profile("untimed")
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # also for the processes that tests start

ROLES = {"code": "train", "docs": "train", "dict": "train", "dialogue": "train", "reviews": "target"}
TINY = (
    "model.width=16 model.depth=1 model.head_dim=8 stream.seq_len=16 stream.batch_size=4 schedule.n_tokens=768 "
    "schedule.warmup_tokens=64 evaluation.n_sequences=8 evaluation.n_points=3 checkpoint.every_steps=5 "
    "logging.every_steps=2 machine.device=cpu"
).split()  # 12 steps; evaluated after 7, 9 and 12


def write_corpus(folder: Path, roles: dict[str, str] = ROLES, seed: int = 0, n_tokens: int = 4000) -> Manifest:
    """Write a prepared folder: each domain has its own alphabet, its own size, and several shards."""
    domains = {}
    for i, (name, role) in enumerate(roles.items()):
        rng = np.random.default_rng([seed, i])
        splits = {}
        for split in SPLITS:
            n = n_tokens * (1 + i) if split == "train" else n_tokens // 4
            text = np.array_split(rng.integers(10 * i, 10 * i + 4 * (i + 1), n), 40)
            documents = text if (role, split) != ("target", "train") else []
            splits[split] = write_split(folder / name, split, documents, token_dtype(256), 3000)
        domains[name] = {"role": role, "splits": splits}
    tokenizer = {"kind": "bytes", "vocab_size": 256, "end_id": 0, "sha256": "0" * 64}
    write_manifest(folder, {"format": 1, "tokenizer": tokenizer, "domains": domains})
    return open_manifest(folder)


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data.root whose quick start is tiny."""
    root = tmp_path_factory.mktemp("data")
    write_corpus(compose_config([f"data.root={root}"]).data.folder)
    return root


@pytest.fixture
def tiny(data_root: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Return the overrides of a run of 12 steps below tmp_path/runs, and more of them."""
    return lambda *more: [*TINY, f"data.root={data_root}", f"machine.runs={tmp_path / 'runs'}", *more]


@pytest.fixture
def plan(tiny: Callable[..., list[str]]) -> Callable[..., Plan]:
    """Return the plan of a tiny run with some overrides."""
    return lambda *more: plan_run(compose_config(tiny(*more)))


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start a Python process in the checkout, in a session of its own."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT, env=os.environ | environment, start_new_session=True,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def call(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """Run a Python process in the checkout to its end; return exit code, stdout and stderr."""
    with start(*arguments, **environment) as process:
        out, err = process.communicate(timeout=120)
    return process.returncode, out, err
