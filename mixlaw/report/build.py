"""One self-contained HTML file: the figures, the tables behind them, and what they say. No network, no script."""

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd

from mixlaw.errors import RunLogError
from mixlaw.fitting.bootstrap import seed_noise
from mixlaw.fitting.saved import FittedLaws
from mixlaw.laws.registry import get_law
from mixlaw.report import display
from mixlaw.report import plots_laws as plots
from mixlaw.report.display import Answer, folded, html_table, upright
from mixlaw.report.drawings import choose_drawings, overview
from mixlaw.report.fonts import any_script
from mixlaw.report.material import Material
from mixlaw.report.page import drawn, figure_of, png, scroll, side_by_side, write_page
from mixlaw.report.proof import proof_table, prove, verdict
from mixlaw.report.study import next_section, status_section, unfinished
from mixlaw.runs.study_status import run_states
from mixlaw.selection.compare import LEVEL
from mixlaw.tables.levels import levels
from mixlaw.tables.table import Table
from mixlaw.tables.units import MIXED, NATS, brackets, kind_of, together
from mixlaw.text import in_words, percent

SCORES = {"mre": "mean relative error [%]", "mae": "mean error", "bias": "bias [%]",
          "spearman": "rank correlation", "coverage": "inside 90 % intervals [%]", "n": "losses"}  # fmt: skip
TITLE = "Which mixture should the big run use?"
TITLE_OF_LOSS = "What loss will the big run have?"  # where there is no mixture
MOST_NOTES = 3  # more notes about the runs are folded


def write_report(
    out: Path,
    laws: FittedLaws,
    table: Table | None = None,
    test: Table | None = None,
    answer: Mapping[str, Any] | None = None,
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
    answer : what `mixlaw recommend --out` wrote
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
    pictures, figures = [], {}
    with matplotlib.rc_context(plots.STYLE), any_script() as said:
        for name, draw in drawings.items():
            ax = draw(None)
            figure_of(ax).savefig(folder / f"{name}.png", dpi=130)
            pictures.append(folder / f"{name}.png")
            figures[name] = drawn(ax)
        pictures.append(overview(drawings, folder / "overview.png"))
    if predictions:
        figures["predictions"] = png(predictions)
    unit = units_in_words({target: fit.unit for target, fit in laws.best.targets_.items()})
    held = laws.best.held_
    level = f"held {100 * held:.0f} % of held-out losses" if held < LEVEL else f"are {100 * LEVEL:g} %"
    remark = f"{unit}; intervals {level}, from resampling whole runs."
    states = run_states(study) if study else []
    notes = [f'<p class="note">{_as_prose(sentence)}</p>' for sentence in (*outdated, *said)]
    parts = [*notes, *unfinished(states), *sections(material, figures)]
    parts += status_section(study, states) if study else []
    if answer and table and not outdated:
        parts += next_section(laws, table, answer, next((s.run.plan for s in states if s.run.plan), ""))
    write_page(out, TITLE if laws.mixed else TITLE_OF_LOSS, parts, remark)
    return pictures


def _as_prose(sentence: str) -> str:
    """Return a sentence of an error as HTML: with a capital, and commands as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(sentence[:1].upper() + sentence[1:]))


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
    advice = f"No laws yet: <code>mixlaw fit {html.escape(str(study))} --out {html.escape(str(study))}/laws.json</code>"
    write_page(out, TITLE, [*parts, f"<p>{advice}</p>"])


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


def sections(m: Material, figures: dict[str, str]) -> list[str]:
    """Return the report's parts as HTML."""
    parts = _about_answer(m.answer, figures) if m.answer is not None else []
    if m.outcome:
        parts += [
            "<h2>The proof</h2>",
            f"<p>{html.escape(verdict(m.outcome, display.unit_of(m.asked)))}</p>",
            side_by_side(figures, "proof"),
        ]
        parts.append(scroll(html_table(proof_table(m.outcome))))
    if "predictions" in figures:
        parts += ["<h2>What a model of the proof predicts</h2>", side_by_side(figures, "predictions")]
    chosen = f"<p>Chosen: <b>{html.escape(m.laws.chosen)}</b> ({html.escape(m.laws.reason)}).</p>"
    parts += ["<h2>Can the laws be trusted?</h2>", chosen]
    parts.append(side_by_side(figures, "predicted", "errors", "residuals", "tokens", "realised"))
    if m.laws.scores:
        scores = pd.DataFrame(m.laws.scores).rename(columns=SCORES | {"mae": f"mean error {_unit_brackets(m.laws)}"})
        parts.append(folded("the held-out errors in numbers", scroll(html_table(scores))))
    noise = seed_noise(m.table) if m.table else pd.DataFrame()
    if len(noise):
        unit = together(m.table.units.values()) if m.table else NATS
        noise = noise.rename(columns={"sd": f"sd {brackets(unit)}", "percent": "sd [%]", "n_runs": "runs"})
        parts += ["<p>Runs that differ in their seed only, a floor for every law's error:</p>"]
        parts.append(scroll(html_table(noise)))
    parts += ["<h2>The laws</h2>", side_by_side(figures, "parameters"), _law(m.laws, m.fit.law)]
    parts += [folded(f"the {name} law", _law(m.laws, name)) for name in m.laws.fits if name != m.fit.law]
    return parts + (["<h2>The runs</h2>", _runs(m.table), _notes(m.table)] if m.table else [])


def _unit_brackets(laws: FittedLaws) -> str:
    unit = laws.best.unit_of()
    return brackets(unit) if unit != MIXED else "[each target's unit]"


def _about_answer(answer: Answer, figures: dict[str, str]) -> list[str]:
    known = display.facts(answer)
    ordered = sorted(known["weights"].items(), key=lambda pair: -pair[1])
    shares = ", ".join(f"{name} {percent(w)}" for name, w in ordered)
    lines = [f"{html.escape(display.question(answer))} <b>{html.escape(shares)}</b>."]
    lines += [html.escape(text) for text in display.sentences(answer)]
    lines += [f"Warning: {html.escape(w)}" for w in known.get("warnings", [])]
    if known["override"]:
        lines += [f"<small>Train it with <code>{html.escape(known['override'])}</code></small>"]
    parts = [f'<div class="answer"><p>{"</p><p>".join(lines)}</p></div>', "<h2>The recommendation</h2>"]
    parts += [
        display.words_html(),
        side_by_side(figures, "optimum", "ternary", "parallel", "path", "prices", "gradient"),
    ]
    per_target = pd.DataFrame(known.get("per_target", []))
    for title, table in (
        ("The weights", display.weights_table(answer)),
        ("What it gains", display.outcomes_table(answer)),
        ("What limits cost", display.prices_table(answer)),
        ("h* on the way to the big run, and what training the big run on it would cost", display.path_table(answer)),
        ("What other laws would recommend, and what that would cost by this one", display.others_table(answer)),
        ("Predicted loss of every target", per_target),
    ):
        parts += [] if table.empty else [f"<h3>{title}</h3>", scroll(html_table(upright(table)))]
    return parts


def _law(laws: FittedLaws, name: str) -> str:
    fit, law = laws.fits[name], get_law(name)
    unit = f"N in units of {in_words(fit.units_.n_params)} parameters, D of {in_words(fit.units_.n_tokens)} tokens"
    alike: dict[str, list[str]] = {}
    for target, found in fit.targets_.items():
        alike.setdefault(found.statement, []).append(target)
    lines = "".join(f"<li>{html.escape(', '.join(names))}: {html.escape(said)}</li>" for said, names in alike.items())
    formula = f"<code>L = {html.escape(law.formula)}</code> ({html.escape(law.source)}), {unit}"
    values = scroll(html_table(upright(fit.params_.reset_index(names="target"))))
    intervals = folded("with their intervals", scroll(html_table(fit.intervals_of_params())))
    head = f"<h3>{html.escape(name)}</h3><p>{formula}</p>{display.warnings_html(fit.warnings_)}"
    return f"{head}{values}{intervals}<ul>{lines}</ul>"


def _runs(table: Table) -> str:
    rows = table.frame.groupby(levels(table.frame["n_params"])).agg(
        n_params=("n_params", "median"), runs=("run_id", "nunique"), points=("n_tokens", "size"),
        most_tokens=("n_tokens", "max"),
    )  # fmt: skip
    rows = rows.rename(columns={"n_params": "N", "points": "evaluations", "most_tokens": "longest, D"})
    words = {name: rows[name].map(in_words) for name in ("N", "longest, D")}
    return scroll(html_table(rows.assign(**words)))


def _notes(table: Table) -> str:
    """Return what was found about the runs, folded where it is much."""
    said = "".join(f"<li>{html.escape(note)}</li>" for note in table.notes)
    listed = f"<ul>{said}</ul>" if said else ""
    return folded(f"{len(table.notes)} notes about them", listed) if len(table.notes) > MOST_NOTES else listed
