"""The fast encoder gives the ids of `tokenizers` for every text, or is not used."""

import json
import sys
import unicodedata
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data.fast_bpe import fast_encoder
from data.tokenizers import BPE_END, BpeTokenizer, train_bpe
from tests.data.tiny import sentences

pytest.importorskip("gigatoken")
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
DIGITS = {"type": "Digits", "individual_digits": True}
SPLIT = {"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Isolated", "invert": False}
ADDED = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
SPACES = [{"id": 400 + n, "content": " " * n} | ADDED for n in range(2, 25)]
TOOL = ADDED | {"id": 401, "content": "<tool>", "normalized": False}  # also where normalisation composes its end
DECOMPOSED = ADDED | {"id": 402, "content": "o\u0308x"}
pieces = [
    "'s",
    "'LL",
    " ",
    "  ",
    "\n",
    "\t",
    "\x0b",
    "\x85",
    "\u2003",
    "\u3000",
    "\u0301",
    "\u0958",
    "12",
    "½",
    "٣",
    "é",
]
pieces += ["The tree", "stands beside", "网络", "👨\u200d👩", "🏽", "\U0010ffff", "\ufffc", BPE_END]
pieces += ["<|", "x" * 40, "<tool>", "\u0338", "o\u0308x", "\u00f6x"]
texts = st.lists(st.lists(st.text(max_size=4) | st.sampled_from(pieces), max_size=30).map("".join), max_size=8)


def backend(**changes: Any) -> Any:
    """Return a tokenizer like the learned one, with parts of its file changed."""
    from tokenizers import Tokenizer

    learned = train_bpe([*sentences("tree", 200), *sentences("naïve 网络", 20)], 400)
    facts = json.loads(learned._json)
    changes["added_tokens"] = facts["added_tokens"] + changes.get("added_tokens", [])
    changes["model"] = facts["model"] | changes.get("model", {})
    return BpeTokenizer(Tokenizer.from_str(json.dumps(facts | changes)))._backend


ALIKE: dict[str, dict[str, Any]] = {
    "learned": {},
    "prefix space": {"pre_tokenizer": BYTE_LEVEL | {"use_regex": True, "add_prefix_space": True}},
    "split as Llama 3": {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [SPLIT, BYTE_LEVEL]}},
    "whole words": {"model": {"ignore_merges": True}},
    "as GPT-NeoX": {"normalizer": {"type": "NFC"}, "added_tokens": SPACES},
    "as Qwen": {"normalizer": {"type": "NFC"}, "added_tokens": [TOOL]},
    "decomposed token": {"normalizer": {"type": "NFC"}, "added_tokens": [DECOMPOSED]},
}


@pytest.fixture(scope="module", params=ALIKE)
def both(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """Return a tokenizer and its fast encoder."""
    slow = backend(**ALIKE[request.param])
    fast = fast_encoder(slow)
    assert fast is not None
    return slow, fast


@given(texts=texts)
@example(texts=[])
@example(texts=[chr(c) for c in range(0x3400) if c < 0xD800])
@example(texts=[f" a{chr(c)}1 \n" for c in range(0x1F000, 0x1FFFF, 7)])
def test_all_ids_are_equal(both: tuple[Any, Any], texts: list[str]) -> None:
    slow, fast = both
    expected = [encoding.ids for encoding in slow.encode_batch_fast(texts, add_special_tokens=False)]
    assert [ids.tolist() for ids in fast(texts)] == expected


def class_model() -> dict[str, Any]:
    """Return merges of "a", "1" and "." with the bytes around them: ids then show the class of every character."""
    from tokenizers.pre_tokenizers import ByteLevel

    symbols = sorted(ByteLevel.alphabet())
    high = [symbol for symbol in symbols if symbol >= "\u0122" or "\xa1" <= symbol <= "\xff"]  # of bytes above 0x7f
    merges = [pair for edge in "aA1." for byte in high for pair in ([edge, byte], [byte, edge])]
    tokens = [BPE_END, *symbols, *map("".join, merges)]
    return {"vocab": {token: number for number, token in enumerate(tokens)}, "merges": merges}


def assert_equal_classes(pre_tokenizer: str, characters: Iterable[str]) -> None:
    slow = backend(**ALIKE[pre_tokenizer], model=class_model())
    fast = fast_encoder(slow)
    assert fast is not None
    texts = [f"a{c}a A{c}A 1{c}1 .{c}. {c}{c}\n" for c in characters]
    expected = [encoding.ids for encoding in slow.encode_batch_fast(texts, add_special_tokens=False)]
    assert [ids.tolist() for ids in fast(texts)] == expected


@pytest.mark.parametrize("pre_tokenizer", ["learned", "split as Llama 3"])
def test_characters_that_are_new_in_unicode_17_have_equal_ids(pre_tokenizer: str) -> None:
    assert_equal_classes(
        pre_tokenizer, ["\u1ae8", "\U00011de8", "\U00016ea8", "\U00018db7", "\U000323e8", "\U00040000"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("pre_tokenizer", ["learned", "split as Llama 3"])
def test_all_characters_are_of_equal_classes(pre_tokenizer: str) -> None:
    codes = (code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) not in ("Cn", "Co", "Cs"))
    assert_equal_classes(pre_tokenizer, map(chr, codes))


@pytest.mark.parametrize(
    "text", ["<tool>\u0338 e\u0301", "<\u0338tool>", "o\u0308x \u00f6x \u00f6\u0308x", "foo<tool>e\u0301"]
)
@pytest.mark.parametrize("tokens", ["as Qwen", "decomposed token"])
def test_added_tokens_are_found_before_or_after_normalisation(tokens: str, text: str) -> None:
    slow = backend(**ALIKE[tokens])
    fast = fast_encoder(slow)
    assert fast is not None
    assert fast([text])[0].tolist() == slow.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"byte_fallback": True}},
        {"model": {"dropout": 0.1}},
        {"added_tokens": [{"id": 401, "content": "<mask>"} | ADDED | {"lstrip": True}]},
        {"added_tokens": [TOOL, DECOMPOSED]},
        {
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL],
            }
        },
    ],
    ids=["byte fallback", "dropout", "stripped token", "two kinds of tokens", "unknown pre-tokenizer"],
)
def test_a_tokenizer_with_other_parts_is_not_encoded_with_it(changes: dict[str, Any]) -> None:
    assert fast_encoder(backend(**changes)) is None
