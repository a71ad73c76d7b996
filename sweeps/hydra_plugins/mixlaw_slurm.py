"""`hydra/launcher=slurm`: where Hydra looks for plugins. The work is in sweeps/slurm.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher

from sweeps.slurm import SlurmOptions, submit_study


@dataclass
class SlurmConf(SlurmOptions):
    """Hydra's own field names the plugin's class."""

    _target_: str = "hydra_plugins.mixlaw_slurm.SlurmLauncher"


ConfigStore.instance().store(group="hydra/launcher", name="slurm", node=SlurmConf, provider="mixlaw")


class SlurmLauncher(Launcher):
    """Submits the jobs of a multirun as arrays and leaves them to Slurm."""

    def __init__(self, extra: Sequence[str], **options: Any) -> None:
        self._options = SlurmOptions(extra=[str(argument) for argument in extra], **options)

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Accept what Hydra hands over; runs are composed from their overrides alone."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit all jobs of one batch of the sweep."""
        return submit_study(job_overrides, self._options, initial_job_idx)
