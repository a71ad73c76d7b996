"""Captions of pictures: the name of a picture, filled into one of the configured sentence templates."""

import hashlib

from data.config import SourceConfig
from data.readers.documents import IMAGE, Document, Pixels

NAME = "{name}"  # placeholder in a template


def captioned(image: bytes | Pixels, name: str, source: SourceConfig, *, concept: str, where: str) -> Document:
    """Return a document of one picture followed by its caption.

    A hash of concept and name chooses the template, so that a caption does not depend on the other pictures.
    """
    templates = source.pictures.templates
    digest = hashlib.blake2b(f"{concept or where}\n{name}".encode(), digest_size=8).digest()
    template = templates[int.from_bytes(digest) % len(templates)]
    return Document(IMAGE + template.replace(NAME, name), (image,), concept, where, drawings=True)


def spaced_name(name: str) -> str:
    """Return a file name or an emoji label (":red_heart:") with spaces in place of colons and underscores."""
    return " ".join(name.replace(":", " ").replace("_", " ").replace(IMAGE, " ").split())
