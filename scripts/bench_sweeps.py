"""python -m scripts.bench_sweeps [--runs 10000] [--json FILE]: the time to plan, check and load a large study.

    plan     compose and check every run and count its parameters, as `python -m train study=...` does before it starts
    dry run  the same with `hydra/launcher=slurm --dry-run`, which also prints arrays, a table and sbatch commands
    ledger   write plan.jsonl
    status   `python -m sweeps.status` with 60 % of the runs done, 30 % planned and about 1 % in each other state
    load     `mixlaw.runs.load.load_runs`: the finished runs as one table, with all hashes and rows checked

Runs are of 4 sizes, mixtures of 5 domains and seeds, on a small prepared corpus; a finished one has 20 train rows and 7
evaluations of 5 domains. All in a temporary folder.
"""

import argparse
import contextlib
import io
import itertools
import json
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from data.store.tokens import SPLITS, token_dtype, write_manifest, write_split
from mixlaw.fileio import canonical_json, file_sha256, write_atomically
from mixlaw.runs.ledger import begin_attempt, end_attempt, write_plan
from mixlaw.runs.load import load_runs
from mixlaw.runs.study_status import run_states
from sweeps.describe import describe
from sweeps.jobs import Job, plan_jobs
from sweeps.slurm import SlurmOptions, submit_study
from train.compose import compose_config

DOMAINS = ("code", "docs", "dict", "dialogue", "reviews")
N_TRAIN_ROWS, N_POINTS = 20, 7
OTHERS = {70: 4, 71: 75, 72: 137}  # index in every 100 runs -> exit code of those that did not finish


def write_corpus(folder: Path) -> None:
    """Write a prepared folder of random tokens."""
    rng, dtype = np.random.default_rng(0), token_dtype(256)
    domains = {}
    for name in DOMAINS:
        documents = list(rng.integers(0, 256, (40, 1000)).astype(dtype))
        splits = {split: write_split(folder / name, split, documents, dtype) for split in SPLITS}
        domains[name] = {"role": "train", "splits": splits}
    tokenizer = {"kind": "bytes", "vocab_size": 256, "end_id": 0, "sha256": "0" * 64}
    write_manifest(folder, {"format": 1, "tokenizer": tokenizer, "domains": domains})


def overrides_of(n_runs: int, folder: Path) -> list[list[str]]:
    """Return the command lines of a study."""
    shared = [f"data.root={folder / 'data'}", f"machine.runs={folder / 'runs'}", "study_name=big", "machine.device=cpu"]
    shared += ["schedule.n_tokens=100000", "schedule.warmup_tokens=5000"]
    shares = np.random.default_rng(1).dirichlet(np.ones(len(DOMAINS)), -(-n_runs // 20)).round(3)
    shares[:, -1] = 1 - shares[:, :-1].sum(1)
    mixtures = [",".join(f"{d}:{w:.3f}" for d, w in zip(DOMAINS, row, strict=True)) for row in shares.clip(0)]
    every = itertools.product(("text_70k", "text_136k", "text_234k", "text_492k"), mixtures, range(5))
    runs = [[*shared, f"model={m}", f"mixture.weights={{{h}}}", f"seed={seed}"] for m, h, seed in every]
    return runs[:n_runs]


def write_runs(jobs: list[Job]) -> None:
    """Write the run directories of a study."""
    log = "".join(canonical_json(row) + "\n" for row in rows()).encode()
    for i, job in enumerate(jobs):
        folder = job.folder
        if i % 100 < 60 or i % 100 in OTHERS:
            begin_attempt(folder, "slurm 1_1 on gpu01", "1_1")
            (folder / "run.json").write_text(json.dumps(facts(job), indent=1, sort_keys=True))
            (folder / "metrics.jsonl").write_bytes(log)
            end_attempt(folder, OTHERS.get(i % 100, 0))
        if i % 100 < 60:
            (folder / "metrics.jsonl").unlink()
            seal(folder, log)


def seal(folder: Path, log: bytes) -> None:
    """Seal a run, without the fsync of the trainer."""
    (folder / "metrics.jsonl").write_bytes(log)
    hashes = {"sha256": file_sha256(folder / "metrics.jsonl"), "run_sha256": file_sha256(folder / "run.json")}
    (folder / "done.json").write_text(json.dumps({"status": "finished", "rows": log.count(b"\n"), **hashes}))


def rows() -> list[dict[str, Any]]:
    """Return the log of one run."""
    found: list[dict[str, Any]] = []
    for step in range(1, N_TRAIN_ROWS + 1):
        n = 5000 * step
        spent = dict.fromkeys(DOMAINS, n // len(DOMAINS))
        row = {"kind": "train", "step": step, "n_tokens": n, "loss": 3.1415926, "grad_norm": 0.7182818, "lr": 0.008}
        found.append(row | {"tokens_by_domain": spent})
        if step > N_TRAIN_ROWS - N_POINTS:
            common = {"kind": "eval", "step": step, "n_tokens": n, "loss_se": 0.0112, "n_eval_tokens": 6048}
            found += [
                common | {"domain": d, "loss": 3.0 - i / 10, "lr_state": "constant"} for i, d in enumerate(DOMAINS)
            ]
    return found


def facts(job: Job) -> dict[str, Any]:
    """Return the contents of run.json."""
    plan = job.plan
    return {
        "schema_version": 1,
        "run_id": plan.run_id,
        "study": "big",
        "family": "text",
        "config": as_json(plan.config),
        "n_params": {"total": job.n_params, "non_embedding": job.n_params // 2},
        "flops_per_token": {"six_n": 1},
        "tokens_per_step": round(plan.tokens_per_step),
        "n_steps": plan.n_steps,
        "mixture": dict(plan.weights),
        "tokenizer": plan.manifest.facts["tokenizer"],
        "data": {d: plan.available(d) for d in DOMAINS},
    }


def as_json(config: Any) -> Any:
    """Return a configuration as in run.json."""
    return json.loads(json.dumps(asdict(config), default=str))


def measure(name: str, task: Callable[[], Any], times: dict[str, float]) -> Any:
    """Run a task with its output discarded, and record its time."""
    begin = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        result = task()
    times[name] = time.perf_counter() - begin
    return result


def main() -> None:
    """Measure, print a table."""
    parser = argparse.ArgumentParser(
        "python -m scripts.bench_sweeps", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    times: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        overrides = overrides_of(options.runs, folder)
        write_corpus(compose_config(overrides[0]).data.folder)
        jobs: list[Job] = measure("plan", lambda: plan_jobs(overrides), times)
        measure("dry run", lambda: submit_study(overrides, SlurmOptions(dry_run=True), 0), times)
        study = jobs[0].folder.parent
        measure("ledger", lambda: write_plan(study, [job.planned() for job in jobs]), times)
        write_runs(jobs)
        measure("status", lambda: describe(study, run_states(study)), times)
        runs = measure("load", lambda: load_runs(study), times)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{len(jobs):,} runs, {runs.table['run_id'].nunique():,} of them finished: {len(runs.table):,} rows")
    print("\n".join(f"{name:<8} {seconds:6.1f} s" for name, seconds in times.items()) + f"\npeak     {memory:6.0f} MB")
    if options.json:
        write_atomically(options.json, json.dumps(times | {"peak_mb": memory, "runs": len(jobs)}, indent=1))


if __name__ == "__main__":
    main()
