"""One self-contained HTML file: the figures, the tables behind them, and what they say. No network, no script."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

from mixlaw.advice.recommendation import Recommendation
from mixlaw.errors import RunLogError
from mixlaw.fitting.fitted import LEVEL
from mixlaw.fitting.saved import FittedLaws
from mixlaw.report import plots_laws as plots
from mixlaw.report.drawings import choose_drawings, overview
from mixlaw.report.fonts import any_script
from mixlaw.report.material import Material
from mixlaw.report.page import Page
from mixlaw.report.pictures import drawn, figure_of, png
from mixlaw.report.proof import prove
from mixlaw.report.sections import answer_box, sections
from mixlaw.report.study import next_section, status_section, unfinished
from mixlaw.runs.study_status import run_states
from mixlaw.tables.table import Table
from mixlaw.tables.units import NATS, kind_of

TITLE = "Which mixture should the big run use?"
TITLE_OF_LOSS = "What loss will the big run have?"  # where there is no mixture


def write_report(
    out: Path,
    laws: FittedLaws,
    table: Table | None = None,
    test: Table | None = None,
    answer: Recommendation | None = None,
    proof: Table | None = None,
    predictions: Path | None = None,
    study: Path | None = None,
    outdated: Sequence[str] = (),
) -> list[Path]:
    """Write the report and its figures: as many as what is given allows.

    Parameters
    ----------
    out : the HTML file; PNGs go to `figures/` beside it
    laws : what was fitted to `table`
    test : runs that no law saw
    answer : a recommendation from these laws
    proof : runs trained on the recommended and the other mixtures
    predictions : PNG of what a model of the proof predicts, beside the truth
    study : the folder of the study's runs, whose status is told
    outdated : sentences about what does not belong together any more; nothing is proposed to be run on such grounds

    Returns
    -------
    The PNGs, in the order of the report, and the overview of the four that tell most.

    Raises
    ------
    ConfigError
        If the picture cannot be read.
    """
    folder = out.parent / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    material = Material(laws, table, test, answer, prove(answer, proof) if answer and proof else [])
    drawings = choose_drawings(material)
    files, pictures = [], {}
    with matplotlib.rc_context(plots.STYLE), any_script() as said:
        for name, draw in drawings.items():
            ax = draw(None)
            figure_of(ax).savefig(folder / f"{name}.png", dpi=130)
            files.append(folder / f"{name}.png")
            pictures[name] = drawn(ax)
        files.append(overview(drawings, folder / "overview.png"))
    if predictions:
        pictures["predictions"] = png(predictions)
    states = run_states(study) if study else []
    parts = sections(material, pictures)
    parts += status_section(study, states) if study else []
    if answer and table and not outdated:
        parts.append(next_section(laws, table, answer, next((s.run.plan for s in states if s.run.plan), "")))
    Page(
        TITLE if laws.mixed else TITLE_OF_LOSS,
        parts,
        notes=[*outdated, *said],
        unfinished=unfinished(states),
        answer=answer_box(answer) if answer else "",
        remark=_remark(laws),
    ).write(out)
    return files


def _remark(laws: FittedLaws) -> str:
    """Return what losses are measured in, and what the intervals are."""
    unit = units_in_words({target: fit.unit for target, fit in laws.best.targets.items()})
    held = laws.best.held
    level = f"held {100 * held:.0f} % of held-out losses" if held < LEVEL else f"are {100 * LEVEL:g} %"
    return f"{unit}; intervals {level}, from resampling whole runs."


def write_status(out: Path, study: Path) -> None:
    """Write a report of a study that nothing was fitted to yet: how far its runs are.

    Raises
    ------
    RunLogError
        If there is no run, planned or begun.
    """
    parts = status_section(study, run_states(study))
    if not parts:
        raise RunLogError(f"{study} holds no runs, and none are planned there")
    Page(TITLE, parts, notes=[f"No laws yet: `mixlaw fit {study} --out {study}/laws.json`"]).write(out)


def units_in_words(units: Mapping[str, str]) -> str:
    """Return in words what targets are measured in, of target -> unit; patches of images have no nats."""
    if any(target.endswith("-image") for target in units):
        return (
            "Losses in nats per token (-text), squared errors of patches over their variance (-image), and sums of "
            "both as trained"
        )
    by_unit: dict[str, list[str]] = {}
    for target, unit in units.items():
        by_unit.setdefault(unit, []).append(target)
    words = [_in_unit(unit) for unit in by_unit]
    if len(words) == 1:
        return words[0][0].upper() + words[0][1:]
    parts = [
        f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {text}"
        for text, names in zip(words, by_unit.values(), strict=True)
    ]
    return "Measured are " + "; ".join(parts)


def _in_unit(unit: str) -> str:
    kind = kind_of(unit)
    if kind.noun == "loss":
        return "losses in " + ("nats per token" if unit == NATS else kind.level)
    return kind.noun + (f" in {kind.level}" if kind.level else "")
