"""Images become one canonical form, are split by what they show, and are the same wherever they come from."""

import itertools
import json
from collections import Counter
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from webdataset import TarWriter

from data.config import DataConfig, HubConfig, SourceConfig, TokenizerConfig
from data.preparation.corpus import CleanDocument, cleaned
from data.preparation.sources import documents
from data.prepare import check_config, compose_config, prepare
from data.preview import main as inspect
from data.readers.budget import BadDocuments
from data.readers.documents import IMAGE, Document, from_bytes, to_bytes
from data.readers.images import UNDECODABLE, canonical
from data.store.images import ImageReader
from data.store.tokens import Manifest, TokenReader, verify
from data.stream.views import View, seen
from mixlaw.errors import ConfigError, DataError

SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="10mm" height="5mm"><path fill="red" d="M0 0h99v99H0z"/></svg>'


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def plain(colour: str, size: tuple[int, int] = (8, 8)) -> bytes:
    return encoded(Image.new("RGB", size, colour))


@pytest.mark.parametrize(
    "image",
    [
        plain("red", (20, 10)),
        encoded(Image.new("RGB", (200, 100), "red"), "BMP"),
        encoded(Image.new("P", (4, 2), 0).convert("P"), "PNG"),
        np.zeros((3, 6), np.uint8),
        np.zeros((3, 6, 3), np.uint8),
        SVG,
    ],
    ids=["wide", "large", "palette", "grey pixels", "pixels", "drawing"],
)
def test_the_longer_side_fills_a_white_square(image: bytes) -> None:
    square = canonical(image, 16, drawings=True)
    assert square.shape == (16, 16, 3)
    assert square.dtype == np.uint8
    assert (square[:3] == 255).all()
    assert (square[-3:] == 255).all()
    assert (square[6:10] != 255).any(-1).all()


def test_transparency_becomes_white_ground() -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 8, 4))
    square = canonical(encoded(image), 8)
    assert (square[:4] == (0, 0, 255)).all()
    assert (square[4:] == 255).all()
    half = canonical(encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 128))), 8)
    assert 120 < half.mean() < 135


@pytest.mark.parametrize(
    "raw",
    [b"", b"no image", plain("red")[:40], b"<svg", b"<svg><unknown", plain("red")[:-30] + bytes(30), b"\xff\xd8\xff"],
    ids=range(7),
)
def test_what_is_no_image_raises_what_is_expected(raw: bytes) -> None:
    with pytest.raises(UNDECODABLE):
        canonical(raw, 8)


@given(key=st.integers(0, 2**64 - 1), crop=st.floats(0.05, 1), flip=st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=50)
def test_a_view_is_a_part_of_the_image_and_depends_on_its_key_only(key: int, crop: float, flip: float) -> None:
    ramp = np.tile(np.arange(0, 240, 10, dtype=np.uint8)[:, None], (24, 1, 3)).reshape(24, 24, 3)
    view = View(12, crop, flip)
    shown = seen(ramp, view, key)
    assert np.array_equal(shown, seen(ramp, view, key))
    assert shown.shape == (12, 12, 3)
    rising = np.diff(shown[0, :, 0].astype(int))
    assert (rising <= 0).all() if flip == 1 else (rising >= 0).all() or (flip > 0 and (rising <= 0).all())
    span = abs(int(shown[0, -1, 0]) - int(shown[0, 0, 0])) / 230
    assert span >= 0.8 * crop**0.5 - 0.1
    assert np.array_equal(seen(ramp, View(24), key), ramp)


def test_documents_come_back_from_what_is_kept() -> None:
    images = [np.random.default_rng(i).integers(0, 255, (4, 4, 3), np.uint8) for i in range(3)]
    text, back = from_bytes(to_bytes("é " + IMAGE * 3, images), 4)
    assert text == "é " + IMAGE * 3
    assert np.array_equal(back, images)


def gathered(found: Iterable[str | bytes | Document], bad: BadDocuments | None = None) -> list[CleanDocument]:
    return list(cleaned(found, 1, bad or BadDocuments(), Counter(), image_size=8))


def test_one_concept_is_on_one_side_whatever_its_pictures() -> None:
    documents = [
        Document(f"{IMAGE}{name} {i}", (plain(colour, (8 + i, 8)),), concept=name)
        for name in ("cat", "dog", "sun", "tree", "house", "moon", "car", "hat")
        for i, colour in enumerate(["red", "blue", "green"])
    ]
    keys: dict[str, set[bytes]] = {}
    for document in gathered(documents):
        keys.setdefault(from_bytes(document.raw, 8)[0].strip(IMAGE).split()[0], set()).add(document.key)
    assert len(keys) == 8
    assert all(len(found) == 1 for found in keys.values())
    assert len(set.union(*keys.values())) == 8


def test_damaged_images_are_named_or_counted() -> None:
    documents = [Document(IMAGE + "a", (plain("red"),), where="x.tar: a"), Document(IMAGE, (b"no",), where="x.tar: b")]
    with pytest.raises(DataError, match=r"^x\.tar: b: an image cannot be decoded \(.*\); bad documents so far: 1"):
        gathered(documents)
    bad = BadDocuments(1)
    assert (len(gathered(documents, bad)), bad.count) == (1, 1)
    with pytest.raises(DataError, match=r"^x: 1 images for 2 places"):
        gathered([Document(IMAGE * 2, (plain("red"),), where="x")])


def test_a_stray_mark_in_a_text_is_no_image() -> None:
    [document] = gathered([f"a{IMAGE}b"])
    assert from_bytes(document.raw, 8)[0] == "ab"


def write_captions(path: Path, n: int = 60, word: str = "shade", blue: int = 99) -> SourceConfig:
    """Write a shard as img2dataset does: every picture has another shade of red, and all have the same blue."""
    with TarWriter(str(path)) as shard:
        for i in range(n):
            picture = encoded(Image.new("RGB", (9, 6), (4 * i, 0, blue)), "JPEG")
            shard.write({"__key__": f"{i:04d}", "jpg": picture, "txt": f"{word} {i}"})
    return SourceConfig("webdataset", path=str(path), images=True)


def write_pages(path: Path, n: int = 60) -> SourceConfig:
    """Write a shard of interleaved pages: a list of texts with null where the pictures stand."""
    with TarWriter(str(path)) as shard:
        for i in range(n):
            texts = ["begin", None, f"page {i}", None, "end"]
            pictures = {f"{j:03d}.png": plain(colour) for j, colour in enumerate(["red", "blue"])}
            shard.write({"__key__": f"{i:04d}", "json": json.dumps({"texts": texts}).encode()} | pictures)
    return SourceConfig("webdataset", path=str(path), text_key="texts", images=True)


def prepared(tmp_path: Path, **domains: SourceConfig) -> Manifest:
    config = DataConfig("pics", str(tmp_path / "root"), domains, image_size=8, min_chars=1, tokenizer=TokenizerConfig())
    return prepare(config, lambda line: None)


def test_captioned_and_interleaved_shards_are_prepared_with_their_images(tmp_path: Path) -> None:
    manifest = prepared(tmp_path, captions=write_captions(tmp_path / "c.tar"), pages=write_pages(tmp_path / "p.tar"))
    verify(manifest)
    assert manifest.facts["image"] == {"size": 8, "id": 256}
    for domain, per_document in (("captions", 1), ("pages", 2)):
        splits = manifest.entry(domain)["splits"]
        assert sum(s["n_images"] for s in splits.values()) == per_document * sum(
            s["n_documents"] for s in splits.values()
        )
    reader, images = TokenReader(manifest, "captions", "train"), ImageReader(manifest, "captions", "train")
    bounds = reader.document_bounds()
    assert images.places.tolist() == bounds[:-1].tolist()  # each caption behind its image
    for number, (start, stop) in enumerate(itertools.pairwise(bounds)):
        caption = bytes(reader.windows(np.array([start + 1]), int(stop - start) - 2)[0].astype(np.uint8)).decode()
        shade = int(caption.removeprefix("shade ")) * 4
        assert abs(int(images.image(number)[4, 4, 0]) - shade) < 12
    pages, pictures = TokenReader(manifest, "pages", "train"), ImageReader(manifest, "pages", "train")
    first = pages.windows(np.zeros(1, np.int64), int(pages.document_bounds()[1]))[0].tolist()
    text = bytes(t if t < 256 else ord("#") for t in first).decode()
    assert text.startswith("begin\n\n#\n\npage ")
    assert text.endswith("\n\n#\n\nend\0")
    assert [pictures.image(i)[0, 0].tolist() for i in (0, 1)] == [[255, 0, 0], [0, 0, 255]]


def test_the_contact_sheet_of_prepared_images_can_be_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_captions(tmp_path / "c.tar")
    overrides = [
        "data=datacomp",
        f"data.root={tmp_path / 'root'}",
        f"data.domains.captions.path={source.path}",
        "data.domains.captions.images=true",
        "data.image_size=8",
        "data.min_chars=1",
        "data.tokenizer={kind:bytes,vocab_size:256}",
    ]
    prepare(compose_config(overrides), lambda line: None)
    assert inspect([*overrides, "--patch-size", "4", "--seq-len", "32", "--out", str(tmp_path / "sheet.png")]) == 0
    out = capsys.readouterr().out
    assert "[image]shade" in out
    assert "12 images in" in out
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert np.asarray(sheet.convert("RGB")).std() > 10
    assert inspect([*overrides, "--patch-size", "1", "--seq-len", "32"]) == ConfigError.exit_code
    assert "a sequence must hold an image of 64 patches" in capsys.readouterr().err


@pytest.mark.parametrize("interleaved", [False, True])
def test_images_of_hub_datasets_are_read_as_stored(interleaved: bool, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path / "set"
    folder.mkdir()
    pictures = [{"bytes": plain("red"), "path": None}, {"bytes": plain("blue"), "path": None}]
    rows = {"texts": [["a", None, f"b {i}", None] for i in range(200)], "images": [pictures] * 200}
    if not interleaved:
        shades = [{"bytes": encoded(Image.new("RGB", (8, 8), (i, 0, 0))), "path": None} for i in range(200)]
        rows = {"texts": [f"caption {i}" for i in range(200)], "images": shades}
    pq.write_table(pa.table(rows), folder / "part-0.parquet")
    source = SourceConfig("hub", path=str(folder), text_key="texts", images=True, hub=HubConfig())
    manifest = prepared(tmp_path, web=source)
    entry = manifest.entry("web")["splits"]["train"]
    assert entry["n_images"] == entry["n_documents"] * (2 if interleaved else 1)
    first = ImageReader(manifest, "web", "train").image(0)[0, 0].tolist()
    assert first == [255, 0, 0] if interleaved else first[1:] == [0, 0]


def test_addresses_of_images_are_refused_with_what_to_do(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path / "set"
    folder.mkdir()
    pq.write_table(pa.table({"text": ["a"] * 9, "images": [["http://x/y.jpg"]] * 9}), folder / "part-0.parquet")
    with pytest.raises(DataError, match=r"record 1: 'images' holds str, not images; .*img2dataset"):
        prepared(tmp_path, web=SourceConfig("hub", path=str(folder), images=True))


def test_images_without_a_size_and_a_size_without_sense_are_refused(tmp_path: Path) -> None:
    source = write_captions(tmp_path / "c.tar", 3)
    for size, sentence in (
        (0, "has images: set data.image_size"),
        (3, "must be 4 to 2048"),
        (5000, "must be 4 to 2048"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            check_config(DataConfig("x", str(tmp_path), {"web": source}, image_size=size))
    text = SourceConfig("text", path=str(tmp_path), images=True)
    with pytest.raises(ConfigError, match=r"\.images: the reader 'text' does not use it"):
        check_config(DataConfig("x", str(tmp_path), {"web": text}, image_size=8))


def test_a_changed_picture_is_found_by_its_hash(tmp_path: Path) -> None:
    manifest = prepared(tmp_path, captions=write_captions(tmp_path / "c.tar"))
    path = next((manifest.folder / "captions").glob("train-*.images"))
    raw = bytearray(path.read_bytes())
    raw[100] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"train-00000\.images .*differs from its manifest"):
        verify(manifest)


def test_the_shipped_configurations_of_a_cluster_prepare_local_data_in_their_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    web, small = tmp_path / "web", [f"data.root={tmp_path / 'root'}", "data.image_size=8", "data.eval_percent=30"]
    web.mkdir()
    texts = [f"Some text of the web, number {i}." for i in range(90)]
    pq.write_table(pa.table({"text": texts}), web / "part-0.parquet")
    for name in ("CAPTION", "TARGET", "NOISY", "GOOD1", "GOOD2", "SYNTHETIC"):
        source = write_captions(tmp_path / f"{name}.tar", 60, name.lower(), 200 if name == "TARGET" else 99)
        monkeypatch.setenv(f"{name}_SHARDS", source.path)
    monkeypatch.setenv("PAGE_SHARDS", write_pages(tmp_path / "pages.tar").path)
    for name, more in (("nmm", [f"data.domains.text.path={web}"]), ("lvm", [])):
        config = compose_config([f"data={name}", *small, "data.tokenizer.vocab_size=300", *more])
        manifest = prepare(config, lambda line: None)
        with_images = [d for d in manifest.domains if manifest.entry(d)["splits"]["train"]["n_images"]]
        assert with_images == [d for d in manifest.domains if d != "text"]
        assert manifest.facts["image"]["id"] == manifest.vocab_size


def test_drawings_are_read_of_pinned_packages_only_and_name_nothing_outside(tmp_path: Path) -> None:
    with pytest.raises(UNDECODABLE):
        canonical(SVG, 8)
    secret = tmp_path / "secret.png"
    secret.write_bytes(plain("red"))
    for href in (str(secret), "http://x/y.png", "../y.png"):
        spying = f'<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"><image xlink:href=\'{href}\'/></svg>'
        with pytest.raises(ValueError, match="external file"):
            canonical(spying.encode(), 8, drawings=True)
    with TarWriter(str(tmp_path / "c.tar")) as shard:
        shard.write({"__key__": "k", "jpg": SVG, "txt": "a drawing in disguise"})
    source = SourceConfig("webdataset", path=str(tmp_path / "c.tar"), images=True)
    with pytest.raises(DataError, match="an image cannot be decoded"):
        prepared(tmp_path, captions=source)


def test_other_formats_and_huge_images_are_no_images() -> None:
    with pytest.raises(UNDECODABLE):
        canonical(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 8)  # would start a program
    with pytest.raises(UNDECODABLE, match="pixels"):
        canonical(encoded(Image.new("1", (9000, 9000))), 8)


def test_photographs_stand_upright_and_sixteen_bits_are_grey() -> None:
    lying = Image.new("RGB", (8, 8), "white")
    lying.paste((255, 0, 0), (0, 0, 4, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn to the right
    buffer = BytesIO()
    lying.save(buffer, "PNG", exif=exif)
    assert canonical(buffer.getvalue(), 8)[0].tolist() == [[255, 0, 0]] * 8
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    assert abs(canonical(encoded(Image.fromarray(ramp)), 8).mean() - 127) < 2


def page(shard: TarWriter, key: str, n_texts: int, images: dict[str, bytes]) -> None:
    texts = [part for i in range(n_texts) for part in (f"{key} {i}", None)]
    shard.write({"__key__": key, "json": json.dumps({"texts": texts}).encode()} | images)


def test_numbered_images_stand_at_their_numbers_and_lost_ones_nowhere(tmp_path: Path) -> None:
    grey = [encoded(Image.new("RGB", (8, 8), (i, i, i))) for i in range(12)]
    with TarWriter(str(tmp_path / "p.tar")) as shard:
        page(shard, "many", 12, {f"{i}.png": image for i, image in enumerate(grey)})
        page(shard, "lost", 3, {"0.png": grey[0], "2.png": grey[2]})
        page(shard, "none", 2, {})
        page(shard, "odd", 2, {"png": grey[0]})
    source = SourceConfig("webdataset", path=str(tmp_path / "p.tar"), text_key="texts", images=True)
    bad = BadDocuments(2)
    many, lost = documents(source, [tmp_path / "p.tar"], bad)
    assert bad.count == 2
    assert list(many.images) == grey
    assert many.text == "\n\n".join(f"many {i}\n\n{IMAGE}" for i in range(12))
    assert lost.images == (grey[0], grey[2])
    assert [part.split() for part in lost.text.split(IMAGE)] == [["lost", "0"], ["lost", "1", "lost", "2"], []]
    with pytest.raises(DataError, match=r"none: images are missing \(no image"):
        list(documents(source, [tmp_path / "p.tar"], BadDocuments()))


def test_a_damaged_image_of_the_hub_is_one_bad_document(tmp_path: Path) -> None:
    import datasets

    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    rows = [{"bytes": encoded(clear), "path": None}, {"bytes": plain("red")[:50], "path": None}]
    features = datasets.Features({"text": datasets.Value("string"), "images": datasets.Image()})
    table = datasets.Dataset.from_dict({"text": ["clear", "cut"], "images": rows}, features=features)
    (tmp_path / "set").mkdir()
    table.to_parquet(str(tmp_path / "set" / "part-0.parquet"))
    source = SourceConfig("hub", path=str(tmp_path / "set"), images=True, hub=HubConfig())
    bad = BadDocuments(1)
    [document] = gathered(documents(source, [], bad), bad)
    assert bad.count == 1
    assert (from_bytes(document.raw, 8)[1] == 255).all()  # on white ground


def test_the_same_picture_with_other_words_is_on_the_same_side(tmp_path: Path) -> None:
    """As in two sets of captions of the same images: what is measured on one was not trained on in the other."""
    noisy, good = (write_captions(tmp_path / f"{word}.tar", 60, word) for word in ("noisy", "good"))
    manifest = prepared(tmp_path, noisy=noisy, good=good)
    sides = {}
    for domain in ("noisy", "good"):
        for split in ("train", "eval", "test"):
            reader = ImageReader(manifest, domain, split)
            for number in range(len(reader.places)):
                sides.setdefault(reader.image(number).tobytes(), set()).add(split)
    assert all(len(found) == 1 for found in sides.values())
