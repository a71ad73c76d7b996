"""Reader of Jupyter notebooks with plots: an interleaved corpus of text, code, output and images."""

import base64
import json
import posixpath
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from data.config import SourceConfig
from data.readers.budget import BadDocuments
from data.readers.documents import IMAGE, Document
from mixlaw.errors import DataError

MAX_OUTPUT_LINES = 20  # kept of the text output of a cell
MAX_OUTPUT_IMAGES = 24  # kept of a cell: one loop draws 131 plots, half as many as all other cells together

_VARIANT = re.compile(r"_(?:doc|test|usr|exercise|solution|src)$")  # suffix of a variant of the same notebook
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_SHOWN = re.compile(r"!\[[^\]]*\]\(\s*([^)\s]+)[^)]*\)|<img\b[^>]*?\bsrc\s*=\s*[\"']([^\"']+)[\"'][^>]*>", re.I)
_PICTURE_FILES = (".png", ".jpg", ".jpeg", ".svg")


def notebooks(path: Path, source: SourceConfig, bad: BadDocuments) -> Iterator[Document]:
    """Yield one document per notebook with images: text, code, printed output and images in the order of the cells.

    Of several variants of a notebook (`_doc`, `_test`, `_exercise`, ...), the one with the most images is read.

    Raises
    ------
    DataError
        If a notebook is damaged; names it.
    """
    with zipfile.ZipFile(path) as archive:
        variants: dict[str, list[str]] = {}
        for member in sorted((n for n in archive.namelist() if n.endswith(".ipynb")), key=_finished_first):
            variants.setdefault(_VARIANT.sub("", member.removesuffix(".ipynb")), []).append(member)
        for base in sorted(variants):
            found = [_notebook(archive, path.name, member, PurePosixPath(base).name) for member in variants[base]]
            best = max(found, key=lambda document: len(document.images))  # the first if several have as many
            if best.images:
                yield best


def _finished_first(member: str) -> tuple[bool, str]:
    """Return a sort key that puts the executed variant (`_doc`) first."""
    return not member.endswith("_doc.ipynb"), member


def _notebook(archive: zipfile.ZipFile, file: str, member: str, concept: str) -> Document:
    where = f"{file}: {member}"
    try:
        cells = json.loads(archive.read(member)).get("cells", [])
        parts = [part for cell in cells for part in _cell(cell, archive, member)]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{where}: cannot be read as a notebook ({error or type(error).__name__})") from None
    texts = (IMAGE if isinstance(part, bytes) else part.strip("\n") for part in parts)
    images = tuple(part for part in parts if isinstance(part, bytes))
    return Document("\n\n".join(text for text in texts if text.strip()), images, concept, where, drawings=True)


def _cell(cell: dict[str, Any], archive: zipfile.ZipFile, member: str) -> Iterator[str | bytes]:
    """Yield the texts of a cell and its images, as bytes, in order."""
    text = _plain(cell["source"])
    if cell["cell_type"] == "markdown":
        end = 0
        for shown in _SHOWN.finditer(text):
            yield text[end : shown.start()]
            yield from _shown_image(shown[1] or shown[2], cell, archive, member)
            end = shown.end()
        yield text[end:]
    else:
        yield "" if "Copyright" in text else text  # every notebook begins with the same licence
        yield from _outputs(cell.get("outputs", []))


def _shown_image(link: str, cell: dict[str, Any], archive: zipfile.ZipFile, member: str) -> Iterator[bytes]:
    """Yield the image that a markdown link refers to, if the cell or the wheel contains it."""
    if link.startswith("attachment:"):
        data = cell.get("attachments", {}).get(unquote(link.removeprefix("attachment:")), {})
        if "image/png" in data:
            yield base64.b64decode("".join(data["image/png"]))
    elif link.lower().endswith(_PICTURE_FILES):
        name = posixpath.normpath(posixpath.join(posixpath.dirname(member), unquote(link)))
        if name in archive.NameToInfo:
            yield archive.read(name)


def _outputs(outputs: list[dict[str, Any]]) -> Iterator[str | bytes]:
    """Yield the printed output of a cell, joined between images, and its images; stderr is skipped."""
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
