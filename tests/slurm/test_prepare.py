"""A preparation on a Slurm of two nodes: jobs are killed and requeued, and the prepared folder has the same bytes."""

import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from data.config import DataConfig, SourceConfig
from data.preparation.cluster import SlurmOptions
from data.preparation.sizes import Sizes
from data.preparation.work_folder import work_path
from data.prepare import prepare
from mixlaw.errors import DataError
from tests.data.test_prepare import contents, quiet
from tests.data.tiny import sentences, write_jsonl
from tests.slurm.cluster import Cluster, ask

pytest.importorskip("submitit")
pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]
OPTIONS = SlurmOptions(cpus_per_task=1, max_running=2, time=10)
PARTS = Sizes(part=1, batch=1 << 20, bucket=1 << 20, small=0)  # one file each


@pytest.fixture
def config(tmp_path: Path) -> DataConfig:
    """Return a configuration whose preparation takes some seconds per job."""
    for i in range(24):
        texts = [text * 40 for text in sentences(f"tree {i % 20}", 1500)]
        (tmp_path / "trees").mkdir(exist_ok=True)
        write_jsonl(tmp_path / "trees" / f"{i:02d}.jsonl", texts)
    target = {"rivers": write_jsonl(tmp_path / "rivers.jsonl", sentences("river", 100))}
    return DataConfig(
        "s", str(tmp_path / "cache"), {"trees": SourceConfig("jsonl", path=str(tmp_path / "trees"))}, target
    )


def processes() -> dict[str, int]:
    """Return the job and the process of everything that submitit started on the nodes, which are on this machine."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = (path / "cmdline").read_bytes(), (path / "environ").read_text()
        except (OSError, ValueError):
            continue
        job = re.search(r"\bSLURM_JOB_ID=(\d+)", environment)
        if job and b"submitit.core._submit" in command and "SLURM_PROCID=0\0" in environment:
            found[job[1]] = int(path.name)
    return found


CHILD = """
import pickle, sys
from data.prepare import prepare, say
prepare(echo=say, **pickle.load(sys.stdin.buffer))
"""


def driver(config: DataConfig, log: Path) -> Popen[bytes]:
    """Start a process that prepares a configuration in Slurm jobs."""
    with log.open("wb") as file:
        process = Popen([sys.executable, "-c", CHILD], stdin=PIPE, stderr=file)
    assert process.stdin is not None
    process.stdin.write(pickle.dumps({"config": config, "workers": OPTIONS, "sizes": PARTS}))
    process.stdin.close()
    return process


def wait(cluster: Cluster, condition: Callable[[], object]) -> None:
    end = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < end, ask("squeue", "-r", "-t", "all")
        cluster.hurry()
        time.sleep(0.05)


def warn(job: str) -> None:
    """Do what Slurm does near the time limit of a job."""
    with suppress(subprocess.TimeoutExpired):  # scancel tries again where a task of the array waits
        subprocess.run(["scancel", "--signal=USR2", job], check=True, timeout=4)


def requeue(job: str) -> None:
    """Do what an administrator may do."""
    ask("scontrol", "requeue", job)


@pytest.mark.parametrize("interrupt", [requeue, warn])
def test_killed_and_requeued_jobs_change_no_byte(
    interrupt: Callable[[str], None], cluster: Cluster, config: DataConfig, tmp_path: Path
) -> None:
    work, log = work_path(config.folder, False), tmp_path / "log"

    def n_read() -> int:
        return len(list(work.glob("parts/[0-9a-f]*")))

    with driver(config, log) as process:
        wait(cluster, lambda: n_read() > 1 and len(processes()) > 1)
        first, second = sorted(processes().items())[:2]
        os.kill(first[1], signal.SIGKILL)
        interrupt(second[0])
        assert n_read() < 25
        wait(cluster, lambda: any("JOB REQUEUE" in path.read_text() for path in work.glob("slurm/*_log.out")))
        wait(cluster, lambda: process.poll() is not None)
    said = log.read_text()
    assert process.returncode == 0, said
    print(said)
    afresh = prepare(replace(config, root=str(tmp_path / "afresh")), quiet)
    assert contents(config.folder) == contents(afresh.folder)
    assert said.count("tasks in 2 jobs") >= 3, said
    assert "25 tasks in 2 jobs" in said
    assert not cluster.queue()


def test_a_driver_that_is_killed_continues_and_its_jobs_are_cancelled(
    cluster: Cluster, config: DataConfig, tmp_path: Path
) -> None:
    work = work_path(config.folder, False)
    with driver(config, tmp_path / "log") as process:
        wait(cluster, lambda: len(list(work.glob("parts/[0-9a-f]*"))) > 1)
        process.kill()
    old = (work / "job").read_text()
    lines = list[str]()
    there = prepare(config, lines.append, workers=OPTIONS, sizes=PARTS)
    assert lines[0].startswith("continues: ")
    assert cluster.job(old).get("JobState") == "CANCELLED" or not cluster.job(old)
    assert contents(there.folder) == contents(prepare(replace(config, root=str(tmp_path / "afresh")), quiet).folder)


def test_an_error_in_a_job_is_the_sentence_of_the_reader(cluster: Cluster, config: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "trees" / "05.jsonl").write_bytes(b'{"text": "caf\xe9"}\n')
    with pytest.raises(DataError, match=r"05\.jsonl, record 1: not UTF-8"):
        prepare(config, quiet, workers=OPTIONS, sizes=PARTS)
    wait(cluster, lambda: not cluster.queue())


def test_what_sbatch_refuses_is_a_sentence(cluster: Cluster, config: DataConfig) -> None:
    with pytest.raises(DataError, match=r"sbatch refused: .*nowhere"):
        prepare(config, quiet, workers=replace(OPTIONS, partition="nowhere"), sizes=PARTS)
