"""What the commands of the command line do."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mixlaw.advice.constraints import AVERAGE, Question, read_groups, read_mixture, read_pairs, read_targets
from mixlaw.advice.extrapolation import far_warnings, rows_of
from mixlaw.advice.recommend import Recommendation, baselines, recommend, require_mixture
from mixlaw.console import remark, say
from mixlaw.errors import ConfigError, FitError, unknown_name
from mixlaw.fileio import strict_json, write_atomically
from mixlaw.fitting.bootstrap import seed_noise
from mixlaw.fitting.estimator import LawFit
from mixlaw.fitting.identifiability import distinct, warnings_of
from mixlaw.fitting.saved import FittedLaws
from mixlaw.laws.registry import LAWS, get_law
from mixlaw.mixture import round_to_sum
from mixlaw.runs.comparable import require_alike
from mixlaw.selection.compare import AUTO, Trial, auto_laws, candidates, choose, fit_and_choose, usual_laws
from mixlaw.selection.paired import mean_errors, on_shared_targets
from mixlaw.selection.protocol import judge
from mixlaw.selection.splits import KINDS
from mixlaw.tables.clean import prepare
from mixlaw.tables.table import Table, read_table
from mixlaw.tables.units import NATS, difference

PULL = 0.01
RECOMMENDED = "# Recommended"  # how the files begin that may be written over


def read(paths: Sequence[str], options: argparse.Namespace, need_losses: bool = True) -> Table:
    """Read tables as the options say, every note on stderr."""
    table = _read(paths, options, need_losses)
    _warn(table)
    return table


def read_clean(paths: Sequence[str], options: argparse.Namespace) -> Table:
    """Read tables, and leave out what no law should be fitted to."""
    table = _read(paths, options)
    cleaned = prepare(table, options.keep_warmup)
    for note in cleaned.notes[len(table.notes) :]:
        remark(f"note: {note}")
    _warn(cleaned)
    return cleaned


def _read(paths: Sequence[str], options: argparse.Namespace, need_losses: bool = True) -> Table:
    pairs = [part.partition("=")[::2] for part in options.columns.split(",") if part]
    if any(not yours for _, yours in pairs):
        raise ConfigError(f"--columns {options.columns}: write NAME=YOURS,NAME=YOURS")
    table = read_table(
        paths, {yours: name for name, yours in pairs}, options.count, options.layout, options.join,
        read_pairs(options.set), options.higher_is_better, need_losses, names_of(options.run_id),
        options.rows_are_runs, options.best, options.relative_weights, **choice_of(options),
    )  # fmt: skip
    for note in table.notes:
        remark(f"note: {note}")
    return table


def choice_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return which runs are meant, and the units of their losses, as `read_table` takes it."""
    where: dict[str, list[str]] = {}
    for name, value in _pairs("--where", "NAME=VALUE", options.where):
        where.setdefault(name, []).append(value)
    units = dict(_pairs("--unit", "TARGET=UNIT", options.unit))
    given = {"where": where, "varied": options.varied, "units": units}
    return given | {"ends_only": options.ends_only, "former": options.former}


def _pairs(option: str, form: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    """Return what stands before and after the last = of each text; settings have none in their values."""
    pairs = [(name.strip(), value.strip()) for name, _, value in (text.rpartition("=") for text in texts)]
    for text, (name, value) in zip(texts, pairs, strict=True):
        if not name or not value:
            raise ConfigError(f"{option} {text}: write {form}")
    return pairs


def doubt(table: Table) -> None:
    """Say on stderr what casts doubt on every fit of a table."""
    for sentence in table.doubts:
        remark(f"warning: {sentence}")


def _warn(table: Table) -> None:
    """Say on a line of its own where much of a table was left out."""
    for sentence in table.much_left_out():
        remark(f"warning: {sentence}")


def read_like(paths: Sequence[str], options: argparse.Namespace, laws: FittedLaws, need_losses: bool = True) -> Table:
    """Read tables for laws; see `_like`."""
    return _like(read(paths, options, need_losses), laws)


def _like(table: Table, laws: FittedLaws) -> Table:
    """Return a table whose domains and targets are written as those of laws, also where their case differs."""
    named = table.named_as(laws.best.domains_, list(laws.best.targets_))
    for note in named.notes[len(table.notes) :]:
        remark(f"note: {note}")
    return named


def names_of(text: str) -> list[str]:
    """Return the laws that are named with commas between, each once."""
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def laws_to_fit(text: str) -> list[str]:
    """Return the laws that `fit` is to fit, or auto alone."""
    names = names_of(text)
    if AUTO in names and len(names) > 1:
        raise ConfigError(f"--law {text}: auto chooses its laws itself, so it stands alone")
    return names


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of every `LawFit` from the options."""
    return {
        "delta": options.delta, "residuals": options.residuals, "weights": options.weights, "prior": options.belief,
        "n_starts": options.starts, "n_bootstrap": options.bootstrap, "seed": options.seed,
    }  # fmt: skip


def run_check(options: argparse.Namespace) -> None:
    """Say what a table holds and what it can support."""
    table = read_clean(options.table, options)
    frame = table.frame
    sizes, tokens, mixtures = distinct(table)
    facts: dict[str, Any] = {
        "rows": len(frame), "runs": int(frame["run_id"].nunique()), "model_sizes": sizes, "numbers_of_tokens": tokens,
        "mixtures": mixtures, "notes": table.notes, "left_out": table.left_out,
    }  # fmt: skip
    columns = ["n_params", "n_tokens", *(f"weight_{d}" for d in table.domains), *(f"loss_{t}" for t in table.targets)]
    described = {
        c: {
            "low": float(frame[c].min()),
            "high": float(frame[c].max()),
            "values": int(frame[c].round(4).nunique()),
            "empty": int(frame[c].isna().sum()),
        }
        for c in columns
    }
    noise = seed_noise(table)
    support = _support(table)
    support["warnings"] = [*table.doubts, *support["warnings"]]
    facts |= {"columns": described, "noise": noise.to_dict("records"), "units": table.units} | support
    if options.json:
        say(strict_json(facts, indent=1))
        return
    kinds = f"{sizes} model sizes, {tokens} numbers of tokens, {mixtures} mixtures"
    say(f"{facts['rows']} rows of {facts['runs']} runs: {kinds}")
    say(f"laws that auto would fit: {', '.join(facts['laws']) or 'none'}")
    for name, column in described.items():
        empty = f", {column['empty']} empty" if column["empty"] else ""
        unit = table.units.get(name.removeprefix("loss_"), NATS) if name.startswith("loss_") else NATS
        shown = f" ({unit})" if unit != NATS else ""
        say(f"{name}{shown}: {column['low']:.4g} to {column['high']:.4g}, {column['values']} values{empty}")
    for row in noise.itertuples():
        sd = difference(f"{row.sd:.4f}", table.units.get(str(row.target), NATS))
        say(f"seed noise of {row.target}: sd {sd} ({row.percent:.2f} %) over {row.n_runs} runs")
    for warning in facts["warnings"]:
        say(f"warning: {warning}")


def _support(table: Table) -> dict[str, list[str]]:
    """Return which laws auto would fit to a table, and what the table leaves undecided about them."""
    warnings = warnings_of(get_law(candidates(table)[0]), table)
    try:
        return {"laws": auto_laws(table), "warnings": warnings}
    except FitError as error:
        return {"laws": [], "warnings": [*warnings, str(error)]}


def run_fit(options: argparse.Namespace) -> None:
    """Fit, try on a held-out part, score, choose, write."""
    if options.test and options.holdout:
        raise ConfigError("--test and --holdout are two ways to score: give one of them")
    table, settings = read_clean(options.table, options), settings_of(options)
    doubt(table)
    test = read(options.test, options) if options.test else None
    if test:
        require_alike(table.identity, test.identity, "the runs of the fit", f"the runs in {', '.join(options.test)}")
    with Progress() as bar:
        choice = fit_and_choose(table, laws_to_fit(options.law), options.holdout, options.target, bar, **settings)
    scored = [fit.score(test) for fit in choice.fits.values()] if test else []
    if options.holdout:
        scored = [trial.scores() for trial in choice.trials]
    rows = pd.concat(scored) if scored else pd.DataFrame()
    laws = FittedLaws.of(choice.fits, table, choice.chosen, choice.reason, rows)
    if options.out:
        laws.save(options.out)
    if options.json:
        say(strict_json(_summary(laws, choice.widened), indent=1))
        return
    _show_fits(choice.fits)
    if scored:
        say("\nMRE [%] on runs that the fit never saw:")
        say(score_table(pd.concat(scored)))
    if laws.noise:
        shown = ", ".join(f"{r.target} {r.percent:.2f} %" for r in seed_noise(table).itertuples())
        say(f"\nseed noise (sd of runs that differ in their seed only): {shown}")
    say("\n" + "\n".join(choice.widened))
    say(f"chosen: {choice.chosen} ({choice.reason})")
    if options.out:
        say(f"written to {options.out}")


def _show_fits(fits: dict[str, LawFit]) -> None:
    for name, fit in fits.items():
        for warning in fit.warnings_:
            remark(f"warning: {name} law: {warning}")
        for target, result in fit.targets_.items():
            say(f"{name:<10} {target:<16} {result.n_rows} rows of {result.n_runs} runs; {result.statement}")


def _summary(laws: FittedLaws, widened: list[str]) -> dict[str, Any]:
    fits = {
        name: {
            "warnings": fit.warnings_,
            "parameters": fit.intervals_of_params().to_dict("records"),
            "targets": {
                t: {"objective": f.objective, "statement": f.statement, "n_rows": f.n_rows, "n_runs": f.n_runs}
                for t, f in fit.targets_.items()
            },
        }
        for name, fit in laws.fits.items()
    }
    facts = {"chosen": laws.chosen, "reason": laws.reason, "intervals": widened, "noise": laws.noise}
    return facts | {"scores": laws.scores, "laws": fits}


def score_table(scored: pd.DataFrame, column: str = "mre") -> str:
    """Return a score per target and law as text, the mean below."""
    wide = scored.pivot_table(index="target", columns="law", values=column, dropna=False)
    wide = wide.loc[list(dict.fromkeys(scored["target"])), list(dict.fromkeys(scored["law"]))]
    wide.loc["mean" if "mean" not in wide.index else "mean of all"] = wide.mean()
    return str(wide.to_string(float_format=lambda v: f"{v:.2f}"))


def run_compare(options: argparse.Namespace) -> None:
    """Score laws on the same held-out rows, one split after the other, and choose one for each."""
    table = read_clean(options.table, options)
    doubt(table)
    names = [*LAWS, AUTO] if options.laws == "all" else names_of(options.laws) or usual_laws(table)
    joint = [name for name in names if name.partition("-fixed")[0] == "joint"]
    against = options.against or (*joint, names[0])[0]
    if against not in names:
        raise ConfigError(f"--against: {unknown_name('law', against, names)}")
    records, impossible = [], []
    for kind in options.holdout:
        try:
            with Progress() as bar:
                verdicts, trials = judge(table, names, kind, against, options.target, bar, **settings_of(options))
        except FitError as error:
            impossible.append(error)
            remark(f"left out: {error}")
            continue
        records.append(_verdict(verdicts, trials, kind))
        if not options.json:
            _show_verdict(records[-1], verdicts)
    if not records:
        raise impossible[0]
    if options.json:
        say(strict_json(records, indent=1))


def _verdict(verdicts: pd.DataFrame, trials: list[Trial], kind: str) -> dict[str, Any]:
    """Return what `mixlaw compare` found on one split, as plain data."""
    scored = pd.concat([trial.scores() for trial in trials])
    scored = scored[scored["law"].isin(verdicts["law"])]
    errors = on_shared_targets({law: pd.concat([t.errors(law) for t in trials]) for law in verdicts["law"]})
    chosen, reason = choose(
        mean_errors(errors), dict(zip(verdicts["law"], verdicts["n_free"], strict=True)), KINDS[kind]
    )
    by_target = scored.groupby(["law", "target"], sort=False, as_index=False)[["mre", "mae", "bias", "coverage"]].mean()
    took = list(dict.fromkeys(trial.chosen for trial in trials if trial.chosen[0]))
    refused = {law: why for trial in trials for law, why in trial.refused.items()}
    return {
        "kind": kind, "chosen": chosen, "reason": reason, "laws": verdicts.to_dict("records"),
        "targets": by_target.to_dict("records"), "auto": took, "refused": refused,
    }  # fmt: skip


def _show_verdict(found: dict[str, Any], verdicts: pd.DataFrame) -> None:
    for name, why in found["refused"].items():
        remark(f"left out: {name}: {why}")
    say(f"MRE [%] on {KINDS[found['kind']]}:\n{score_table(pd.DataFrame(found['targets']))}\n")
    say("means over targets; difference: of the mre to that of the law named last, with a 90 % interval over runs:")
    say(verdicts.to_string(index=False, float_format=lambda v: f"{v:.3f}"))
    for law, why in found["auto"]:
        say(f"auto took {law} ({why})")
    say(f"\nchosen: {found['chosen']} ({found['reason']})\n")


def run_predict(options: argparse.Namespace) -> None:
    """Predict every row of a table."""
    laws = FittedLaws.load(options.laws)
    name = options.law or laws.chosen
    if name not in laws.fits:
        raise ConfigError(f"--law: {unknown_name('law', name, laws.fits)}")
    table = read_like(options.table, options, laws, need_losses=False)
    for warning in laws.fits[name].warnings_:
        remark(f"warning: {warning}")
    doubt(table)
    known = {n: v for n, v in laws.identity.items() if not any(fnmatchcase(n, pattern) for pattern in options.varied)}
    require_alike(known, table.identity, "the runs of the fit", f"the runs in {', '.join(options.table)}")
    predictions = laws.fits[name].predict(table, level=options.level)
    units = {target: laws.fits[name].target(target).unit for target in predictions["target"].unique()}
    if set(units.values()) != {NATS}:
        predictions["unit"] = predictions["target"].map(units)
    for warning in far_warnings(laws, name, rows_of(laws, name, table)):
        remark(f"warning: {warning}")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        predictions.to_csv(options.out, index=False)
        say(f"{len(predictions)} predictions of the {name} law written to {options.out}")
    elif options.json:
        say(strict_json(predictions.to_dict("records"), indent=1))
    else:
        say(predictions.to_string(index=False, float_format=lambda v: f"{v:.4f}"))


def question_of(laws: FittedLaws, options: argparse.Namespace) -> Question:
    """Return the question that the options ask."""
    fit = laws.fits.get(options.law, laws.best)
    require_mixture(laws, fit.law)
    stated = read_pairs(options.available)
    for domain, tokens in stated.items():
        if domain not in fit.domains_:
            raise ConfigError(f"--available: {unknown_name('domain', domain, fit.domains_)}")
        if not tokens > 0:
            raise ConfigError(f"--available {domain}={tokens:g}: tokens must be above 0")
    available = laws.sizes | stated
    if options.max_epochs and not available:
        raise ConfigError("--max-epochs needs the tokens of each domain: --available code=3e9,docs=1e9,...")
    without = [d for d in fit.domains_ if d not in fit.targets_]
    if options.target == "average" and "average" in fit.targets_:
        remark("note: 'average' is a target of these runs; the mean of the domains is --target mean")
    if (
        options.target in AVERAGE
        and options.target not in fit.targets_
        and without
        and len(without) < len(fit.domains_)
    ):
        remark(
            f"note: the average is over {len(fit.domains_) - len(without)} domains; no loss of: {', '.join(without)}"
        )
    unlimited = [d for d in fit.domains_ if d not in available]
    if options.max_epochs and unlimited:
        remark(f"note: --max-epochs does not limit {', '.join(unlimited)}: their tokens are not known (--available)")
    prior = read_mixture(options.prior, fit.domains_, baselines(fit.domains_, available)) if options.prior else {}
    if options.pull and not prior:
        raise ConfigError("--pull needs a mixture to pull towards: --prior uniform, natural, or D=W,...")
    return Question(
        options.n_params, options.n_tokens, read_targets(options.target, fit), read_pairs(options.min),
        read_pairs(options.max), read_pairs(options.pin), read_groups(options.group), available, options.max_epochs,
        prior, (options.pull or PULL) if prior else 0.0,
    )  # fmt: skip


def run_recommend(options: argparse.Namespace) -> None:
    """Recommend a mixture."""
    laws = FittedLaws.load(options.laws)
    answer = recommend(laws, question_of(laws, options), options.law)
    text = strict_json(answer.to_json(), indent=1)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(options.out, text)
    if options.override:
        _check_own(options.override)
        options.override.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(options.override, override_file(answer))
    say(text if options.json else answer.summary())


def _check_own(path: Path) -> None:
    """Refuse to write over a mixture that somebody else wrote."""
    if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(RECOMMENDED):
        raise ConfigError(f"{path} exists and was not written by `mixlaw recommend`: give --override another name")


def override_file(answer: Recommendation) -> str:
    """Return a file of the trainer's configuration group `mixture`."""
    question = answer.question
    units = round_to_sum(np.array(list(answer.weights.values())), 10_000)
    shares = zip(answer.weights, units, strict=True)
    weights = "{" + ", ".join(f"{json.dumps(d, ensure_ascii=False)}: {u / 10_000:.4f}" for d, u in shares) + "}"
    head = f"{RECOMMENDED} by the {answer.law} law for N = {question.n_params:.4g}, D = {question.n_tokens:.4g},"
    targets = " ".join(", ".join(question.targets).split())  # in one line
    return f"{head}\n# best at {targets}.\nnamed: natural # weights go before it\nweights: {weights}\n"


def run_plot(options: argparse.Namespace) -> None:
    """Draw one figure."""
    from mixlaw.report.build import OF_MIXTURES, draw_one

    laws = FittedLaws.load(options.laws)
    if options.law and options.law not in laws.fits:
        raise ConfigError(f"--law: {unknown_name('law', options.law, laws.fits)}")
    laws = replace(laws, chosen=options.law or laws.chosen)
    table = read_like(options.table, options, laws) if options.table else None
    answer, targets = None, []
    if options.kind in OF_MIXTURES:
        require_mixture(laws, laws.chosen)
        asked = options.n_params and options.n_tokens
        answer = recommend(laws, question_of(laws, options), options.law) if asked else None
    elif options.target not in AVERAGE:
        targets = list(read_targets(options.target, laws.best))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for sentence in draw_one(options.out, options.kind, laws, table, answer, targets):
        remark(f"note: {sentence}")
    say(f"written to {options.out}")


def run_report(options: argparse.Namespace) -> None:
    """Draw the report of a table, or of a study by the files that its folder holds."""
    from mixlaw.advice.recommend import is_outdated, read_answer
    from mixlaw.report.build import write_report, write_status

    study = Path(options.table[0]) if len(options.table) == 1 and Path(options.table[0]).is_dir() else None
    out = options.out or (study or Path()) / "report.html"
    laws = options.laws or _beside(study, "laws.json")
    if laws is None:
        if study is None:
            raise ConfigError("a report needs laws: --laws laws.json, by `mixlaw fit TABLE --out laws.json`")
        write_status(out, study)
        say(f"{out}: the status of the study only, because it has no laws.json yet")
        return
    asked = options.recommendation or _beside(study, "recommendation.json")
    held, proof = (
        [str(folder)] if given is None and study and (folder := study.with_name(study.name + part)).is_dir() else given
        for given, part in ((options.test, "_heldout"), (options.proof, "_proof"))
    )
    answer, fitted = read_answer(asked) if asked else None, FittedLaws.load(laws)
    test, proven = (read_like(paths, options, fitted) if paths else None for paths in (held, proof if asked else None))
    table, outdated = _table_of(fitted, study, options)
    doubt(table)
    for other, paths in ((test, held), (proven, proof if asked else None)):
        if other and paths:
            require_alike(table.identity, other.identity, "the runs of the laws", f"the runs in {', '.join(paths)}")
    if answer and is_outdated(answer, fitted):
        outdated.append(f"{asked} rests on other laws than {laws}: `mixlaw recommend` again")
    for sentence in outdated:
        remark(f"warning: {sentence}")
    picture = options.picture or _beside(study, "predictions.png")
    pictures = write_report(out, fitted, table, test, answer, proven, picture, study, outdated)
    say(f"{out} and {len(pictures)} PNGs in {pictures[0].parent}")


def _table_of(laws: FittedLaws, study: Path | None, options: argparse.Namespace) -> tuple[Table, list[str]]:
    """Return what laws were fitted to, or else the study's runs as they are now and a sentence that says so."""
    if study is None:
        return _like(read_clean(options.table, options), laws), []
    try:
        table = laws.table_of(study)
    except FitError as error:
        return _like(read_clean(options.table, options), laws), [str(error)]
    for note in table.notes:
        remark(f"note: {note}")
    _warn(table)
    return table, []


def _beside(study: Path | None, name: str) -> Path | None:
    """Return a file of a study's folder, if it is there."""
    return study / name if study and (study / name).exists() else None


def run_laws(options: argparse.Namespace) -> None:
    """List the laws."""
    rows = [
        {
            "name": law.name, "parameters": law.n_free(options.domains), "uses": ", ".join(sorted(law.uses)),
            "formula": law.formula, "source": law.source, "remark": law.remark,
        }
        for law in LAWS.values()
    ]  # fmt: skip
    if options.json:
        say(strict_json(rows, indent=1))
        return
    for row in rows:
        say(f"{row['name']} ({row['parameters']} parameters for {options.domains} domains; uses {row['uses']})")
        say(f"    L = {row['formula']}\n    {row['source']}" + (f"\n    {row['remark']}" if row["remark"] else ""))


class Progress:
    """What is being fitted and for how long, on a terminal; nothing otherwise."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._bar = tqdm(disable=not sys.stderr.isatty(), leave=False, bar_format="{desc} [{elapsed}]")

    def __enter__(self) -> "Progress":
        return self

    def __call__(self, text: str) -> None:
        self._bar.set_description_str(text)
        self._bar.refresh()

    def __exit__(self, *error: object) -> None:
        self._bar.close()
