"""`export_mixture`: a mixture or a recommendation as the file of a trainer."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mixlaw.advice.phase_plan import PhasePlan
from mixlaw.advice.recommendation import Recommendation
from mixlaw.errors import ConfigError
from mixlaw.export.blend import Blend, blend
from mixlaw.export.format import Format
from mixlaw.export.registry import get_format
from mixlaw.fileio import write_atomically
from mixlaw.mixture import Mixture
from mixlaw.phased_mixture import PhasedMixture
from mixlaw.text import count_text
from mixlaw.version import __version__

NO_PHASES = "the recommended phases are not in this file: it is the best single mixture; --phase 1 writes the first one"
ALL = "all"  # phases in one file
EQUAL_LENGTHS = "samples of all domains count as equally long; if they are not, state --mean-tokens"


@dataclass(frozen=True)
class Exported:
    """A mixture as the file of a trainer; `str()` gives its text.

    Attributes
    ----------
    format : of the file
    blend : the rounded mixture, with paths, shares of samples and epochs
    about : where the mixture comes from
    phases : what the file holds, if it holds all phases; the blend is then that of the whole run
    """

    format: Format
    blend: Blend
    about: str
    phases: PhasedMixture | None = None

    def __str__(self) -> str:
        return self.format.text(self.blend, self.about, self.phases)

    @property
    def notes(self) -> str:
        """Comment lines: origin, assumptions, and per domain its shares and epochs."""
        return self.format.head(self.blend, self.about)

    def save(self, path: str | Path) -> None:
        """Write the file.

        Raises
        ------
        OSError
            If the path is a folder or cannot be written.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, str(self))


def export_mixture(
    mixture: Recommendation | Mapping[str, float],
    to: str,
    *,
    phase: int | str | None = None,
    paths: Mapping[str, str] | None = None,
    mean_tokens: Mapping[str, float] | None = None,
    n_tokens: float | None = None,
    available: Mapping[str, float] | None = None,
) -> Exported:
    """Return a mixture as the file of a trainer.

    Parameters
    ----------
    mixture : a recommendation, a `Mixture`, or domain -> weight
    to : hydra, megatron, olmo-core, nemo, mosaicml, litdata, hf or webdataset
    phase : 1, 2, ... of a recommendation with phases, for trainers that take one mixture at a time; "all" for hydra,
        which takes all in one file; by default its best single mixture
    paths : domain -> where the trainer reads it; by default the name of the domain
    mean_tokens : domain -> mean tokens per sample, for trainers that draw samples; by default all are equally long
    n_tokens : D of the run; by default that of the recommendation
    available : domain -> number of tokens available; added to what the recommendation states

    Raises
    ------
    ConfigError
        If the format is unknown or cannot express the mixture, or the recommendation has no such phase.
    """
    form = get_format(to)
    if mean_tokens and not form.samples:
        raise ConfigError(f"--mean-tokens: {to} draws sequences of equal length, so leave it out")
    question = mixture.question if isinstance(mixture, Recommendation) else None
    weights, share, about = _part(mixture, phase)
    if isinstance(weights, PhasedMixture) and form.write_phases is None:
        raise ConfigError(f"--phase all: {to} takes one phase at a time (--phase 1, ...): {form.next_phase}")
    made = blend(
        weights,
        form.digits,
        paths=paths,
        mean_tokens=mean_tokens,
        n_tokens=question.n_tokens * share if question and n_tokens is None else n_tokens,
        available=(question.available if question else {}) | dict(available or {}),
        max_epochs=question.max_epochs if question else None,
    )
    if form.samples and not mean_tokens:
        made = replace(made, notes=(*made.notes, EQUAL_LENGTHS))
    if isinstance(mixture, Recommendation) and mixture.phases and phase != ALL:
        made = replace(made, notes=(*made.notes, NO_PHASES if phase is None else form.next_phase))
    return Exported(form, made, about, weights if isinstance(weights, PhasedMixture) else None)


def _part(mixture: Recommendation | Mapping[str, float], phase: int | str | None) -> tuple[Mixture, float, str]:
    """Return the weights of a phase or of the whole run, its share of the run's tokens, and where it comes from."""
    by = f"Written by mixlaw {__version__}"
    plan = mixture.phases if isinstance(mixture, Recommendation) else None
    if phase is not None:
        _require_phase(plan, phase)
    if not isinstance(mixture, Recommendation):
        return Mixture.of(mixture), 1.0, f"{by}."
    question = mixture.question
    run = f"N = {count_text(question.n_params)}, D = {count_text(question.n_tokens)}"
    if plan is None or phase is None:
        return mixture.weights, 1.0, f"{by}: the mixture that the {mixture.law} law recommends for {run}."
    if not isinstance(phase, int):
        return plan.mixture, 1.0, f"{by}: the {len(plan.until)} phases that the {mixture.law} law recommends for {run}."
    begin, end = [0.0, *plan.until][phase - 1 : phase + 1]
    span = f"tokens {count_text(begin * question.n_tokens)} to {count_text(end * question.n_tokens)}"
    about = f"{by}: phase {phase} of {len(plan.until)}, {span}, that the {mixture.law} law recommends for {run}."
    return plan.weights[phase - 1], end - begin, about


def _require_phase(plan: PhasePlan | None, phase: int | str) -> None:
    """Raise ConfigError if an answer has no such phase."""
    if plan is None:
        raise ConfigError(f"--phase {phase}: the answer has no phases (`mixlaw recommend --phases 2` gives some)")
    if phase != ALL and phase not in range(1, len(plan.until) + 1):
        raise ConfigError(
            f"--phase {phase}: the answer has {len(plan.until)} phases; give 1 to {len(plan.until)}, or all"
        )
