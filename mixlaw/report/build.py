"""The report: one self-contained HTML file of figures and tables, and the figures as PNG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

from mixlaw.advice.recommendation import Recommendation
from mixlaw.benchmarks.saved import Benchmarks
from mixlaw.errors import RunLogError
from mixlaw.fitting.fitted import LEVEL
from mixlaw.fitting.saved import FittedLaws
from mixlaw.forecast.folder import ForecastFolder, forecasts_in
from mixlaw.report import plots_laws as plots
from mixlaw.report.drawings import choose_drawings, overview
from mixlaw.report.explore.charts import Chart
from mixlaw.report.explore.run_charts import run_charts
from mixlaw.report.explore.section import explored
from mixlaw.report.fonts import any_script
from mixlaw.report.material import Material
from mixlaw.report.page import Page
from mixlaw.report.pictures import Picture, drawn, figure_of, png
from mixlaw.report.proof import prove
from mixlaw.report.proof_worth import measured_factors
from mixlaw.report.sections import answer_box, sections
from mixlaw.report.study import next_section, status_section, unfinished
from mixlaw.runs.study_status import run_states
from mixlaw.tables.table import Table
from mixlaw.tables.units import NATS, kind_of

TITLE = "Which mixture should the big run use?"
TITLE_OF_LOSS = "What loss will the big run have?"  # for runs without a mixture
TITLE_OF_FINETUNING = "How much pretraining data does finetuning need?"


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
    forecasts: Path | None = None,
    own: FittedLaws | None = None,
    benchmarks: Benchmarks | None = None,
) -> list[Path]:
    """Write the report with all sections and figures that the inputs allow.

    Parameters
    ----------
    out : the HTML file; PNGs go to `figures/` beside it
    laws : laws fitted to `table`
    test : runs that were not fitted
    answer : a recommendation from these laws
    proof : runs trained on the recommended and the other mixtures
    predictions : PNG of predictions of a model that was trained for the proof
    study : folder of a study, for the section on the states of its runs
    outdated : warnings about inputs that do not belong together; with any, no next runs are proposed
    forecasts : a folder with sealed forecasts and their ledger
    own : laws of the finetuning domain's loss, where `laws` are of forgetting
    benchmarks : curves from the losses of the laws' targets to scores

    Returns
    -------
    The PNGs in the order of the report, the overview last.

    Raises
    ------
    ConfigError
        If the PNG of predictions cannot be read, or the laws do not predict the losses of a benchmark.
    """
    folder = out.parent / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    outcome = prove(answer, proof) if answer and proof else []
    needed = measured_factors(outcome, laws, answer, proof) if answer and proof else {}
    sealed = forecasts_in(forecasts) if forecasts else ForecastFolder()
    more: dict[str, Any] = {"own": own.best if own else None, "benchmarks": benchmarks or Benchmarks({})}
    material = Material(laws, table, test, answer, outcome, needed, forecasts=sealed, **more)
    material.benchmarks.require_law(material.fit)
    files, pictures, said = _draw_all(material, folder)
    if predictions:
        pictures["predictions"] = png(predictions)
    states = run_states(study) if study else []
    parts = sections(material, pictures)
    parts += status_section(study, states) if study else []
    if answer and table and not outdated:
        parts.append(next_section(laws, table, answer, next((s.run.plan for s in states if s.run.plan), "")))
    first, scripts = explored(material, parts, [p for p in pictures.values() if isinstance(p, Chart)])
    Page(
        _title(material),
        [first, *parts],
        notes=[*outdated, *said],
        unfinished=unfinished(states),
        answer=answer_box(answer) if answer else "",
        remark=_remark(laws),
        scripts=scripts,
    ).write(out)
    return files


def _draw_all(material: Material, folder: Path) -> tuple[list[Path], dict[str, Picture | Chart], list[str]]:
    """Draw all figures as PNGs into a folder; return the files, what the page shows of each, and notes on fonts."""
    drawings = choose_drawings(material)
    files, pictures = [], dict[str, Picture | Chart](run_charts(material, set(drawings)))
    with matplotlib.rc_context(plots.STYLE), any_script() as said:
        for name, draw in drawings.items():
            ax = draw(None)
            figure_of(ax).savefig(folder / f"{name}.png", dpi=130)
            files.append(folder / f"{name}.png")
            if name not in pictures:
                pictures[name] = drawn(ax)
        files.append(overview(drawings, folder / "overview.png"))
    return files, pictures, said


def _title(material: Material) -> str:
    if material.finetuned is not None:
        return TITLE_OF_FINETUNING
    return TITLE if material.laws.mixed else TITLE_OF_LOSS


def _remark(laws: FittedLaws) -> str:
    """Return the sentence on units and intervals at the end of the page."""
    unit = unit_sentence({target: fit.unit for target, fit in laws.best.targets.items()})
    held = laws.best.held
    level = f"held {100 * held:.0f} % of held-out losses" if held < LEVEL else f"are {100 * LEVEL:g} %"
    return f"{unit}; intervals {level}, from resampling whole runs."


def write_status(out: Path, study: Path) -> None:
    """Write the report of a study without laws: the states of its runs.

    Raises
    ------
    RunLogError
        If the folder holds neither runs nor a plan.
    """
    parts = status_section(study, run_states(study))
    if not parts:
        raise RunLogError(f"{study} holds no runs, and none are planned there")
    Page(TITLE, parts, notes=[f"No laws yet: `mixlaw fit {study} --out {study}/laws.json`"]).write(out)


def unit_sentence(units: Mapping[str, str]) -> str:
    """Return a sentence on the units of targets (target -> unit); losses of image patches are squared errors."""
    if any(target.endswith("-image") for target in units):
        return (
            "Losses in nats per token (-text), squared errors of patches over their variance (-image), and sums of "
            "both as trained"
        )
    by_unit: dict[str, list[str]] = {}
    for target, unit in units.items():
        by_unit.setdefault(unit, []).append(target)
    texts = [_in_unit(unit) for unit in by_unit]
    if len(texts) == 1:
        return texts[0][0].upper() + texts[0][1:]
    parts = [
        f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {text}"
        for text, names in zip(texts, by_unit.values(), strict=True)
    ]
    return "Units: " + "; ".join(parts)


def _in_unit(unit: str) -> str:
    kind = kind_of(unit)
    if kind.noun == "loss":
        return "losses in " + ("nats per token" if unit == NATS else kind.level)
    return kind.noun + (f" in {kind.level}" if kind.level else "")
