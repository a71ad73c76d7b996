"""A study is every combination of every grid, and composing it at once is composing each of its runs."""

import pytest
from hydra.errors import HydraException

from data.config_folders import ROOT
from mixlaw.errors import ConfigError
from sweeps.study_file import grids_of, shapes_of
from tests.marks import slow
from train.compose import compose_config, compose_study
from train.grids import combinations

SIZES, MIXES = "text_70k, text_136k", "{code: 1.0, docs: 0.0}, {code: 0.5, docs: 0.5}"


def test_one_grid_is_the_product_of_its_settings() -> None:
    jobs = combinations({"model": SIZES, "seed": "0,1,2"}, [])
    assert len(jobs) == 6
    assert jobs[0] == ["model=text_70k", "seed=0"]
    assert jobs[-1] == ["model=text_136k", "seed=2"]


def test_grids_add_up_and_share_params() -> None:
    jobs = combinations({"seed": "0"}, [{"model": SIZES, "mixture": "uniform"}, {"mixture.weights": MIXES}])
    assert len(jobs) == 4
    assert jobs[2] == ["seed=0", "mixture.weights={code:1.0,docs:0.0}"]
    assert all("seed=0" in job for job in jobs)


def test_the_command_line_wins_over_the_study_and_may_sweep_itself() -> None:
    jobs = combinations({"seed": "0,1"}, [{"model": SIZES}], ["seed=7", "optim.lr=1e-3,2e-3", "study=s"])
    assert len(jobs) == 4
    assert {o for job in jobs for o in job if o.startswith("seed")} == {"seed=7"}


def test_an_interval_has_no_values() -> None:
    with pytest.raises(HydraException, match=r"optim.lr sweeps over an interval"):
        combinations({}, [], ["optim.lr=interval(0,1)"])


@pytest.mark.slow  # composes 14 runs one by one
def test_composing_a_study_at_once_is_composing_every_run() -> None:
    weights = ["mixture.weights={code:1.0}", "mixture.weights={code:0.5,docs:0.5}"]
    jobs = [
        ["study=quickstart", f"model={model}", weight, f"seed={seed}", "++data.root=/d", f"optim.lr={lr}"]
        for model in ("text_70k", "text_136k")
        for weight in weights
        for seed, lr in ((0, "1e-3"), (1, "2e-3"))
    ]
    phases = "mixture.phases=[{until: 0.5, weights: {code: 1.0}}, {until: 1, weights: {docs: 1.0}}]"
    jobs += [["study=quickstart", phases, f"seed={seed}"] for seed in (0, 1)]
    jobs += [["study=quickstart", "mixture=uniform"], ["seed=1", "seed=2"], ["model.width=64"], ["precision=bf16"]]
    assert compose_study(jobs) == [compose_config(job) for job in jobs]


def test_a_grid_over_phases_is_a_list_of_lists_and_no_further_shape() -> None:
    path = ROOT / "sweeps/study/phases.yaml"
    jobs = combinations(*grids_of(path))
    of_phases = [o for job in jobs for o in job if o.startswith("mixture.phases=")]
    assert (len(jobs), len(of_phases), len(set(of_phases))) == (108, 72, 24)
    assert compose_config([of_phases[0]]).mixture.phases[0].until == 0.75
    name, shapes = shapes_of(path)
    assert (name, [shape.label for shape in shapes]) == ("phases", ["text_70k", "text_136k", "text_234k"])


@pytest.mark.parametrize(
    "mistake",
    [
        "mixture.weights={a:x}",
        slow("mixture.weight={a:1}"),
        "mixture.phases=[{till:1}]",
        "model.widht=3",
        slow("seed=a"),
        slow("mixtur.x=3"),
        "model.width=33",
        "model=text_71k",
        slow("+model.typo=1"),
        slow("precision=fp8"),
    ],
)
def test_a_mistake_in_a_study_is_said_in_the_words_of_a_run(mistake: str) -> None:
    with pytest.raises(ConfigError) as alone:
        compose_config([mistake])
    with pytest.raises(ConfigError) as together:
        compose_study([["seed=0"], [mistake], ["seed=1"]])
    assert str(together.value) == str(alone.value)


def test_a_folder_below_the_home_directory_may_stand_in_a_study(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    [job] = combinations({"machine.runs": "~/runs", "seed": "1"}, [])
    assert compose_study([job])[0].machine.runs == compose_config(job).machine.runs == "/home/me/runs"
