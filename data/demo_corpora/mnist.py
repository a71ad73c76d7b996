"""Reader of MNIST: arrays of a pickle file, which is disassembled and never unpickled.

The wheel holds a Python 2 pickle (protocol 2) of three pairs (images, labels): training, validation and test. Each
array stores its numbers as one BINSTRING. `pickletools` finds these strings without executing an opcode, so that a
manipulated file cannot call a function.
"""

import gzip
import pickletools
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.config import SourceConfig
from data.demo_corpora.captions import captioned
from data.readers.budget import BadDocuments
from data.readers.documents import Document
from mixlaw.errors import DataError

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
N_PIXELS = 28 * 28

_MEMBER = "mnist/data/mnist.pkl.gz"
_ARRAY_GLOBALS = ("multiarray _reconstruct", "numpy ndarray", "numpy dtype")
_ARRAY_STRINGS = ("b", "f4", "i8", "<")  # kind of an empty array, the two number formats, little-endian
_LENGTH_BYTES = 4  # of a BINSTRING, between its opcode and its content

Pairs = list[tuple[NDArray[np.float32], NDArray[np.int64]]]


def mnist(path: Path, source: SourceConfig, bad: BadDocuments) -> Iterator[Document]:
    """Yield one document per handwritten digit of MNIST's 60,000 official training images, named "zero" to "nine".

    The 10,000 official test images are left out, so that MNIST's test set remains unseen. Documents have no concept:
    a split by digit would put all images of a digit into one split.

    Raises
    ------
    DataError
        Naming the file, if it is damaged or holds anything but the arrays of MNIST.
    """
    number = 0
    for images, labels in _read_pairs(path)[:2]:
        for image, label in zip(images, labels, strict=True):
            number += 1
            ink = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8).reshape(28, 28)
            where = f"{path.name}: {_MEMBER}, image {number}"
            yield captioned(255 - ink, DIGITS[label], source, concept="", where=where)


def _read_pairs(path: Path) -> Pairs:
    """Return (images, labels) of training, validation and test: (n, 784) float32 and (n,) int64."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(_MEMBER) as packed, gzip.open(packed) as file:
            raw = file.read()
    except (LookupError, OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"{path.name}: {_MEMBER} is missing or damaged: {error}") from None
    try:
        return _pairs(raw)
    except ValueError as error:  # pickletools raises it too
        raise DataError(f"{path.name}: {_MEMBER} is refused: {error}") from None


def _pairs(raw: bytes) -> Pairs:
    places = _array_places(raw)
    if not places or len(places) % 2:
        raise ValueError(f"it holds {len(places)} arrays, not pairs of images and labels")
    pairs = []
    for (image_start, image_bytes), (label_start, label_bytes) in zip(places[::2], places[1::2], strict=True):
        n_images = image_bytes // (4 * N_PIXELS)
        if (image_bytes, label_bytes) != (n_images * 4 * N_PIXELS, n_images * 8):
            raise ValueError(f"arrays of {image_bytes:,} and {label_bytes:,} bytes are not images and labels of MNIST")
        images = np.frombuffer(raw, "<f4", n_images * N_PIXELS, image_start).reshape(n_images, N_PIXELS)
        labels = np.frombuffer(raw, "<i8", n_images, label_start)
        if n_images and not 0 <= labels.min() <= labels.max() <= 9:
            raise ValueError(f"labels from {labels.min()} to {labels.max()} are not digits")
        pairs.append((images, labels))
    return pairs


def _array_places(raw: bytes) -> list[tuple[int, int]]:
    """Return offset and length in bytes of the content of each array.

    Raises
    ------
    ValueError
        If the file is no pickle, or names something that an array does not consist of.
    """
    places: list[tuple[int, int]] = []
    before = ""
    for opcode, argument, position in pickletools.genops(raw):
        if opcode.name == "BINSTRING" and before == "NEWFALSE":  # the flag before the content: not in Fortran order
            places.append((int(position or 0) + 1 + _LENGTH_BYTES, len(argument or "")))
        else:
            _require_part_of_array(opcode.name, argument)
        before = opcode.name
    return places


def _require_part_of_array(opcode: str, argument: Any) -> None:
    if opcode == "GLOBAL":
        name = str(argument).removeprefix("numpy.core.").removeprefix("numpy._core.")
        if name not in _ARRAY_GLOBALS:
            raise ValueError(f"it names {str(argument).replace(' ', '.')!r}, which is not part of a numpy array")
    elif isinstance(argument, str | bytes) and argument not in _ARRAY_STRINGS:
        raise ValueError(f"it holds the text {argument[:60]!r}, which is not part of an array of MNIST")
