"""Byte-level BPE with gigatoken, if it is installed: the ids of `tokenizers`, many times as fast.

Only tokenizers with parts for which both libraries gave equal ids in the tests are encoded with it, and odd texts are
compared once more for each tokenizer. Special tokens inside a text are text for it, as they are everywhere here.

The libraries know different versions of Unicode (tokenizers 0.23: 16, gigatoken 0.10: 17), so a character that is a
letter for one is unassigned for the other. Texts with characters that Python's Unicode lacks are left to `tokenizers`.
"""

import json
import sys
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
PLAIN_MODEL = {  # of the file's `model`; other values make other tokens
    "type": ("BPE",),
    "dropout": (None, 0.0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "byte_fallback": (False,),
}
PROBES = (
    "",
    " ",
    "  \n\n \t\r\n x",
    "it's I'M we'LL they're 'tis O'Neill's",
    "a1b22c333d4444 1234567890 ½²Ⅷ٣௧",
    "naïve Ångström e\u0301\u0302 \u0344\u0958 ﬁ ǅ ß İi",
    "网络 日本語テキスト 한국어 ไทย עברית العربية हिन्दी 𐍈𑨴",
    "👨‍👩‍👧‍👦🏽 \U000e0020\U0010ffff\ufffd\ufffc\u200b\u2028\u3000\xa0",
    "<|end|> <|endoftext|> </s>[MASK]<mask>",
    "def f(x):\n\treturn {'a': [1.5e-3, -x]}  # …\n\n\n",
    "https://example.org/a?b=c&d=%20#e",
    "x" * 300,
    " " * 50 + "\n" * 9,
)


def fast_encoder(backend: Any) -> Callable[[Sequence[str]], list[Ids]] | None:
    """Return what gives the ids of several texts, or None if gigatoken is missing or not known to give equal ones.

    Parameters
    ----------
    backend : a `tokenizers.Tokenizer` that encodes special tokens as text
    """
    facts = json.loads(backend.to_str())
    normalized, added = _normalizer(backend, facts), [t for t in facts["added_tokens"] if not t["special"]]
    tokenizer = _gigatoken(facts, [t | {"content": normalized(t["content"])} if t["normalized"] else t for t in added])
    if tokenizer is None:
        return None
    unnormalized = [token["content"] for token in added if not token["normalized"]]

    def encode(texts: Sequence[str]) -> list[Ids]:
        normal = [normalized(text) for text in texts]
        found = _arrays(tokenizer.encode_batch(normal))
        for i, (text, changed) in enumerate(zip(texts, normal, strict=True)):
            if _has_new_characters(text) or (text != changed and any(t in text or t in changed for t in unnormalized)):
                found[i] = np.array(backend.encode(text, add_special_tokens=False).ids, np.int64)
        return found

    expected = backend.encode_batch_fast(list(PROBES), add_special_tokens=False)
    return encode if [ids.tolist() for ids in encode(PROBES)] == [e.ids for e in expected] else None


def _gigatoken(facts: dict[str, Any], added: list[dict[str, Any]]) -> Any:
    """Return gigatoken's tokenizer of texts that are normalised, or None if it does not know all parts of the file."""
    try:
        import gigatoken
    except ImportError:
        return None
    if not _is_known(facts):
        return None
    try:
        return gigatoken.Tokenizer.from_json(json.dumps(facts | {"added_tokens": added, "normalizer": None}))
    except RuntimeError:  # it does not know the pre-tokenizer
        return None


def _arrays(found: Any) -> list[Ids]:
    """Return the ids of each text of an Awkward array."""
    import awkward

    ids = np.asarray(awkward.flatten(found)).astype(np.int64)
    ends = np.cumsum(np.asarray(awkward.num(found)), dtype=np.int64).tolist()
    return [ids[start:end] for start, end in pairwise([0, *ends])]


def _has_new_characters(text: str) -> bool:
    return not text.isascii() and bool(_unassigned()[np.frombuffer(text.encode("utf-32-le"), "<u4")].any())


@cache
def _unassigned() -> NDArray[np.bool_]:
    """Return which code points are no characters in this Python's version of Unicode."""
    return np.array([unicodedata.category(chr(code)) == "Cn" for code in range(sys.maxunicode + 1)])


def _normalizer(backend: Any, facts: dict[str, Any]) -> Callable[[str], str]:
    """Return the normalisation of `tokenizers`; gigatoken has other tables of Unicode."""
    if not backend.normalizer:
        return lambda text: text
    if facts["normalizer"] == {"type": "NFC"}:  # which is slow, and changes no ASCII
        return lambda text: text if text.isascii() else str(backend.normalizer.normalize_str(text))
    return lambda text: str(backend.normalizer.normalize_str(text))


def _is_known(facts: dict[str, Any]) -> bool:
    """Return whether a tokenizer's file has only parts that are encoded alike."""
    if any(facts["model"].get(key, values[0]) not in values for key, values in PLAIN_MODEL.items()):
        return False
    added = [token for token in facts["added_tokens"] if not token["special"]]
    if len({token["normalized"] for token in added}) > 1:  # `tokenizers` looks for one kind before the other
        return False
    return not any(token[key] for token in added for key in ("single_word", "lstrip", "rstrip"))
