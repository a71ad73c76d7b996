"""Files written by the documentation of each format are read token for token, or refused in a sentence."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.store.formats import FORMATS, FileSettings, TokenFile
from mixlaw.errors import DataError
from tests.data.store.formats.by_hand import (
    END,
    TYPES,
    WRITERS,
    Documents,
    write_datatrove,
    write_mds,
    write_megatron,
    write_olmo,
)

DOCUMENTS = [[11, 12, END], [21, END], [31, 32, 33, 34, END]]


def opened(reader: str, path: Path, dtype: str = "") -> TokenFile:
    """Open a file as an index does: with the type that it states, or the configured one."""
    first = FORMATS[reader](path, FileSettings(dtype, END))
    return FORMATS[reader](path, FileSettings(first.facts().dtype, END))


def check(reader: str, path: Path, documents: Documents, dtype: str, configured: str = "") -> None:
    """Assert that counts, boundaries and every slice of a file are those of its documents."""
    flat = [i for document in documents for i in document]
    file = opened(reader, path, configured)
    facts = file.facts()
    assert (facts.dtype, facts.n_tokens, facts.n_documents) == (dtype, len(flat), len(documents))
    bounds = file.bounds(np.arange(len(documents) + 1))
    assert bounds.tolist() == [0, *np.cumsum([len(document) for document in documents]).tolist()]
    assert file.bounds(np.array([len(documents), 0])).tolist() == [len(flat), 0]
    for start in range(0, len(flat), 3):
        for stop in range(start + 1, len(flat) + 1, 5):
            assert file.tokens(start, stop).tolist() == flat[start:stop]


lengths = st.lists(st.integers(0, 12), min_size=1, max_size=12)


def documents_of(lengths: list[int]) -> Documents:
    """Return documents of these lengths and an end token, in which every other token differs."""
    numbers = iter(range(10, 250))
    return [[*(next(numbers) % 127 for _ in range(length)), END] for length in lengths]


@pytest.mark.parametrize("reader", FORMATS)
@given(lengths=lengths, data=st.data())
def test_every_slice_and_every_boundary(
    reader: str, tmp_path_factory: pytest.TempPathFactory, lengths: list[int], data: st.DataObject
) -> None:
    dtype, documents = data.draw(st.sampled_from(TYPES[reader])), documents_of(lengths)
    path = WRITERS[reader](tmp_path_factory.mktemp(reader) / "a.b", documents, dtype)
    check(reader, path, documents, dtype, dtype if reader == "olmo" else "")


@given(lengths=lengths, sequences=st.integers(1, 4))
def test_a_document_of_megatron_has_several_sequences(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], sequences: int
) -> None:
    documents = documents_of(lengths)
    path = write_megatron(tmp_path_factory.mktemp("megatron") / "a", documents, "uint16", sequences)
    check("megatron", path, documents, "uint16")


@given(length=st.integers(0, 12), n=st.integers(1, 6), dtype=st.sampled_from(TYPES["mds"]), text=st.booleans())
@pytest.mark.parametrize("encoding", ["ndarray", "ndarray:{dtype}", "ndarray:{dtype}:{length}", "bytes"])
def test_encodings_of_mds(
    encoding: str, tmp_path_factory: pytest.TempPathFactory, length: int, n: int, dtype: str, text: bool
) -> None:
    documents = documents_of([length] * n)
    path = write_mds(tmp_path_factory.mktemp("mds") / "a", documents, dtype, encoding, text)
    check("mds", path, documents, dtype, dtype if encoding == "bytes" else "")


def test_documents_longer_than_255_tokens_in_mds(tmp_path: Path) -> None:
    documents = [[1] * 300 + [END], [2] * 5 + [END]]
    file = opened("mds", write_mds(tmp_path / "a", documents, "int32", "ndarray"))
    assert file.tokens(298, 305).tolist() == [1, 1, END, 2, 2, 2, 2]


def test_documents_of_olmo_end_at_the_end_token_where_they_are_not_listed(tmp_path: Path) -> None:
    check("olmo", write_olmo(tmp_path / "a", DOCUMENTS, listed=False), DOCUMENTS, "uint16", "uint16")
    open_end = [*DOCUMENTS, [41, 42]]
    check("olmo", write_olmo(tmp_path / "b", open_end, listed=False), open_end, "uint16", "uint16")


@pytest.mark.parametrize("reader", ["megatron", "datatrove", "mds"])
def test_a_file_without_documents(reader: str, tmp_path: Path) -> None:
    facts = FORMATS[reader](WRITERS[reader](tmp_path / "a", []), FileSettings()).facts()
    assert (facts.n_tokens, facts.n_documents) == (0, 0)


@pytest.mark.parametrize("reader", FORMATS)
def test_a_truncated_file_is_refused_by_its_name(reader: str, tmp_path: Path) -> None:
    path = WRITERS[reader](tmp_path / "a", DOCUMENTS)
    path.write_bytes(path.read_bytes()[:-4])
    said = refusal(reader, path, "uint16" if reader == "olmo" else "")
    assert str(path.with_suffix("")) in said
    assert "truncated" in said


@pytest.mark.parametrize(("reader", "index"), [("megatron", ".idx"), ("datatrove", ".ds.index")])
def test_a_missing_or_truncated_index_is_refused_by_its_name(reader: str, index: str, tmp_path: Path) -> None:
    path = WRITERS[reader](tmp_path / "a", DOCUMENTS)
    (tmp_path / f"a{index}").write_bytes((tmp_path / f"a{index}").read_bytes()[:-3])
    assert f"a{index}" in (said := refusal(reader, path))
    assert "truncated" in said
    (tmp_path / f"a{index}").unlink()
    assert f"a{index} is missing" in refusal(reader, path)


@pytest.mark.parametrize(("reader", "index"), [("megatron", ".idx"), ("datatrove", ".ds.index"), ("olmo", ".csv.gz")])
def test_the_index_of_another_file_is_refused(reader: str, index: str, tmp_path: Path) -> None:
    path = WRITERS[reader](tmp_path / "a", DOCUMENTS)
    WRITERS[reader](tmp_path / "b", [*DOCUMENTS, [41, END]])
    (tmp_path / f"b{index}").rename(tmp_path / f"a{index}")
    assert "another" in refusal(reader, path, "uint16" if reader == "olmo" else "")


@pytest.mark.parametrize("reader", FORMATS)
def test_a_type_that_contradicts_the_file_is_refused(reader: str, tmp_path: Path) -> None:
    path = WRITERS[reader](tmp_path / "a", DOCUMENTS)
    said = refusal(reader, path, {"megatron": "uint16", "mds": "uint16"}.get(reader, "uint32"))
    assert str(path.with_suffix("")) in said
    assert "uint" in said


def test_damaged_indices_of_megatron(tmp_path: Path) -> None:
    assert "token ids must be integers" in refusal("megatron", write_megatron(tmp_path / "f", DOCUMENTS, "float32"))
    path = write_megatron(tmp_path / "a", DOCUMENTS)
    raw = bytearray(path.with_suffix(".idx").read_bytes())
    raw[-8] = 1
    path.with_suffix(".idx").write_bytes(raw)
    assert "its last document ends at sequence 1 of 3" in refusal("megatron", path)
    path.with_suffix(".idx").write_bytes(b"TNTIDX\x00\x00" + bytes(40))
    assert "is not an index of Megatron-LM" in refusal("megatron", path)


def test_metadata_of_datatrove(tmp_path: Path) -> None:
    path = write_datatrove(tmp_path / "a", DOCUMENTS, "uint32")
    assert opened("datatrove", path).facts().tokenizer == "org/neox"
    metadata = Path(f"{path}.metadata")
    for text, found in (("gpt2\n10\n10 T", "gpt2"), ("Unknown Tokenizer|4\n10", ""), ("a|b/c|4\n10", "a|b/c")):
        metadata.write_text(text)
        assert opened("datatrove", path).facts().tokenizer == found
    metadata.write_text("gpt2|4\n9")
    assert "states 9 tokens" in refusal("datatrove", path)
    metadata.write_text("gpt2|2\n10")
    assert "of 2 bytes each" in refusal("datatrove", path)


def test_lists_of_olmo_that_are_damaged_or_leave_gaps(tmp_path: Path) -> None:
    path = write_olmo(tmp_path / "a", DOCUMENTS)
    listed = path.with_suffix(".csv.gz")
    with gzip.open(listed, "wt") as file:
        file.write("0,3\n4,10\n")
    assert "do not cover the 10 uint16 tokens" in refusal("olmo", path, "uint16")
    listed.write_bytes(listed.read_bytes()[:-12])
    assert f"{listed} cannot be read" in refusal("olmo", path, "uint16")
    listed.unlink()
    path.write_bytes(np.arange(20, 30, dtype="<u2").tobytes())
    assert f"the end token {END} does not occur" in refusal("olmo", path, "uint16")
    np.save(path, np.arange(10))
    assert "NumPy header" in refusal("olmo", path, "uint16")


def test_shards_of_mds_without_a_column_of_ids(tmp_path: Path) -> None:
    path = write_mds(tmp_path / "a", DOCUMENTS, text=True)
    for column, said in (("toks", "unknown column 'toks'"), ("text", "is of type str")):
        with pytest.raises(DataError, match=said):
            FORMATS["mds"](path, FileSettings(column=column)).facts()
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b'"column_sizes"', b'"column_gizes"'))
    assert "description of its columns is damaged" in refusal("mds", path)
    path.write_bytes(b"")
    assert "is empty" in refusal("mds", path)
    mixed = write_mds(tmp_path / "m", [[1, 2]], "int32", "ndarray").read_bytes()
    (tmp_path / "m.mds").write_bytes(mixed.replace(bytes([33, 4, 2]), bytes([34, 4, 2])))
    assert "not all of one integer type" in refusal("mds", tmp_path / "m.mds")


def refusal(reader: str, path: Path, dtype: str = "") -> str:
    """Return what is said about a file that cannot be used."""
    with pytest.raises(DataError) as caught:
        opened(reader, path, dtype)
    assert "\n" not in str(caught.value)
    return str(caught.value)
