"""An exported run is a model of transformers that says the same, and a card that says what it is."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from data.prepare import prepare
from data.store.tokens import TokenReader, write_manifest
from data.stream.loader import WeightedStream
from mixlaw.errors import MixlawError
from mixlaw.fitting.estimator import LawFit
from mixlaw.fitting.saved import FittedLaws
from mixlaw.laws.registry import get_law
from mixlaw.tables.read import read_table
from tests.commands import call
from tests.data.readers.test_token_files import post_processors, save_tokenizer
from tests.data.tiny import write_jsonl
from tests.marks import all_slow_but, slow
from tests.train.ranks import run_ranks
from tests.train.test_resume import folder_of, stop_at
from tests.train.tiny import TINY, image_run, write_corpus
from train.compose import compose_config, plan_run
from train.export import export, main, read_run
from train.loop import run
from train.plan import Plan

Plans = Callable[..., Plan]
SHAPES = {
    "LlamaForCausalLM": ["model.qk_norm=false"],
    "Qwen3ForCausalLM": ["model.qk_norm=true"],
    "two blocks": ["model.depth=2", "model.width=32", "model.qk_norm=false", "model.rope_base=500"],
    "averaged": ["evaluation.average=0.5"],
    "padded": ["model.vocab_multiple_of=96"],
}


@pytest.mark.parametrize("name", all_slow_but(("LlamaForCausalLM", "averaged"), SHAPES))
def test_an_exported_model_has_our_logits_and_generates(name: str, plan: Plans, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    this = plan(*SHAPES[name])
    run(this)
    out = export(folder_of(this), tmp_path / "out")
    theirs, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    if "ForCausalLM" in name:
        assert type(theirs).__name__ == name
    tokens = torch.randint(0, 256, (3, 16), generator=torch.Generator().manual_seed(0))
    ours = read_run(folder_of(this)).model
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens).logits, ours.logits(tokens), rtol=1e-5, atol=1e-5)
    assert theirs.config.rms_norm_eps == this.config.model.norm_eps
    ids = tokenizer("A word", return_tensors="pt")["input_ids"]
    assert ids.tolist() == [list(b"A word")]
    made = theirs.generate(ids, max_new_tokens=4, do_sample=False)
    assert made.shape[1] > ids.shape[1]
    assert {p.suffix for p in out.iterdir()} <= {".json", ".safetensors", ".md", ".jinja"}


def test_the_card_says_what_the_model_is(plan: Plans, tmp_path: Path) -> None:
    this = plan("mixture.weights={code:0.75,docs:0.25}")
    run(this)
    text = (export(folder_of(this), tmp_path / "out") / "README.md").read_text()
    facts = json.loads((folder_of(this) / "run.json").read_text())
    losses = read_run(folder_of(this)).losses
    assert f"{facts['n_params']['total']:,} parameters" in text
    assert "trained on 768 tokens (step 12 of 12, status finished)" in text
    assert f"run `{this.run_id}`" in text
    pool = facts["data"]["code"]
    assert f"| code | 0.7500 | 0.7500 | {pool['n_tokens']:,} | not stated | `{pool['sha256']}` |" in text
    assert f"sha256 `{facts['tokenizer']['sha256']}`" in text
    assert "which transformers calls Qwen3" in text
    for domain, row in losses.items():
        assert f"| {domain} | {row['loss']:.4f} ± {row['loss_se']:.4f} |" in text
    assert set(losses) == {"code", "docs", "dict", "dialogue", "reviews"}


def test_the_card_states_licences_of_the_data_that_were_trained_on_only(tmp_path: Path) -> None:
    config = compose_config([*TINY, f"data.root={tmp_path / 'data'}", f"machine.runs={tmp_path / 'runs'}"])
    folder = config.data.folder
    manifest = write_corpus(folder)
    domains = {name: entry | {"licence": f"MIT-{name}"} for name, entry in manifest.facts["domains"].items()}
    write_manifest(folder, manifest.facts | {"domains": domains})
    this = plan_run(config)
    run(this)
    text = (export(folder_of(this), tmp_path / "out") / "README.md").read_text()
    assert all(f"| MIT-{domain} | `" in text for domain in this.weights)
    write_corpus(folder, seed=1)  # other texts, whose licences say nothing about the run
    again = (export(folder_of(this), tmp_path / "again") / "README.md").read_text()
    assert "MIT" not in again
    assert again.count("| not stated | `") == len(this.weights)


@pytest.mark.slow  # trains eight runs
def test_a_law_says_in_the_card_what_it_predicted(plan: Plans, tmp_path: Path) -> None:
    runs = [
        plan(f"model.width={w}", f"seed={s}", m)
        for w in (16, 24)
        for s in (0, 1)
        for m in ("mixture=uniform", "mixture=natural")
    ]
    for this in runs:
        run(this)
    table = read_table([tmp_path / "runs"])
    fit = LawFit("base", n_starts=8, n_bootstrap=4).fit(table.frame).fitted_
    FittedLaws.of({"base": fit}, table, "base", "the only one", pd.DataFrame()).save(tmp_path / "laws.json")
    out = export(folder_of(runs[0]), tmp_path / "out", tmp_path / "laws.json")
    text = (out / "README.md").read_text()
    assert "The law `base` (the only one) predicts for this N, D and mixture:" in text
    line = next(line for line in text.splitlines() if line.startswith("| reviews |"))
    measured, predicted = line.split("|")[2:4]
    assert float(predicted.split()[0]) == pytest.approx(float(measured.split()[0]), rel=0.2)
    assert f"`L = {get_law('base').formula}`" in text
    values = " | ".join(f"{v:.4g}" for v in fit.params.loc["reviews"])
    assert f"| reviews | {values} |" in text


@pytest.mark.slow
def test_shards_of_several_ranks_are_exported_as_one_model(
    plan: Plans, tiny: Callable[..., list[str]], tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    this, whole = plan(), plan(f"machine.runs={tmp_path / 'whole'}")
    assert run_ranks(2, tiny("machine.parallel=fsdp")) == ["finished"] * 2
    run(whole)
    one, two = (
        AutoModelForCausalLM.from_pretrained(export(folder_of(p), tmp_path / n)) for p, n in ((this, "a"), (whole, "b"))
    )
    tokens = torch.arange(16)[None]
    with torch.no_grad():
        torch.testing.assert_close(one(tokens).logits, two(tokens).logits, rtol=1e-3, atol=1e-4)


def test_what_cannot_be_exported_is_refused_in_a_sentence(plan: Plans, tmp_path: Path) -> None:
    this = plan()
    assert run(this, stop_at(5)) == "again"
    folder, out = folder_of(this), tmp_path / "out"
    with pytest.raises(MixlawError, match=r"is unfinished: .* --unfinished"):
        export(folder, out)
    assert "step 5 of 12, status unfinished" in (export(folder, out, unfinished=True) / "README.md").read_text()
    with pytest.raises(MixlawError, match="is there already"):
        export(folder, out, unfinished=True)
    (tmp_path / "file").touch()
    with pytest.raises(MixlawError, match=r"file is there already: choose another --out"):
        export(folder, tmp_path / "file", unfinished=True)
    with pytest.raises(MixlawError, match=r"file.out cannot be written \(.*\): choose another --out"):
        export(folder, tmp_path / "file" / "out", unfinished=True)
    with pytest.raises(MixlawError, match=r"run\.json is missing"):
        export(tmp_path, tmp_path / "other")
    diverged = plan("optim.lr=1e30", "schedule.warmup_tokens=0")
    run(diverged)
    with pytest.raises(MixlawError, match="its status is 'diverged'"):
        export(folder_of(diverged), tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", ["bos only", slow("sequence"), slow("roberta"), slow("none")])
def test_an_exported_run_encodes_as_it_was_trained_and_its_card_says_how(name: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    save_tokenizer(tmp_path / "theirs", "</s>", post_processors()[name])
    texts = [f"the cat {i} and the dog {i * i} and the cat, all of them {i % 7} times" for i in range(300)]
    source = write_jsonl(tmp_path / "web.jsonl", texts)
    overrides = [
        *TINY,
        "data.name=mine",
        "~data.domains.docs",
        "~data.domains.dict",
        "~data.domains.dialogue",
        "~data.targets",
        "data.domains.code.package=''",
        "data.domains.code.version=''",
        "data.domains.code.sha256=''",
        "data.domains.code.reader=jsonl",
        f"data.domains.code.path={source.path}",
        "data.tokenizer.kind=pretrained",
        f"data.tokenizer.path={tmp_path / 'theirs'}",
        f"data.root={tmp_path}",
        f"machine.runs={tmp_path / 'runs'}",
        "mixture=uniform",
    ]
    config = compose_config(overrides)
    manifest = prepare(config.data, lambda line: None)
    this = plan_run(config)
    run(this)
    out = export(folder_of(this), tmp_path / "out")
    exported, model = AutoTokenizer.from_pretrained(out), AutoModelForCausalLM.from_pretrained(out)
    reader = TokenReader(manifest, "code", "train")
    bounds = reader.document_bounds()
    first = reader.windows(bounds[:1], int(bounds[1]))[0].tolist()
    text = exported.decode(first[:-1])
    assert text in texts
    assert [*exported(text)["input_ids"], exported.eos_token_id] == first  # default encoding == encoding in training
    assert model.config.bos_token_id is None
    assert model.config.eos_token_id == exported.eos_token_id
    card = (out / "README.md").read_text()
    assert (
        f"In training the token {exported.eos_token_id} followed every document, and no special token was added" in card
    )
    adds = {"bos only": "`<s>`", "sequence": "`<s>`", "roberta": "`<s>`, `</s>`"}
    assert ("The original adds" in card) == (name in adds)
    assert name not in adds or f"The original adds {adds[name]} by default." in card


def test_runs_of_the_time_when_targets_were_split_find_their_data(plan: Plans, tmp_path: Path) -> None:
    this = plan("data.split_targets=true")
    run(this)
    path = folder_of(this) / "run.json"
    facts = json.loads(path.read_text())
    del facts["config"]["data"]["split_targets"]
    path.write_text(json.dumps(facts))
    assert read_run(folder_of(this)).config.data.folder == this.config.data.folder


def test_data_that_were_tokenised_elsewhere_give_a_model_without_a_tokenizer(plan: Plans, tmp_path: Path) -> None:
    this = plan()
    run(this)
    path = folder_of(this) / "run.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps(facts | {"tokenizer": facts["tokenizer"] | {"kind": "given"}}))
    out = export(folder_of(this), tmp_path / "out")
    assert "put that tokenizer beside it" in (out / "README.md").read_text()
    assert not list(out.glob("tokenizer*"))
    assert (out / "model.safetensors").exists()


def test_the_command_line_exports(plan: Plans, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    this = plan()
    run(this)
    assert main([str(folder_of(this)), "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.endswith(f"{tmp_path / 'out'}\n")
    code, out, err = call("-m", "train.export", str(tmp_path), "--out", str(tmp_path / "none"))
    assert (code, out) == (3, "")
    assert err.count("\n") == 1


@pytest.mark.parametrize("family", [slow("multimodal"), "vision"])
def test_a_model_of_images_is_exported_with_its_own_class(family: str, tmp_path: Path) -> None:
    from train.hf import MixlawModel

    this = plan_run(compose_config(image_run(tmp_path, family)))
    run(this)
    out = export(folder_of(this), tmp_path / "out")
    theirs, ours = MixlawModel.from_pretrained(out), read_run(folder_of(this)).model
    stream = WeightedStream(this.manifest, this.weights, this.config.layout(), 4, seed=0)
    batch = {name: stream[0][name] for name in ours.inputs}
    with torch.no_grad():
        torch.testing.assert_close(theirs(**batch), ours.logits(batch), rtol=1e-5, atol=1e-5)
    assert "MixlawModel.from_pretrained" in (out / "README.md").read_text()
    assert {p.suffix for p in out.iterdir()} <= {".json", ".safetensors", ".md", ".jinja"}
