"""A Slurm of two nodes on this machine, for as long as the tests run."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster
from train.compose import ROOT

SCRIPT = str(ROOT / "scripts/slurm/cluster.sh")
NEEDED = ("slurmctld", "slurmd", "sbatch", "munged")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Start Slurm, and leave nothing of it."""
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        pytest.skip(f"{', '.join(missing)} not installed: apt-get install slurmctld slurmd slurm-client munge")
    if os.geteuid() != 0:
        pytest.skip("only root can start a Slurm of its own")
    folder = tmp_path_factory.mktemp("slurm")
    try:
        subprocess.run([SCRIPT, "up", str(folder), "2", "2"], check=True, timeout=120, stdout=subprocess.PIPE)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
            patch.setenv("MIXLAW_PYTHON", os.environ.get("MIXLAW_PYTHON", sys.executable))
            patch.setenv("GLOO_SOCKET_IFNAME", "lo")
            patch.chdir(ROOT)
            yield Cluster(folder)
    finally:
        subprocess.run([SCRIPT, "down", str(folder)], check=True, timeout=120)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Return the folder that `tiny` puts studies into."""
    return tmp_path / "runs"
