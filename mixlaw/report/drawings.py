"""All figures by name: one figure as a file, the figures that the inputs allow, and the overview of four."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mixlaw.advice.recommendation import Recommendation
from mixlaw.advice.tradeoff import has_tradeoff
from mixlaw.benchmarks.curve import ScoreCurve
from mixlaw.benchmarks.saved import Benchmarks
from mixlaw.errors import ConfigError, unknown_name
from mixlaw.fitting.saved import FittedLaws
from mixlaw.report import plots_injection, plots_mixture, plots_phases, plots_repeats
from mixlaw.report import plots_laws as plots
from mixlaw.report.answer_tables import path_steps
from mixlaw.report.fonts import any_script
from mixlaw.report.material import Material, needed
from mixlaw.report.pictures import figure_of
from mixlaw.report.plots_benchmarks import score_curve, score_curves, signals
from mixlaw.report.plots_ternary import ternary
from mixlaw.report.plots_tradeoff import tradeoff
from mixlaw.tables.columns import names_after
from mixlaw.tables.factor_levels import count_levels
from mixlaw.tables.table import Table

Drawing = Callable[[Axes | None], Axes]
AnswerPlot = Callable[[Axes | None, Recommendation], Axes]
OF_ANSWER: dict[str, AnswerPlot] = {  # figures that need only a recommendation
    "optimum": plots_mixture.optimum,
    "path": plots_mixture.path,
    "prices": plots_mixture.prices,
    "gradient": plots_mixture.gradient,
    "phases": plots_phases.phases,
    "switch": plots_phases.switch,
    "phase_gains": plots_phases.phase_gains,
}
OF_PHASES = ("phases", "switch", "phase_gains")
ONLY_IN_REPORTS = ("proof", "realised", "forgotten", "injection_cost")
OF_MIXTURES = ("ternary", "parallel", "tradeoff", "signals", "epochs", *OF_ANSWER)
OVERVIEW = (
    "optimum",
    "proof",
    "forgotten",
    "injection_cost",
    "predicted",
    "errors",
    "tokens",
    "residuals",
)  # the first four of these


def _predicted(ax: Axes | None, m: Material) -> Axes:
    runs = m.runs
    title = f"{plots.plain(m.fit.name)} law on {m.seen}"
    return plots.predicted_against_observed(ax, m.fit.predict(runs), title, m.fit.unit_of())


def _tokens(ax: Axes | None, m: Material) -> Axes:
    return plots.loss_against_tokens(ax, needed(m.table, "--table TABLE"), m.fit, m.target)


# all figures, in the order of the report
DRAWN: dict[str, Callable[[Axes | None, Material], Axes]] = {
    "optimum": lambda ax, m: plots_mixture.optimum(ax, m.asked),
    "ternary": lambda ax, m: ternary(ax, m.asked, m.laws),
    "parallel": lambda ax, m: plots_mixture.parallel(ax, m.asked, m.laws),
    "path": lambda ax, m: plots_mixture.path(ax, m.asked),
    "prices": lambda ax, m: plots_mixture.prices(ax, m.asked),
    "gradient": lambda ax, m: plots_mixture.gradient(ax, m.asked),
    "phases": lambda ax, m: plots_phases.phases(ax, m.asked),
    "switch": lambda ax, m: plots_phases.switch(ax, m.asked),
    "phase_gains": lambda ax, m: plots_phases.phase_gains(ax, m.asked),
    "signals": lambda ax, m: signals(ax, m.signals, {name: each.unit for name, each in m.fit.targets.items()}),
    "tradeoff": lambda ax, m: tradeoff(ax, m.asked, m.front),
    "epochs": lambda ax, m: plots_repeats.epochs(ax, m.asked, m.scarcity),
    "forgotten": lambda ax, m: plots_injection.forgotten(ax, needed(m.finetuned, "finetuning runs")),
    "injection_cost": lambda ax, m: plots_injection.injection_cost(ax, needed(m.finetuned, "finetuning runs")),
    "proof": lambda ax, m: plots.proof(ax, m.outcome, " + ".join(m.asked.question.targets), m.asked.unit),
    "predicted": _predicted,
    "errors": lambda ax, m: plots.errors_by_law(ax, *m.scores()),
    "residuals": lambda ax, m: plots.residuals(ax, m.fit, m.runs),
    "tokens": _tokens,
    "parameters": lambda ax, m: plots.parameters(ax, m.fit),
    "realised": lambda ax, m: plots.realised_against_requested(ax, m.runs),
}


def draw_one(
    out: Path,
    kind: str,
    laws: FittedLaws,
    table: Table | None,
    answer: Recommendation | None,
    targets: Sequence[str] = (),
) -> list[str]:
    """Draw one figure into a file, in the format of its suffix; return notes such as missing fonts.

    Parameters
    ----------
    kind : one of `DRAWN` except `ONLY_IN_REPORTS`
    targets : target of single-target figures, where there is no answer

    Raises
    ------
    ConfigError
        If the kind is unknown, an input is missing (the message names the option), or the suffix is not supported.
    """
    known = [name for name in DRAWN if name not in ONLY_IN_REPORTS]
    if kind not in known:
        raise ConfigError(unknown_name("figure", kind, known))
    _require_picture(out)
    with matplotlib.rc_context(plots.STYLE), any_script() as said:
        figure_of(DRAWN[kind](None, Material(laws, table, None, answer, targets=targets))).savefig(out, dpi=150)
    return said


def _require_picture(out: Path) -> None:
    """Refuse a file whose suffix is no format of pictures."""
    if out.suffix[1:].lower() not in Figure().canvas.get_supported_filetypes():
        raise ConfigError(f"{out}: a picture's name ends in .png, .svg or .pdf")


def draw_benchmarks(out: Path, curves: Sequence[ScoreCurve]) -> None:
    """Draw the curves of benchmarks into one file, in the format of its suffix.

    Raises
    ------
    ConfigError
        If the suffix is not supported.
    """
    _require_picture(out)
    with matplotlib.rc_context(plots.STYLE), any_script():
        score_curves(curves).savefig(out, dpi=150)


def answer_drawings(answer: Recommendation) -> dict[str, Drawing]:
    """Return the figures that a recommendation alone allows, by name; those of the loss need its laws."""
    has = {"optimum": True, "path": bool(path_steps(answer)), "prices": len(answer.prices) > 0}
    has |= {"gradient": "gradient" in answer.table, "switch": plots_phases.has_switches(answer)}
    has |= dict.fromkeys(("phases", "phase_gains"), answer.phases is not None)
    return {name: partial(_of_answer, OF_ANSWER[name], answer) for name, shown in has.items() if shown}


def _of_answer(draw: AnswerPlot, answer: Recommendation, ax: Axes | None) -> Axes:
    return draw(ax, answer)


def choose_drawings(m: Material) -> dict[str, Drawing]:
    """Return the figures that the inputs allow, by name."""
    wanted = {"parameters"}
    if m.answer is not None:
        wanted |= set(answer_drawings(m.answer))
        wanted.add("ternary" if len(m.answer.weights) == 3 else "parallel")
        wanted |= {"tradeoff"} if has_tradeoff(m.answer) else set()
        wanted |= {"signals"} if len(m.answer.signals) else set()
        wanted |= {"epochs"} if m.scarcity and m.scarcity.curves else set()
    wanted |= {"proof"} if m.outcome else set()
    if m.finetuned is not None:
        wanted |= {"forgotten"} | ({"injection_cost"} if m.own else set())
    if m.table is not None or m.test is not None:
        wanted |= {"predicted", "residuals", "errors"}
        wanted |= {"realised"} if names_after("requested_", m.runs.frame) else set()
    wanted |= {"errors"} if m.laws.scores else set()
    wanted |= {"tokens"} if m.table is not None and count_levels(m.table.frame, "n_tokens") > 1 else set()
    found: dict[str, Drawing] = {name: partial(_of_material, draw, m) for name, draw in DRAWN.items() if name in wanted}
    return found | {name: partial(draw_curve, m.benchmarks[each]) for name, each in score_names(m.benchmarks).items()}


def score_names(benchmarks: Benchmarks) -> dict[str, str]:
    """Return the names of the figures of curves -> their benchmarks."""
    return {f"score_{i}": name for i, name in enumerate(benchmarks, 1)}


def _of_material(draw: Callable[[Axes | None, Material], Axes], m: Material, ax: Axes | None) -> Axes:
    return draw(ax, m)


def draw_curve(curve: ScoreCurve, ax: Axes | None) -> Axes:
    """Draw the curve of one benchmark."""
    return score_curve(ax, curve)


def overview(drawings: Mapping[str, Drawing], path: Path) -> Path:
    """Draw the four most important figures into one PNG."""
    names = [n for n in (*OVERVIEW, *drawings) if n in drawings]
    figure = Figure(figsize=(12.4, 8.6), layout="constrained")
    spaces = list(figure.subplots(2, 2).flat)
    for ax, name in zip(spaces, list(dict.fromkeys(names))[:4], strict=False):
        drawings[name](ax)
    for ax in spaces[len(set(names)) :]:
        ax.set_axis_off()
    figure.savefig(path, dpi=100)
    return path
