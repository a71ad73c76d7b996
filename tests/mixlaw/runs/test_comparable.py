"""Runs that differ in more than N, D, h and the seed are one table only if somebody says so."""

import dataclasses
import os
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.errors import ConfigError, RunLogError
from mixlaw.runs.comparable import (
    BY_SIZE,
    FREE,
    LATER,
    Facts,
    common_identity,
    differing_columns,
    facts_of,
    require_comparable,
)
from mixlaw.runs.filters import has_value, select_runs
from mixlaw.tables.read import read_table
from tests.mixlaw.run_logs import facts, run_rows, write_run

BYTES = {"kind": "bytes", "vocab_size": 256, "sha256": "a" * 64}
LEARNED = {"kind": "bpe", "vocab_size": 1024, "sha256": "b" * 64}
CONFIG: dict[str, Any] = {
    "seed": 0,
    "study_name": "s",
    "precision": "fp32",
    "mixture": {"weights": {"code": 0.5, "web": 0.5}},
    "model": {"family": "text", "width": 64, "qk_norm": True},
    "stream": {"seq_len": 64, "batch_size": 16},
    "optim": {"parametrization": "standard", "lr": 8e-3, "betas": [0.9, 0.95]},
    "machine": {"threads": 1},
    "schedule": {"n_tokens": 1000, "warmup_tokens": 10},
    "evaluation": {"n_points": 7, "n_sequences": 96, "split": "eval"},
    "checkpoint": {"branch_from": ""},
    "logging": {"wandb": False},
    "data": {"root": "here"},
}
N = {"total": 3_000_000_000, "non_embedding": 2_000_000_000}
DATA = {
    "code": {"n_tokens": 500, "sha256": "1" * 64},
    "web": {"n_tokens": 1000, "sha256": "2" * 64},
    "held": {"n_tokens": 9, "sha256": "3" * 64},
}


def config(**changes: Any) -> dict[str, Any]:
    """Return a configuration with some values of groups changed: optim={"lr": 1}."""
    return CONFIG | {k: CONFIG[k] | v if isinstance(v, dict) else v for k, v in changes.items()}


def run(root: Path, name: str, **changes: Any) -> None:
    stated = {"config": CONFIG, "tokenizer": BYTES, "data": DATA}
    write_run(root, name, run_rows(3), **(stated | changes))


def test_a_group_of_tasks_with_other_weights_is_another_target(tmp_path: Path) -> None:
    for name, weights in (("aaa", {"arc": 1, "piqa": 1}), ("bbb", {"piqa": 1, "arc": 1}), ("ccc", {"arc": 1})):
        groups = {"science": weights}
        run(tmp_path, name, config=config(data={"task_groups": groups}))
    with pytest.raises(RunLogError, match=r'data\.task_groups\.science: {"arc": 1, "piqa": 1} in 2 runs \(aaa, bbb\)'):
        read_table([tmp_path])


def test_two_tokenizers_in_one_folder_are_refused_by_name_chosen_by_where_and_declared_as_varied(
    tmp_path: Path,
) -> None:
    for name in ("aaa", "bbb", "ccc"):
        run(tmp_path, name)
    run(tmp_path, "ddd", tokenizer=LEARNED)
    with pytest.raises(RunLogError) as error:
        read_table([tmp_path])
    text = str(error.value)
    assert "4 runs cannot be fitted as one table" in text
    assert "tokenizer: bytes-256-aaaaaaaa in 3 runs (aaa, bbb, ccc), bpe-1024-bbbbbbbb in 1 run (ddd)" in text
    assert "--where tokenizer=bytes-256-aaaaaaaa" in text
    assert "--varied tokenizer" in text
    for wanted, runs in (("bytes", {"aaa", "bbb", "ccc"}), ("bpe-1024-bbbbbbbb", {"ddd"}), ("b*", None)):
        if runs is None:
            with pytest.raises(RunLogError, match="one table"):
                read_table([tmp_path], where={"tokenizer": [wanted]})
        else:
            table = read_table([tmp_path], where={"tokenizer": [wanted]})
            assert set(table.frame["run_id"]) == runs
            assert f"{len(runs)} of 4 runs are chosen by --where" in " ".join(table.notes)
    table = read_table([tmp_path], varied=["tokenizer"])
    assert table.frame["run_id"].nunique() == 4
    assert "tokenizer" not in table.identity


OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("family", {"family": "vision"}),
    ("optim.lr", {"config": config(optim={"lr": 1e-3})}),
    ("optim.betas", {"config": config(optim={"betas": [0.9, 0.99]})}),
    ("optim.parametrization", {"config": config(optim={"parametrization": "mup"})}),
    ("stream.seq_len", {"config": config(stream={"seq_len": 128})}),
    ("stream.batch_size", {"config": config(stream={"batch_size": 32})}),
    ("evaluation.n_sequences", {"config": config(evaluation={"n_sequences": 9})}),
    ("evaluation.split", {"config": config(evaluation={"split": "test"})}),
    ("model.qk_norm", {"config": config(model={"qk_norm": False})}),
    ("precision", {"config": config(precision="bf16")}),
    ("stream.unit", {"config": config(stream={"unit": "samples"})}),  # which older runs do not state: tokens
    ("model.document_mask", {"config": config(model={"document_mask": True})}),
    ("data.web", {"data": DATA | {"web": {"n_tokens": 1000, "sha256": "9" * 64}}}),
    ("data.held", {"data": DATA | {"held": {"n_tokens": 9, "sha256": "9" * 64}}}),
]


@pytest.mark.parametrize(("name", "changes"), OTHERS, ids=[name for name, _ in OTHERS])
def test_everything_that_decides_losses_must_agree(tmp_path: Path, name: str, changes: dict[str, Any]) -> None:
    run(tmp_path, "aaa")
    run(tmp_path, "bbb", **changes)
    with pytest.raises(RunLogError, match=rf"{name}: .* in 1 run \(aaa\)"):
        read_table([tmp_path])
    assert read_table([tmp_path], varied=[name]).frame["run_id"].nunique() == 2


def test_what_makes_n_d_h_and_the_seed_and_where_a_run_happens_may_differ(tmp_path: Path) -> None:
    run(tmp_path, "aaa")
    run(
        tmp_path,
        "bbb",
        config=config(
            seed=1,
            study_name="t",
            mixture={"weights": {"code": 0.9, "web": 0.1}},
            model={"width": 128},
            schedule={"n_tokens": 9000, "warmup_tokens": 90},
            evaluation={"n_points": 3},
            machine={"threads": 8},
            checkpoint={"branch_from": "x"},
            logging={"wandb": True},
            data={"root": "there"},
        ),
        n_params={"total": 6_000_000_000, "non_embedding": 1},
        study="t",
    )
    table = read_table([tmp_path])
    assert table.frame["run_id"].nunique() == 2
    assert table.identity["optim.lr" if "optim.lr" not in BY_SIZE else "tokenizer"]
    assert table.identity["data.held"] == "3" * 12


def of(name: str, n_params: float, **settings: Any) -> Facts:
    return Facts(name, n_params, settings, settings)


def test_a_rate_that_follows_the_size_is_a_rule_unless_it_does_not_follow_it() -> None:
    names = {"optim.lr": 6e-3}, {"optim.lr": 4e-3}, {"optim.lr": 3e-3}
    rule = [of(str(i), n, **values) for i, (n, values) in enumerate(zip((1e6, 2e6, 4e6), names, strict=True))]
    assert require_comparable(rule, "runs") == [
        "runs: optim.lr depends on the model size: 0.006 at N = 1e+06 to 0.003 at N = 4e+06"
    ]
    for wrong in (of("x", 1e6, **names[1]), of("x", 8e6, **names[0])):  # two rates at one size; down, and up again
        with pytest.raises(RunLogError, match=r"optim\.lr: "):
            require_comparable([*rule, wrong], "runs")
    mup = [Facts(r.run_id, r.n_params, {**r.identity, "optim.parametrization": "mup"}, {}) for r in rule]
    with pytest.raises(RunLogError, match=r"optim\.lr: "):  # one rate serves all widths there
        require_comparable(mup, "runs")
    tokenizers = [of("a", 1e6, tokenizer="x"), of("b", 2e6, tokenizer="y")]
    with pytest.raises(RunLogError, match="tokenizer"):  # no size explains another tokenizer
        require_comparable(tokenizers, "runs")


def test_settings_that_divide_runs_alike_share_a_line_and_long_lists_are_cut() -> None:
    domains = {f"data.{d}": "x" for d in "abcdef"}
    runs = [of(f"r{i}", 1e6, tokenizer="x", **domains) for i in range(9)]
    runs += [of(f"q{i}", 1e6, tokenizer="y", **dict.fromkeys(domains, "y")) for i in range(2)]
    with pytest.raises(RunLogError) as error:
        require_comparable(runs, "runs")
    lines = str(error.value).splitlines()
    assert len(lines) <= 5
    assert "(r0, r1, r2 ...)" in lines[1]
    assert "so do data.a, data.b, data.c ..." in lines[1]


values = st.sampled_from([1, 2])
settings_of_runs = st.lists(
    st.fixed_dictionaries({"optim.eps": values, "model.rope_base": values}), min_size=1, max_size=6
)


@given(settings_of_runs)
def test_runs_are_one_table_if_and_only_if_all_settings_agree(drawn: list[dict[str, int]]) -> None:
    runs = [of(str(i), 1e6 * (i + 1), **settings) for i, settings in enumerate(drawn)]
    if len({tuple(sorted(d.items())) for d in drawn}) == 1:
        assert require_comparable(runs, "runs") == []
        assert common_identity(runs) == {name: str(value) for name, value in drawn[0].items()}
    else:
        with pytest.raises(RunLogError):
            require_comparable(runs, "runs")
        assert require_comparable(runs, "runs", ["optim.*", "model.*"]) == []


def test_runs_are_chosen_by_any_setting_and_a_name_or_value_that_is_not_there_is_a_sentence() -> None:
    runs = [facts_of(facts("aaa", config=CONFIG)), facts_of(facts("bbb", config=config(seed=1, optim={"lr": 1e-3})))]
    assert [r.run_id for r in select_runs(runs, {"optim.lr": ["0.001"]})] == ["bbb"]
    assert [r.run_id for r in select_runs(runs, {"optim.lr": ["1e-3", "0.008"]})] == ["aaa", "bbb"]
    assert [r.run_id for r in select_runs(runs, {"seed": ["0"], "study": ["s"]})] == ["aaa"]
    with pytest.raises(ConfigError, match=r"optim\.rl.*did you mean 'optim\.lr'"):
        select_runs(runs, {"optim.rl": ["1"]})
    with pytest.raises(ConfigError, match=r"no run has this value; existing values: 0\.008, 0\.001"):
        select_runs(runs, {"optim.lr": ["2"]})


@given(st.floats(1e-6, 1e6))
def test_a_number_is_found_however_it_is_written(value: float) -> None:
    assert has_value(value, [repr(value)])
    assert has_value(value, [f"{value:.12e}"])
    assert not has_value(value, [repr(value * 1.001)])


CSV = pd.DataFrame(
    {
        "run_id": list("abcdef"),
        "n_params": [1e7, 1e7, 1e7, 2e7, 2e7, 2e7],
        "n_tokens": 1e9,
        "weight_web": 1.0,
        "loss_web": [3.0, 3.1, 3.2, 2.8, 2.9, 2.7],
        "tokenizer": ["x", "x", "y", "x", "x", "y"],
        "learning_rate": [4e-3, 4e-3, 4e-3, 2e-3, 2e-3, 2e-3],
        "lr": [1e-3, 2e-3, 1e-3, 1e-3, 2e-3, 1e-3],
        "note": list("uvwxyz"),
    }
)


def test_columns_of_a_file_that_say_how_runs_were_trained_are_named_where_they_differ(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    CSV.to_csv(path, index=False)
    warnings = read_table([path]).warnings
    assert len(warnings) == 2  # learning_rate follows N, a note is nobody's setting
    assert "tokenizer differs between runs (x in 4 rows, y in 2 rows)" in warnings[0]
    assert "--where tokenizer=x" in warnings[0]
    assert "lr differs between runs (0.001 in 4 rows, 0.002 in 2 rows)" in warnings[1]
    table = read_table([path], where={"tokenizer": "x", "lr": 0.001})
    assert list(table.frame["run_id"]) == ["a", "d"]
    assert list(table.frame["row"]) == [1, 4]
    assert table.warnings == []
    assert read_table([path], varied=["tokenizer", "lr"]).warnings == []
    parts = [tmp_path / "x.csv", tmp_path / "y.csv"]  # each of one kind, together of two
    for part, tokenizer in zip(parts, "xy", strict=True):
        CSV[CSV["tokenizer"] == tokenizer].drop(columns="lr").to_csv(part, index=False)
        assert read_table([part]).warnings == []
    assert "tokenizer differs between runs (x in 4 rows, y in 2 rows)" in read_table(parts).warnings[0]
    with pytest.raises(ConfigError, match="tokeniser"):
        read_table([path], where={"tokeniser": ["x"]})


def test_a_rate_that_falls_within_runs_does_not_differ_between_them() -> None:
    frame = pd.DataFrame({"run_id": list("aabb"), "n_params": 1e7, "lr": [3e-3, 0.0, 3e-3, 1e-3]})
    assert differing_columns(frame) == []


def test_runs_of_another_tokenizer_are_neither_scored_nor_predicted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mixlaw.cli.main import main

    for part, tokenizer in (("fit", BYTES), ("test", LEARNED)):
        for i, (n, share) in enumerate((n, s) for n in (10**6, 10**7, 10**8) for s in (0.2, 0.4, 0.6, 0.8)):
            mixture = {"code": share, "web": 1 - share}
            rows = run_rows(4)
            for row in rows:
                row["loss"] = row["loss"] * (1 + 0.1 * share) * n**-0.02
                if row["kind"] == "train":
                    step = row["step"]
                    row["tokens_by_domain"] = {
                        "code": round(100 * share) * step,
                        "web": round(100 - 100 * share) * step,
                    }
            name, sizes = f"{part}{i}", {"total": n, "non_embedding": n}
            write_run(
                tmp_path / part,
                name,
                rows,
                tokenizer=tokenizer,
                mixture=mixture,
                n_params=sizes,
                data=DATA,
                config=CONFIG,
            )
    fit = ["fit", str(tmp_path / "fit"), "--law", "base", "--n-bootstrap", "2", "--n-starts", "2"]
    assert main([*fit, "--test", str(tmp_path / "test")]) == 3
    said = "tokenizer is bytes-256-aaaaaaaa there and bpe-1024-bbbbbbbb here"
    assert said in capsys.readouterr().err
    laws = str(tmp_path / "laws.json")
    assert main([*fit, "--out", laws]) == 0
    assert main(["predict", laws, str(tmp_path / "test")]) == 3
    assert said in capsys.readouterr().err
    assert main(["predict", laws, str(tmp_path / "test"), "--varied", "tokenizer"]) == 0


def test_settings_that_came_later_have_the_trainer_s_defaults() -> None:
    from mixlaw.runs.comparable import flat
    from train.config import TrainConfig
    from train.plan import _ADDED

    defaults = flat(dataclasses.asdict(TrainConfig()))
    added = {f"{group}.{name}" for group, names in _ADDED.items() for name in names}
    assert {name: defaults[name] for name in LATER} == LATER
    assert (added - set(FREE)) | {"init_from"} == set(LATER)  # the run id has the hash of the weights instead


@pytest.mark.slow
def test_the_shipped_studies_can_be_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    from sweeps.study_file import grids_of
    from sweeps.study_path import path_of
    from train.compose import ROOT, compose_study
    from train.grids import combinations

    for text in (p.read_text() for p in (ROOT / "configs").rglob("*.yaml")):
        for name in re.findall(r"oc\.env:([A-Z0-9_]+)\}", text):
            monkeypatch.setenv(name, "somewhere") if name not in os.environ else None
    studies = [*sorted(p.stem for p in path_of("quickstart").parent.glob("*.yaml"))]
    folders: dict[str, list[Facts]] = {}
    for study in studies:
        jobs = combinations(*grids_of(path_of(study)), [f"study={study}"])
        for i, made in enumerate(compose_study(jobs)):
            stated = facts(f"{study}{i}", config=dataclasses.asdict(made), n_params={"total": made.model.width})
            folders.setdefault(made.study_name, []).append(facts_of(stated))
    assert len(folders) > 10
    for folder, runs in folders.items():
        require_comparable(runs, folder)
        for held in (f"{folder}_heldout", f"{folder}_proof"):
            if held in folders:
                both = [common_identity(folders[name]) for name in (folder, held)]
                assert {n: v for n, v in both[0].items() if n in both[1]} == {
                    n: v for n, v in both[1].items() if n in both[0]
                }
