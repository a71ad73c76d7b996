"""Cleaning, exact deduplication and splitting of documents."""

import unicodedata
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data.preparation.corpus import CleanDocument, clean, cleaned, splits_of
from data.readers.budget import BadDocuments
from data.store.tokens import SPLITS
from mixlaw.errors import DataError
from tests.data.tiny import sentences

any_text = st.text(st.characters() | st.sampled_from("\x00\r\n\t \x85\u0301\ud800e"))


def kept(documents: Iterable[str | bytes], least: int = 1, counts: Counter[str] | None = None) -> list[CleanDocument]:
    return list(cleaned(documents, least, BadDocuments(), Counter() if counts is None else counts))


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


def splits(keys: Iterable[bytes], eval_percent: int, test_percent: int) -> list[str]:
    numbers = np.frombuffer(b"".join(keys), ">u8").astype(np.uint64).reshape(-1, 2)
    return [SPLITS[split] for split in splits_of(numbers[:, 0], numbers[:, 1], eval_percent, test_percent)]


@given(st.lists(st.binary(min_size=16, max_size=16)), st.integers(0, 50), st.integers(0, 49))
@example([bytes(16), bytes([255] * 16)], 0, 0)
def test_the_split_is_the_percentile_of_the_hash(keys: list[bytes], eval_percent: int, test_percent: int) -> None:
    percentiles = [int.from_bytes(key) % 100 for key in keys]
    expected = [
        "eval" if p < eval_percent else "test" if p < eval_percent + test_percent else "train" for p in percentiles
    ]
    assert splits(keys, eval_percent, test_percent) == expected


def test_the_shares_of_the_splits_are_as_asked() -> None:
    found = Counter(splits([document.key for document in kept(sentences("tree", 4000))], 10, 20))
    assert sum(found.values()) == 4000
    assert abs(found["eval"] - 400) < 4 * 19  # 4 standard deviations of a binomial count
    assert abs(found["test"] - 800) < 4 * 26


def test_every_document_read_is_counted_once() -> None:
    counts = Counter[str]()
    texts = ["hello world", "hello world \r\n", "hi", "another one", "", " \r\n", "exact"]
    assert [document.raw for document in kept(texts, 5, counts)] == [
        b"hello world",
        b"hello world",
        b"another one",
        b"exact",
    ]
    assert counts == {"n_read": 7, "n_empty": 2, "n_short": 1}


@given(st.lists(any_text, max_size=20), st.integers(0, 6), st.booleans())
def test_the_counts_sum_to_what_was_read(texts: list[str], least: int, tokenised: bool) -> None:
    documents = (
        [np.frombuffer(t.encode("utf-16", "surrogatepass"), "<u2").astype("<u4").tobytes() for t in texts]
        if tokenised
        else texts
    )
    counts = Counter[str]()
    found = kept(documents, least, counts)
    assert counts["n_read"] == len(texts) == counts["n_empty"] + counts["n_short"] + len(found)
    assert all((len(d.raw) // 4 if tokenised else len(d.raw.decode())) >= max(least, 1) for d in found)


def test_token_files_count_tokens() -> None:
    documents, counts = [np.arange(n, dtype="<u4").tobytes() for n in (0, 7, 8, 9, 40)], Counter[str]()
    assert len(kept(documents, 8, counts)) == 3
    assert (counts["n_empty"], counts["n_short"]) == (1, 1)


def test_equal_texts_have_equal_digests_and_others_do_not() -> None:
    digests = [document.digest for document in kept(["a b", "a b \n", "a  b", "A b"])]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_one_bad_document_more_than_the_budget_stops() -> None:
    bad = BadDocuments(budget=1)
    assert bad.decode(b"\xff", "one.txt") is None
    with pytest.raises(DataError, match=r"^two\.txt: not UTF-8 .* bad documents so far: 2, allowed: 1"):
        bad.decode(b"\xff", "two.txt")
