"""`sweeps.plan --next` for a law of phases: second phases branch from runs of the study, held-out runs stay out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mixlaw.mixture import Mixture
from mixlaw.selection.fit_laws import fit_laws
from mixlaw.tables.read import read_table
from sweeps.jobs import plan_jobs
from sweeps.plan import main
from sweeps.plan_next import phases_in, possible
from sweeps.plan_phases import kept_for_branches
from sweeps.plan_sizes import Trainable
from sweeps.study_file import Shape, StudyFile, grids_of, mixtures_of, write_study
from tests.commands import train_here
from train.grids import combinations

DOMAINS = ["code", "docs", "dict", "dialogue"]
STATIC = [(0.7, 0.1, 0.1, 0.1), (0.1, 0.7, 0.1, 0.1), (0.1, 0.1, 0.7, 0.1), (0.1, 0.1, 0.1, 0.7)]
HELD = (0.4, 0.4, 0.1, 0.1)
STUDY = """# @package _global_
study_name: tale{part}
schedule: {{n_tokens: 768, warmup_tokens: 64}}
checkpoint:
  permanent: [576]
  branch_from: ${{machine.runs}}/${{study_name}}
hydra:
  mode: MULTIRUN
  sweeper:
    params: {{{shared}}}
    grids:
      - mixture.weights: "{weights}"
      - mixture.phases: "{phases}"
"""


def text(h: tuple[float, ...]) -> str:
    return "{" + ", ".join(f"{d}: {w}" for d, w in zip(DOMAINS, h, strict=True)) + "}"


def pair(first: tuple[float, ...], second: tuple[float, ...]) -> str:
    return f"[{{until: 0.75, weights: {text(first)}}}, {{until: 1, weights: {text(second)}}}]"


@pytest.fixture
def study(tiny: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the study file of four static runs and both orders of neighbours, trained and fitted."""
    monkeypatch.setenv("MIXLAW_CONFIGS", str(tmp_path / "conf"))
    folder = tmp_path / "conf/study"
    folder.mkdir(parents=True)
    settings = dict(o.split("=", 1) for o in tiny() if "mixture" not in o and "tokens" not in o)
    shared = ", ".join(f"{name}: '{value}'" for name, value in settings.items())
    couples = [pair(STATIC[i], STATIC[j]) for i in range(4) for j in range(i + 1, 4)]
    for part, statics, pairs in (("", STATIC, couples), ("_heldout", [HELD], [pair(HELD, STATIC[0])])):
        of_part = {"weights": ", ".join(map(text, statics)), "phases": ", ".join(pairs)}
        (folder / f"tale{part}.yaml").write_text(STUDY.format(part=part, shared=shared, **of_part))
    assert train_here("study=tale") == 0
    return folder / "tale.yaml"


def test_next_runs_branch_from_the_study_and_leave_out_what_is_held_out(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs/tale"
    settings = {"targets": ["reviews"], "n_bootstrap": 8, "n_starts": 2, "n_jobs": 1}
    fit_laws(read_table([runs]), "multiplicative-phases-fixed-n", **settings).save(runs / "laws.json")
    assert main(["tale", "--next", "6", "--n-params", "1e6", "--n-tokens", "1e5"]) == 0
    said = capsys.readouterr().out
    assert "between candidate phases and single mixtures at N = 1e+06" in said
    path = study.with_name("tale_next1.yaml")
    jobs = plan_jobs(combinations(*grids_of(path), ["study=tale_next1"]))
    assert len(jobs) == 6
    assert f"6 runs, {sum(job.flops for job in jobs):.3g} FLOPs" in path.read_text()
    ids = {job.run_id for job in jobs} | {folder.name for folder in runs.iterdir()}
    pairs = [job for job in jobs if len(job.plan.phases) == 2]
    assert pairs
    assert all(job.n_taken == round(job.plan.phases[0].until * 768) for job in pairs if job.trunk)
    assert any(job.trunk for job in pairs)
    assert {job.trunk for job in jobs} <= ids | {""}
    held, new = (phases_of(file) for file in (study.with_name("tale_heldout.yaml"), path))
    assert len(held) == 2
    assert not held & new


def phases_of(path: Path) -> set[Mixture]:
    """Return the mixtures of all phases of a study."""
    return {phase for mixtures in mixtures_of(path).values() for mixture in mixtures for phase in phases_in(mixture)}


def runs_of(*rows: tuple[float, int, tuple[float, float], tuple[float, float]]) -> pd.DataFrame:
    """Return runs of (until@1, n_taken, first mixture, second mixture); static ones end their first phase at 1."""
    until, taken = (np.array([row[i] for row in rows], float) for i in (0, 1))
    h = np.array([row[2:] for row in rows])
    runs = pd.DataFrame({"model": "0", "n_params": 10, "n_tokens": 1000, "seed": 0, "n_taken": taken}, range(len(rows)))
    for i, d in enumerate("ab"):
        runs[f"weight_{d}"] = until * h[:, 0, i] + (1 - until) * h[:, 1, i]
        runs[[f"weight_{d}@1", f"weight_{d}@2"]] = np.where(until[:, None] < 1, h[:, :, i], np.nan)
    return runs.assign(**{"until@1": np.where(until < 1, until, np.nan), "until@2": np.where(until < 1, 1.0, np.nan)})


A, B, C = (0.3, 0.7), (0.6, 0.4), (0.9, 0.1)


@pytest.mark.parametrize(
    ("runs", "kept"),
    [
        ([(1.0, 0, A, A), (0.5, 500, A, B), (0.75, 750, A, C)], ["[500,750]", "", ""]),
        (
            [(0.5, 0, A, B), (0.75, 500, A, C)],
            ["", "[500,750]"],
        ),  # the longer first phase is the trunk
        ([(0.5, 0, A, B), (1.0, 500, A, A)], ["", "[500]"]),
        ([(0.5, 500, A, B), (0.75, 750, A, C)], ["", ""]),  # both branch from a run of the study
        ([(1.0, 0, B, B), (0.5, 0, A, B)], ["", ""]),  # nothing in common
    ],
)
def test_the_run_that_others_branch_from_keeps_its_checkpoints(runs: list[Any], kept: list[str]) -> None:
    found = kept_for_branches(runs_of(*runs), ["a", "b"])
    assert [text.removeprefix("checkpoint.permanent=") for text in found] == kept


def test_pairs_that_are_planned_or_have_a_held_out_phase_are_not_proposed(tmp_path: Path) -> None:
    shape = Shape(("model=m",))
    size = Trainable(shape, 10, 1000.0, {"a": 1e6, "b": 1e6}, (3, 1.3), 4.0, 64.0, tmp_path)
    planned, held = runs_of((0.5, 500, A, B)), runs_of((1.0, 0, C, C), (0.5, 500, (0.2, 0.8), (0.4, 0.6)))
    for part, some in {"": planned, "_heldout": held}.items():
        write_study(tmp_path / f"tale{part}.yaml", StudyFile("tale"), some.assign(shape=shape.key), ["a", "b"])
    seen = [(0.5, 500, A, B), (0.5, 500, A, C), (0.5, 500, B, (0.4, 0.6))]
    left = possible(runs_of(*seen, (0.75, 750, A, B), (0.5, 500, B, A)), {"0": size}, tmp_path / "tale.yaml")
    assert left[["until@1", "weight_a@1", "weight_a@2"]].to_numpy().tolist() == [[0.75, 0.3, 0.6], [0.5, 0.6, 0.3]]
