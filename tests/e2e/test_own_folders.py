"""A folder of one's own configurations, and paths below the home directory, by every command that takes them."""

import json
from pathlib import Path

import pytest

from data.prepare import compose_config
from data.prepare import main as prepare
from data.preview import main as inspect
from mixlaw.errors import ConfigError
from sweeps.plan import main as plan
from sweeps.status import find_study
from tests.commands import call
from tests.data.tiny import sentences, write_jsonl
from tests.train.tiny import TINY
from train.compose import compose_config as compose_run
from train.compose import compose_study, plan_run
from train.export import main as export
from train.loop import run

RUN = [*TINY, "schedule.n_tokens=1536", "mixture=uniform", "data=mine"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home directory with texts, and conf/ as the folder of configurations; the work is done elsewhere."""
    for word in ("web", "code"):
        write_jsonl(tmp_path / f"{word}.jsonl", sentences(word, 150))
    (tmp_path / "conf" / "data").mkdir(parents=True)
    domains = "".join(f"  {d}: {{reader: jsonl, path: {p}/{d}.jsonl}}\n" for d, p in (("web", "~"), ("code", "$TEXTS")))
    (tmp_path / "conf" / "data" / "mine.yaml").write_text(f"name: mine\nroot: ~/cache\ndomains:\n{domains}")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TEXTS", str(tmp_path))
    monkeypatch.setenv("MIXLAW_CONFIGS", "~/conf")
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path


def test_every_command_finds_data_and_paths(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(["data=mine"]) == 0
    assert (home / "cache" / "prepared").is_dir()
    assert inspect(["data=mine", "--seq-len", "16", "--first", "10"]) == 0
    assert "web" in capsys.readouterr().out
    config = compose_run([*RUN, "machine.runs=~/runs"])
    assert config.data == compose_config(["data=mine"])
    assert config.machine.runs == f"{home}/runs"
    this = plan_run(config)
    assert run(this) == "finished"
    folder = home / "runs" / this.folder_name
    assert (folder / "done.json").exists()
    assert find_study("~/runs/solo") == (home / "runs" / "solo", "")
    assert export(["~/runs/" + this.folder_name, "--out=~/model"]) == 0
    assert (home / "model" / "model.safetensors").exists()
    assert not list((home / "elsewhere").iterdir())  # no folder that is called ~


@pytest.mark.slow
def test_a_study_is_planned_on_own_data_and_trainable(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(["data=mine"]) == 0
    budget = ["--models", "text_70k,text_136k,text_234k", "--flops", "1e12", "--tokens-per-param", "0.1"]
    settings = ["data=mine", "stream.max_epochs=1000", "stream.seq_len=16", "stream.batch_size=4"]
    assert plan(["own", *budget, *settings]) == 0, capsys.readouterr().err
    assert (home / "conf" / "study" / "own.yaml").exists()
    assert compose_study([["study=own"]])[0].study_name == "own"


@pytest.mark.slow
def test_the_trainer_makes_its_folder_below_the_home_directory(home: Path) -> None:
    assert prepare(["data=mine"]) == 0
    environment = {"HOME": str(home), "MIXLAW_CONFIGS": "~/conf", "TEXTS": str(home)}
    for runs in ('machine.runs="~/runs"', "machine.runs=~/runs2", "machine.runs=$TEXTS/runs3"):
        code, out, err = call("-m", "train", *RUN, runs, **environment)
        assert (code, err) == (0, "")
        assert out.endswith(" finished\n")
    assert all(list(home.glob(f"{name}/solo/*/done.json")) for name in ("runs", "runs2", "runs3"))
    from data.config_folders import ROOT

    assert not (ROOT / "~").exists()


def test_a_branch_begins_with_a_run_below_the_home_directory(home: Path) -> None:
    config = compose_run(["checkpoint.branch_from=~/runs/solo/x"])
    assert config.checkpoint.branch_from == f"{home}/runs/solo/x"


def test_a_folder_of_configurations_that_is_not_there_is_a_sentence(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIXLAW_CONFIGS", "~/cnof")
    for compose in (compose_config, compose_run):
        with pytest.raises(ConfigError, match=f"^MIXLAW_CONFIGS: there is no folder {home}/cnof: create it"):
            compose([])


def test_an_unknown_choice_names_own_files_too(home: Path) -> None:
    with pytest.raises(ConfigError, match=r"data=mien: unknown configuration 'mien'; did you mean 'mine'\?"):
        compose_config(["data=mien"])


def test_variables_that_are_not_set_are_named(home: Path) -> None:
    with pytest.raises(ConfigError, match=r"machine\.runs: \$SCRATCH_X/r: the environment variable SCRATCH_X is not"):
        compose_run(["machine.runs=$SCRATCH_X/r"])
    with pytest.raises(ConfigError, match=r"'SCRATCH_X' not found: .* as \$SCRATCH_X or \$\{oc\.env:SCRATCH_X\}"):
        compose_run(["machine.runs=${SCRATCH_X}/r"])


def test_what_a_run_states_is_where_it_is(home: Path) -> None:
    assert prepare(["data=mine"]) == 0
    this = plan_run(compose_run([*RUN, "machine.runs=~/runs"]))
    assert run(this) == "finished"
    facts = json.loads((home / "runs" / this.folder_name / "run.json").read_text())
    assert facts["config"]["machine"]["runs"] == f"{home}/runs"
