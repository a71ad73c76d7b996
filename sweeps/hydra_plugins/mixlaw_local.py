"""`hydra/launcher=local`: where Hydra looks for plugins. The work is in sweeps/local.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher


@dataclass
class LocalConf:
    """Hydra's own field names the plugin's class.

    Attributes
    ----------
    n_jobs : runs at a time, 0: one per visible GPU, or per core where there is none
    dry_run : print what would run
    """

    _target_: str = "hydra_plugins.mixlaw_local.LocalLauncher"
    n_jobs: int = 0
    dry_run: bool = False


ConfigStore.instance().store(group="hydra/launcher", name="local", node=LocalConf, provider="mixlaw")


class LocalLauncher(Launcher):
    """Runs the jobs of a multirun side by side on this machine."""

    def __init__(self, n_jobs: int = 0, dry_run: bool = False) -> None:
        self._n_jobs, self._dry_run = n_jobs, dry_run

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Accept what Hydra hands over; runs are composed from their overrides alone."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs of one batch of the sweep."""
        from sweeps.local import run_study

        return run_study(job_overrides, self._n_jobs, initial_job_idx, self._dry_run)
