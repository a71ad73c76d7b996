"""Runs that read a part of a domain again and again: planned, logged, branched and resumed like any other."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from data.config import absolute
from mixlaw.errors import ConfigError
from mixlaw.runs.load import load_runs
from mixlaw.tables.read import read_table
from tests.marks import slow
from tests.train.test_branch import weights
from tests.train.test_resume import folder_of, rows
from tests.train.tiny import image_run
from train.compose import compose_config, compose_study, plan_run
from train.loop import run
from train.plan import Plan

Plans = Callable[..., Plan]
STATIC = "mixture.weights={code:0.75,docs:0.25}"  # 12 steps of 4 sequences of 16 tokens: 36 of code and 12 of docs
POOL = "stream.unique_tokens={docs:64}"  # 4 sequences, which the run reads 3 times


def matched(n_tokens: float, **available: float) -> str:
    """Return the override of pools that follow from a bigger run."""
    named = ",".join(f"{domain}:{tokens}" for domain, tokens in available.items())
    return f"stream.match_repetition={{n_tokens:{n_tokens},available:{{{named}}}}}"


def test_a_run_without_a_pool_keeps_its_id_and_states_none(plan: Plans) -> None:
    assert plan(STATIC).run_id == plan(STATIC, "stream.unique_tokens={}").run_id == "235da086a23b"
    assert plan(STATIC, "stream.unique_tokens={docs:8000}").run_id == "235da086a23b"  # all of it


def test_a_run_is_named_by_the_sequences_of_its_pools(plan: Plans) -> None:
    this = plan(STATIC, POOL).run_id
    assert plan(STATIC, "stream.unique_tokens={docs:79.9}").run_id == this
    assert plan(STATIC, "stream.unique_tokens.docs=64").run_id == this
    assert plan(STATIC, matched(7.68e6, docs=640_000)).run_id == this
    assert len({this, plan(STATIC).run_id, plan(STATIC, "stream.unique_tokens={docs:80}").run_id}) == 3


def test_the_mixture_that_follows_from_the_data_is_that_of_all_of_them(plan: Plans) -> None:
    assert plan("mixture=natural", POOL, "stream.max_epochs=9").weights == plan("mixture=natural").weights


def test_a_run_up_to_its_first_repetition_is_the_run_without_a_pool(plan: Plans) -> None:
    limited, whole = plan(STATIC, POOL).stream(), plan(STATIC).stream()
    same = [bool((limited[step]["tokens"] == whole[step]["tokens"]).all()) for step in range(12)]
    assert same[:4] == [True] * 4  # in which docs are read once
    assert not any(same[4:])


def test_the_log_and_the_table_state_pool_and_epochs(plan: Plans, tmp_path: Path) -> None:
    this, other = plan(STATIC, POOL), plan(STATIC)
    assert run(this) == run(other) == "finished"
    facts = json.loads((folder_of(this) / "run.json").read_text())
    assert (facts["data"]["docs"]["n_tokens"], facts["data"]["docs"]["corpus_tokens"]) == (64, 8000)
    assert "corpus_tokens" not in facts["data"]["code"]
    runs = load_runs(tmp_path / "runs")
    assert runs.sizes == {"code": 4000, "docs": 8000, "dict": 12000, "dialogue": 16000}
    table = read_table([tmp_path / "runs"])
    assert table.sizes == runs.sizes
    last = table.frame.groupby("run_id").last()
    assert last["available_docs"].to_dict() == {this.run_id: 64, other.run_id: 8000}
    assert last["epochs_docs"].to_dict() == {this.run_id: 3.0, other.run_id: 192 / 8000}


def test_a_matched_run_repeats_every_domain_as_often_as_the_bigger_run(plan: Plans) -> None:
    for n_tokens in (768, 1536):
        this = plan(STATIC, matched(7.68e6, code=5.76e6, docs=480_000), f"schedule.n_tokens={n_tokens}")
        read = this.stream().tokens_by_domain(this.n_steps)
        assert {d: read[d] / n for d, n in this.pool_tokens().items()} == {"code": 1.0, "docs": 4.0}


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["stream.unique_tokens={docks:64}"], "stream.unique_tokens: unknown domain 'docks'; did you mean 'docs'"),
        slow(["stream.unique_tokens={reviews:64}"], "stream.unique_tokens: unknown domain 'reviews'"),
        (["stream.unique_tokens={docs:9e3}"], "'docs' would need a pool of 9,000 tokens and has 8,000 training tokens"),
        (["stream.unique_tokens={docs:9}"], "a pool of 9 tokens of 'docs' is smaller than one sequence"),
        slow(
            ["stream.unique_tokens={docs:32}"], r"repeats a domain 6.00 times, .* raise its tokens in stream.unique_tok"
        ),
        ([matched(7.68e6, docs=320_000)], r"repeats a domain 6.00 times, .* raise its tokens in stream.match_repet"),
        slow(
            [matched(7.68e6, docs=1e8)],
            "stream.match_repetition: 'docs' would need a pool of 10,000 tokens and has 8,0",
        ),
        ([matched(700, docs=320)], "n_tokens is 700, and this run has 768 tokens: give the tokens of the bigger run"),
        ([matched(1e4)], "stream.match_repetition needs both: n_tokens of the bigger run, and its available tokens"),
        slow([matched(0, docs=64)], "stream.match_repetition needs both"),
        ([POOL, matched(7.68e6, docs=6.4e5)], "stream.unique_tokens and stream.match_repetition both limit tokens"),
        slow(
            ["stream.unique_tokens={docs:many}"], "stream.unique_tokens.docs: Value 'many' of type 'str' could not be"
        ),
        slow(["stream.unique_tokens={docs:inf}"], "stream.unique_tokens.docs is inf; it must be a finite number"),
        (["stream.match_repetition.tokens=9"], "stream.match_repetition.tokens: unknown setting 'tokens'"),
    ],
)
def test_impossible_pools_are_refused_before_training(more: list[str], sentence: str, plan: Plans) -> None:
    with pytest.raises(ConfigError, match=sentence):
        plan(STATIC, *more)


def test_a_study_may_vary_pools(tiny: Callable[..., list[str]]) -> None:
    jobs = [tiny(STATIC, f"stream.unique_tokens={{docs:{n}}}") for n in (64, 96)] + [tiny(STATIC)]
    assert [plan_run(config).pool_tokens() for config in compose_study(jobs)] == [{"docs": 64}, {"docs": 96}, {}]


def test_a_branch_and_its_trunk_have_the_same_pools(plan: Plans) -> None:
    trunk = plan(STATIC, POOL, "checkpoint.permanent=[384]", "checkpoint.keep=1", "study_name=trunk")
    run(trunk)
    place = absolute(str(folder_of(trunk)))
    cooled = [STATIC, "schedule.cooldown=0.5"]
    branch = plan(*cooled, POOL, f"checkpoint.branch_from={place}")
    whole = plan(*cooled, POOL, "study_name=whole")
    assert run(branch) == run(whole) == "finished"
    assert weights(branch) == weights(whole)
    assert rows(branch) == [row for row in rows(whole) if row["step"] > 6]
    with pytest.raises(ConfigError, match=r"differs in pools \({'docs': 64} there, {'docs': 80} here\)"):
        run(plan(*cooled, "stream.unique_tokens={docs:80}", f"checkpoint.branch_from={place}", "seed=0"))


@pytest.mark.parametrize("family", ["multimodal", slow("vision")])
def test_a_run_of_images_repeats_its_pool(family: str, tmp_path: Path) -> None:
    this = plan_run(compose_config(image_run(tmp_path, family, "stream.unique_tokens={loud:100}")))
    assert run(this) == "finished"
    data = json.loads((folder_of(this) / "run.json").read_text())["data"]["loud"]
    pool = this.pools["loud"]
    assert (data["n_tokens"], data["n_samples"]) == (pool.total("n_tokens"), pool.total("n_samples"))
    assert data["n_tokens"] <= 100 < data["corpus_tokens"]
    last = load_runs(tmp_path / "runs").table.iloc[-1]
    assert last["available_loud"] == data["n_tokens"]
    assert last["epochs_loud"] == pytest.approx(last["weight_loud"] * last["n_tokens"] / data["n_tokens"])
    assert last["weight_loud"] == pytest.approx(0.3, abs=0.05)
