"""`hydra/sweeper=grids`: a study is a union of grids. Where Hydra looks for plugins; the work is in train/grids.py."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper


@dataclass
class GridsConf:
    """Hydra's own field names the plugin's class.

    Attributes
    ----------
    params : setting -> its values with commas between, in every grid
    grids : the same, one mapping per grid; together they are the study. None: one grid of `params` alone
    """

    _target_: str = "hydra_plugins.mixlaw_grids.GridsSweeper"
    params: dict[str, str] = field(default_factory=dict)
    grids: list[dict[str, str]] = field(default_factory=list)


ConfigStore.instance().store(group="hydra/sweeper", name="grids", node=GridsConf, provider="mixlaw")


class GridsSweeper(Sweeper):
    """Hands the runs of a study to the launcher, all at once."""

    def __init__(self, params: dict[str, str], grids: list[dict[str, str]]) -> None:
        self._params, self._grids = params, grids

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Make the launcher."""
        made = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self._launcher = made

    def sweep(self, arguments: list[str]) -> Sequence[Any]:
        """Launch every combination of every grid once; the command line wins over the study."""
        from train.grids import combinations

        return self._launcher.launch(combinations(self._params, self._grids, arguments), initial_job_idx=0)
