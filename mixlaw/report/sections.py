"""The sections of the report: each fills one template with values from the material."""

from collections.abc import Mapping

import pandas as pd
from markupsafe import Markup

from mixlaw.advice.recommendation import Recommendation
from mixlaw.advice.repeats import Repeats
from mixlaw.fitting.bootstrap import seed_noise
from mixlaw.fitting.saved import FittedLaws
from mixlaw.report import answer_tables as tables
from mixlaw.report.benchmark_section import benchmark_section
from mixlaw.report.drawings import score_names
from mixlaw.report.explore.charts import Chart
from mixlaw.report.finetuned import Finetuned
from mixlaw.report.forecasts import forecast_sections
from mixlaw.report.injection_text import injection_sentence, injection_table
from mixlaw.report.material import Material
from mixlaw.report.page import Section
from mixlaw.report.phase_text import phase_gains_table, phases_table, phases_verdict
from mixlaw.report.pictures import Picture
from mixlaw.report.plots_tradeoff import tradeoff_table
from mixlaw.report.proof import phases_sentence, proof_table, verdict
from mixlaw.report.proof_worth import worth_sentences
from mixlaw.report.repeats_text import epochs_table, repeats_sentences
from mixlaw.report.templating import render
from mixlaw.report.worth import worth_table
from mixlaw.tables.factor_levels import levels
from mixlaw.tables.table import Table
from mixlaw.tables.units import MIXED, brackets, together
from mixlaw.text import count_text, percent

SCORES = {
    "mre": "mean relative error [%]",
    "mae": "mean error",
    "bias": "bias [%]",
    "spearman": "rank correlation",
    "coverage": "inside 90 % intervals [%]",
    "n": "losses",
}
MOST_PARAMETERS = 1000  # in the tables of a law; more would be most of the page
Pictures = Mapping[str, Picture | Chart]


def sections(m: Material, pictures: Pictures) -> list[Section]:
    """Return the sections that the material allows, in the order of the page."""
    found = [_recommendation(m, m.answer, pictures), *_phases(m.answer, pictures)] if m.answer is not None else []
    if m.answer is not None and m.repeats is not None:
        found.append(_repeats(m.answer, m.repeats, pictures))
    if m.finetuned is not None:
        found.append(_injection(m.finetuned, pictures))
    if m.outcome:
        found.append(_proof(m, pictures))
    if m.benchmarks:
        found.append(benchmark_section(m.benchmarks, those(pictures, *score_names(m.benchmarks))))
    found += forecast_sections(m.forecasts)
    if "predictions" in pictures:
        body = render("predictions", pictures=those(pictures, "predictions"))
        found.append(Section("Predictions of a proof run", body))
    found += [_trust(m, pictures), _laws(m, pictures)]
    return [*found, _runs(m.table)] if m.table else found


def those(pictures: Pictures, *names: str) -> list[Picture | Chart]:
    """Return the named pictures that exist."""
    return [pictures[name] for name in names if name in pictures]


def answer_box(answer: Recommendation) -> Markup:
    """Return the box at the top of the page: the recommendation in a few lines."""
    ordered = sorted(answer.weights.items(), key=lambda pair: -pair[1])
    return render(
        "answer",
        question=tables.question(answer),
        shares=", ".join(f"{name} {percent(w)}" for name, w in ordered),
        losers=[*phases_verdict(answer), *tables.worst_sentences(answer), *tables.losers_sentences(answer)],
        sentences=tables.sentences(answer),
        warnings=answer.warnings,
        override=answer.override,
    )


def _recommendation(m: Material, answer: Recommendation, pictures: Pictures) -> Section:
    shown = {
        "The weights": tables.weights_table(answer),
        "What it gains": tables.outcomes_table(answer),
        "Predicted scores, through law and curve": tables.scores_table(answer),
        "What it is worth: compute-equivalent gains": worth_table(answer),
        "What limits cost": tables.prices_table(answer),
        "h* from the smallest run to the big one, and its regret at the big run": tables.path_table(answer),
        "Recommendations of the other laws, and their costs by this law": tables.others_table(answer),
        "Predicted loss of every target": answer.per_target,
        "What the runs can distinguish": tables.signals_table(answer),
    }
    if "tradeoff" in pictures:
        shown["The trade-off"] = tradeoff_table(answer, m.front)
    kinds = ("optimum", "ternary", "parallel", "path", "prices", "tradeoff", "gradient", "signals")
    drawn = those(pictures, *kinds)
    return Section("The recommendation", render("recommendation", words=tables.WORDS, pictures=drawn, tables=shown))


def _phases(answer: Recommendation, pictures: Pictures) -> list[Section]:
    """Return the section on recommended phases; none if they were not asked for."""
    plan = answer.phases
    if plan is None:
        return []
    body = render(
        "phases",
        verdict=phases_verdict(answer),
        pictures=those(pictures, "phases", "switch", "phase_gains"),
        tables={"The weights": phases_table(answer), "What they gain": phase_gains_table(answer)},
        override=plan.override,
    )
    return [Section("Phases", body)]


def _repeats(answer: Recommendation, found: Repeats, pictures: Pictures) -> Section:
    body = render(
        "repeats",
        sentences=repeats_sentences(answer, found),
        pictures=those(pictures, "epochs"),
        frame=epochs_table(answer, found),
    )
    return Section("Repeated data", body)


def _injection(runs: Finetuned, pictures: Pictures) -> Section:
    body = render(
        "injection",
        sentences=[injection_sentence(amount.found, amount.tuning) for amount in runs.amounts],
        pictures=those(pictures, "forgotten", "injection_cost"),
        frame=injection_table(runs),
    )
    return Section("Pretraining data in finetuning", body)


def _proof(m: Material, pictures: Pictures) -> Section:
    of_phases = phases_sentence(m.asked, m.outcome)
    said = " ".join([verdict(m.outcome, m.asked.unit), *of_phases, *worth_sentences(m.asked, m.needed)])
    body = render("proof", verdict=said, pictures=those(pictures, "proof"), frame=proof_table(m.outcome))
    return Section("The proof", body)


def _trust(m: Material, pictures: Pictures) -> Section:
    body = render(
        "trust",
        chosen=m.laws.chosen,
        reason=m.laws.reason,
        pictures=those(pictures, "predicted", "errors", "residuals", "tokens", "realised"),
        scores=_scores(m.laws),
        noise=_noise(m.table),
    )
    return Section("Can the laws be trusted?", body)


def _scores(laws: FittedLaws) -> pd.DataFrame:
    unit = laws.best.unit_of()
    shown = brackets(unit) if unit != MIXED else "[each target's unit]"
    return pd.DataFrame(laws.scores).rename(columns=SCORES | {"mae": f"mean error {shown}"})


def _noise(table: Table | None) -> pd.DataFrame:
    """Return the spread of runs that differ only in their seed; empty where there are none."""
    if table is None:
        return pd.DataFrame()
    unit = together(table.units.values())
    return seed_noise(table).rename(columns={"sd": f"sd {brackets(unit)}", "percent": "sd [%]", "n_runs": "runs"})


def _laws(m: Material, pictures: Pictures) -> Section:
    first = m.fit.name
    names = [first, *(name for name in m.laws.fits if name != first)]
    described = [_described(m.laws, name) for name in names]
    body = render("laws", pictures=those(pictures, "parameters"), laws=described)
    return Section("The laws", body)


def _described(laws: FittedLaws, name: str) -> dict[str, object]:
    """Return the values that the template shows of a law; targets with the same convergence statement are grouped."""
    fit, law = laws.fits[name], laws.fits[name].law
    params = fit.params
    alike: dict[str, list[str]] = {}
    for target, found in fit.targets.items():
        alike.setdefault(found.statement, []).append(target)
    units = f"N in units of {count_text(fit.units.n_params)} parameters, D of {count_text(fit.units.n_tokens)} tokens"
    return {
        "name": name,
        "formula": law.formula,
        "source": law.source,
        "units": units,
        "warnings": fit.warnings,
        "params": params.reset_index(names="target"),
        "intervals": fit.intervals_of_params() if params.size <= MOST_PARAMETERS else None,
        "count": params.size,
        "statements": [(", ".join(targets), statement) for statement, targets in alike.items()],
    }


def _runs(table: Table) -> Section:
    sizes = table.frame.groupby(levels(table.frame["n_params"]))
    columns = {
        "N": sizes["n_params"].median().map(count_text),
        "runs": sizes["run_id"].nunique(),
        "evaluations": sizes["n_tokens"].size(),
        "longest, D": sizes["n_tokens"].max().map(count_text),
    }
    return Section("The runs", render("runs", sizes=pd.DataFrame(columns), notes=table.notes))
