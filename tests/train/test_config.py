"""Every shipped YAML is accepted; every mistake is one sentence with the near match; a run's name is its science."""

import dataclasses
import itertools
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

import data.prepare
from mixlaw.errors import ConfigError, MixlawError
from mixlaw.fileio import canonical_json
from mixlaw.mixture import Mixture
from sweeps.study_file import grids_of
from tests.commands import call
from tests.marks import all_slow_but, examples
from tests.train.tiny import write_corpus
from train.__main__ import main
from train.compose import CONFIGS, ROOT, compose_config, plan_run
from train.config import EvaluationConfig, ScheduleConfig, TrainConfig
from train.plan import Plan, Timetable

Tiny = Callable[..., list[str]]
GROUPS = sorted(p for p in CONFIGS.glob("*/*.yaml")) + sorted((ROOT / "sweeps").glob("study/*.yaml"))
FIRST_OF_GROUP = [next(group) for _, group in itertools.groupby(GROUPS, lambda path: path.parent)]
STUDIES = sorted(p.stem for p in (ROOT / "sweeps").glob("study/*.yaml"))
OWN_FILES = ["data.domains.web.path=w", "data.domains.books.path=b", "data.targets.wiki.path=t"]


def set_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set every variable that says where own files lie."""
    for name in ("DATACOMP", "CAPTION", "PAGE", "TARGET", "NOISY", "GOOD1", "GOOD2", "SYNTHETIC"):
        monkeypatch.setenv(f"{name}_SHARDS", "/data/shards")
    monkeypatch.setenv("WEB_FILES", "/data/web")


@pytest.mark.parametrize("path", all_slow_but(FIRST_OF_GROUP, GROUPS), ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_every_shipped_yaml_is_a_valid_configuration(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch)
    more = OWN_FILES if path.stem == "own_files" else ["stream.seq_len=128"] if path.parent.name == "model" else []
    config = compose_config([f"{path.parent.name}={path.stem}", *more])
    assert config.layout().seq_len == config.stream.seq_len


def test_the_main_files_compose_by_themselves() -> None:
    assert compose_config([]).study_name == "solo"
    assert data.prepare.compose_config([]).domains.keys() == compose_config([]).data.domains.keys()


def test_what_a_yaml_leaves_out_is_what_the_dataclass_says() -> None:
    """Whoever builds TrainConfig in Python gets the run of the command line: YAML and defaults agree."""
    shipped, built = (dataclasses.asdict(c) for c in (compose_config([]), TrainConfig()))
    for group in ("stream", "optim", "schedule", "evaluation", "checkpoint", "machine", "logging"):
        assert canonical_json(shipped[group]) == canonical_json(built[group])


MISTAKES = {
    "group": (["modle.width=32"], "modle.width: unknown setting 'modle'; did you mean 'model'?"),
    "typo": (["model.widht=32"], "model.widht: unknown setting 'widht'; did you mean 'width'?"),
    "added typo": (["+model.typo=1"], "model.typo: unknown setting 'typo'"),
    "target": (["+model._target_=os.system"], "+model._target_=os.system names code to run"),
    "top level target": (["+_target_=os.system"], "+_target_=os.system names code to run"),
    "data typo": (["data.rot=x"], "data.rot: unknown setting 'rot'; did you mean 'root'?"),
    "domain typo": (["data.domains.code.readr=x"], "code.readr: unknown setting 'readr'; did you mean 'reader'?"),
    "choice": (["model=text_71k"], "model=text_71k: unknown choice 'text_71k'; did you mean 'text_"),
    "number": (["model=70"], "Config group override must be a string or a list. Got int"),
    "study": (["study=quikstart"], "study=quikstart: unknown choice 'quikstart'; did you mean 'quickstart'?"),
    "domain": (["mixture.weights={cod:1.0}"], "mixture.weights: unknown domain 'cod'; did you mean 'code'?"),
    "target domain": (["mixture.weights={reviews:1.0}"], "mixture.weights: unknown domain 'reviews'"),
    "sum": (["mixture.weights={code:0.7,docs:0.7}"], "weights sum to 1.4, not 1. Scaled to one they are code: 0.5"),
    "negative": (["mixture.weights={code:-0.5,docs:1.5}"], "weight of 'code' is -0.5; weights must lie in [0, 1]"),
    "nan weight": (["mixture.weights={code:nan}"], "mixture.weights.code is nan; it must be a finite number"),
    "type": (["model.width=wide"], "model.width: Value 'wide' of type 'str' could not be converted to Integer"),
    "bool": (["model.depth=true"], "model.depth: Value 'True' of type 'bool' could not be converted to Integer"),
    "heads": (["model.width=20"], "model.width 20 must be a multiple of model.head_dim 8"),
    "zero": (["stream.batch_size=0"], "stream.batch_size is 0; it must be at least 1"),
    "no rows": (["logging.every_steps=0"], "logging.every_steps is 0; it must be at least 1"),
    "lr": (["optim.lr=inf"], "optim.lr is inf; it must be a finite number"),
    "lr 0": (["optim.lr=0"], "optim.lr is 0.0"),
    "betas": (["optim.betas=[1.0,0.9]"], "optim.betas are [1.0, 0.9]; each must lie in [0, 1)"),
    "base width": (["optim.base_width=0"], "optim.base_width is 0; it must be at least 1"),
    "threads": (["machine.threads=0"], "machine.threads is 0; it must be at least 1"),
    "workers": (["machine.workers=-1"], "machine.workers is -1; it must be at least 0"),
    "device": (["machine.device=gpu"], "machine.device: unknown value 'gpu'"),
    "runs": (["machine.runs="], "machine.runs is empty"),
    "short": (["schedule.n_tokens=10"], "schedule.warmup_tokens 64 must be below schedule.n_tokens 10: set a shorter"),
    "no tokens": (["schedule.n_tokens=0"], "schedule.n_tokens is 0; it must be at least 1"),
    "cool-down": (["schedule.cooldown=0.99"], "schedule.cooldown 0.99 begins before schedule.warmup_tokens 64 are"),
    "warm-up": (["schedule.warmup_tokens=768"], "schedule.warmup_tokens 768 must be below schedule.n_tokens 768"),
    "average": (["evaluation.average=1.5"], "evaluation.average is 1.5; a share of the training lies in [0, 1]"),
    "ratio": (["evaluation.ratio=1"], "evaluation.ratio is 1.0; a growing grid needs more than 1"),
    "study folder": (["study_name=../x"], "study_name '../x' names a folder"),
    "epochs": (["mixture.weights={code:1}", "schedule.n_tokens=20000"], "repeats a domain 5.03 times, stream.max"),
    "sequence": (["stream.seq_len=5000"], "stream.max_epochs allows 4"),
    "unprepared": (["data.root=/nowhere"], "holds no prepared data: run `python -m data.prepare data=quickstart`"),
    "grammar": (["model.width=[1"], "error: "),
    "two words": (["model width"], "error: "),
    "no name": (["+=data"], "+=data names no setting: write <setting>=<value>"),
}


ROUTES = ("group", "added typo", "target", "choice", "number", "domain", "sum", "type", "zero", "epochs", "unprepared")


@pytest.mark.parametrize("name", all_slow_but((*ROUTES, "grammar", "two words", "no name"), MISTAKES))
def test_a_mistake_on_the_command_line_is_one_sentence(
    name: str, tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    overrides, words = MISTAKES[name]
    monkeypatch.setattr(sys, "argv", ["train", *tiny(*overrides)])
    with pytest.raises(SystemExit) as left:
        sys.exit(main())
    out, err = capfd.readouterr()
    assert left.value.code in (2, 3)
    assert err.startswith("error: ")
    assert words in err
    assert out == ""
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]  # nothing was trained, nothing half-started


@pytest.mark.parametrize(("name", "code"), [("target", 2), ("unprepared", 3)])
def test_the_real_command_line_ends_with_that_sentence_and_code(name: str, code: int, tiny: Tiny) -> None:
    overrides, words = MISTAKES[name]
    returned, out, err = call("-m", "train", *tiny(*overrides))
    assert (returned, out) == (code, "")
    assert err.startswith("error: ")
    assert words in err
    assert err.count("\n") == 1


def test_a_device_that_is_not_there_is_refused(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["train", *tiny("machine.device=cuda")])
    with pytest.raises(SystemExit, match="2"):
        sys.exit(main())
    assert capfd.readouterr().err.startswith("error: machine.device is cuda, but torch sees no GPU")


keys = st.sampled_from(
    ["", "model", "data", "+model.x", "~data", "optim.betas", "mixture.weights", "hydra.run.dir", "@"]
)
values = st.sampled_from(
    ["", "3", "1e400", "null", "???", "{a:1}", "[1,", "${", "${oc.env:NO}", "a,b", "'", "nan", "é"]
)


@examples(100)
@given(keys | st.text(max_size=9), values | st.text(max_size=9))
def test_no_override_ends_in_anything_but_a_configuration_or_a_sentence(key: str, value: str) -> None:
    with suppress(MixlawError):
        assert compose_config([f"{key}={value}"]).layout().seq_len > 0


MACHINE_SIDE = [
    "machine.threads=2",
    "machine.workers=1",
    "machine.micro_batch=2",
    "machine.runs=elsewhere",
    "logging=wandb",
    "logging.every_steps=7",
    "checkpoint.every_steps=3",
    "checkpoint.keep=5",
    "study_name=other",
]
SCIENCE = [
    "seed=1",
    "precision=bf16",
    "optim.lr=1e-3",
    "optim.weight_decay=0",
    "optim.parametrization=standard",
    "mixture=uniform",
    "mixture.weights={code:1}",
    "model.width=32",
    "model.qk_norm=false",
    "stream.batch_size=8",
    "stream.seq_len=8",
    "schedule.n_tokens=700",
    "schedule.warmup_tokens=0",
    "evaluation.split=test",
    "evaluation.average=0.1",
    "evaluation.average=0.2",
]


def test_a_run_is_named_by_its_science_and_not_by_where_it_runs(plan: Callable[..., Plan]) -> None:
    base = plan().run_id
    assert plan(*MACHINE_SIDE).run_id == base
    assert len({base, *(plan(override).run_id for override in SCIENCE)}) == 1 + len(SCIENCE)


def test_a_run_is_named_by_its_data_and_not_by_their_place(plan: Callable[..., Plan], tmp_path: Path) -> None:
    def run_id(name: str, **facts: Any) -> str:
        root = f"data.root={tmp_path / name}"
        write_corpus(compose_config([root]).data.folder, **facts)
        return plan(root).run_id

    assert run_id("moved") == plan().run_id != run_id("other", seed=1)


def test_weights_given_by_hand_name_the_same_run_as_the_mixture_they_spell_out(plan: Callable[..., Plan]) -> None:
    spelled = "mixture.weights={dialogue:0.25,code:0.25,dict:0.25,docs:0.25}"
    assert plan(spelled).run_id == plan("mixture=uniform").run_id
    assert plan(spelled).weights == dict.fromkeys(["code", "docs", "dict", "dialogue"], 0.25)


def test_the_natural_mixture_follows_the_sizes(plan: Callable[..., Plan]) -> None:
    assert list(plan("mixture=natural").weights.values()) == pytest.approx([0.1, 0.2, 0.3, 0.4])


@given(
    n_tokens=st.integers(1, 10**9), n_points=st.integers(1, 5000), ratio=st.floats(1.001, 1e6), batch=st.integers(1, 64)
)
def test_evaluations_end_with_the_last_step(n_tokens: int, n_points: int, ratio: float, batch: int) -> None:
    config = TrainConfig(
        schedule=ScheduleConfig(n_tokens, 0), evaluation=EvaluationConfig(n_points=n_points, ratio=ratio)
    )
    tokens_per_step = config.stream.seq_len * config.stream.batch_size
    times = Timetable(config, tokens_per_step)
    steps = times.evaluation_steps()
    assert steps[-1] == times.n_steps
    assert steps[0] >= 1
    assert all(a < b for a, b in itertools.pairwise(steps))
    assert len(steps) <= n_points
    assert 0 <= times.n_steps * tokens_per_step - n_tokens < tokens_per_step


def test_a_structured_error_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="must be at least 1"):
        compose_config(["model.depth=0"])


def test_the_quick_start_is_prepared_where_training_looks_for_it(tiny: Tiny) -> None:
    config = compose_config(tiny())
    assert plan_run(config).manifest.folder == config.data.folder
    assert data.prepare.compose_config([o for o in tiny() if o.startswith("data.")]).folder == config.data.folder


@pytest.mark.parametrize("name", all_slow_but(("short_proof", "vision_proof"), STUDIES))
def test_every_run_of_a_study_is_possible_and_no_two_are_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch)
    parameters, _ = grids_of(ROOT / f"sweeps/study/{name}.yaml")
    overrides = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in parameters.items()])
    choices = [
        list(o.sweep_string_iterator()) if o.is_sweep_override() else [o.get_value_element_as_str()] for o in overrides
    ]
    runs = list(itertools.product(*choices))
    assert len(set(runs)) == len(runs)
    domains = compose_config([f"study={name}"]).data.domains
    for i, override in enumerate(overrides):
        for value in choices[i]:
            config = compose_config([f"study={name}", f"{override.get_key_element()}={value}"])
            assert name.startswith(config.study_name)
            Mixture.of(config.mixture.weights or Mixture.uniform(domains), domains)
