"""One self-contained HTML file: the figures, the tables behind them, and what they say. No network, no script."""

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mixlaw.advice.recommend import Recommendation
from mixlaw.errors import ConfigError, RunLogError, unknown_name
from mixlaw.fitting.bootstrap import seed_noise
from mixlaw.fitting.estimator import LawFit
from mixlaw.fitting.saved import FittedLaws
from mixlaw.laws.registry import get_law
from mixlaw.report import display, plots_mixture
from mixlaw.report import plots_laws as plots
from mixlaw.report.display import Answer, folded, html_table, upright
from mixlaw.report.fonts import any_script
from mixlaw.report.page import drawn, figure_of, png, scroll, side_by_side, write_page
from mixlaw.report.plots_ternary import ternary
from mixlaw.report.study import next_section, status_section, unfinished
from mixlaw.runs.study_status import run_states
from mixlaw.selection.compare import LEVEL
from mixlaw.tables.levels import count_levels, levels
from mixlaw.tables.table import LOSS, Table, names_after
from mixlaw.tables.units import MIXED, NATS, brackets, difference, kind_of, together
from mixlaw.text import in_words, percent

Drawing = Callable[[Axes | None], Axes]
SCORES = {"mre": "mean relative error [%]", "mae": "mean error", "bias": "bias [%]",
          "spearman": "rank correlation", "coverage": "inside 90 % intervals [%]", "n": "losses"}  # fmt: skip
TITLE = "Which mixture should the big run use?"
TITLE_OF_LOSS = "What loss will the big run have?"  # where there is no mixture
OF_MIXTURES = ("optimum", "ternary", "parallel", "path", "prices", "gradient")  # figures of a recommendation
MOST_NOTES = 3  # more notes about the runs are folded
TOLD = ("optimum", "proof", "predicted", "errors", "tokens", "residuals")  # what the overview shows, the first four


@dataclass(frozen=True)
class Material:
    """What figures are drawn from; only the laws are always there.

    Attributes
    ----------
    laws : fitted laws
    table : the runs that they were fitted to
    test : runs that no law saw
    answer : a recommendation
    outcome : what `prove` returned
    targets : which of the targets a figure of one target is about, where no answer says so
    """

    laws: FittedLaws
    table: Table | None = None
    test: Table | None = None
    answer: Answer | None = None
    outcome: list[dict[str, Any]] = field(default_factory=list)
    targets: Sequence[str] = ()

    @property
    def fit(self) -> LawFit:
        """The law that the answer rests on, or else the trusted one."""
        known = display.facts(self.answer) if self.answer is not None else {}
        return self.laws.fits.get(known.get("law", self.laws.chosen), self.laws.best)

    @property
    def asked(self) -> Answer:
        """The answer, where a figure needs one."""
        return _needed(self.answer, "--n-params and --n-tokens")

    @property
    def runs(self) -> Table:
        """Runs that no law saw, or else those of the table, where a figure needs some."""
        return _needed(self.test or self.table, "--table TABLE")

    @property
    def seen(self) -> str:
        """What `runs` are, as the end of a title."""
        return "runs it never saw" if self.test else "the runs of the table"

    @property
    def target(self) -> str:
        """The first of the answer's targets, or of the fit's, that the table has."""
        named = list(display.facts(self.answer)["targets"]) if self.answer is not None else self.targets
        names = [t for t in (*named, *self.fit.targets_) if t in self.fit.targets_]
        has = self.table.frame if self.table is not None else pd.DataFrame()
        return next((t for t in names if LOSS + t in has), names[0])

    def scores(self) -> tuple[pd.DataFrame, str]:
        """Return the laws' errors, of held-out runs where there were any, and a title that says which."""
        if self.laws.scores:
            return pd.DataFrame(self.laws.scores), "Held-out error by law"
        runs = _needed(self.test or self.table, "--table TABLE, or fit with --holdout or --test")
        scored = pd.concat([fit.score(runs) for fit in self.laws.fits.values()])
        return scored, f"Error by law on {self.seen.replace(' it ', ' they ')}"


def _needed(thing: Any, how: str) -> Any:
    if thing is None:
        raise ConfigError(f"this figure needs more: add {how}")
    return thing


def _predicted(ax: Axes | None, m: Material) -> Axes:
    runs = m.runs
    title = f"{plots.plain(m.fit.law)} law on {m.seen}"
    return plots.predicted_against_observed(ax, m.fit.predict(runs), title, m.fit.unit_of())


def _tokens(ax: Axes | None, m: Material) -> Axes:
    return plots.loss_against_tokens(ax, _needed(m.table, "--table TABLE"), m.fit, m.target)


# what can be drawn, in the order of the report
DRAWN: dict[str, Callable[[Axes | None, Material], Axes]] = {
    "optimum": lambda ax, m: plots_mixture.optimum(ax, m.asked),
    "ternary": lambda ax, m: ternary(ax, m.asked, m.laws),
    "parallel": lambda ax, m: plots_mixture.parallel(ax, m.asked, m.laws),
    "path": lambda ax, m: plots_mixture.path(ax, m.asked),
    "prices": lambda ax, m: plots_mixture.prices(ax, m.asked),
    "gradient": lambda ax, m: plots_mixture.gradient(ax, m.asked),
    "proof": lambda ax, m: plots.proof(
        ax, m.outcome, " + ".join(display.facts(m.asked)["targets"]), display.unit_of(m.asked)
    ),
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
    """Draw one figure into a file, whose type follows its suffix; return what a person should know about it.

    Parameters
    ----------
    kind : one of `DRAWN`; proof and realised need run directories and are in the report only
    targets : which of the targets a figure of one target is about, where there is no answer

    Raises
    ------
    ConfigError
        If the kind is unknown, needs what is not given (saying what to add), or the suffix is no picture's.
    """
    known = [name for name in DRAWN if name not in ("proof", "realised")]
    if kind not in known:
        raise ConfigError(unknown_name("figure", kind, known))
    types = Figure().canvas.get_supported_filetypes()
    if out.suffix[1:].lower() not in types:
        raise ConfigError(f"{out}: a picture's name ends in .png, .svg or .pdf")
    with matplotlib.rc_context(plots.STYLE), any_script() as said:
        figure_of(DRAWN[kind](None, Material(laws, table, None, answer, targets=targets))).savefig(out, dpi=150)
    return said


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


def overview(drawings: Mapping[str, Drawing], path: Path) -> Path:
    """Draw the four figures that tell most into one picture."""
    names = [n for n in (*TOLD, *drawings) if n in drawings]
    figure = Figure(figsize=(12.4, 8.6), layout="constrained")
    spaces = list(figure.subplots(2, 2).flat)
    for ax, name in zip(spaces, list(dict.fromkeys(names))[:4], strict=False):
        drawings[name](ax)
    for ax in spaces[len(set(names)) :]:
        ax.set_axis_off()
    figure.savefig(path, dpi=100)
    return path


def choose_drawings(m: Material) -> dict[str, Drawing]:
    """Return the figures that the runs at hand allow and that show something, by name."""
    wanted = {"parameters"}
    if m.answer is not None:
        known, k = display.facts(m.answer), len(display.domains_of(m.answer))
        wanted |= {"optimum"} | ({"gradient"} if "gradient" in display.domains_of(m.answer) else set())
        wanted |= ({"path"} if display.path_steps(m.answer) else set()) | ({"prices"} if known.get("prices") else set())
        if "n_params" in known and _can_predict(m):
            wanted.add("ternary" if k == 3 else "parallel")
    wanted |= {"proof"} if m.outcome else set()
    if m.table is not None or m.test is not None:
        wanted |= {"predicted", "residuals", "errors"}
        wanted |= {"realised"} if names_after("requested_", m.runs.frame) else set()
    wanted |= {"errors"} if m.laws.scores else set()
    wanted |= {"tokens"} if m.table is not None and count_levels(m.table.frame, "n_tokens") > 1 else set()
    return {name: lambda ax, draw=draw: draw(ax, m) for name, draw in DRAWN.items() if name in wanted}  # type: ignore[misc]


def _can_predict(m: Material) -> bool:
    """Return whether the loss of any mixture can be predicted: some laws need tokens that a saved answer lacks."""
    return "available" not in get_law(m.fit.law).uses or set(m.fit.domains_) <= set(m.laws.sizes)


def prove(answer: Mapping[str, Any], proof: Table) -> list[dict[str, Any]]:
    """Match the runs of the proof with the mixtures they test; return one row per mixture that was trained.

    A mixture counts as trained where every realised weight is within 0.005 of it, at the asked number of tokens.
    Where it was trained with several seeds, `measured` is their mean and `seeds` lists them.
    """
    frame = proof.frame[proof.frame["n_tokens"] >= 0.99 * answer["n_tokens"]]
    wanted = [f"loss_{t}" for t in answer["targets"]] + [f"weight_{d}" for d in answer["outcomes"][0]["weights"]]
    missing = [column for column in wanted if column not in frame]
    if missing:
        raise RunLogError(f"the runs of the proof have no {', '.join(missing)}, which the recommendation is about")
    rows = []
    for outcome in answer["outcomes"]:
        close = pd.Series(True, index=frame.index)
        for domain, weight in outcome["weights"].items():
            close &= (frame[f"weight_{domain}"] - weight).abs() < 0.005
        found = frame[close].sort_values("n_tokens").groupby("run_id").tail(1)
        if len(found):
            columns = found[[f"loss_{t}" for t in answer["targets"]]].to_numpy(float)
            seeds = [float(v) for v in columns @ list(answer["targets"].values())]
            rows.append({**outcome, "measured": sum(seeds) / len(seeds), "seeds": seeds})
    return rows


def verdict(rows: list[dict[str, Any]], unit: str = NATS) -> str:
    """Return in one sentence whether the recommended mixture won, and by how much, in the targets' unit."""
    measured = {r["mixture"]: r["measured"] for r in rows}
    if "recommended" not in measured or len(measured) < 2:
        return "The proof is not complete: train the recommended mixture and another one."
    best = measured.pop("recommended")
    gaps = ", ".join(f"{loss - best:+.4f} to {name}" for name, loss in measured.items())
    seeds: list[float] = next((r["seeds"] for r in rows if len(r["seeds"]) > 1), [])
    noise = f" Two seeds of one mixture differ by {max(seeds) - min(seeds):.4f}." if seeds else ""
    inside = sum(r["low"] <= r["measured"] <= r["high"] for r in rows)
    won = "won" if all(loss > best for loss in measured.values()) else "did not win"
    by = f"{gaps} {NATS}" if unit == NATS else difference(gaps, unit)
    intervals = f"{inside} of {len(rows)} measured losses lie inside their predicted intervals."
    return f"The recommended mixture {won}: {by}.{noise} {intervals}"


def proof_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return predicted against measured losses, one row per mixture."""
    return pd.DataFrame(
        {
            "mixture": r["mixture"],
            "predicted": f"{r['predicted']:.4f}",
            "90 % interval": f"{r['low']:.4f} to {r['high']:.4f}",
            "measured": f"{r['measured']:.4f}",
            "error [%]": f"{100 * (r['predicted'] / r['measured'] - 1):+.2f}",
        }
        for r in rows
    )


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
