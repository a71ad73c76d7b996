"""Random access to tar shards: what is read is what was written, and whatever is damaged has a name."""

import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset
from webdataset import TarWriter
from webdataset.tariterators import group_by_keys, tar_file_expander

from data.readers.webdataset import MOST_HANDLES, ShardIndex, TarShards
from mixlaw.errors import DataError

Members = list[tuple[str, bytes]]
BLOCK = 512


def write_tar(path: Path, members: Members, format: int = tarfile.GNU_FORMAT, **facts: object) -> Path:
    """Write members in their order; `facts` are set on each."""
    with tarfile.open(path, "w", format=format) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            vars_of = {"type": tarfile.DIRTYPE} if name.endswith("/") else facts
            for key, value in vars_of.items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(content))
    return path


def three(path: Path) -> Path:
    """Write three samples of two members, 600 and 5 bytes, so that the headers are at 0, 1536, 2560, 4096, ..."""
    return write_tar(path, [(f"k{i}.{s}", s[:1].encode() * n) for i in range(3) for s, n in (("jpg", 600), ("txt", 5))])


def edit(path: Path, at: int, new: bytes) -> Path:
    raw = bytearray(path.read_bytes())
    raw[at : at + len(new)] = new
    path.write_bytes(raw)
    return path


def resealed(path: Path, at: int, new: bytes, header: int) -> Path:
    """Change a header and make its checksum right again."""
    edit(path, at, new)
    raw = path.read_bytes()[header : header + BLOCK]
    return edit(path, header + 148, b"%06o\0 " % (sum(raw) - sum(raw[148:156]) + 8 * 32))


def by_webdataset(paths: list[Path]) -> list[tuple[str, dict[str, bytes]]]:
    """Return key and members of each sample, as webdataset reads them."""
    found = []
    for path in paths:
        with path.open("rb") as file:
            for sample in group_by_keys(tar_file_expander([{"url": path.name, "stream": file}])):
                found.append((sample["__key__"], {k: v for k, v in sample.items() if not k.startswith("__")}))
    return found


def by_us(shards: TarShards) -> list[tuple[str, dict[str, bytes]]]:
    return list(zip(shards.keys, map(shards.sample, range(len(shards))), strict=True))


def test_samples_are_what_webdataset_wrote_and_reads(tmp_path: Path) -> None:
    paths = []
    for shard in range(3):
        paths.append(tmp_path / f"a-{shard}.tar")
        with TarWriter(str(paths[-1])) as writer:
            for i in range(5):
                writer.write({"__key__": f"dir.v1/{shard}{i}", "JPG": os.urandom(300 * i), "seg.json": {"i": i}})
    shards = TarShards(paths)
    assert len(shards) == 15
    assert shards.kinds == {"jpg": 15, "seg.json": 15}
    assert by_us(shards) == by_webdataset(paths)
    assert shards.where(7) == f"{paths[1]}: dir.v1/12"


LETTERS = st.text("abé/", min_size=1, max_size=150).filter(lambda t: not t.startswith("/"))
CONTENTS = st.binary(max_size=1500)


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@given(
    samples=st.dictionaries(LETTERS, st.dictionaries(st.sampled_from(["jpg", "txt", "x.json"]), CONTENTS, min_size=1))
)
@example(samples={"a" * 98 + "/" + "b" * 90: {"txt": b"long"}, "é" * 120: {"txt": b"longer"}})
def test_names_of_any_kind_and_length_are_read_as_webdataset_reads_them(
    tmp_path_factory: pytest.TempPathFactory, format: int, samples: dict[str, dict[str, bytes]]
) -> None:
    stems = {f"{name}k{i}": members for i, (name, members) in enumerate(samples.items())}
    members = [(f"{stem}.{suffix}", raw) for stem, found in stems.items() for suffix, raw in found.items()]
    path = tmp_path_factory.mktemp("any") / "a.tar"
    try:
        write_tar(path, [("folder/", b""), *members], format)
    except ValueError:  # ustar has no room for this name
        assert format == tarfile.USTAR_FORMAT
        return
    if members:
        assert by_us(TarShards([path])) == by_webdataset([path])


def test_folders_and_webdatasets_own_notes_are_left_out(tmp_path: Path) -> None:
    members = [("d/", b""), ("__note__", b"x"), ("d/k.a", b"1"), ("d/", b""), ("d/k.b", b"2"), ("__x__/y.z", b"")]
    assert by_us(TarShards([write_tar(tmp_path / "a.tar", members)])) == [("d/k", {"a": b"1", "b": b"2"})]


def test_a_body_of_8_gib_and_more_has_a_size_in_binary(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("k.txt", b"x" * 700)])
    resealed(path, 124, b"\x80" + (700).to_bytes(11, "big"), header=0)
    assert by_us(TarShards([path])) == [("k", {"txt": b"x" * 700})]


def test_an_index_is_kept_and_used_until_the_shard_changes(tmp_path: Path) -> None:
    path, folder = three(tmp_path / "a.tar"), tmp_path / "indices"
    expected = by_us(TarShards([path], folder))
    (kept,) = folder.iterdir()
    facts = path.stat()
    edit(path, 0, bytes(BLOCK))  # the second opening reads no header
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert by_us(TarShards([path], folder)) == expected
    os.utime(path)
    with pytest.raises(DataError, match=r"a\.tar"):
        TarShards([path], folder)
    assert list(folder.iterdir()) == [kept]


@pytest.mark.parametrize("damage", [lambda raw: b"", lambda raw: raw[:-1], lambda raw: raw[:40] + b"?" + raw[41:]])
def test_a_damaged_index_is_made_again(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path, folder = three(tmp_path / "a.tar"), tmp_path / "indices"
    expected = by_us(TarShards([path], folder))
    (kept,) = folder.iterdir()
    right = kept.read_bytes()
    kept.write_bytes(damage(right))
    assert by_us(TarShards([path], folder)) == expected
    assert kept.read_bytes() == right


def test_an_index_survives_its_way_through_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "indices"
    TarShards([three(tmp_path / "a.tar")], folder)
    raw = next(folder.iterdir()).read_bytes()
    index = ShardIndex.from_bytes(raw)
    assert index is not None
    assert index.keys == b"k0\0k1\0k2\0"
    assert index.first_member.tolist() == [0, 2, 4, 6]
    assert index.to_bytes() == raw


def test_a_folder_where_nothing_can_be_written_is_no_matter(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert len(TarShards([three(tmp_path / "a.tar")], tmp_path / "file" / "below")) == 3


def n_open() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_few_files_are_open_at_a_time_and_none_afterwards(tmp_path: Path) -> None:
    paths = [three(tmp_path / f"{i}.tar") for i in range(MOST_HANDLES + 3)]
    before = n_open()
    shards = TarShards(paths)
    assert n_open() == before
    expected = {"jpg": b"j" * 600, "txt": b"t" * 5}
    assert all(shards.sample(i) == expected for _ in range(2) for i in range(len(shards)))
    assert n_open() == before + MOST_HANDLES
    shards.close()
    assert n_open() == before
    assert shards.sample(0) == expected
    del shards
    assert n_open() == before


class Samples(Dataset[dict[str, bytes]]):
    """What a DataLoader wants."""

    def __init__(self, shards: TarShards) -> None:
        self.shards = shards

    def __getitem__(self, i: int) -> dict[str, bytes]:
        return self.shards.sample(i)


def test_forked_readers_share_the_shards(tmp_path: Path) -> None:
    paths = [write_tar(tmp_path / f"{s}.tar", [(f"{s}{i}.n", b"%d %d" % (s, i)) for i in range(50)]) for s in range(2)]
    shards = TarShards(paths)
    here = [shards.sample(i) for i in range(100)]
    order = [i * 37 % 100 for i in range(100)]
    loader = DataLoader(Samples(shards), batch_size=None, sampler=order, num_workers=2, multiprocessing_context="fork")
    assert list(loader) == [here[i] for i in order]
    assert shards.sample(0) == here[0]


def test_a_copy_for_another_process_opens_its_own_files(tmp_path: Path) -> None:
    shards = TarShards([three(tmp_path / "a.tar")])
    shards.sample(0)
    sent = pickle.dumps(shards)
    shards.close()
    assert pickle.loads(sent).sample(2)["txt"] == b"ttttt"


@pytest.mark.parametrize("number", [-1, 3])
def test_a_sample_that_is_not_there_is_an_index_error(tmp_path: Path, number: int) -> None:
    with pytest.raises(IndexError, match="of 3"):
        TarShards([three(tmp_path / "a.tar")]).sample(number)


def test_a_shard_that_changed_or_was_cut_since_it_was_opened_is_refused(tmp_path: Path) -> None:
    path = three(tmp_path / "a.tar")
    shards = TarShards([path])
    os.utime(path, ns=(0, 0))
    for _ in range(2):
        with pytest.raises(DataError, match=r"a\.tar: changed since it was opened"):
            shards.sample(0)
    shards = TarShards([path])
    shards.sample(0)
    os.truncate(path, 4096)
    with pytest.raises(DataError, match=r"a\.tar: was truncated while it was being read"):
        shards.sample(1)


def test_no_path_is_a_sentence() -> None:
    with pytest.raises(DataError, match="no tar shards were given"):
        TarShards([])


WRONG_NAMES = {
    "adjacent": (["k0.jpg", "k1.jpg", "k0.txt"], r"'k0\.txt': sample 'k0' occurs twice"),
    "twice": (["k0.txt", "k0.txt"], r"'k0\.txt': this member occurs twice"),
    "twice but for case": (["k0.txt", "k0.TXT"], r"'k0\.TXT': this member occurs twice"),
    "absolute": (["/etc/k.txt"], r"'/etc/k\.txt': its name is empty, absolute"),
    "outside": (["a/../../k.txt"], r"'a/\.\./\.\./k\.txt': its name is .* leaves the archive"),
    "no suffix": (["k0.txt", "README"], "'README': the name of a member must be <key>.<suffix>"),
    "empty suffix": (["k0."], "'k0.': the name of a member must be <key>.<suffix>"),
    "hidden": (["._k0.txt"], r"'\._k0\.txt': the name of a member must be <key>.<suffix>"),
    "nothing": ([], "it contains no sample"),
    "folders only": (["d/"], "it contains no sample"),
}


@pytest.mark.parametrize(("names", "message"), WRONG_NAMES.values(), ids=WRONG_NAMES)
def test_members_that_make_no_samples_are_named(tmp_path: Path, names: list[str], message: str) -> None:
    path = write_tar(tmp_path / "a.tar", [(name, b"x" if name[-1] != "/" else b"") for name in names])
    with pytest.raises(DataError, match=rf"a\.tar.*{message}.*: write the shard again"):
        TarShards([path])


def latin(path: Path) -> Path:
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        archive.addfile(tarfile.TarInfo("café.txt"))
    return path


def long_name() -> bytes:
    """Return a header that announces a long name, and the name."""
    return tarfile.TarInfo("k" * 120 + ".txt").tobuf(tarfile.GNU_FORMAT)[: 2 * BLOCK]


def pax(path: Path) -> Path:
    return write_tar(path, [("é" * 80 + ".txt", b"x")], tarfile.PAX_FORMAT)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "header bit": (lambda p: edit(three(p), 2560 + 2, b"k"), r"'k0\.txt': the header at byte 2,560, .*checksum"),
    "first header bit": (lambda p: edit(three(p), 1, b"x"), r"a\.tar: its first header is damaged \(bad checksum\)"),
    "checksum itself": (lambda p: edit(three(p), 148, b"x"), r"its first header is damaged \(invalid header\)"),
    "zeros in the middle": (lambda p: edit(three(p), 2560, bytes(4000)), r"'k0\.txt': the archive ends after .*2,560"),
    "zeros to the end": (lambda p: p.write_bytes(three(p).read_bytes()[:2000] + bytes(20_000)), "filled with zeros"),
    "zeros only": (lambda p: p.write_bytes(bytes(50_000)), "filled with zeros"),
    "two archives": (lambda p: p.write_bytes(2 * three(p).read_bytes()), "two archives in one file"),
    "cut": (lambda p: os.truncate(three(p), 3000), r"the shard is truncated .*end mark"),
    "cut, then closed": (
        lambda p: p.write_bytes(three(p).read_bytes()[:512] + bytes(1024)),
        r"'k0\.jpg': its 600 bytes reach past the end",
    ),
    "half an end mark": (lambda p: os.truncate(three(p), 7680 + 512), "end mark is missing"),
    "no bytes": (lambda p: p.write_bytes(b""), "end mark is missing"),
    "no tar": (lambda p: p.write_bytes(b"\xff\xd8" * 5000), "truncated or not a tar archive"),
    "no tar with zeros": (
        lambda p: p.write_bytes(b"\xff\xd8" * 5120 + bytes(1024)),
        "or the shard is not a tar archive",
    ),
    "compressed": (lambda p: p.write_bytes(b"\x1f\x8b" + bytes(5000)), "it is compressed"),
    "link": (lambda p: write_tar(p, [("k.txt", b"")], type=tarfile.LNKTYPE), r"'k\.txt': it is a link"),
    "fifo": (lambda p: write_tar(p, [("k.txt", b"")], type=tarfile.FIFOTYPE), r"'k\.txt': it is a pipe"),
    "unknown kind": (lambda p: write_tar(p, [("k.txt", b"")], type=b"Q"), r"'k\.txt': it is of an unknown kind"),
    "sparse": (
        lambda p: write_tar(p, [("k.txt", b"")], tarfile.PAX_FORMAT, pax_headers={"GNU.sparse.major": "1"}),
        r"'k\.txt': it is sparse",
    ),
    "latin-1 name": (latin, r"b'caf\\xe9\.txt': its name is not UTF-8"),
    "size in letters": (lambda p: resealed(three(p), 124, b"zz", 0), r"its first header is damaged \(invalid header\)"),
    "later size in letters": (
        lambda p: resealed(three(p), 2684, b"zz", 2560),
        r"'k0\.txt': .* 2,560, .*\(invalid header",
    ),
    "size below zero": (lambda p: resealed(three(p), 124, b"-0000000001", 0), r"'k0\.jpg': its size is -1 bytes"),
    "endless size": (lambda p: resealed(three(p), 124, b"\x80" + b"\xff" * 11, 0), "reach past the end"),
    "pax record": (lambda p: edit(pax(p), 512, b"9"), r"contains NUL|its first header is damaged"),
    "pax record without a length": (lambda p: edit(pax(p), 512, b"x"), r"\(PAX\) is damaged|first header is damaged"),
    "pax without end": (lambda p: edit(pax(p), 512, b"0 "), r"its first header is damaged \(invalid header\)"),
    "pax at the end": (lambda p: edit(pax(p), 1024, bytes(4096)), r"header is damaged \(end of file header\)"),
    "endless pax": (lambda p: resealed(pax(p), 124, b"\x80" + b"\xff" * 11, 0), "an extended header of .* bytes"),
    "endless long name": (
        lambda p: resealed(write_tar(p, [("k" * 120 + ".txt", b"x")]), 124, b"77777777777", 0),
        "an extended header of 8,589,934,592 bytes",
    ),
    "long names without end": (lambda p: p.write_bytes(5000 * long_name() + bytes(1024)), "recursion"),
    "folder": (lambda p: p.mkdir(), "is not a regular file"),
    "pipe": (lambda p: os.mkfifo(p), "is not a regular file"),
    "broken link": (lambda p: p.symlink_to(p.with_name("gone")), "cannot be read: No such file"),
    "missing": (lambda p: None, "cannot be read: No such file"),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("write", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_shard_is_named_with_its_cause(tmp_path: Path, write: Callable[[Path], object], message: str) -> None:
    write(tmp_path / "a.tar")
    with pytest.raises(DataError, match=message) as caught:
        TarShards([tmp_path / "a.tar"])
    assert str(tmp_path / "a.tar") in str(caught.value)
    assert "\n" not in str(caught.value)


def outcome(path: Path) -> list[tuple[str, dict[str, bytes]]] | str:
    try:
        return by_us(TarShards([path]))
    except DataError as error:
        return str(error)


@given(at=st.integers(0, 10239), bit=st.integers(0, 7))
@example(at=155, bit=5)  # a space after the checksum becomes NUL: the same number
def test_a_flipped_bit_is_noticed_unless_it_is_in_a_body_or_the_padding(
    tmp_path_factory: pytest.TempPathFactory, at: int, bit: int
) -> None:
    path = three(tmp_path_factory.mktemp("bit") / "a.tar")
    expected = by_us(TarShards([path]))
    edit(path, at, bytes([path.read_bytes()[at] ^ 1 << bit]))
    found = outcome(path)
    in_sample = at % 2560
    if at >= 7680 or in_sample < BLOCK or 1536 <= in_sample < 2048:  # the end mark, or a header
        assert found == expected if not isinstance(found, str) else str(path) in found
    else:
        assert not isinstance(found, str)
        changed = [a[1][s] != b[1][s] for a, b in zip(expected, found, strict=True) for s in ("jpg", "txt")]
        assert [key for key, _ in found] == ["k0", "k1", "k2"]
        assert sum(changed) <= 1
