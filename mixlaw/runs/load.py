"""Load finished run directories into one tidy table."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from mixlaw.counts import flops
from mixlaw.errors import RunLogError
from mixlaw.fileio import file_sha256, read_json
from mixlaw.runs.comparable import Facts, facts_of
from mixlaw.runs.log import corpus_tokens, read_facts, read_rows, read_status
from mixlaw.runs.phases import phases_so_far
from mixlaw.runs.study_status import former_runs, former_sentence

ROWS_AT_ONCE = 20_000  # rows kept as dictionaries before they become a DataFrame, to save memory
NATS = "nats per token"  # the unit of losses where run.json states none
PATIENCE_S = 3.0  # before a progress bar appears


@dataclass
class Runs:
    """The contents of run directories.

    Attributes
    ----------
    table : one row per (run, evaluation point, domain): run_id, study, family, seed, n_params (total),
        n_params_non_embedding, step, n_tokens, flops (6ND), domain, loss and loss_se [nats/token, or the unit
        in `units`], n_eval_tokens, lr_state, and per training domain weight_<d> (realised share of the tokens),
        requested_<d>, available_<d> (unique tokens that the run may read), epochs_<d> (passes over these); of runs with
        phases also weight_<d>@p and requested_<d>@p in phase p, and until@p, the share of n_tokens at its end; of runs
        that start from given weights also before, the loss of the domain with these weights; of runs with tasks also
        n_questions, score (the share that is answered rightly) and score_se, which are empty for other targets
    excluded : path -> reason, for every run that is left out
    sizes : training domain -> tokens of the whole domain
    facts : run id -> its settings
    former : notes about runs that only a former version of their study planned, which are left out
    units : target -> unit of its losses, where the runs state one; the others are in nats per token
    """

    table: pd.DataFrame
    excluded: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Facts] = field(default_factory=dict)
    former: list[str] = field(default_factory=list)
    units: dict[str, str] = field(default_factory=dict)


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """Return all run directories at or at most two levels below the given folders, sorted.

    Raises
    ------
    RunLogError
        If a path is not a folder.
    """
    found: set[Path] = set()
    for path in paths:
        if not path.is_dir():
            raise RunLogError(f"{path} is not a folder of runs")
        found.update(p.parent for p in path.glob("run.json"))
        found.update(p.parent for p in path.glob("*/run.json"))
        found.update(p.parent for p in path.glob("*/*/run.json"))
    return sorted(found)


def load_runs(*paths: str | Path, former: bool = False) -> Runs:
    """Load all run directories below some folders into one tidy table.

    Diverged, unfinished and damaged runs are left out, each with its reason in `excluded`.

    Parameters
    ----------
    former : also read runs that only a former version of their study's file planned

    Raises
    ------
    RunLogError
        If a path is not a folder, no run directory is below it, none can be used, or two of them state different
        units for one target.
    """
    folders = find_runs([Path(p) for p in paths])
    if not folders:
        raise RunLogError(f"no run directory below {', '.join(str(p) for p in paths)} (a run directory holds run.json)")
    folders, left_out = (folders, []) if former else _without_former(folders, {Path(p) for p in paths})
    if not folders:
        raise RunLogError(f"{'; '.join(left_out)}, and there are no others")
    tables: list[pd.DataFrame] = []
    records: list[dict[str, Any]] = []
    excluded: dict[str, str] = {}
    sizes: dict[str, float] = {}
    stated: dict[str, Facts] = {}
    units: dict[str, tuple[str, Path]] = {}
    silent = not sys.stderr.isatty()
    for folder in tqdm(folders, desc="reading runs", unit="run", delay=PATIENCE_S, leave=False, disable=silent):
        known = len(records)
        try:
            facts = read_facts(folder)
            records += _load_run(folder, facts)
        except RunLogError as error:
            excluded[str(folder)] = str(error)
            continue
        stated[facts["run_id"]] = facts_of(facts)
        _add_units(units, facts, {record["domain"] for record in records[known:]}, folder)
        sizes |= {d: float(corpus_tokens(facts, d)) for d in facts["mixture"]}
        if len(records) > ROWS_AT_ONCE:
            tables.append(pd.DataFrame(records))
            records = []
    if not tables and not records:
        reasons = "\n".join(list(excluded.values())[:3])
        raise RunLogError(f"none of {len(folders)} runs can be used. The first reasons:\n{reasons}")
    table = pd.concat([*tables, pd.DataFrame(records)] if records else tables, ignore_index=True)
    table = table.drop_duplicates(["run_id", "step", "domain", "lr_state"], ignore_index=True)
    in_units = {target: unit for target, (unit, _) in units.items() if unit}
    return Runs(table, excluded, sizes, stated, left_out, in_units)


def _add_units(units: dict[str, tuple[str, Path]], facts: Mapping[str, Any], targets: set[str], folder: Path) -> None:
    """Add the unit of each target of a run ('' if it states none) with the folder that states it.

    Raises
    ------
    RunLogError
        If another run states another unit for a target.
    """
    stated = facts.get("units", {})
    for target in sorted(targets):
        unit, first = units.setdefault(target, (stated.get(target, ""), folder))
        if stated.get(target, "") != unit:
            raise RunLogError(
                f"the losses of '{target}' are in {stated.get(target, NATS)} in {folder} and in {unit or NATS} in "
                f"{first}: one table needs one unit, so read one of the two studies"
            )


def _without_former(folders: list[Path], named: set[Path]) -> tuple[list[Path], list[str]]:
    """Return the run directories that studies still plan or that are named directly, and notes about the others."""
    kept, sentences = [], []
    for study in dict.fromkeys(folder.parent for folder in folders):
        own = [folder for folder in folders if folder.parent == study]
        gone = set(former_runs(study)) if (study / "plan.jsonl").exists() else set()
        former = [folder.name for folder in own if folder.name in gone and folder not in named]
        kept += [folder for folder in own if folder.name not in former]
        sentences += [former_sentence(study, former)] if former else []
    return kept, sentences


def _load_run(folder: Path, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the evaluation rows of one finished run."""
    status = read_status(folder)
    if status == "unfinished":
        raise RunLogError(f"{folder} is unfinished (no done.json): the same command resumes it")
    if status != "finished":
        raise RunLogError(f"{folder} is left out: its status is '{status}'")
    if file_sha256(folder / "run.json") != read_json(folder / "done.json").get("run_sha256"):
        raise RunLogError(f"{folder}/run.json was changed after the run: sha256 differs. Copy the run again")
    spent: dict[int, dict[str, int]] = {}
    records: list[dict[str, Any]] = []
    common = _run_columns(facts)
    for row in read_rows(folder):
        if row["kind"] == "train":
            spent[row["step"]] = row["tokens_by_domain"]
        elif row["step"] not in spent:
            raise RunLogError(
                f"{folder}/metrics.jsonl: no train row at step {row['step']}, so the mixture there is unknown"
            )
        else:
            records.append(common | _eval_columns(row, spent[row["step"]], facts))
    if not records:
        raise RunLogError(f"{folder} is left out: it holds no evaluation")
    return records


def _run_columns(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns that are constant within a run."""
    columns = {key: facts[key] for key in ("run_id", "study", "family")}
    columns["seed"] = facts["config"].get("seed", 0)
    columns["n_params"] = facts["n_params"]["total"]
    columns["n_params_non_embedding"] = facts["n_params"]["non_embedding"]
    columns |= {f"requested_{d}": w for d, w in facts["mixture"].items()}
    columns |= {f"available_{d}": float(facts["data"][d]["n_tokens"]) for d in facts["mixture"]}
    for number, phase in enumerate(facts.get("phases", []), 1):
        columns |= {f"requested_{d}@{number}": w for d, w in phase["weights"].items()}
    return columns


def _eval_columns(row: Mapping[str, Any], spent: Mapping[str, int], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of one evaluation: loss, realised weights, in total and by phase, and epochs so far.

    Parameters
    ----------
    spent : domain -> tokens trained on so far
    """
    columns = {k: row[k] for k in ("step", "n_tokens", "domain", "loss", "loss_se", "n_eval_tokens", "lr_state")}
    columns |= {k: row[k] for k in ("score", "score_se", "n_questions") if k in row}
    if "init_from" in facts:
        columns["before"] = facts["init_from"]["losses"].get(row["domain"])
    columns["flops"] = flops(facts["n_params"]["total"], row["n_tokens"])
    columns |= {f"weight_{d}": share for d, share in _shares(spent, facts).items()}
    for domain in facts["mixture"]:
        columns[f"epochs_{domain}"] = spent.get(domain, 0) / max(facts["data"][domain]["n_tokens"], 1)
    for phase in phases_so_far(row["step"], spent, facts):
        columns |= {f"weight_{d}@{phase.number}": share for d, share in _shares(phase.spent, facts).items()}
        columns[f"until@{phase.number}"] = phase.until / max(sum(spent.values()), 1)
    return columns


def _shares(spent: Mapping[str, int], facts: Mapping[str, Any]) -> dict[str, float]:
    """Return the realised weight of each domain."""
    counted = _in_units(spent, facts)
    total = max(sum(counted.values()), 1)
    return {domain: counted.get(domain, 0) / total for domain in facts["mixture"]}


def _in_units(spent: Mapping[str, int], facts: Mapping[str, Any]) -> Mapping[str, float]:
    """Return domain -> amount trained on, in the unit of the weights: tokens, or samples (documents)."""
    if facts["config"].get("stream", {}).get("unit", "tokens") == "tokens":
        return spent
    pools = {domain: facts["data"][domain] for domain in spent}
    return {d: n * pools[d].get("n_samples", 0) / max(pools[d]["n_tokens"], 1) for d, n in spent.items()}
