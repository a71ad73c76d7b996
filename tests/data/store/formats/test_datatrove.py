"""Files that datatrove tokenises, shuffles and merges are read as datatrove reads them, for nanotron too."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from data.store.formats import FORMATS, FileSettings
from tests.data.store.formats.same import assert_same, random_documents

pytest.importorskip("datatrove.pipeline.tokens", reason="make trainers installs it")
from datatrove.data import Document
from datatrove.io import open_file
from datatrove.pipeline.tokens import DocumentTokenizer, DocumentTokenizerMerger
from datatrove.pipeline.tokens.merger import load_doc_ends
from datatrove.pipeline.tokens.tokenizer import TokenizedFile
from datatrove.utils.dataset import DatatroveFolderDataset

TEXTS = [f"Text {i} of several lengths. " * (i % 7 + 1) for i in range(60)]


def byte_tokenizer(path: Path) -> Tokenizer:
    """Write a tokenizer of single bytes and an end token."""
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({symbol: i for i, symbol in enumerate(symbols)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>"])
    tokenizer.save(str(path))
    return tokenizer


@pytest.mark.parametrize("reader", ["datatrove", "nanotron"])
def test_what_datatrove_tokenises_and_merges(reader: str, tmp_path: Path) -> None:
    tokenizer = byte_tokenizer(tmp_path / "tokenizer.json")
    step = DocumentTokenizer(str(tmp_path / "one"), str(tmp_path / "tokenizer.json"), eos_token="<|end|>", seed=3)
    step.run(iter(Document(text, str(i)) for i, text in enumerate(TEXTS)), rank=0, world_size=1)
    DocumentTokenizerMerger(str(tmp_path / "one"), str(tmp_path / "all"), "merged", seed=5).run([], 0, 1)
    for folder in ("one", "all"):
        (path,) = (tmp_path / folder).glob("*.ds")
        ends = load_doc_ends(open_file(f"{path}.index", "rb"))
        windows = DatatroveFolderDataset(str(path.parent), 0, token_size=2)
        flat = np.array([windows[i]["input_ids"].item() for i in range(int(ends[-1]))])
        documents = np.split(flat, ends[:-1].astype(int))
        assert assert_same(reader, path, documents) == "uint16"
        assert sorted(tokenizer.decode(document) for document in documents) == sorted(TEXTS)
        assert FORMATS[reader](path, FileSettings()).facts().tokenizer == str(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_both_widths_of_tokens(dtype: str, tmp_path: Path) -> None:
    documents = random_documents(100, dtype)
    size = np.dtype(dtype).itemsize
    file = TokenizedFile(str(tmp_path), "a.ds", save_final_metadata=True, token_size=size, tokenizer_name_or_path="x/y")
    for document in documents:
        file.write(document.tolist(), None)
    file.close()
    assert assert_same("datatrove", tmp_path / "a.ds", documents) == dtype
