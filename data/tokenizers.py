"""Tokenizers: bytes, byte-level BPE learned on the training documents, pretrained, or unknown (files of token ids)."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from data.config import TokenizerConfig
from data.fast_bpe import fast_encoder
from data.network import unreachable
from mixlaw.errors import ConfigError, DataError
from mixlaw.paths import expand_path

BYTE_VOCAB = 256
BYTE_END = 0  # NUL, which cleaned texts do not contain
BPE_END = "<|end|>"
FILE_NAME = "tokenizer.json"
BATCH_CHARS = 4_000_000  # per batch: enough for all cores, and small in memory

Ids = NDArray[np.int64]


class Tokenizer(Protocol):
    """Interface of a tokenizer for preparation, trainer and export."""

    kind: str
    vocab_size: int
    end_id: int
    sha256: str

    def encode(self, text: str) -> Ids:
        """Return the ids of a text, without an end token."""

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """Return the ids of several texts."""

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids; bytes that are not UTF-8 become U+FFFD."""

    def save(self, folder: Path) -> None:
        """Write the files that `load_tokenizer` needs besides the manifest."""

    def to_transformers(self) -> Any:
        """Return the same tokenizer as a `transformers.PreTrainedTokenizerFast`."""


class ByteTokenizer:
    """One token per UTF-8 byte, with the byte as id; NUL ends a document."""

    kind = "bytes"
    vocab_size = BYTE_VOCAB
    end_id = BYTE_END
    sha256 = hashlib.sha256(b"bytes: id = value, end = 0").hexdigest()

    def encode(self, text: str) -> Ids:
        """Return one id per UTF-8 byte."""
        return np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.int64)

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """Return the ids of several texts."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids; bytes that are not UTF-8 become U+FFFD."""
        return bytes(int(i) for i in ids).decode("utf-8", errors="replace")

    def save(self, folder: Path) -> None:
        """Write nothing: this tokenizer has no parameters."""

    def to_transformers(self) -> Any:
        """Return a byte-level BPE without merges, whose 256 symbols have the values of the bytes as ids."""
        from tokenizers import Tokenizer as Backend
        from tokenizers import decoders, models, pre_tokenizers

        symbols = byte_symbols()
        backend = Backend(models.BPE(vocab={symbol: value for value, symbol in enumerate(symbols)}, merges=[]))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.decoder = decoders.ByteLevel()
        return _wrapped(backend, symbols[BYTE_END])


def byte_symbols() -> list[str]:
    """Return the printable character that byte-level BPE uses for each of the 256 bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (b for b in range(256) if b not in printable)
    stand_in = {byte: 256 + rank for rank, byte in enumerate(others)}
    return [chr(stand_in.get(byte, byte)) for byte in range(256)]


class BpeTokenizer:
    """A byte-level BPE; it contains all bytes, so decoding inverts encoding for every text.

    Parameters
    ----------
    backend : a `tokenizers.Tokenizer`
    """

    kind = "bpe"

    def __init__(self, backend: Any, end: str = BPE_END) -> None:
        backend.encode_special_tokens = True  # "<|end|>" inside a text is encoded as text
        backend.no_truncation()  # both may be enabled in the tokenizer's file
        backend.no_padding()
        self._backend, self._end = backend, end
        self._json = backend.to_str()
        self.vocab_size = int(backend.get_vocab_size())
        self.end_id = int(backend.token_to_id(end))
        self.sha256 = hashlib.sha256(self._json.encode()).hexdigest()

    def encode(self, text: str) -> Ids:
        """Return the ids of a text, without an end token."""
        return np.array(self._backend.encode(text, add_special_tokens=False).ids, dtype=np.int64)

    @cached_property
    def _fast(self) -> Callable[[Sequence[str]], list[Ids]] | None:
        return fast_encoder(self._backend)

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """Return the ids of several texts, on all cores."""
        if self._fast:
            return self._fast(texts)
        encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids; bytes that are not UTF-8 become U+FFFD."""
        return str(self._backend.decode([int(i) for i in ids], skip_special_tokens=False))

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json`, which transformers can read too."""
        (folder / FILE_NAME).write_text(self._json, encoding="utf-8")

    def to_transformers(self) -> Any:
        """Return the same tokenizer as a `transformers.PreTrainedTokenizerFast` that adds no special tokens by default.

        The post-processor, which adds them, is removed; `encode` does not use it either.
        """
        plain = type(self._backend).from_str(json.dumps(json.loads(self._json) | {"post_processor": None}))
        plain.encode_special_tokens = True
        return _wrapped(plain, self._end)

    def added_by_default(self) -> list[str]:
        """Return the special tokens that the original tokenizer adds to a text; `encode` does not add them."""
        with_special, without = (self._backend.encode("a", add_special_tokens=add).tokens for add in (True, False))
        return list((Counter(with_special) - Counter(without)).elements())


class PretrainedTokenizer(BpeTokenizer):
    """A tokenizer of any kind, from the hub or a local folder.

    Parameters
    ----------
    backend : a `tokenizers.Tokenizer`
    end : the symbol that ends a document
    """

    kind = "pretrained"

    def __init__(self, backend: Any, end: str) -> None:
        super().__init__(backend, end)
        ids = backend.get_vocab(with_added_tokens=True).values()
        self.vocab_size = max(ids) + 1  # ids may have gaps


class GivenTokenizer:
    """The tokenizer of files of token ids, of which only size, end token and perhaps the name are known."""

    kind = "given"

    def __init__(self, vocab_size: int, end_id: int, name: str = "") -> None:
        self.vocab_size, self.end_id, self.name = vocab_size, end_id, name
        known = f"given: {vocab_size} symbols, end = {end_id}" + f", name = {name}" * bool(name)
        self.sha256 = hashlib.sha256(known.encode()).hexdigest()

    def encode(self, text: str) -> Ids:
        """Raise DataError: the tokenizer is not known."""
        raise DataError("these data were tokenised elsewhere, and their tokenizer is not known: use ids, not text")

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """Raise DataError: the tokenizer is not known."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the ids as decimal numbers."""
        return " ".join(str(int(i)) for i in ids)

    def save(self, folder: Path) -> None:
        """Write nothing: the manifest has the size and the end token."""

    def to_transformers(self) -> Any:
        """Raise DataError: the tokenizer is not known."""
        raise DataError("these data were tokenised elsewhere: copy that tokenizer into the model's folder yourself")


def load_pretrained(path: str) -> PretrainedTokenizer:
    """Return a tokenizer of the hub or of a local folder; its end-of-sequence token ends documents.

    Raises
    ------
    DataError
        If it cannot be loaded, has no fast version, or has no end-of-sequence token.
    """
    path = expand_path(path, "data.tokenizer.path")
    why = "" if Path(path).exists() else _hub_unreachable(path)
    from transformers import AutoTokenizer  # takes seconds to import; errors above come first

    options = {"use_fast": True, "trust_remote_code": False, "local_files_only": bool(why)}
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        cause = why or (str(error).strip().split("\n")[0] or type(error).__name__)[:200]
        raise DataError(f"data.tokenizer.path: no tokenizer can be loaded from {path}: {cause}") from None
    backend, end = getattr(tokenizer, "backend_tokenizer", None), tokenizer.eos_token
    if backend is None or not end:
        raise DataError(f"data.tokenizer.path: {path} has no fast tokenizer with an end-of-sequence token")
    return PretrainedTokenizer(backend, str(end))


def _hub_unreachable(name: str) -> str:
    """Return why the hub cannot be reached; the empty string if it can, or if the hub is set to offline mode.

    Raises
    ------
    DataError
        If it cannot be reached, and the local cache does not contain the tokenizer.
    """
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    why = "" if constants.HF_HUB_OFFLINE else unreachable([constants.ENDPOINT])
    try:
        cached = not why or isinstance(try_to_load_from_cache(name, "tokenizer_config.json"), str)
    except HFValidationError:
        cached = False
    if not cached:
        raise DataError(
            f"data.tokenizer.path: {name} is neither a local folder nor in the hub's cache, and {why}: check the path "
            "or the network"
        )
    return why


def _wrapped(backend: Any, end: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    options = {"clean_up_tokenization_spaces": False, "split_special_tokens": True}
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=end, **options)


def train_bpe(texts: Iterable[str], vocab_size: int) -> BpeTokenizer:
    """Learn a byte-level BPE with exactly `vocab_size` symbols, including the end token.

    Raises
    ------
    DataError
        If there is too little text for that many symbols.
    """
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers, trainers

    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BPE_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer=trainer)
    size = backend.get_vocab_size()
    if size != vocab_size:
        raise DataError(
            f"data.tokenizer.vocab_size: the documents give only {size} symbols, not {vocab_size}: set it lower"
        )
    return BpeTokenizer(backend)


def check_tokenizer(config: TokenizerConfig) -> None:
    """Check path, vocabulary size and end token against the kind of tokenizer.

    Raises
    ------
    ConfigError
        Naming the setting.
    """
    where = "data.tokenizer.vocab_size"
    if config.kind == "pretrained" and not config.path:
        raise ConfigError("data.tokenizer.path: missing; kind=pretrained needs a repository of the hub or a folder")
    if config.kind == "given" and not 0 <= config.end_id < config.vocab_size:
        raise ConfigError(
            f"data.tokenizer.end_id is {config.end_id}; it must be from 0 to below vocab_size, {config.vocab_size}"
        )
    if config.kind == "bytes" and config.vocab_size != BYTE_VOCAB:
        raise ConfigError(
            f"{where} is {config.vocab_size}, but kind=bytes always has {BYTE_VOCAB}: set data.tokenizer.kind=bpe"
        )
    if config.kind == "bpe" and config.vocab_size <= BYTE_VOCAB:
        raise ConfigError(
            f"{where} is {config.vocab_size}; bpe needs at least {BYTE_VOCAB + 1}: all bytes and the end token"
        )


def load_tokenizer(folder: Path, facts: dict[str, Any]) -> Tokenizer:
    """Return the tokenizer of a prepared folder.

    Parameters
    ----------
    facts : the manifest's entry `tokenizer`

    Raises
    ------
    DataError
        If its file is missing, damaged, or differs from the one that made the tokens.
    """
    if facts["kind"] == "bytes":
        return ByteTokenizer()
    if facts["kind"] == "given":
        return GivenTokenizer(facts["vocab_size"], facts["end_id"], facts.get("name", ""))
    from tokenizers import Tokenizer as Backend

    path = folder / FILE_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}): delete {folder} and run `python -m data.prepare`") from None
    if hashlib.sha256(text.encode()).hexdigest() != facts["sha256"]:
        raise DataError(f"{path} differs from its manifest (sha256): delete {folder} and run `python -m data.prepare`")
    backend = Backend.from_str(text)
    if facts["kind"] == "pretrained":
        return PretrainedTokenizer(backend, str(backend.id_to_token(facts["end_id"])))
    return BpeTokenizer(backend)


def batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Group texts into batches of about `BATCH_CHARS` characters."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= BATCH_CHARS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
