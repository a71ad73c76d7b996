"""`sweeps.plan --phases 2` writes a study whose pairs all branch at their switch, within the budget as trained."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mixlaw.errors import ConfigError
from sweeps.jobs import plan_jobs
from sweeps.plan import main
from sweeps.plan_phases import check_switches, read_switches
from sweeps.study_file import grids_of, shapes_of
from tests.marks import slow
from train.grids import combinations

SHORT = (
    "stream.seq_len=16 stream.batch_size=4 evaluation.n_sequences=8 evaluation.n_points=3 model.depth=1 "
    "stream.max_epochs=50 machine.device=cpu data=quickstart"
).split()
PLAN = ["--models", "text_70k,text_136k,text_234k", "--tokens-per-param", "0.05", "--phases", "2"]
BUDGET = 8e10


@pytest.fixture
def planned(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Return what runs the planner for the study `tale` in a folder of configurations of one's own."""
    monkeypatch.setenv("MIXLAW_CONFIGS", str(tmp_path))
    mine = ["tale", *SHORT, f"data.root={data_root}", f"machine.runs={tmp_path / 'runs'}", *PLAN]
    return lambda *more: main([*mine, *more])


PARTS = ("", "_seeds", "_heldout")
SWITCHES = [0.5, 0.75]


@pytest.mark.slow
@pytest.mark.parametrize("switches", [SWITCHES, [0.6]])
def test_every_pair_branches_at_its_switch_and_the_budget_holds(
    switches: list[float],
    planned: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The runs of all parts are those that the study files state."""
    assert planned("--flops", str(BUDGET), "--switch", ",".join(map(str, switches))) == 0
    said = capsys.readouterr().out
    assert "runs with two phases branch from static ones and train their second phase only: " in said
    paths = {part: tmp_path / f"study/tale{part}.yaml" for part in PARTS}
    total = {part: float(re.findall("runs, (.*) FLOPs", path.read_text())[0]) for part, path in paths.items()}
    assert 0.8 * BUDGET < sum(total.values()) <= BUDGET * 1.01  # D is whole steps
    for part in PARTS:
        jobs = plan_jobs(combinations(*grids_of(paths[part]), [f"study=tale{part}"]))
        assert sum(job.flops for job in jobs) == pytest.approx(total[part], rel=0.01)
        ids = {job.run_id: i for i, job in enumerate(jobs)}
        pairs = [(i, job) for i, job in enumerate(jobs) if len(job.plan.phases) == 2]
        for i, job in pairs:
            first = job.plan.phases[0]
            assert job.n_taken == round(first.part.tokens_after(first.end))
            assert ids[job.trunk] < i
            assert (first.until in switches) == (part != "_heldout")
        assert bool(pairs) == (part != "_seeds")
    assert {shape.label for shape in shapes_of(paths[""])[1]} == set(PLAN[1].split(","))


@pytest.mark.parametrize(
    ("phases", "text", "said"),
    [
        (3, None, "--phases must be 2, not 3"),
        (1, None, "--phases must be 2, not 1"),
        (2, "1.0", "--switch 1.0: a switch must be a share of the run's tokens between 0 and 1"),
        (2, "0.5,x", "--switch 0.5,x: write shares of the tokens with commas between"),
        (None, "0.5", "--switch needs --phases 2"),
    ],
)
def test_switches_that_cannot_be_read_are_one_sentence(phases: int | None, text: str | None, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        read_switches(phases, text)


@pytest.mark.parametrize(
    ("switch", "cooldown", "said"),
    [
        (0.999, 0.0, "--switch 0.999: a phase would be shorter than a step of 64 tokens"),
        (0.8, 0.25, "lies in the cool-down (schedule.cooldown=0.25)"),
    ],
)
def test_switches_that_runs_cannot_have_are_one_sentence(switch: float, cooldown: float, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        check_switches([0.5, switch], 7000, 64, cooldown)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--phases", "3"], "--phases must be 2, not 3"),
        slow(["--switch", "0.999"], "--switch 0.999: a phase would be shorter than a step of 64 tokens"),
        slow(["--switch", "0.8", "schedule.cooldown=0.25"], "lies in the cool-down (schedule.cooldown=0.25)"),
        slow(["--flops", "1e9"], "the smallest study of these sizes with two phases takes"),
    ],
)
def test_phases_that_cannot_be_planned_end_the_command_with_one_sentence(
    arguments: list[str], said: str, planned: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert planned("--flops", str(BUDGET), *arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "study").exists()
