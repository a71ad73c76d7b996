"""Cleaning, exact deduplication and splitting of documents."""

import unicodedata
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data.preparation.corpus import Corpus, clean, collect, drop_shared_concepts, drop_shared_documents, split_of
from data.readers.budget import BadDocuments
from data.readers.documents import IMAGE, Document
from mixlaw.errors import DataError
from tests.data.tiny import sentences

any_text = st.text(st.characters() | st.sampled_from("\x00\r\n\t \x85\u0301\ud800e"))


def corpus(folder: Path, texts: Iterable[str], name: str = "x", min_chars: int = 1) -> Corpus:
    return collect(texts, folder / name, min_chars, BadDocuments())


@given(any_text)
@example("\r\r\n \x00\n")
@example("e\x00\u0301 \t")
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    assert clean(clean(text)) == clean(text)


@given(any_text)
def test_cleaned_text_is_normal_utf8_without_control_characters(text: str) -> None:
    cleaned = clean(text)
    assert unicodedata.is_normalized("NFC", cleaned)
    assert 0 not in cleaned.encode("utf-8")
    assert not any(unicodedata.category(c) == "Cc" and c not in "\n\t" for c in cleaned)
    assert not any(line.endswith((" ", "\t")) for line in cleaned.split("\n"))


def test_cleaning_keeps_indentation_and_inner_blank_lines() -> None:
    assert clean("\n\nif x:\r\n\ty \t\n\n    z\r\n") == "if x:\n\ty\n\n    z"


def test_the_split_of_a_document_depends_on_its_text_alone(tmp_path: Path) -> None:
    texts = sentences("tree", 500)
    few, many = corpus(tmp_path, texts[100:], "few"), corpus(tmp_path, reversed(texts), "many")
    for split in ("train", "eval", "test"):
        chosen = set(many.digests(split, 5, 5))
        assert set(few.digests(split, 5, 5)) == chosen & set(few.spans)


def test_the_shares_of_the_splits_are_as_asked(tmp_path: Path) -> None:
    whole = corpus(tmp_path, sentences("tree", 4000))
    sizes = {split: len(whole.digests(split, 10, 20)) for split in ("train", "eval", "test")}
    assert sum(sizes.values()) == 4000
    assert abs(sizes["eval"] - 400) < 4 * 19  # 4 standard deviations of a binomial count
    assert abs(sizes["test"] - 800) < 4 * 26


@given(st.binary(min_size=16, max_size=16), st.integers(0, 50), st.integers(0, 49))
def test_without_a_share_a_split_stays_empty(digest: bytes, eval_percent: int, test_percent: int) -> None:
    assert split_of(digest, 0, test_percent) != "eval"
    assert split_of(digest, eval_percent, 0) != "test"


def test_documents_come_in_the_order_of_their_hash_whatever_the_order_of_reading(tmp_path: Path) -> None:
    texts = sentences("tree", 50)
    one, two = corpus(tmp_path, texts, "one"), corpus(tmp_path, reversed(texts), "two")
    assert list(one.texts(one.digests("train", 5, 5))) == list(two.texts(two.digests("train", 5, 5)))
    assert list(one.texts(one.digests("train", 0, 0))) != [clean(text) for text in texts]


def test_every_document_read_is_counted_once(tmp_path: Path) -> None:
    bad = BadDocuments(budget=1)
    raw = (b"caf\xe9", b"hello world", b"hello world \r\n", b"hi", b"another one", b"", b" \r\n", b"exact")
    texts = [bad.decode(document, "x") for document in raw]
    whole = collect([t for t in texts if t is not None], tmp_path / "x", 5, bad)
    expected = {"n_read": 8, "n_bad": 1, "n_empty": 2, "n_short": 1, "n_duplicate": 1, "n_in_other_domain": 0}
    assert dict(whole.counts) == expected | {"n_documents": 3}


@given(st.lists(any_text, max_size=20), st.integers(0, 6), st.booleans())
def test_the_counts_sum_to_what_was_read(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], least: int, tokenised: bool
) -> None:
    documents = (
        [np.frombuffer(t.encode("utf-16", "surrogatepass"), "<u2").astype("<u4").tobytes() for t in texts]
        if tokenised
        else texts
    )
    whole = collect(documents, tmp_path_factory.mktemp("x") / "x", least, BadDocuments())
    counts = dict(whole.counts)
    assert counts.pop("n_read") == len(texts) == sum(counts.values())
    kept = list(whole.raw(whole.spans))
    assert counts["n_documents"] == len(kept)
    assert all((len(raw) // 4 if tokenised else len(raw.decode())) >= max(least, 1) for raw in kept)


def test_token_files_count_tokens(tmp_path: Path) -> None:
    documents = [np.arange(n, dtype="<u4").tobytes() for n in (0, 7, 8, 9, 40)]
    counts = collect(documents, tmp_path / "x", 8, BadDocuments()).counts
    assert (counts["n_empty"], counts["n_short"], counts["n_documents"]) == (1, 1, 3)


def test_what_a_target_shows_is_left_out_of_the_domains(tmp_path: Path) -> None:
    """Captions of one picture are about the same, whatever they say."""
    pixels = [np.full((2, 2, 3), i, np.uint8) for i in range(3)]

    def of(name: str, *shown: int) -> Corpus:
        pictures = [Document(f"{IMAGE}{name} {i}", (pixels[i],)) for i in shown]
        return collect(pictures, tmp_path / name, 1, BadDocuments(), 2)

    target, domain, other = of("target", 0), of("domain", 0, 1, 2), of("other", 2)
    drop_shared_concepts([target], [domain, other])
    assert [len(c.spans) for c in (target, domain, other)] == [1, 2, 1]
    assert domain.counts["n_in_other_domain"] == 1
    assert domain.counts["n_documents"] == 2


def test_documents_of_an_earlier_corpus_are_dropped_from_later_ones(tmp_path: Path) -> None:
    target = corpus(tmp_path, ["a b", "c d"], "target")
    first, second = corpus(tmp_path, ["c d", "e f"], "first"), corpus(tmp_path, ["e f", "a b", "g h"], "second")
    drop_shared_documents([target, first, second])
    texts = [sorted(c.texts(c.spans)) for c in (target, first, second)]
    assert texts == [["a b", "c d"], ["e f"], ["g h"]]
    assert second.counts["n_in_other_domain"] == 2
    assert second.counts["n_documents"] == 1


def test_a_corpus_without_documents_can_be_read(tmp_path: Path) -> None:
    assert list(corpus(tmp_path, ["  "]).texts([])) == []


def test_one_bad_document_more_than_the_budget_stops(tmp_path: Path) -> None:
    bad = BadDocuments(budget=1)
    assert bad.decode(b"\xff", "one.txt") is None
    with pytest.raises(DataError, match=r"^two\.txt: not UTF-8 .* bad documents so far: 2, allowed: 1"):
        bad.decode(b"\xff", "two.txt")
