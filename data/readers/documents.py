"""What readers yield and the preparation stores: a text, and the images that stand in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

IMAGE = "\ufffc"  # the place of an image in a text: Unicode's OBJECT REPLACEMENT CHARACTER
Pixels = NDArray[np.uint8]  # (height, width, 3), red, green and blue


@dataclass(frozen=True)
class Document:
    """A text with images in it, as a reader finds them.

    Attributes
    ----------
    text : with IMAGE where an image stands, once for each
    images : in the order of their places, as files (PNG, JPEG, SVG, ...) or as pixels (height, width[, 3])
    concept : what it is about: all documents of one concept, in all domains, land in the same split; empty: what its
        one image shows, or else its content
    where : file and member, for messages
    drawings : whether images may be SVG, a program of a kind: only of packages whose content is pinned
    """

    text: str
    images: tuple[bytes | Pixels, ...] = field(default=(), repr=False)
    concept: str = ""
    where: str = ""
    drawings: bool = False


def placed(text: str, images: Sequence[bytes | Pixels | None], where: str) -> Document:
    """Return a document of a text and its images, where None is an image that was lost.

    Images stand at the text's places, one for each, or before a text that has none.

    Raises
    ------
    ValueError
        If there are other numbers of images than of places.
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
    """Return a column as one text: of a list, as OBELICS has it, the texts as paragraphs, `place` for each null.

    None where it is no text.
    """
    if isinstance(value, list):
        paragraphs = [part if isinstance(part, str) else place for part in value]
        return "\n\n".join(filter(None, paragraphs)) if any(isinstance(part, str) for part in value) else None
    return value if isinstance(value, str) else None


def lookup(row: Mapping[str, Any], key: str) -> Any:
    """Return a column of a record, or what lies inside of it: `meta.url` is `url` inside `meta`."""
    value: Any = row
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def to_bytes(text: str, images: Sequence[Pixels]) -> bytes:
    """Return a text and its images, all of one size, as they are kept until they are tokenised."""
    raw = text.encode("utf-8")
    return b"".join([len(raw).to_bytes(8, "little"), raw, *(image.tobytes() for image in images)])


def from_bytes(raw: bytes, size: int) -> tuple[str, NDArray[np.uint8]]:
    """Return what `to_bytes` was given: the text, and its images (n, size, size, 3)."""
    end = 8 + int.from_bytes(raw[:8], "little")
    return raw[8:end].decode("utf-8"), np.frombuffer(raw, np.uint8, offset=end).reshape(-1, size, size, 3)
