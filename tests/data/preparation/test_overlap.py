"""Near-duplicates and documents that overlap with a target: known ones are dropped, the rest stays, targets win."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.config import DataConfig, SourceConfig, TokenizerConfig
from data.preparation.sizes import SIZES, Sizes
from data.prepare import check_config, prepare, table
from mixlaw.errors import ConfigError
from tests.data.test_prepare import contents, decoded, quiet
from tests.data.tiny import write_jsonl
from tests.marks import examples, slow

TINY = Sizes(part=2000, batch=3000, bucket=4000, small=0)  # many buckets, and worker processes
Texts = dict[str, list[str]]
WORDS = [f"{a}{b}" for a in "bdfgklmnprst" for b in ("al", "en", "ir", "ok", "um")]


def text(rng: random.Random, n: int = 80) -> str:
    return " ".join(rng.choices(WORDS, k=n))


def edited(rng: random.Random, words: str, n_edits: int) -> str:
    """Return a text with some words replaced, in other case and punctuation."""
    found = words.split()
    for place in rng.sample(range(len(found)), n_edits):
        found[place] = "edited"
    return ", ".join(found).title()


def config_of(root: Path, domains: Texts, targets: Texts, **settings: Any) -> DataConfig:
    root.mkdir(exist_ok=True)
    found = {name: write_jsonl(root / f"{name}.jsonl", texts) for name, texts in (domains | targets).items()}
    groups = [{name: found[name] for name in group} for group in (domains, targets)]
    return DataConfig("tiny", str(root / "cache"), *groups, eval_percent=0, test_percent=0, **settings)


def kept(config: DataConfig, sizes: Sizes = SIZES, workers: int = 1) -> dict[str, set[str]]:
    """Return the texts of each domain and target that are prepared."""
    manifest = prepare(config, quiet, sizes=sizes, workers=workers)
    return {
        name: {t for split in ("train", "eval") for t in decoded(manifest, name, split)}
        for name in (*manifest.domains, *manifest.targets)
    }


def test_known_near_duplicates_are_dropped_within_and_between_domains(tmp_path: Path) -> None:
    rng = random.Random(0)
    web, code, wiki = ([text(rng) for _ in range(60)] for _ in range(3))
    copies = {"web": [edited(rng, t, 1) for t in web[:10]], "code": [edited(rng, t, 1) for t in web[20:26] + wiki[:7]]}
    domains = {"web": web + copies["web"], "code": code + copies["code"]}
    config = config_of(tmp_path, domains, {"wiki": wiki}, drop_near_duplicates=True)
    found = kept(config)
    manifest = prepare(config, quiet)
    counts = {name: entry["counts"] for name, entry in manifest.facts["domains"].items()}
    assert {name: of["n_near_duplicate"] for name, of in counts.items()} == {"web": 10, "code": 13, "wiki": 0}
    assert {name: of["n_documents"] for name, of in counts.items()} == {"web": 60, "code": 60, "wiki": 60}
    assert found["wiki"] == set(wiki)
    assert found["code"] == set(code)
    assert all((a in found["web"]) != (b in found["web"]) for a, b in zip(web[:10], copies["web"], strict=True))
    assert "near-duplicate" in table(manifest).splitlines()[0]


def test_documents_that_share_thirteen_words_with_a_target_are_dropped(tmp_path: Path) -> None:
    rng = random.Random(1)
    wiki, web = ([text(rng) for _ in range(40)] for _ in range(2))
    quotes = [f"{text(rng, 30)} {' '.join(wiki[i].split()[20:33]).upper()}! {text(rng, 30)}" for i in range(9)]
    shorter = [f"{text(rng, 30)} {' '.join(wiki[i].split()[20:32])} {text(rng, 30)}" for i in range(9)]
    config = config_of(tmp_path, {"web": web + quotes + shorter}, {"wiki": wiki}, decontaminate_words=13)
    found = kept(config)
    assert found == {"web": {*web, *shorter}, "wiki": set(wiki)}
    counts = prepare(config, quiet).facts["domains"]["web"]["counts"]
    assert (counts["n_contaminated"], counts["n_documents"]) == (9, 49)


@examples(16)
@given(st.integers(0, 1 << 30), st.integers(2, 5))
def test_no_document_of_a_domain_shares_an_n_gram_with_a_target(
    tmp_path_factory: pytest.TempPathFactory, seed: int, n: int
) -> None:
    rng = random.Random(seed)
    texts = [[" ".join(rng.choices(WORDS[:9], k=rng.randint(12, 20))) for _ in range(40)] for _ in range(2)]
    texts[0] += [text(rng, 12) for _ in range(40)]  # some are left
    config = config_of(tmp_path_factory.mktemp("n"), {"web": texts[0]}, {"wiki": texts[1]}, decontaminate_words=n)
    found = kept(config)
    grams = {name: {_grams(t, n) for t in of} for name, of in found.items()}
    measured = frozenset().union(*grams["wiki"])
    assert not any(of & measured for of in grams["web"])
    assert all(_grams(t, n) & measured for t in {*texts[0]} - found["web"])


def _grams(words: str, n: int) -> frozenset[tuple[str, ...]]:
    found = words.split()
    return frozenset(tuple(found[i : i + n]) for i in range(len(found) - n + 1))


@pytest.mark.parametrize("sizes", [replace(TINY, small=1 << 40), slow(TINY)], ids=["one process", "two workers"])
def test_the_result_depends_neither_on_workers_nor_on_buckets(tmp_path: Path, sizes: Sizes) -> None:
    rng = random.Random(2)
    base = [text(rng) for _ in range(50)]
    domains = {
        "web": base + [edited(rng, t, i % 9) for i, t in enumerate(base)],
        "code": [edited(rng, t, i % 7) for i, t in enumerate(base)] + [text(rng) for _ in range(50)],
    }
    targets = {"wiki": [edited(rng, t, 3) for t in base[::4]] + base[1::8]}
    settings = {"drop_near_duplicates": True, "decontaminate_words": 20}
    whole = config_of(tmp_path, domains, targets, **settings)
    divided = replace(whole, root=str(tmp_path / "divided"))
    prepare(whole, quiet)
    prepare(divided, quiet, sizes=sizes, workers=2)
    assert contents(whole.folder) == contents(divided.folder)


def test_tokens_are_compared_as_words_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    wiki, web = ([rng.integers(1, 250, 60).tolist() for _ in range(30)] for _ in range(2))
    web += [[*rng.integers(1, 250, 30).tolist(), *ids[5:18], 3] for ids in wiki[:4]]
    for name, documents in (("wiki", wiki), ("web", web)):
        ids = [i for document in documents for i in (*document, 0)]
        (tmp_path / f"{name}.bin").write_bytes(np.array(ids, "<u2").tobytes())
    sources = [SourceConfig("tokens", path=f"{tmp_path}/{name}.bin", dtype="uint16") for name in ("web", "wiki")]
    groups = [{"web": sources[0]}, {"wiki": sources[1]}]
    config = DataConfig("t", str(tmp_path), *groups, TokenizerConfig("given", 256), 0, 0, decontaminate_words=13)
    assert prepare(config, quiet).facts["domains"]["web"]["counts"]["n_contaminated"] == 4


def test_documents_that_quote_a_benchmark_task_are_dropped(tmp_path: Path) -> None:
    rng = random.Random(3)
    web, question = [text(rng) for _ in range(20)], text(rng, 20)
    rows = [{"context": f"{question}?", "choices": [" yes, it is", " no, it is not"], "answer": 0}]
    (tmp_path / "task.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    quotes = [f"{text(rng, 40)} {question} {text(rng, 40)}", f"{question} no it is not {text(rng, 40)}"]
    config = config_of(tmp_path, {"web": web + quotes}, {}, decontaminate_words=13)
    config = replace(config, targets={"quiz": SourceConfig("tasks", path=str(tmp_path / "task.jsonl"))})
    assert kept(config)["web"] == set(web)


def test_settings_that_cannot_work_are_refused(tmp_path: Path) -> None:
    config = config_of(tmp_path, {"web": ["a"]}, {}, decontaminate_words=13)
    with pytest.raises(ConfigError, match=r"data\.decontaminate_words compares domains with data\.targets: name one"):
        check_config(config)
    with pytest.raises(ConfigError, match=r"data\.decontaminate_words is -1"):
        check_config(replace(config, decontaminate_words=-1))
    megatron = SourceConfig("megatron", path=str(tmp_path))
    given = TokenizerConfig("given", vocab_size=256)
    in_place = DataConfig("t", str(tmp_path), {"web": megatron}, {}, given, drop_near_duplicates=True)
    with pytest.raises(ConfigError, match=r"data\.domains\.web: token files that are read in place lose no documents"):
        check_config(in_place)


def test_each_setting_names_a_folder_of_its_own() -> None:
    plain = DataConfig("t", "", {"web": SourceConfig("jsonl", path="/x")})
    changed = [replace(plain, drop_near_duplicates=True), replace(plain, decontaminate_words=8)]
    assert len({config.identity for config in (plain, *changed)}) == 3
