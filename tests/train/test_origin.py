"""A run may start from the weights of a finished run or of a Hugging Face folder: finetuning."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from data.store.tokens import write_manifest
from mixlaw.errors import CheckpointError, ConfigError, RunLogError
from mixlaw.runs.log import read_facts
from mixlaw.tables.read import read_table
from tests.marks import slow
from tests.train.ranks import run_ranks
from tests.train.test_resume import folder_of, rows, stop_at
from tests.train.tiny import TINY, write_corpus
from train.compose import compose_config, plan_run
from train.config import MixtureConfig
from train.export import export, read_run
from train.loop import run
from train.plan import Plan

Plans = Callable[..., Plan]
PRETRAINED = ["study_name=base", "mixture.weights={code:0.5,docs:0.5}"]
MIXED = "mixture.weights={code:0.1,docs:0.1,dialogue:0.8}"
BRIEF = "schedule.n_tokens=256 schedule.warmup_tokens=0 optim.lr=1e-30 optim.weight_decay=0".split()  # learns nothing


@pytest.fixture
def base(trained: Callable[..., Plan]) -> Plan:
    """Return a finished run on two domains; it is to be read only."""
    return trained(*PRETRAINED)


def last_losses(plan: Plan) -> dict[str, float]:
    return {row["domain"]: row["loss"] for row in rows(plan) if row["kind"] == "eval"}


def test_finetuning_begins_with_the_weights_of_a_run(base: Plan, plan: Plans) -> None:
    same = plan(f"init_from={base.folder}", MIXED, *BRIEF)
    run(same)
    assert last_losses(same) == pytest.approx(last_losses(base), abs=1e-6)
    stated = read_facts(folder_of(same))["init_from"]
    assert stated["losses"] == pytest.approx(last_losses(base), abs=1e-6)
    assert (stated["path"], stated["run_id"]) == (str(base.folder), base.run_id)


def test_tables_have_the_losses_before_finetuning(base: Plan, plan: Plans, tmp_path: Path) -> None:
    tuned = plan(f"init_from={base.folder}", MIXED)
    run(tuned)
    table = read_table([tmp_path / "runs"])
    for target in ("code", "docs", "dict", "dialogue", "reviews"):
        assert table.frame[f"before_{target}"].tolist() == pytest.approx([last_losses(base)[target]] * 3)
    assert (table.frame["loss_dialogue"] < table.frame["before_dialogue"]).all()
    assert (table.frame["loss_code"] > table.frame["before_code"]).all()  # forgotten


def test_only_the_weights_decide_the_name_and_not_where_they_lie(
    base: Plan, plan: Plans, trained: Callable[..., Plan], tmp_path: Path
) -> None:
    one = plan(f"init_from={base.folder}", MIXED)
    assert one.run_id != plan(MIXED).run_id
    (tmp_path / "moved").symlink_to(base.folder)
    assert plan(f"init_from={tmp_path / 'moved'}", MIXED).run_id == one.run_id
    other = trained(*PRETRAINED, "seed=1", "study_name=other")
    assert plan(f"init_from={other.folder}", MIXED).run_id != one.run_id


def test_a_folder_of_runs_gives_the_run_with_this_model(trained: Callable[..., Plan], base: Plan, plan: Plans) -> None:
    trained(*PRETRAINED, "model.width=24")
    found = plan(f"init_from={base.folder.parent}", MIXED)
    assert found.origin is not None
    assert found.origin.run_id == base.run_id
    with pytest.raises(ConfigError, match=r"^init_from: 0 of \d runs in .* have this run's model: name"):
        plan(f"init_from={base.folder.parent}", MIXED, "model.depth=3")


def test_a_run_that_is_stopped_ends_with_the_bytes_of_one_that_was_not(base: Plan, plan: Plans, tmp_path: Path) -> None:
    whole = plan(f"init_from={base.folder}", MIXED, f"machine.runs={tmp_path / 'whole'}")
    run(whole)
    stopped = plan(f"init_from={base.folder}", MIXED)
    assert run(stopped, stop_at(5)) == "again"
    assert run(stopped) == "finished"
    assert rows(stopped) == rows(whole)
    assert read_facts(folder_of(stopped))["init_from"] == read_facts(folder_of(whole))["init_from"]


def test_averaged_weights_are_those_that_were_evaluated(trained: Callable[..., Plan], plan: Plans) -> None:
    averaged = trained(*PRETRAINED, "evaluation.average=0.5")
    same = plan(f"init_from={averaged.folder}", MIXED, *BRIEF)
    run(same)
    assert last_losses(same) == pytest.approx(last_losses(averaged), abs=1e-6)


@pytest.mark.slow
def test_ranks_with_shards_start_from_the_same_weights(base: Plan, plan: Plans, tiny: Callable[..., list[str]]) -> None:
    settings = [f"init_from={base.folder}", MIXED]
    alone = plan(*settings, "machine.runs=alone")
    assert run_ranks(2, tiny(*settings, "machine.parallel=fsdp")) == ["finished"] * 2
    sharded = plan(*settings)
    assert alone.run_id == sharded.run_id
    assert read_facts(folder_of(sharded))["init_from"]["losses"] == pytest.approx(last_losses(base), rel=1e-5)
    again = plan(f"init_from={folder_of(sharded)}", MIXED, *BRIEF)  # its checkpoint has a file for each rank
    run(again)
    assert last_losses(again) == pytest.approx(last_losses(sharded), rel=1e-5)


LLAMA = ["model.qk_norm=false", "model.depth=2", "model.norm_eps=1e-5", "model.rope_base=500"]


@pytest.fixture
def llama(data_root: Path, plan: Plans, tmp_path: Path) -> Path:
    """Return a Hugging Face folder of a small Llama that transformers made, with the tokenizer of the data."""
    return save_llama(tmp_path / "llama", plan(*LLAMA))


def save_llama(folder: Path, like: Plan, **changes: Any) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    from data.tokenizers import ByteTokenizer

    settings = {"hidden_size": 16, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    settings |= {"vocab_size": 256, "rms_norm_eps": 1e-5, "initializer_range": 0.4}
    settings |= {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**settings | changes)).save_pretrained(folder)
    ByteTokenizer().to_transformers().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("tied", [slow(False), True])
def test_finetuning_a_llama_of_transformers_begins_with_its_losses(tied: bool, plan: Plans, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = save_llama(tmp_path / "llama", plan(*LLAMA), tie_word_embeddings=tied)
    tuned = plan(*LLAMA, f"init_from={folder}", MIXED, *BRIEF)
    run(tuned)
    ours = read_run(folder_of(tuned)).model
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    tokens = torch.randint(0, 256, (3, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens).logits, ours.logits(tokens), rtol=1e-5, atol=1e-5)
    assert read_facts(folder_of(tuned))["init_from"]["losses"] == pytest.approx(last_losses(tuned), rel=1e-6)


@pytest.mark.parametrize("qk_norm", [slow("true"), "false"], ids=["qwen3", "llama"])
def test_an_exported_run_is_finetuned_as_the_run_itself(
    qk_norm: str, trained: Callable[..., Plan], plan: Plans, tmp_path: Path
) -> None:
    base = trained(*PRETRAINED, f"model.qk_norm={qk_norm}")
    out = export(base.folder, tmp_path / "exported")
    one = plan(f"model.qk_norm={qk_norm}", f"init_from={base.folder}", MIXED, f"machine.runs={tmp_path / 'one'}")
    other = plan(f"model.qk_norm={qk_norm}", f"init_from={out}", MIXED)
    assert run(one) == run(other) == "finished"
    assert rows(one) == rows(other)


def test_a_finetuned_llama_is_exported_as_one(llama: Path, plan: Plans, tmp_path: Path) -> None:
    tuned = plan(*LLAMA, f"init_from={llama}", MIXED)
    run(tuned)
    out = export(folder_of(tuned), tmp_path / "out")
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (llama, out))
    changed = {name for name in before if before[name] != after.get(name)}
    assert changed <= {"max_position_embeddings", "bos_token_id", "eos_token_id", "initializer_range"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["model.width=24"], r"base/\w+ has model\.width=16, and this run model\.width=24$"),
        (["model.rope_base=500"], "has model.rope_base=10000.0"),
    ],
)
def test_a_run_of_another_shape_is_refused(changes: list[str], said: str, base: Plan, plan: Plans) -> None:
    with pytest.raises(ConfigError, match=f"^init_from: .*{said}"):
        plan(*changes, f"init_from={base.folder}", MIXED)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["model.width=24"], "hidden_size 16, and this run's model 24"),
        slow(["model.qk_norm=true"], "model_type llama, and this run's model qwen3"),
        slow(["model.norm_eps=1e-6"], "rms_norm_eps 1e-05, and this run's model 1e-06"),
        (["model.rope_base=1000"], "rope_parameters"),
        slow(["model.vocab_multiple_of=100"], "vocab_size 256, and this run's model 300"),
    ],
)
def test_a_llama_of_another_shape_is_refused(changes: list[str], said: str, llama: Path, plan: Plans) -> None:
    with pytest.raises(ConfigError, match=rf"^init_from: {llama} has .*{said}"):
        plan(*LLAMA, *changes, f"init_from={llama}", MIXED)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"num_key_value_heads": 1}, "num_key_value_heads 1"), ({"hidden_act": "gelu"}, "hidden_act gelu")],
)
def test_a_llama_that_our_models_cannot_be_is_refused(
    changes: dict[str, Any], said: str, plan: Plans, tmp_path: Path
) -> None:
    folder = save_llama(tmp_path / "other", plan(*LLAMA), **changes)
    with pytest.raises(ConfigError, match=f"has {said}"):
        plan(*LLAMA, f"init_from={folder}", MIXED)


def test_a_llama_with_biases_is_refused(plan: Plans, tmp_path: Path) -> None:
    folder = save_llama(tmp_path / "other", plan(*LLAMA), attention_bias=True)
    with pytest.raises(CheckpointError, match=r"does not fit this model: .*k_proj\.bias"):
        run(plan(*LLAMA, f"init_from={folder}", MIXED))


def test_another_tokenizer_is_refused(base: Plan, llama: Path, tmp_path: Path) -> None:
    config = compose_config([*TINY, *LLAMA, MIXED, f"data.root={tmp_path}", f"machine.runs={tmp_path / 'runs'}"])
    facts = write_corpus(config.data.folder).facts
    write_manifest(config.data.folder, facts | {"tokenizer": facts["tokenizer"] | {"sha256": "1" * 64}})
    with pytest.raises(ConfigError, match=r"trained with another tokenizer \(bytes, 256 symbols, sha256 00000000; of"):
        plan_run(replace(compose_config([*TINY, MIXED, f"data.root={tmp_path}"]), init_from=str(base.folder)))
    text = json.loads((llama / "tokenizer.json").read_text())
    vocabulary = text["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (llama / "tokenizer.json").write_text(json.dumps(text))
    tuned = replace(config, init_from=str(llama))
    with pytest.raises(ConfigError, match=r"tokenizer\.json has other symbols than the tokenizer of these data"):
        plan_run(tuned)
    (llama / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"tokenizer\.json cannot be read"):
        plan_run(tuned)
    (llama / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=r"tokenizer\.json is missing"):
        plan_run(tuned)


@pytest.mark.parametrize("name", ["reviews", "films"])
def test_data_that_the_first_run_held_out_are_not_trained_on(name: str, plan: Plans, tmp_path: Path) -> None:
    """Under their name or under another one."""
    roles = {"code": "train", name: "train", "docs": "train"}
    config = compose_config([*TINY, f"mixture.weights={{{name}:1}}", f"data.root={tmp_path}"])
    config = replace(config, machine=replace(config.machine, runs=str(tmp_path / "runs")))
    facts = write_corpus(config.data.folder, roles).facts
    first = replace(config, mixture=MixtureConfig(weights={"code": 1.0}))
    as_target = facts["domains"] | {name: facts["domains"][name] | {"role": "target"}}
    shown = as_target if name == "reviews" else {("reviews" if d == name else d): e for d, e in as_target.items()}
    if name == "films":
        (config.data.folder / "reviews").symlink_to(config.data.folder / name)
    write_manifest(config.data.folder, facts | {"domains": shown})
    base = plan_run(first)
    run(base)
    write_manifest(config.data.folder, facts)
    with pytest.raises(ConfigError, match=f"^init_from: '{name}' would be trained on, and .* measured its losses"):
        plan_run(replace(config, init_from=str(base.folder)))


def test_what_is_no_finished_run_is_refused(base: Plan, llama: Path, plan: Plans, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "missing"):
        with pytest.raises(ConfigError, match=f"^init_from: {path} is neither a run directory, nor a folder of runs"):
            plan(f"init_from={path}")
    stopped = plan()
    run(stopped, stop_at(5))
    with pytest.raises(ConfigError, match="is unfinished, and weights are taken from finished runs only"):
        plan(f"init_from={folder_of(stopped)}")
    for path in llama.glob("*.safetensors"):
        path.rename(path.with_suffix(".bin"))
    with pytest.raises(ConfigError, match=r"holds no \*\.safetensors"):
        plan(*LLAMA, f"init_from={llama}")
    (llama / "config.json").write_text("{}")
    (llama / "model.safetensors").touch()
    with pytest.raises(ConfigError, match=r"config\.json is of no model of transformers"):
        plan(*LLAMA, f"init_from={llama}")


def test_damaged_weights_are_refused(plan: Plans) -> None:
    first = plan("study_name=base")
    run(first)
    tuned = plan(f"init_from={folder_of(first)}", MIXED)
    path = folder_of(first) / "checkpoints" / "step-00000012" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(CheckpointError, match="step-00000012 is damaged: copy the run again"):
        run(tuned)


def test_a_run_json_without_losses_before_finetuning_is_refused(base: Plan, plan: Plans) -> None:
    tuned = plan(f"init_from={base.folder}", MIXED)
    run(tuned)
    path = folder_of(tuned) / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"init_from": {"losses": {"code": "low"}}}))
    with pytest.raises(RunLogError, match="'init_from' is"):
        read_facts(path.parent)
