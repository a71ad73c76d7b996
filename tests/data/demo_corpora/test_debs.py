"""Fetching and reading Debian packages, made here by hand in the layout of the real ones."""

import hashlib
import io
import lzma
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data.config import PackageConfig, PicturesConfig, SourceConfig
from data.demo_corpora.deb_readers import DEB_READERS, clipart_caption, stamp_captions, without_number
from data.demo_corpora.debs import deb_members, deb_path, fetch_deb
from data.readers.budget import BadDocuments
from data.readers.documents import IMAGE, Document
from mixlaw.errors import ConfigError, DataError

VERSION = "1:2.0+x-1"
FAKE_APT = """#!/bin/sh
case "$*" in *update*) exit 0;; esac
{action}
"""


def png(width: int = 40, height: int = 40, shade: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("L", (width, height), shade).save(file, "PNG")
    return file.getvalue()


def archive_of(files: dict[str, bytes | str], links: dict[str, str]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            data = content.encode() if isinstance(content, str) else content
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for name, target in links.items():
            member = tarfile.TarInfo(f"./{name}")
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return raw.getvalue()


def ar_member(name: str, content: bytes) -> bytes:
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
    return header + content + b"\n" * (len(content) % 2)


def write_deb(root: Path, files: dict[str, bytes | str], package: str = "tiny", **links: str) -> SourceConfig:
    source = SourceConfig(package=package, version=VERSION)
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": lzma.compress(b"odd"),
             "data.tar.xz": lzma.compress(archive_of(files, links))}  # fmt: skip
    path = deb_path(root, source)
    path.write_bytes(b"!<arch>\n" + b"".join(ar_member(name, content) for name, content in parts.items()))
    source.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return source


def read(root: Path, source: SourceConfig, reader: str, **pictures: Any) -> list[Document]:
    source.reader, source.pictures = reader, PicturesConfig(**pictures)
    found = list(DEB_READERS[reader](deb_path(root, source), source, BadDocuments()))
    documents = [document for document in found if isinstance(document, Document)]
    again = list(DEB_READERS[reader](deb_path(root, source), source, BadDocuments()))
    assert [repr(document) for document in again] == [repr(document) for document in documents]
    assert all(document.text.count(IMAGE) == len(document.images) for document in documents)
    return documents


def texts(documents: list[Document]) -> list[str]:
    return [document.text.replace(IMAGE, "<>") for document in documents]


def fake_apt(folder: Path, monkeypatch: pytest.MonkeyPatch, action: str) -> None:
    folder.mkdir()
    (folder / "apt-get").write_text(FAKE_APT.format(action=action))
    (folder / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_members_come_without_links_and_other_files(tmp_path: Path) -> None:
    source = write_deb(tmp_path, {"usr/b.png": b"b", "usr/a.png": b"", "usr/c.ogg": b"c"}, link="usr/b.png")
    assert list(deb_members(deb_path(tmp_path, source), (".png", "link"))) == [("usr/b.png", b"b"), ("usr/a.png", b"")]


def test_a_package_is_fetched_once_checked_and_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "archive").mkdir()
    source = write_deb(tmp_path / "archive", {"a.png": png()})
    made = deb_path(tmp_path / "archive", source)
    fake_apt(tmp_path / "bin", monkeypatch, f"cp '{made}' tiny_all.deb")
    lines: list[str] = []
    path = fetch_deb(source, tmp_path / "downloads", lines.append)
    assert path == fetch_deb(source, tmp_path / "downloads", lines.append)
    assert lines == [f"fetched tiny {VERSION}, 0.0 MB"]
    assert list((tmp_path / "downloads").iterdir()) == [path]
    assert path.read_bytes() == made.read_bytes()


def test_a_fetched_package_with_another_sha256_is_never_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_apt(tmp_path / "bin", monkeypatch, "echo other > tiny_all.deb")
    with pytest.raises(DataError, match=r"tiny_all\.deb: sha256 is .*, expected 0000"):
        fetch_deb(PackageConfig("tiny", "1", "0" * 64), tmp_path / "downloads", lambda line: None)
    assert list((tmp_path / "downloads").iterdir()) == []


def test_a_package_that_apt_does_not_know_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_apt(tmp_path / "bin", monkeypatch, "echo 'W: odd' >&2; echo 'E: Unable to locate package tiny' >&2; exit 100")
    with pytest.raises(DataError, match=r"^apt-get cannot download tiny=1: E: Unable to locate .* need pip only\)$"):
        fetch_deb(PackageConfig("tiny", "1", "0" * 64), tmp_path / "downloads", lambda line: None)


def test_without_apt_the_configs_that_need_none_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=r"tiny=1 needs apt-get, which is not on this machine: take data=multimodal"):
        fetch_deb(PackageConfig("tiny", "1", "0" * 64), tmp_path / "downloads", lambda line: None)


@pytest.mark.parametrize("kept", [0, 5, 40, 100, 200, 330])
def test_a_package_that_was_cut_off_is_named(tmp_path: Path, kept: int) -> None:
    source = write_deb(tmp_path, {"a.png": png(400, 300)})
    path = deb_path(tmp_path, source)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"^tiny_1%3A2\.0\+x-1\.deb: the Debian package cannot be read: "):
        list(deb_members(path, (".png",)))


def test_a_package_packed_by_something_newer_is_named(tmp_path: Path) -> None:
    path = tmp_path / "new.deb"
    path.write_bytes(b"!<arch>\n" + ar_member("data.tar.zst", b"\x28\xb5\x2f\xfd"))
    with pytest.raises(DataError, match=r"^new\.deb: .* packed as data\.tar\.zst"):
        list(deb_members(path, (".png",)))


def drawing(title: str, description: str = "", *keywords: str) -> str:
    items = "".join(f"<rdf:li>{keyword}</rdf:li>" for keyword in keywords)
    return (
        "<?xml version='1.0'?><!DOCTYPE svg [<!ENTITY file SYSTEM 'file:///etc/hostname'>]><svg><title>layer</title>"
        f"<metadata><rdf:RDF><cc:Work><cc:Agent><dc:title>A painter</dc:title></cc:Agent><dc:title>{title}</dc:title>"
        f"<dc:description>{description}</dc:description><dc:subject><rdf:Bag>{items}</rdf:Bag></dc:subject>"
        "</cc:Work></rdf:RDF></metadata><g></svg>"
    )


@pytest.mark.parametrize(
    ("svg", "caption"),
    [
        (drawing("sea_gull", "", "", "bird", "hash(0x8a0)", "Sea gull", "water_bird"), "sea gull (bird, water bird)"),
        (drawing("Cat &amp;amp; dog", "Two &amp;quot;pets&amp;quot; that sit."), 'Cat & dog. Two "pets" that sit.'),
        (drawing("Bell", "bell."), "Bell"),
        (drawing("Bell", "HASH(0x86d2470)", "hash"), "Bell"),
        (drawing("Bell", "see http://a.org"), "Bell"),
        (drawing("&file;"), "&file;"),
        ("<svg><title>no metadata</title></svg>", ""),
        ("<metadata><dc:title>never ends", ""),
    ],
)
def test_a_caption_is_title_keywords_and_description(svg: str, caption: str) -> None:
    assert "".join(clipart_caption(svg)) == caption


def clipart(root: Path, drawings: dict[str, tuple[str, bytes]]) -> list[Document]:
    svgs: dict[str, bytes | str] = {f"usr/share/openclipart/svg/{n}.svg": svg for n, (svg, _) in drawings.items()}
    pngs: dict[str, bytes | str] = {f"usr/share/openclipart/png/{n}.png": raw for n, (_, raw) in drawings.items()}
    names = write_deb(root, svgs, "tiny-svg")
    source = write_deb(root, pngs, link="usr/share/openclipart/png/a.png")
    return read(root, source, "clipart", names=PackageConfig("tiny-svg", VERSION, names.sha256))


def test_pictures_are_joined_with_their_titles_by_path(tmp_path: Path) -> None:
    whole = {"a/gull_01": (drawing("gull"), png(shade=1)), "b/gull_02": (drawing("flying gull"), png(shade=2))}
    documents = clipart(tmp_path, whole | {"c/untitled": (drawing(""), png())})
    assert texts(documents) == ["<>gull", "<>flying gull"]
    assert [document.images for document in documents] == [(png(shade=1),), (png(shade=2),)]
    assert {document.concept for document in documents} == {"gull"}
    assert documents[0].where == "tiny_1%3A2.0+x-1.deb: usr/share/openclipart/png/a/gull_01.png"


def test_pictures_of_a_collection_are_called_by_their_files(tmp_path: Path) -> None:
    whole = {f"star_{i}pt": (drawing("Some Theme"), png()) for i in range(10)}
    documents = clipart(tmp_path, whole | {"fire-engine_02": (drawing("Some theme", "", "icon"), png())})
    assert texts(documents) == ["<>fire engine (icon)"]


def test_pictures_that_take_gigabytes_to_decode_are_left_out(tmp_path: Path) -> None:
    huge = bytearray(png())
    huge[16:20] = (20_000).to_bytes(4)
    huge[20:24] = (30_000).to_bytes(4)
    assert texts(clipart(tmp_path, {"a": (drawing("a wall"), bytes(huge)), "b": (drawing("a brick"), png())})) == [
        "<>a brick"
    ]


def test_clip_art_without_any_title_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="tiny-svg has no title for any of its pictures"):
        clipart(tmp_path, {"a": ("<svg/>", png())})


def test_a_missing_package_of_names_is_named(tmp_path: Path) -> None:
    names = PackageConfig("absent", "1", "0" * 64)
    with pytest.raises(DataError, match=r"^absent_1\.deb: the Debian package cannot be read: .*No such file"):
        read(tmp_path, write_deb(tmp_path, {"a.png": png()}), "clipart", names=names)


@pytest.mark.parametrize(
    ("stem", "name"), [("clock_01", "clock"), ("Frog-1", "frog"), ("7", "7"), ("grave-c", "grave-c"), ("o_-_2.", "o")]
)
def test_numbers_behind_a_name_are_variants(stem: str, name: str) -> None:
    assert without_number(stem) == name


def stamp_package(root: Path) -> SourceConfig:
    folder = "usr/share/tuxpaint/stamps/animals"
    files: dict[str, bytes | str] = {
        f"{folder}/goat.png": png(shade=1),
        f"{folder}/goat.svg": "<svg/>",
        f"{folder}/goat.txt": "A goat.\nde.utf8=Eine Ziege.\nfr.utf8=Une ch\u00e8vre.\n",
        f"{folder}/goat2.svg": "<svg><g/></svg>",
        f"{folder}/goat2.txt": "A goat that eats.\nde.utf8=\n",
        f"{folder}/goat_mirror.png": png(shade=3),
        f"{folder}/lost.txt": "Without a picture.",
    }
    return write_deb(root, files)


def test_a_stamp_is_its_picture_with_its_english_caption(tmp_path: Path) -> None:
    documents = read(tmp_path, stamp_package(tmp_path), "stamps")
    assert texts(documents) == ["<>A goat.", "<>A goat that eats."]
    assert [document.images for document in documents] == [(png(shade=1),), (b"<svg><g/></svg>",)]
    assert [document.concept for document in documents] == ["goat", "goat"]


def test_stamps_speak_other_languages_where_somebody_translated_them(tmp_path: Path) -> None:
    documents = read(tmp_path, stamp_package(tmp_path), "stamps", languages=["de", "fr"], templates=["{name} "])
    assert texts(documents) == ["<>Eine Ziege. ", "<>Une ch\u00e8vre. "]
    assert stamp_captions("A = b\nnonsense\nde=x\n") == {"en": "A = b"}


def test_a_language_of_no_stamp_is_refused_with_the_near_match(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pictures\.languages: unknown language 'fra'; did you mean 'fr'"):
        read(tmp_path, stamp_package(tmp_path), "stamps", languages=["fra"])


PAGE = """<html><head><title>T</title><style>x</style></head><body>
<div class="navheader"><div>up <img src="images/big.png"/></div></div>
<h1>1.&nbsp;Blur</h1><p>It   smooths
  <em>edges</em>.<img src="images/small.png" alt="x">Then<img src="../m/images/big.png" alt="After">ends.</p>
<table><tr><td><img src="images/big.png" alt="[Note]"></td><td>Mind</td><td>it</td></tr></table>
<ul><li>one<li>two</ul><pre>a
   b</pre><p><img src="images/damaged.png"><img src="images/absent.png"><img></p>
<script>var x = "<p>";</script><nav>n<nav>m</nav>o</nav><footer>end</footer></body></html>"""


def manual(root: Path) -> SourceConfig:
    files: dict[str, bytes | str] = {
        "m/b.html": PAGE,
        "m/a.html": "<p>No pictures.</p>",
        "other/c.html": "<img src='../m/images/big.png'>",
        "m/images/big.png": png(32, 40),
        "m/images/small.png": png(31, 40),
        "m/images/damaged.png": b"no image",
    }
    return write_deb(root, files)


def test_a_page_is_its_paragraphs_with_large_pictures_in_their_places(tmp_path: Path) -> None:
    (document,) = read(tmp_path, manual(tmp_path), "html_pages", members="m/*.html")
    expected = "1. Blur\n\nIt smooths edges.Then<>ends.\n\nMind it\n\none\ntwo\n\na\n   b\n\n<>"
    assert texts([document]) == [expected]
    assert document.images == (png(32, 40), b"no image")
    assert document.concept == "m/b.html"


def test_a_pattern_without_any_page_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tiny_1%3A2\.0\+x-1\.deb: holds no page that matches .*'q/\*'"):
        read(tmp_path, manual(tmp_path), "html_pages", members="q/*")
