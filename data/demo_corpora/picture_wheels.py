"""Readers of pictures with captions, and of notebooks with plots, from wheels that are opened as zip files."""

import base64
import gzip
import hashlib
import json
import pickle
import posixpath
import re
import unicodedata
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn
from urllib.parse import unquote

import numpy as np

from data.config import PackageConfig, SourceConfig
from data.demo_corpora.wheels import find_wheel
from data.readers.budget import BadDocuments, Reader
from data.readers.documents import IMAGE, Document, Pixels
from mixlaw.errors import ConfigError, DataError, unknown_name

NAME = "{name}"  # where a template takes the name
LANGUAGES = ("ar", "de", "en", "es", "fa", "fr", "id", "it", "ja", "ko", "pt", "ru", "tr", "zh")  # of the wheel `emoji`
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MAX_OUTPUT_LINES = 20  # of what a notebook's cell prints
MAX_OUTPUT_IMAGES = 24  # of a cell: one loop draws 131 plots, as many as half of all other cells together
# Which settings under `pictures` each reader uses; `members` and `names` are needed where they are used.
USES: dict[str, tuple[str, ...]] = {
    "openmoji": ("names", "languages", "joined", "templates"),
    "icons": ("members", "templates"),
    "mnist": ("templates",),
    "notebooks": (),
}

_SKIN_TONES = frozenset(("1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"))
_HAIR = ("1F9B0", "1F9B1", "1F9B2", "1F9B3")  # as emoji of their own these are only parts of others
_SAME_DRAWING = re.compile(r"-200D-(?:2640|2642|27A1|1F9B[0-3])(?=-|$)")  # a person's sex, direction and hair
_PERSONS = {"1F468": "1F9D1", "1F469": "1F9D1"}  # man and woman are drawn as the person is
_VARIANT = re.compile(r"_(?:doc|test|usr|exercise|solution|src)$")  # of a notebook that is otherwise the same
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_SHOWN = re.compile(r"!\[[^\]]*\]\(\s*([^)\s]+)[^)]*\)|<img\b[^>]*?\bsrc\s*=\s*[\"']([^\"']+)[\"'][^>]*>", re.I)
_PICTURE_FILES = (".png", ".jpg", ".jpeg", ".svg")


def check_pictures(source: SourceConfig, where: str) -> None:
    """Check the settings under `pictures` of a source whose reader is one of USES.

    Raises
    ------
    ConfigError
        Naming the setting: one that is missing or not used, a bad template, or an unknown language.
    """
    pictures, plain, used = source.pictures, SourceConfig().pictures, USES[source.reader]
    for setting, value in vars(pictures).items():
        if setting not in used and value != getattr(plain, setting):
            uses = ", ".join(used) or "none of them"
            raise ConfigError(
                f"{where}.pictures.{setting}: the reader '{source.reader}' does not use it; it uses {uses}"
            )
    if "members" in used and not pictures.members:
        raise ConfigError(f"{where}.pictures.members: missing; it is a pattern of the files to read, as in icons/*.svg")
    if "names" in used:
        _check_names(pictures.names, where)
    _check_templates(pictures.templates, where)
    if not pictures.languages:
        raise ConfigError(f"{where}.pictures.languages: empty; name at least one, as in [en]")
    if "languages" in used:
        check_languages(pictures.languages, LANGUAGES, f"{where}.pictures")


def _check_names(names: PackageConfig, where: str) -> None:
    for setting, value in vars(names).items():
        if not value:
            raise ConfigError(f"{where}.pictures.names.{setting}: missing; this package holds the pictures' names")


def _check_templates(templates: list[str], where: str) -> None:
    if not templates:
        raise ConfigError(f"{where}.pictures.templates: empty; without a sentence of its own, write ['{NAME}']")
    for template in templates:
        if template.count(NAME) != 1 or re.search("[{}]", template.replace(NAME, "")) or IMAGE in template:
            raise ConfigError(
                f"{where}.pictures.templates: '{template}' must hold {NAME} once, and no other braces or image"
            )


def check_languages(languages: Iterable[str], known: Collection[str], where: str) -> None:
    """Raise ConfigError for the first language that is not known, with the near match."""
    for language in languages:
        if language not in known:
            raise ConfigError(f"{where}.languages: {unknown_name('language', language, known)}")


def captioned(image: bytes | Pixels, name: str, source: SourceConfig, concept: str, where: str) -> Document:
    """Return a picture with its caption behind it; concept and name decide which of the templates it gets."""
    templates = source.pictures.templates
    digest = hashlib.blake2b(f"{concept or where}\n{name}".encode(), digest_size=8).digest()
    template = templates[int.from_bytes(digest) % len(templates)]
    return Document(IMAGE + template.replace(NAME, name), (image,), concept, where, drawings=True)


def in_words(name: str) -> str:
    """Return a file's name or an emoji's label (":red_heart:") as words: without colons and underscores."""
    return " ".join(name.replace(":", " ").replace("_", " ").replace(IMAGE, " ").split())


def openmoji(path: Path, source: SourceConfig, bad: BadDocuments) -> Iterator[Document]:
    """Yield one document per emoji of OpenMoji and name that it has in the languages asked for; or of all its names.

    Skin tones are left out, because they are one drawing in other colours.

    Raises
    ------
    DataError
        If the wheel with the names is not beside this one, or lacks a language.
    """
    names = _emoji_names(path.parent, source)
    with zipfile.ZipFile(path) as archive:
        for member in sorted(n for n in archive.namelist() if n.endswith(".svg")):
            key = _without_style(PurePosixPath(member).stem.split("-"))
            if key in _HAIR or not _SKIN_TONES.isdisjoint(key.split("-")):
                continue
            found = names.get(key, [])
            for name in ["; ".join(found)] if found and source.pictures.joined else found:
                where = f"{path.name}: {member}"
                yield captioned(archive.read(member), name, source, emoji_concept(key), where)


def emoji_concept(key: str) -> str:
    """Return what decides an emoji's split: its codepoints without style, and without sex, direction and hair.

    Man, woman and person, who walk to the right or to the left, are one drawing with small changes; in several splits
    they would tell what was trained on.
    """
    return "-".join(_PERSONS.get(part, part) for part in _SAME_DRAWING.sub("", key).split("-"))


def _without_style(codepoints: Iterable[str]) -> str:
    """Join codepoints, without the one that only asks for a colour picture: not every vendor writes it."""
    return "-".join(code for code in codepoints if code != "FE0F")


def _emoji_names(folder: Path, source: SourceConfig) -> dict[str, list[str]]:
    """Return the codepoints of each emoji -> its names in all languages asked for."""
    package = source.pictures.names
    wheel = find_wheel(folder, package)
    if wheel is None:
        raise DataError(f"{folder}: no wheel of {package.package} {package.version}, which holds the pictures' names")
    names: dict[str, dict[str, None]] = {}
    with zipfile.ZipFile(wheel) as archive:
        for language in source.pictures.languages:
            for emoji, entry in _emoji_table(archive, wheel, language).items():
                key = _without_style(f"{ord(c):04X}" for c in emoji)
                names.setdefault(key, {}).update(dict.fromkeys(_names_of(entry)))
    return {key: list(found) for key, found in names.items()}


def _emoji_table(archive: zipfile.ZipFile, wheel: Path, language: str) -> dict[str, Any]:
    member = "emoji/unicode_codes/emoji.json" if language == "en" else f"emoji/unicode_codes/emoji_{language}.json"
    try:
        return json.loads(archive.read(member))
    except (KeyError, ValueError):
        raise DataError(
            f"{wheel.name}: {member} is missing or damaged, so there are no names in '{language}'"
        ) from None


def _names_of(entry: str | dict[str, Any]) -> Iterator[str]:
    """Yield the name, and in English those aliases that say it in other words."""
    if isinstance(entry, str):
        yield in_words(entry)
        return
    said = [_bare_words(in_words(entry["en"]))]
    yield in_words(entry["en"])
    for alias in map(in_words, entry.get("alias", ())):
        words = _bare_words(alias)
        if words not in said and not re.search(r"\d", alias):  # "clock9" and "cow2" are codes, not words
            said.append(words)
            yield alias


def _bare_words(name: str) -> frozenset[str]:
    """Return a name's words in lower case without accents and punctuation."""
    letters = re.sub(r"[^\w\s-]", "", unicodedata.normalize("NFKD", name.casefold()))
    return frozenset(letters.replace("-", " ").split())


def icons(path: Path, source: SourceConfig, bad: BadDocuments) -> Iterator[Document]:
    """Yield one document per icon whose file matches `pictures.members`; its name is the file's.

    Its concept is the first word: "bell", "bell off" and "bell ring outline" share most of their drawing, also between
    icon sets, and no list of endings would find all such variants.

    Raises
    ------
    DataError
        If no file of the wheel matches.
    """
    with zipfile.ZipFile(path) as archive:
        members = [n for n in sorted(archive.namelist()) if fnmatchcase(n, source.pictures.members)]
        if not members:
            raise DataError(f"{path.name}: holds no file that matches pictures.members, '{source.pictures.members}'")
        for member in members:
            name = in_words(PurePosixPath(member).stem.replace("-", " "))
            concept = name.split(" ")[0].casefold()
            yield captioned(archive.read(member), name, source, concept, f"{path.name}: {member}")


class _Kind:
    """The type of a pickled array's numbers, as far as the file of MNIST needs it."""

    def __init__(self, code: bytes, *flags: object) -> None:
        if code not in (b"f4", b"i8"):
            raise pickle.UnpicklingError(f"numbers of type {code!r}")
        self.code = f"<{code.decode()}"

    def __setstate__(self, state: object) -> None:
        """Ignore the rest: byte order and alignment are those of `code`."""


class _Array:
    """A pickled array: its shape and its numbers, and nothing that a file could make run."""

    def __init__(self, *arguments: object) -> None:
        self.values: np.ndarray[Any, Any] = np.empty(0)

    def __setstate__(self, state: tuple[int, tuple[int, ...], _Kind, bool, bytes]) -> None:
        _, shape, kind, _, raw = state
        self.values = np.frombuffer(raw, kind.code).reshape(shape)


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that knows only our own two stand-ins for what numpy's arrays are pickled as."""

    known = {("multiarray", "_reconstruct"): _Array, ("numpy", "ndarray"): _Array, ("numpy", "dtype"): _Kind}

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in; refuse everything else, because a pickle may name any function to be called."""
        found = self.known.get((module.removeprefix("numpy.core.").removeprefix("numpy._core."), name))
        return found or self._refuse(f"it names {module}.{name}, which is no plain array")

    def persistent_load(self, pid: object) -> NoReturn:
        """Refuse references to things outside of the file."""
        self._refuse("it refers to things outside of it")

    @staticmethod
    def _refuse(cause: str) -> NoReturn:
        raise pickle.UnpicklingError(cause)


def mnist(path: Path, source: SourceConfig, bad: BadDocuments) -> Iterator[Document]:
    """Yield one document per handwritten digit of MNIST's 60,000 official training images, named "zero" to "nine".

    The 10,000 official test images are left out, so that they stay unseen for whoever compares on them. Digits have no
    concept: each is another handwriting, and a split by digit would leave digits that are never trained on.

    Raises
    ------
    DataError
        Naming the file, if it is anything but plain arrays; nothing that it names is ever called.
    """
    member = "mnist/data/mnist.pkl.gz"
    number = 0
    for images, labels in _mnist_parts(path, member)[:2]:
        for image, label in zip(images, labels, strict=True):
            number += 1
            ink = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8).reshape(28, 28)
            yield captioned(255 - ink, DIGITS[label], source, "", f"{path.name}: {member}, image {number}")


def _mnist_parts(path: Path, member: str) -> list[tuple[Any, Any]]:
    """Return images and labels of the parts: training, validation and test."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member) as packed, gzip.open(packed) as file:
            parts = _ArraysOnly(file, encoding="bytes").load()
        pairs = [(images.values, labels.values) for images, labels in parts]
        if any(len(i) != len(n) or i.shape[1:] != (784,) or n.min() < 0 or n.max() > 9 for i, n in pairs):
            raise ValueError("its arrays are not those of MNIST")
        return pairs
    except (pickle.UnpicklingError, zipfile.BadZipFile, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path.name}: {member} is refused: {error}") from None
    except (LookupError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path.name}: {member} is missing or damaged: {error}") from None


def notebooks(path: Path, source: SourceConfig, bad: BadDocuments) -> Iterator[Document]:
    """Yield one document per notebook that shows an image: its texts, code, printed output and images in their order.

    Of several variants of a notebook (`_doc`, `_test`, `_exercise`, ...), the one with most images is taken.

    Raises
    ------
    DataError
        Naming the notebook, if it is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        variants: dict[str, list[str]] = {}
        for member in sorted((n for n in archive.namelist() if n.endswith(".ipynb")), key=_finished_first):
            variants.setdefault(_VARIANT.sub("", member.removesuffix(".ipynb")), []).append(member)
        for base in sorted(variants):
            found = [_notebook(archive, path.name, member, PurePosixPath(base).name) for member in variants[base]]
            best = max(found, key=lambda document: len(document.images))  # the first of several
            if best.images:
                yield best


def _finished_first(member: str) -> tuple[bool, str]:
    """Put the variant that was run for the documentation before the others."""
    return not member.endswith("_doc.ipynb"), member


def _notebook(archive: zipfile.ZipFile, file: str, member: str, concept: str) -> Document:
    where = f"{file}: {member}"
    try:
        cells = json.loads(archive.read(member)).get("cells", [])
        parts = [part for cell in cells for part in _cell(cell, archive, member)]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{where}: is no notebook that can be read ({error or type(error).__name__})") from None
    texts = (IMAGE if isinstance(part, bytes) else part.strip("\n") for part in parts)
    images = tuple(part for part in parts if isinstance(part, bytes))
    return Document("\n\n".join(text for text in texts if text.strip()), images, concept, where, drawings=True)


def _cell(cell: dict[str, Any], archive: zipfile.ZipFile, member: str) -> Iterator[str | bytes]:
    """Yield the texts of a cell, and its images as bytes, in their order."""
    text = _plain(cell["source"])
    if cell["cell_type"] == "markdown":
        end = 0
        for shown in _SHOWN.finditer(text):
            yield text[end : shown.start()]
            yield from _shown_image(shown[1] or shown[2], cell, archive, member)
            end = shown.end()
        yield text[end:]
    else:
        yield "" if "Copyright" in text else text  # the same licence at the head of every notebook
        yield from _outputs(cell.get("outputs", []))


def _shown_image(link: str, cell: dict[str, Any], archive: zipfile.ZipFile, member: str) -> Iterator[bytes]:
    """Yield the image that a text shows, where the cell or the wheel holds it."""
    if link.startswith("attachment:"):
        data = cell.get("attachments", {}).get(unquote(link.removeprefix("attachment:")), {})
        if "image/png" in data:
            yield base64.b64decode("".join(data["image/png"]))
    elif link.lower().endswith(_PICTURE_FILES):
        name = posixpath.normpath(posixpath.join(posixpath.dirname(member), unquote(link)))
        if name in archive.NameToInfo:
            yield archive.read(name)


def _outputs(outputs: list[dict[str, Any]]) -> Iterator[str | bytes]:
    """Yield what a cell printed, as one text between two images, and its images; warnings and logs are left out."""
    lines: list[str] = []
    n_images = 0
    for output in outputs:
        data = output.get("data", {})
        if "image/png" in data and n_images < MAX_OUTPUT_IMAGES:
            yield "\n".join(lines[:MAX_OUTPUT_LINES])
            yield base64.b64decode("".join(data["image/png"]))
            lines, n_images = [], n_images + 1
        elif "image/png" not in data and output.get("name") != "stderr":
            lines += _plain(output.get("text") or data.get("text/plain") or "").strip("\n").split("\n")
    yield "\n".join(lines[:MAX_OUTPUT_LINES])


def _plain(text: str | list[str]) -> str:
    return _ANSI.sub("", "".join(text)).replace(IMAGE, "")


PICTURE_WHEEL_READERS: dict[str, Reader] = {
    "openmoji": openmoji,
    "icons": icons,
    "mnist": mnist,
    "notebooks": notebooks,
}
