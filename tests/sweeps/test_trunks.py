"""Runs that branch count what they train themselves, start after their trunks, and extend studies of others."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from data.config_folders import ROOT
from mixlaw.counts import flops
from mixlaw.errors import ConfigError
from mixlaw.runs.ledger import read_attempts, read_plan
from mixlaw.runs.study_status import run_states
from sweeps.jobs import plan_jobs
from sweeps.local import run_study
from sweeps.processes import startable
from sweeps.study_file import grids_of
from train.compose import compose_hydra
from train.grids import combinations

Tiny = Callable[..., list[str]]
CODE, DOCS = "{code:0.5,docs:0.5,dict:0,dialogue:0}", "{code:0,docs:1,dict:0,dialogue:0}"
BRANCHING = ["checkpoint.branch_from=${machine.runs}/${study_name}", "checkpoint.permanent=[576]", "study_name=s"]


def pair(first: str, second: str, switch: float = 0.75) -> str:
    return f"mixture.phases=[{{until:{switch},weights:{first}}},{{until:1,weights:{second}}}]"


def study(tiny: Tiny) -> list[list[str]]:
    """Return two static runs of 12 steps of 64 tokens, and both orders of their mixtures, which change at step 9."""
    mixtures = [f"mixture.weights={CODE}", f"mixture.weights={DOCS}", pair(CODE, DOCS), pair(DOCS, CODE)]
    return [tiny(*BRANCHING, mixture) for mixture in mixtures]


def test_a_planned_branch_counts_what_it_trains_itself(tiny: Tiny) -> None:
    code, docs, there, back = plan_jobs(study(tiny))
    assert [job.trunk for job in (code, docs, there, back)] == ["", "", code.run_id, docs.run_id]
    assert [job.n_taken for job in (code, docs, there, back)] == [0, 0, 576, 576]
    assert there.flops == flops(there.n_params, 768 - 576)
    assert there.planned().n_tokens == 768  # the model's D
    early, late = plan_jobs([study(tiny)[2], study(tiny)[0]])
    assert (early.trunk, late.n_taken) == ("", 576)  # nothing is trained before the first run of a list


def test_no_checkpoint_at_the_switch_saves_nothing(tiny: Tiny) -> None:
    jobs = plan_jobs([[o for o in job if not o.startswith("checkpoint.permanent")] for job in study(tiny)])
    assert {job.n_taken for job in jobs} == {0}


def test_branches_start_after_their_trunks_and_train_the_rest(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs/s"
    run_study(study(tiny), 3, 0)
    jobs = plan_jobs(study(tiny))
    starts, ends = ({j.run_id: getattr(read_attempts(j.folder)[0], e) for j in jobs} for e in ("start", "end"))
    assert all(starts[job.run_id] >= ends[job.trunk] for job in jobs if job.trunk)
    for job in jobs:
        rows = [json.loads(line) for line in (job.folder / "metrics.jsonl").read_text().splitlines()]
        assert (rows[0]["n_tokens"] > 576) == bool(job.trunk)
    assert [run.n_taken for run in read_plan(folder).values()] == [0, 0, 576, 576]
    assert [(state.state, state.progress) for state in run_states(folder)] == [("done", 1.0)] * 4
    total = sum(state.run.flops for state in run_states(folder))
    assert total == flops(jobs[0].n_params, 2 * 768 + 2 * (768 - 576))
    capsys.readouterr()
    run_study(study(tiny), 1, 0, dry_run=True)
    assert f"4 done; 100 % of {total:.2g} FLOPs" in capsys.readouterr().out


def test_a_branch_waits_for_its_trunk_only(tiny: Tiny) -> None:
    code, _, there, back = plan_jobs(study(tiny))
    assert startable([there, code], []) is code
    assert startable([there, back], []) is there  # its trunk ended, or failed
    assert startable([], []) is None


def test_a_folder_without_trunks_is_refused_before_training(tiny: Tiny, tmp_path: Path) -> None:
    jobs = [tiny("study_name=s", pair(CODE, DOCS), f"checkpoint.branch_from={tmp_path / 'none'}")]
    with pytest.raises(ConfigError, match="none is no run directory, and no folder of runs: train its runs first"):
        run_study(jobs, 1, 0)
    assert not (tmp_path / "runs").exists()
    run_study(jobs, 1, 0, dry_run=True)


def test_a_trunk_with_another_first_phase_is_refused_before_training(tiny: Tiny, tmp_path: Path) -> None:
    run_study(study(tiny)[:1], 1, 0)
    [trunk] = (tmp_path / "runs/s").glob("*/run.json")
    with pytest.raises(ConfigError, match="differs in mixture"):
        plan_jobs([tiny(pair(DOCS, CODE), f"checkpoint.branch_from={trunk.parent}")])


@pytest.mark.parametrize("name", sorted(p.stem for p in (ROOT / "sweeps/study").glob("phases*.yaml")))
def test_a_study_that_extends_another_is_read_as_hydra_composes_it(name: str) -> None:
    composed = compose_hydra([f"study={name}"])["sweeper"]
    assert grids_of(ROOT / f"sweeps/study/{name}.yaml") == (composed["params"], composed["grids"])


def test_cooled_and_decayed_studies_have_the_runs_of_the_one_that_they_extend() -> None:
    jobs = {n: combinations(*grids_of(ROOT / f"sweeps/study/{n}.yaml")) for n in ("phases", "phases_cooled")}
    assert jobs["phases"] == jobs["phases_cooled"]
    decayed = combinations(*grids_of(ROOT / "sweeps/study/phases_decay.yaml"))
    assert decayed == [job for job in jobs["phases"] if "model=text_234k" not in job]
