"""Plan a study, train it, fit it, plan what would tell most next, train that too: by the commands of the README."""

import html
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mixlaw.advice.design import Size, as_runs, spread
from mixlaw.errors import ConfigError
from mixlaw.mixture import Mixture
from mixlaw.tables.read import read_table
from sweeps.jobs import by_study, plan_jobs, record
from sweeps.plan import main
from sweeps.plan_next import possible
from sweeps.plan_sizes import Trainable
from sweeps.study_file import Shape, StudyFile, grids_of, mixtures_of, shapes_of, write_study
from sweeps.study_path import path_of
from tests.commands import call, train_here
from tests.marks import slow
from train.compose import ROOT, compose_study
from train.grids import combinations
from train.loop import run

Tiny = Callable[..., list[str]]
SHORT = (
    "stream.seq_len=16 stream.batch_size=4 evaluation.n_sequences=8 evaluation.n_points=3 model.depth=1 "
    "stream.max_epochs=50 machine.device=cpu data=quickstart"
).split()
PLAN = ["--models", "text_70k,text_136k,text_234k", "--tokens-per-param", "0.05"]
BIG = ["--n-params", "1e6", "--n-tokens", "1e5", "--target", "reviews"]


@pytest.fixture
def overrides(data_root: Path, tmp_path: Path) -> list[str]:
    return [*SHORT, f"data.root={data_root}", f"machine.runs={tmp_path / 'runs'}"]


def decision(runs: Path) -> list[str]:
    limits = ["--cap", "dict=0.2", "--out", str(runs / "recommendation.json")]
    return ["recommend", str(runs / "laws.json"), *BIG, *limits]


def report(runs: Path, outdated: str) -> None:
    """Draw a study's report; it proposes runs by its own planner, or says what does not belong together any more."""
    code, _, err = call("-m", "mixlaw", "report", str(runs))
    page = html.unescape((runs / "report.html").read_text())
    assert code == 0, err
    assert [line for line in err.splitlines() if "again" in line] == ([f"warning: {outdated}"] if outdated else [])
    assert ("python -m sweeps.plan tale --next 12" in page) == (not outdated)
    assert outdated[1:].partition(": ")[0] in page


def fitting(runs: Path) -> list[str]:
    return ["fit", str(runs), "--law", "multiplicative", "--n-bootstrap", "20", "--out", str(runs / "laws.json")]


@pytest.fixture
def studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of study files of one's own configurations."""
    folder = tmp_path / "conf" / "study"
    folder.mkdir(parents=True)
    monkeypatch.setenv("MIXLAW_CONFIGS", str(folder.parent))
    return folder


def train_in_this_process(study: str) -> None:
    """Do what `python -m train study=STUDY` does, but train one run after the other, without a process for each."""
    for folder, jobs in by_study(plan_jobs(combinations(*grids_of(path_of(study)), [f"study={study}"]))).items():
        record(folder, jobs, queued=())
        assert {run(job.plan) for job in jobs} == {"finished"}


def launch(study: str) -> None:
    assert train_here(f"study={study}") == 0


@pytest.fixture
def runs(
    request: pytest.FixtureRequest,
    overrides: list[str],
    studies: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Path:
    """Return the runs of a study that was planned, trained as the parameter says, fitted and decided: a first stage."""
    assert main(["tale", *overrides, *PLAN, "--flops", "2.5e10", "--tokens-per-second", "5000"]) == 0
    said = capsys.readouterr().out
    assert "GPU hours at 5000 tokens/s" in said
    assert "standard error of a predicted loss" in said
    for study in ("tale", "tale_seeds"):
        request.param(study)
        assert capsys.readouterr().err == ""
    runs = tmp_path / "runs" / "tale"
    assert call("-m", "mixlaw", *fitting(runs))[0] == 0
    assert call("-m", "mixlaw", *decision(runs))[0] == 0
    return runs


@pytest.mark.slow  # trains a whole study
@pytest.mark.parametrize("runs", [train_in_this_process], indirect=True)
def test_the_first_stage_tells_which_runs_would_help_most(
    runs: Path, studies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planned = read_table([runs])
    assert planned.frame["n_params"].nunique() == 3
    assert planned.frame.groupby("run_id").first()["seed"].nunique() == 4
    report(runs, "")
    (runs / "recommendation.json").unlink()
    assert main(["tale", "--next", "4"]) == 2
    assert "the big run is needed" in capsys.readouterr().err
    assert main(["tale", "--next", "4", *BIG]) == 0
    assert "between candidate mixtures" in capsys.readouterr().out
    name, shapes = shapes_of(studies / "tale_next1.yaml")
    assert name == "tale"
    lengths = {s.overrides[-3:] for s in shapes_of(studies / "tale.yaml")[1]}  # model, tokens, warm-up
    assert {s.overrides[-3:] for s in shapes} <= lengths


@pytest.mark.slow  # the first stage, and a second one
@pytest.mark.timeout(900)
@pytest.mark.parametrize("runs", [launch], indirect=True)
def test_the_second_stage_is_trained_fitted_and_decided(
    runs: Path, studies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    laws, fit, decided = runs / "laws.json", fitting(runs), decision(runs)
    before = read_table([runs]).frame["run_id"].nunique()
    assert main(["tale", "--next", "4", *BIG]) == 0
    launch("tale_next1")
    assert read_table([runs]).frame["run_id"].nunique() - before == 4
    report(runs, f"these laws were not fitted to the runs that are in {runs} now: run `mixlaw fit {runs}` again")
    assert call("-m", "mixlaw", *fit)[0] == 0
    report(runs, f"{runs}/recommendation.json was made from other laws than {laws}: run `mixlaw recommend` again")
    assert call("-m", "mixlaw", *decided)[0] == 0
    capsys.readouterr()
    assert main(["tale", "--next", "4"]) == 0  # for what was recommended, limits and all
    assert "at N = 1e+06, D = 1e+05: " in capsys.readouterr().out
    assert (studies / "tale_next2.yaml").exists()
    plan = [json.loads(line) for line in (runs / "plan.jsonl").read_text().splitlines()]
    assert {run["plan"] for run in plan} == {"tale", "tale_seeds", "tale_next1"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "at least three models are needed"),
        (PLAN, "a budget is needed"),
        ([*PLAN, "--flops", "1"], "the smallest study of these sizes"),
        slow([*PLAN[:3], "1e6", "--flops", "1e30"], "times, and stream.max_epochs is 50"),
        (["--models", "text_70k,text_71k,text_234k", "--flops", "1e30"], "did you mean"),
        (["--models", "text_70k,text_136k", "--flops", "1e30"], "3 numbers of parameters, not 4 and 2"),
        ([*PLAN, "--flops", "1e12", "--gpu-hours", "3"], "give one of them"),
        ([*PLAN, "--flops", "1e12", "--target", "reviews"], "--target has no effect when a first study is planned"),
        ([*PLAN, "--next", "3"], "--models has no effect when the next runs are planned"),
        (["--next", "3", "--floor", "0.2"], "--floor has no effect when the next runs are planned"),
        ([*PLAN, "--flops", "1e12", "model=text_492k"], "model=text_492k: the planner sets this itself"),
        ([*PLAN, "--flops", "1e12", "hydra/launcher=slurm"], "the planner sets this itself"),
        ([*PLAN, "--flops", "1e12", "~study"], "the planner sets this itself"),
        ([*PLAN, "--flops", "1e12", "mixture.weights={code:1}"], "the planner sets this itself"),
        ([*PLAN, "--flops", "1e12", "--seed", "-1"], "--seed must be at least 0"),
        (["--next", "-3", *BIG], "--next at least 1"),
        (["--next", "3", *BIG], "plan it without --next first"),
    ],
)
def test_a_plan_that_cannot_be_is_one_sentence(
    arguments: list[str],
    said: str,
    overrides: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MIXLAW_CONFIGS", str(tmp_path))
    assert main(["tale", *overrides, *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert said in err
    assert err.count("\n") == 1


def test_a_study_is_not_overwritten(
    overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIXLAW_CONFIGS", str(tmp_path))
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "tale_seeds.yaml").touch()
    assert main(["tale", *overrides, *PLAN, "--flops", "1e12"]) == 2
    assert "tale_seeds.yaml exists already" in capsys.readouterr().err
    assert (
        main(["quickstart", *overrides, *PLAN, "--flops", "1e12"]) == 2
    )  # `study=quickstart` would be the shipped one
    assert "sweeps/study/quickstart.yaml exists already" in capsys.readouterr().err


def test_what_is_planned_or_held_out_or_too_often_read_is_not_proposed(tmp_path: Path) -> None:
    shape = Shape(("model=m", "schedule.n_tokens=1000"))
    size = Trainable(shape, 10, 1000.0, {"a": 100.0, "b": 1e6}, (3, 1.3), 4.0, 64.0, tmp_path)
    mixtures = np.array([[0.3, 0.7], [0.2, 0.8], [0.1, 0.9], [0.5, 0.5], [0.05, 0.95]])
    runs = as_runs("next", Size("0", 10, 1000), mixtures, ["a", "b"]).assign(shape=shape.key)
    for part, row in {"": 0, "_heldout": 1, "_next3": 2}.items():
        write_study(tmp_path / f"tale{part}.yaml", StudyFile("tale"), runs.iloc[[row]], ["a", "b"])
    left = possible(runs, {"0": size}, tmp_path / "tale.yaml")
    assert left["weight_a"].tolist() == [0.05]  # half of 1,000 tokens would read 100 five times


def test_shapes_of_a_study_that_no_planner_wrote() -> None:
    root = Path(__file__).resolve().parents[2] / "sweeps" / "study"
    name, shapes = shapes_of(root / "quickstart.yaml")
    assert name == "quickstart"
    assert shapes == [Shape((f"model={m}",)) for m in ("text_70k", "text_136k", "text_234k")]
    assert [s.label for s in shapes] == ["text_70k", "text_136k", "text_234k"]


@pytest.mark.parametrize("name", ["../esc", "", "solo", "a b", "a.b", "on", "null", "1e5", "x:", "a\nb"])
def test_a_name_that_is_no_name_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, *PLAN, "--flops", "1e12"]) == 2
    assert "becomes a file and a folder" in capsys.readouterr().err


@pytest.mark.parametrize("number", ["nan", "-1", "0", "inf", "x"])
def test_numbers_are_above_zero(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--flops", "--tokens-per-param", "--n-params", "--noise", "--gpu-hours"):
        with pytest.raises(SystemExit):
            main(["tale", *PLAN, f"{option}={number}"])


def test_shapes_on_top_of_a_study_have_its_settings() -> None:
    shapes = shapes_of(ROOT / "sweeps/study/quickstart.yaml")[1]
    configs = compose_study([("study=quickstart", *s.overrides) for s in shapes])
    assert {c.schedule.n_tokens for c in configs} == {360_448}


def test_a_study_file_is_no_larger_than_any_configuration_may_be(tmp_path: Path) -> None:
    runs = as_runs("fit", Size("m", 1.0, 1.0), spread(30, 3000), [f"domain{i}" for i in range(30)])
    with pytest.raises(ConfigError, match=r"3000 runs need a study file of .* bytes; the limit is 1,048,576"):
        write_study(
            tmp_path / "x.yaml", StudyFile("x"), runs.assign(shape="model=m"), [f"domain{i}" for i in range(30)]
        )
    assert not list(tmp_path.iterdir())


def test_mixtures_of_a_study_file_are_read_back(tmp_path: Path) -> None:
    runs = as_runs("next", Size("m", 1.0, 1.0), np.array([[0.25, 0.75], [1.0, 0.0]]), ["b", "a"])
    path = tmp_path / "x_next1.yaml"
    write_study(tmp_path / "x.yaml", StudyFile("x"), runs.assign(shape="model=m"), ["b", "a"])
    study = StudyFile("x", ("why",), {"data": "d"}, after="x")
    write_study(path, study, runs.assign(shape="model=m\tseed_free=1"), ["b", "a"])
    (found,) = mixtures_of(path).values()
    assert found == {Mixture.of({"a": 0.75, "b": 0.25}), Mixture.of({"a": 0.0, "b": 1.0})}
    assert path.read_text().startswith("# @package _global_\n# why\ndefaults:\n- x\n- _self_\n")
