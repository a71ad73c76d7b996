"""`Document`: a text with images, as readers yield it, and its format in the intermediate file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

IMAGE = "\ufffc"  # the place of an image in a text: Unicode's OBJECT REPLACEMENT CHARACTER
Pixels = NDArray[np.uint8]  # (height, width, 3), red, green and blue


@dataclass(frozen=True)
class Document:
    """A text with images.

    Attributes
    ----------
    text : with the character IMAGE at the place of each image
    images : in the order of their places, as files (PNG, JPEG, SVG, ...) or as pixels (height, width[, 3])
    concept : key of the split: documents of one concept, in all domains, are in the same split. If empty, the key is
        the image if there is exactly one, else the content
    where : file and member, for messages
    drawings : whether images may be SVG, which can refer to other files: only in packages with a pinned sha256
    """

    text: str
    images: tuple[bytes | Pixels, ...] = field(default=(), repr=False)
    concept: str = ""
    where: str = ""
    drawings: bool = False


def placed(text: str, images: Sequence[bytes | Pixels | None], where: str) -> Document:
    """Return a document of a text and its images; None stands for a lost image, whose place is removed.

    Images are at the places of the text, or before it if the text has no places.

    Raises
    ------
    ValueError
        If the numbers of images and places differ, or there is no image.
    """
    n_places = text.count(IMAGE)
    if not any(image is not None for image in images):
        raise ValueError("no image")
    if n_places not in (0, len(images)):
        raise ValueError(f"{len(images)} images for {n_places} places")
    kept = tuple(image for image in images if image is not None)
    if not n_places:
        return Document(IMAGE * len(kept) + text, kept, where=where)
    parts = text.split(IMAGE)
    marks = ["" if image is None else IMAGE for image in images]
    joined = parts[0] + "".join(mark + part for mark, part in zip(marks, parts[1:], strict=True))
    return Document(joined, kept, where=where)


def as_text(value: Any, place: str = "") -> str | None:
    """Return the value of a column as one text; None if it is not text.

    A list (as in OBELICS) becomes paragraphs, with `place` for each null.
    """
    if isinstance(value, list):
        paragraphs = [part if isinstance(part, str) else place for part in value]
        return "\n\n".join(filter(None, paragraphs)) if any(isinstance(part, str) for part in value) else None
    return value if isinstance(value, str) else None


def lookup(row: Mapping[str, Any], key: str) -> Any:
    """Return a column of a record, or a nested value: `meta.url` is `url` inside `meta`."""
    value: Any = row
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def to_bytes(text: str, images: Sequence[Pixels]) -> bytes:
    """Serialise a text and its images, all of one size, for the intermediate file."""
    raw = text.encode("utf-8")
    return b"".join([len(raw).to_bytes(8, "little"), raw, *(image.tobytes() for image in images)])


def from_bytes(raw: bytes, size: int) -> tuple[str, NDArray[np.uint8]]:
    """Inverse of `to_bytes`: return the text and its images (n, size, size, 3)."""
    end = 8 + int.from_bytes(raw[:8], "little")
    return raw[8:end].decode("utf-8"), np.frombuffer(raw, np.uint8, offset=end).reshape(-1, size, size, 3)
