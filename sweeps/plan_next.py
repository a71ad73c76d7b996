"""The most informative next runs of a study, given its fitted laws, as a study file."""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mixlaw.advice.constraints import Question, read_targets
from mixlaw.advice.decision import Decision
from mixlaw.advice.design import Size, candidates
from mixlaw.advice.next_runs import Proposal, choose
from mixlaw.advice.next_worth import next_worth
from mixlaw.advice.phase_candidates import phase_candidates
from mixlaw.advice.phase_design import SWITCHES
from mixlaw.advice.phase_plan import best_ends
from mixlaw.advice.recommendation import Recommendation
from mixlaw.console import say
from mixlaw.errors import ConfigError
from mixlaw.fitting.saved import FittedLaws
from mixlaw.laws.terms import PHASES
from mixlaw.mixture import Mixture
from mixlaw.phased_mixture import PhasedMixture
from mixlaw.report.worth import worth_of_next
from mixlaw.tables.table import Table
from mixlaw.tables.units import kind_of
from sweeps.plan_phases import BRANCH_FROM, kept_for_branches, trunks_of
from sweeps.plan_sizes import Trainable, about, shown, trainable
from sweeps.study_file import Shape, StudyFile, grids_of, in_thousandths, mixtures_of, shape_of, shapes_of, write_study
from sweeps.study_path import path_of, studies
from train.grids import combinations


def plan_next(options: argparse.Namespace) -> int:
    """Write the study file of the most informative next runs, given the fitted laws."""
    path = path_of(options.name)
    folder, sizes = sizes_of(path, options)
    first = next(iter(sizes.values()))
    runs_folder = first.runs / folder
    laws = FittedLaws.load(options.laws or runs_folder / "laws.json")
    table = laws.table_of(runs_folder)
    question, ends = asked(options, laws, table, runs_folder / "recommendation.json")
    decision = Decision(laws.best, question, laws.sizes, table, first.points, ends)
    proposal = choose(decision, possible(offers(decision, sizes, options, path), sizes, path), options.next)
    name = _free_name(options.name)
    write_next(studies() / f"{name}.yaml", folder, sizes, proposal, laws.best.domains, options)
    more = [f"written: {studies() / name}.yaml", f"next: python -m train study={name}, then fit {runs_folder} again"]
    say("\n".join([*next_lines(laws, question, proposal, sizes), *more]))
    return 0


def sizes_of(path: Path, options: argparse.Namespace) -> tuple[str, dict[str, Trainable]]:
    """Return the folder of a study's runs, and its sizes by name."""
    folder, shapes = shapes_of(path)
    own = trainable([Shape((*s.overrides, *options.overrides)) for s in shapes], options.name)
    return folder, {str(i): replace(t, shape=shape) for i, (t, shape) in enumerate(zip(own, shapes, strict=True))}


def offers(decision: Decision, sizes: Mapping[str, Trainable], options: argparse.Namespace, path: Path) -> pd.DataFrame:
    """Return all candidates; with phases if the decision is about phases."""
    domains = decision.table.domains
    of_study = [Size(name, t.n_params, t.n_tokens) for name, t in sizes.items()]
    if not len(decision.phases):
        return candidates(domains, of_study, decision.contenders)
    trunks = trunks_of(statics_of(sizes, options, path), domains)
    wanted = {*(np.round(trunks["until@1"], 2) if len(trunks) else SWITCHES), round(decision.ends[0], 2)}
    switches = sorted(switch for switch in wanted if all(size.can_switch_at(switch) for size in sizes.values()))
    return phase_candidates(domains, of_study, decision.contenders, decision.phases, trunks, switches)


def statics_of(
    sizes: Mapping[str, Trainable], options: argparse.Namespace, path: Path
) -> list[tuple[str, float, list[str]]]:
    """Return (name of its size, D, overrides) of every static run of a study."""
    names = {size.shape: name for name, size in sizes.items()}
    found = []
    for file in files_of(path):
        for job in combinations(*grids_of(file)):
            name = names.get(shape_of(job))
            if name and not any(override.startswith("mixture.phases=") for override in job):
                found.append((name, sizes[name].n_tokens, [f"study={file.stem}", *job, *options.overrides]))
    return found


def files_of(path: Path) -> list[Path]:
    """Return the files of a study whose runs are in its folder."""
    files = [path, path.with_name(f"{path.stem}_seeds.yaml"), *sorted(path.parent.glob(f"{path.stem}_next*.yaml"))]
    return [file for file in files if file.exists()]


def write_next(
    path: Path,
    folder: str,
    sizes: Mapping[str, Trainable],
    proposal: Proposal,
    domains: list[str],
    options: argparse.Namespace,
) -> None:
    """Write the study file of chosen runs, those that others branch from first."""
    runs = proposal.runs
    keys = [sizes[name].shape.key for name in runs["model"]]
    kept = kept_for_branches(runs, domains)
    runs = runs.assign(shape=["\t".join(filter(None, pair)) for pair in zip(keys, kept, strict=True)])
    order = np.argsort([not text for text in kept], kind="stable")
    shared = dict(o.partition("=")[::2] for o in options.overrides)
    settings = BRANCH_FROM if "until@1" in runs and runs["until@1"].notna().any() else {}
    about_it = tuple(about("next", options.name, runs))
    study = StudyFile(folder, about_it, shared, after=options.name, settings=settings)
    write_study(path, study, runs.iloc[order], domains)


def next_lines(laws: FittedLaws, question: Question, proposal: Proposal, sizes: Mapping[str, Trainable]) -> list[str]:
    """Return what the chosen runs are expected to be worth, and the runs, as lines of text."""
    runs, unit = proposal.runs, laws.best.unit_of(question.targets)
    labels = [sizes[name].shape.label for name in runs["model"]]
    weights = [f"weight_{d}" for d in laws.best.domains]
    two = "until@1" in runs and bool(runs["until@1"].notna().any())
    phases = ["until@1", *(f"{weight}@{p}" for p in (1, 2) for weight in weights)] if two else []
    what = "phases and single mixtures" if len(proposal.ends) > 1 else "mixtures"
    return [
        f"standard deviation of the loss differences between candidate {what} at N = {question.n_params:.3g}, "
        f"D = {question.n_tokens:.3g}: {runs['sd_before'].iloc[0]:.4f} {kind_of(unit).after} now, "
        f"{runs['sd_after'].iloc[-1]:.4f} after these runs",
        worth_of_next(next_worth(laws, question, proposal), unit),
        shown(runs.assign(model=labels)[["model", "n_params", "n_tokens", *weights, *phases, "flops", "sd_after"]]),
    ]


def asked(
    options: argparse.Namespace, laws: FittedLaws, table: Table, path: Path
) -> tuple[Question, tuple[float, ...]]:
    """Return what is to be decided, and where the phases of the big run end: 1 for one mixture.

    It is what the options say, with the best two phases if the law tells phases apart, or what a recommendation
    answers, limits and all.
    """
    tells_phases = PHASES in laws.best.law.uses
    if options.n_params and options.n_tokens:
        question = Question(options.n_params, options.n_tokens, read_targets(options.target, laws.best))
        return question, best_ends(laws.best, question, laws.sizes, table) if tells_phases else (1.0,)
    if options.n_params or options.n_tokens or options.target != "average" or not path.exists():
        raise ConfigError(
            f"the big run is needed: --n-params 7e9 --n-tokens 150e9, or `mixlaw recommend ... --out {path}`"
        )
    answer = Recommendation.load(path)
    return answer.question, tuple(answer.phases.until) if answer.phases and tells_phases else (1.0,)


def possible(offered: pd.DataFrame, sizes: Mapping[str, Trainable], path: Path) -> pd.DataFrame:
    """Return the candidates within the epoch limit that are neither planned nor held out, in no phase."""
    domains = sorted(next(iter(sizes.values())).available)
    planned = [mixtures_of(file) for file in files_of(path)]
    held_path = path.with_name(f"{path.stem}_heldout.yaml")
    held = set().union(*mixtures_of(held_path).values()) if held_path.exists() else set()
    held |= {phase for mixture in held for phase in phases_in(mixture)}

    def is_open(row: Mapping[Any, Any]) -> bool:
        size, mixture = sizes[row["model"]], in_thousandths(mixture_of(row, domains))
        often = any(w * row["n_tokens"] > size.max_epochs * size.available[d] for d, w in mixture.items())
        unseen = not {mixture, *phases_in(mixture)} & held
        return not often and unseen and not any(mixture in p.get(size.shape.key, set()) for p in planned)

    return offered[[is_open(row) for row in offered.to_dict("records")]].reset_index(drop=True)


def mixture_of(row: Mapping[Any, Any], domains: list[str]) -> Mixture:
    """Return the mixture of a run, which may change."""
    if pd.isna(row.get("until@1")):
        return Mixture(domains, [row[f"weight_{d}"] for d in domains])
    phases = [Mixture(domains, [row[f"weight_{d}@{p}"] for d in domains]) for p in (1, 2)]
    return PhasedMixture([row["until@1"], 1.0], phases)


def phases_in(mixture: Mixture) -> tuple[Mixture, ...]:
    """Return the mixtures of all phases."""
    return mixture.phases if isinstance(mixture, PhasedMixture) else (mixture,)


def _free_name(name: str) -> str:
    """Return the first of NAME_next1, NAME_next2, ... that does not exist."""
    number = 1
    while path_of(f"{name}_next{number}").exists():
        number += 1
    return f"{name}_next{number}"
