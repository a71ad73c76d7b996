"""What both plans share: the model sizes that a study may use, with their data, and how studies are described."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pandas as pd

from sweeps.jobs import Job, resolve
from sweeps.study_file import Shape


@dataclass(frozen=True)
class Trainable:
    """A model size that a study may use, with its data.

    Attributes
    ----------
    shape : its overrides
    n_params, n_tokens : N and D
    available : domain -> available tokens
    points : number of evaluations of a run, and the ratio of their positions
    max_epochs : maximum number of epochs over a domain
    tokens_per_step : mean tokens of a batch
    cooldown : share of the tokens over which the learning rate falls
    runs : the folder of all studies
    """

    shape: Shape
    n_params: int
    n_tokens: float
    available: dict[str, float]
    points: tuple[int, float]
    max_epochs: float
    tokens_per_step: float
    runs: Path
    cooldown: float = 0.0

    def can_switch_at(self, share: float) -> bool:
        """Return whether a second phase can begin there: at the full rate, and both phases have a step."""
        return share <= 1 - self.cooldown and min(share, 1 - share) * self.n_tokens >= self.tokens_per_step


def trainable(shapes: Sequence[Shape], study: str = "") -> list[Trainable]:
    """Return the sizes of shapes, composed on top of the settings of a study.

    Raises
    ------
    MixlawError
        If one cannot be composed, or its data are not prepared.
    """
    base = (f"study={study}",) * bool(study)
    # without a limit on epochs, because the planner drops runs that repeat a domain too often
    jobs = resolve([(*base, *s.overrides) for s in shapes], any_epochs=True)
    return [_trainable(shape, job) for shape, job in zip(shapes, jobs, strict=True)]


def _trainable(shape: Shape, job: Job) -> Trainable:
    plan, config = job.plan, job.plan.config
    return Trainable(
        shape=shape,
        n_params=job.n_params,
        n_tokens=float(plan.n_steps * plan.tokens_per_step),
        available={d: float(plan.available(d)["n_tokens"]) for d in plan.manifest.domains},
        points=(config.evaluation.n_points, config.evaluation.ratio),
        max_epochs=config.stream.max_epochs,
        tokens_per_step=plan.tokens_per_step,
        runs=Path(config.machine.runs),
        cooldown=config.schedule.cooldown,
    )


def about(role: str, name: str, runs: pd.DataFrame) -> list[str]:
    """Return the comment of a study file."""
    what = {
        "fit": f"The runs that laws are fitted to. Seed noise: {name}_seeds. Held-out runs: {name}_heldout.",
        "seeds": f"The seed noise: runs that differ in their seed only. They go into the folder of `{name}`.",
        "heldout": f"Held-out runs for the laws of `{name}`: unseen mixtures at the largest size. Never fitted.",
        "next": f"The most informative runs after those of `{name}`. They go into its folder.",
    }
    head = f"Planned on {date.today().isoformat()}: {len(runs)} runs, {runs['flops'].sum():.3g} FLOPs."
    return [head, what[role]]


def shown(table: pd.DataFrame) -> str:
    """Return a table as text."""
    return table.to_string(index=False, float_format=lambda v: f"{v:.4g}")
