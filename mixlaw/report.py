"""One self-contained HTML file: the figures, the tables behind them, and what they say. No network, no script."""

import base64
import html
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from string import Template
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import mixlaw
from mixlaw import plots
from mixlaw.artefact import FittedLaws
from mixlaw.laws import get_law
from mixlaw.tables import Table, names_after
from mixlaw.uncertainty import seed_noise

Drawing = Callable[[Axes], Axes]

PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title><style>
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
.answer { font-size: 1.15rem; padding: 1rem 1.2rem; border: 1px solid var(--line); border-radius: 8px; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 460px), 1fr)); gap: 1rem; }
figure { margin: 0; background: white; border: 1px solid var(--line); border-radius: 8px; padding: .5rem; }
figure svg, figure img { width: 100%; height: auto; display: block; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem; text-align: right; border-bottom: 1px solid var(--soft); }
th:first-child, td:first-child { text-align: left; }
code { background: var(--soft); padding: .1rem .3rem; border-radius: 4px; overflow-wrap: anywhere; }
</style></head><body>
$body
<p><small>Made by mixlaw $version. Losses in nats per token; intervals are 90 %, from resampling whole runs.</small></p>
</body></html>
""")


def write_report(
    out: Path,
    laws: FittedLaws,
    table: Table,
    test: Table | None = None,
    answer: Mapping[str, Any] | None = None,
    proof: Table | None = None,
) -> list[Path]:
    """Write the report and its figures.

    Parameters
    ----------
    out : the HTML file; PNGs go to `figures/` beside it
    laws : what was fitted to `table`
    test : runs that no law saw
    answer : what `mixlaw recommend --out` wrote
    proof : runs trained on the recommended and the other mixtures

    Returns
    -------
    The PNGs, in the order of the report.
    """
    folder = out.parent / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    outcome = prove(answer, proof) if answer and proof else []
    drawings = choose_drawings(laws, table, test, answer, outcome)
    pictures, figures = [], {}
    with matplotlib.rc_context(plots.STYLE):
        for name, draw in drawings.items():
            figure = Figure(figsize=(6.2, 4.4), layout="constrained")
            draw(figure.subplots())
            figure.savefig(folder / f"{name}.png", dpi=130)
            pictures.append(folder / f"{name}.png")
            figures[name] = svg(figure)
        pictures.append(overview(drawings, folder / "overview.png"))
    title = "Which mixture should the big run use?"
    body = "\n".join([f"<h1>{title}</h1>", *sections(laws, table, answer, outcome, figures)])
    out.write_text(PAGE.substitute(title=title, body=body, version=mixlaw.__version__), encoding="utf-8")
    return pictures


def overview(drawings: Mapping[str, Drawing], path: Path) -> Path:
    """Draw the four figures that tell most into one picture."""
    names = [n for n in ("optimum", "proof", "predicted", "errors", "tokens", "realised") if n in drawings][:4]
    figure = Figure(figsize=(12.4, 8.6), layout="constrained")
    for ax, name in zip(figure.subplots(2, 2).flat, names, strict=False):
        drawings[name](ax)
    figure.savefig(path, dpi=100)
    return path


def choose_drawings(
    laws: FittedLaws,
    table: Table,
    test: Table | None,
    answer: Mapping[str, Any] | None,
    outcome: list[dict[str, Any]],
) -> dict[str, Drawing]:
    """Return the figures that the runs at hand allow, by name."""
    fit = laws.best
    target = next(iter(answer["targets"])) if answer else next(iter(fit.targets_))
    drawings: dict[str, Drawing] = {}
    if answer:
        domains = pd.DataFrame(answer["domains"])
        drawings["optimum"] = lambda ax: plots.optimum(ax, domains)
        drawings["pull"] = lambda ax: plots.pull(ax, domains)
    if outcome:
        drawings["proof"] = lambda ax: plots.proof(ax, outcome, target)
    scored = test or table
    title = f"{fit.law} law on {'runs it never saw' if test else 'the runs it was fitted to'}"
    drawings["predicted"] = lambda ax: plots.predicted_against_observed(ax, fit.predict(scored), title)
    if laws.scores:
        drawings["errors"] = lambda ax: plots.errors_by_law(ax, pd.DataFrame(laws.scores))
    drawings["tokens"] = lambda ax: plots.loss_against_tokens(ax, table, fit, target)
    if names_after("requested_", table.frame):
        drawings["realised"] = lambda ax: plots.realised_against_requested(ax, table)
    return drawings


def prove(answer: Mapping[str, Any], proof: Table) -> list[dict[str, Any]]:
    """Match the runs of the proof with the mixtures they test; return one row per mixture that was trained.

    A mixture counts as trained where every realised weight is within 0.005 of it, at the asked number of tokens.
    Where it was trained with several seeds, `measured` is their mean and `seeds` lists them.
    """
    frame = proof.frame[proof.frame["n_tokens"] >= 0.99 * answer["n_tokens"]]
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


def verdict(rows: list[dict[str, Any]]) -> str:
    """Return in one sentence whether the recommended mixture won, and by how much."""
    measured = {r["mixture"]: r["measured"] for r in rows}
    if "recommended" not in measured or len(measured) < 2:
        return "The proof is not complete: train the recommended mixture and another one."
    best = measured.pop("recommended")
    gaps = ", ".join(f"{loss - best:+.4f} to {name}" for name, loss in measured.items())
    seeds: list[float] = next((r["seeds"] for r in rows if len(r["seeds"]) > 1), [])
    noise = f" Two seeds of one mixture differ by {max(seeds) - min(seeds):.4f}." if seeds else ""
    inside = sum(r["low"] <= r["measured"] <= r["high"] for r in rows)
    won = "won" if all(loss > best for loss in measured.values()) else "did not win"
    intervals = f"{inside} of {len(rows)} measured losses lie inside their predicted intervals."
    return f"The recommended mixture {won}: {gaps} nats/token.{noise} {intervals}"


def proof_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return predicted against measured losses, one row per mixture."""
    table = pd.DataFrame(rows)[["mixture", "predicted", "low", "high", "measured"]]
    table["error %"] = 100 * (table["predicted"] - table["measured"]) / table["measured"]
    return table


def sections(
    laws: FittedLaws,
    table: Table,
    answer: Mapping[str, Any] | None,
    outcome: list[dict[str, Any]],
    figures: dict[str, str],
) -> list[str]:
    """Return the report's parts as HTML."""
    parts = []
    if answer:
        parts += [_answer(answer), _pictures(figures, "optimum", "pull")]
    if outcome:
        parts += ["<h2>The proof</h2>", f"<p>{html.escape(verdict(outcome))}</p>", _pictures(figures, "proof")]
        parts.append(_table(proof_table(outcome)))
    parts += ["<h2>Can the laws be trusted?</h2>", f"<p>Chosen: <b>{laws.chosen}</b>, {html.escape(laws.reason)}.</p>"]
    parts.append(_pictures(figures, "predicted", "errors", "tokens", "realised"))
    if laws.scores:
        parts.append(_table(pd.DataFrame(laws.scores).round(4)))
    noise = seed_noise(table)
    if len(noise):
        parts += ["<p>Runs that differ in their seed only, a floor for every law's error:</p>", _table(noise)]
    parts += ["<h2>The laws</h2>", *[_law(laws, name) for name in laws.fits]]
    parts += ["<h2>The runs</h2>", _runs(table), *[f"<p>{html.escape(note)}</p>" for note in table.notes]]
    return parts


def _answer(answer: Mapping[str, Any]) -> str:
    n, d = plots.in_words(answer["n_params"]), plots.in_words(answer["n_tokens"])
    shares = ", ".join(f"{name} {100 * w:.1f} %" for name, w in answer["weights"].items())
    gains = "; ".join(
        f"{r['gain']:+.4f} nats over {r['mixture']} ({r['gain_low']:+.4f} to {r['gain_high']:+.4f})"
        for r in answer["outcomes"]
        if r["mixture"] != "recommended"
    )
    text = f"For {n} parameters on {d} tokens, best at {', '.join(answer['targets'])}: <b>{html.escape(shares)}</b>."
    warnings = "".join(f"<br>Warning: {html.escape(w)}" for w in answer["warnings"])
    override = html.escape(answer["override"])
    return f'<div class="answer">{text}<br>Predicted gain: {gains}.<br><code>{override}</code>{warnings}</div>'


def _law(laws: FittedLaws, name: str) -> str:
    fit, law = laws.fits[name], get_law(name)
    unit = f"N in {fit.units_.n_params:g} parameters, D in {fit.units_.n_tokens:g} tokens"
    lines = "".join(f"<li>{html.escape(t)}: {html.escape(f.statement)}</li>" for t, f in fit.targets_.items())
    warnings = "".join(f"<p>Warning: {html.escape(w)}</p>" for w in fit.warnings_)
    head = f"<h3>{name}</h3><p><code>L = {html.escape(law.formula)}</code> ({html.escape(law.source)}), {unit}</p>"
    return f"{head}{warnings}{_table(fit.params_.reset_index(names='target'))}<ul>{lines}</ul>"


def _runs(table: Table) -> str:
    frame = table.frame
    rows = frame.groupby("n_params").agg(
        runs=("run_id", "nunique"), points=("n_tokens", "size"), most_tokens=("n_tokens", "max")
    )
    return _table(rows.reset_index())


def _pictures(figures: dict[str, str], *names: str) -> str:
    shown = "".join(f"<figure>{figures[name]}</figure>" for name in names if name in figures)
    return f'<div class="figures">{shown}</div>'


def _table(frame: pd.DataFrame) -> str:
    text = frame.to_html(index=False, border=0, float_format=lambda v: f"{v:.4g}", na_rep="")
    return f'<div class="scroll">{text}</div>'


def svg(figure: Figure) -> str:
    """Return a figure as an image that needs no other file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return f'<img alt="" src="data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}">'
