"""Images of a prepared folder: decoded pixels, and the positions of their tokens.

<domain>/<split>-00000.images   uint8 (n, size, size, 3), in the order of their tokens
<domain>/<split>-00000.places   little-endian int64, the token of the split that stands for each image
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.store.tokens import Manifest
from mixlaw.errors import DataError
from mixlaw.fileio import file_sha256

SHARD_BYTES = 1 << 30  # a shard ends after the document that reaches this size


def write_images(
    folder: Path,
    split: str,
    entry: dict[str, Any],
    images: Iterable[NDArray[np.uint8]],
    image_id: int,
    dtype: np.dtype[Any],
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write the images of a split after its tokens, and add the files to its manifest entry.

    Parameters
    ----------
    images : of each document (n, size, size, 3)
    image_id : the token that stands for an image
    dtype : of the tokens
    """
    shards = [folder / f["name"] for f in entry["files"] if f["name"].endswith(".tokens")]
    begins = np.cumsum([0] + [path.stat().st_size // dtype.itemsize for path in shards])
    found = [
        np.flatnonzero(np.memmap(path, dtype, "r") == image_id) + begin
        for path, begin in zip(shards, begins, strict=False)
    ]
    places = np.concatenate(found) if found else np.zeros(0, np.int64)
    n_images = 0
    for number, shard in enumerate(_shards(images, shard_bytes)):
        stem = f"{split}-{number:05d}"
        here = places[n_images : n_images + len(shard)]
        _write(folder / f"{stem}.images", shard, entry)
        _write(folder / f"{stem}.places", here.astype("<i8"), entry)
        n_images += len(shard)
    if n_images != len(places):
        raise DataError(f"{folder}: {n_images} images for {len(places)} image tokens in the split {split}")
    entry["n_images"] = n_images


def _shards(images: Iterable[NDArray[np.uint8]], shard_bytes: int) -> Iterator[NDArray[np.uint8]]:
    pending: list[NDArray[np.uint8]] = []
    size = 0
    for several in images:
        if len(several):
            pending.append(several)
            size += several.nbytes
        if size >= shard_bytes:
            yield np.concatenate(pending)
            pending, size = [], 0
    if pending:
        yield np.concatenate(pending)


def _write(path: Path, array: NDArray[Any], entry: dict[str, Any]) -> None:
    with path.open("wb") as file:
        file.write(np.ascontiguousarray(array).data)
    entry["files"].append({"name": path.name, "n_bytes": array.nbytes, "sha256": file_sha256(path)})


class ImageReader:
    """Random access to the images of one domain and split.

    Attributes
    ----------
    places : (n_images,) the token of the split that stands for each image
    """

    def __init__(self, manifest: Manifest, domain: str, split: str) -> None:
        size = manifest.image_size
        if not size:
            raise DataError(f"{manifest.folder} holds texts only: this model needs data with images (data.image_size)")
        self.size = size
        names = [f["name"] for f in manifest.entry(domain)["splits"][split]["files"]]
        folder, record = manifest.folder / domain, (size, size, 3)
        maps = [np.memmap(folder / n, np.uint8, "r") for n in names if n.endswith(".images")]
        self._shards = [m.view(np.ndarray).reshape(-1, *record) for m in maps]
        places = [np.fromfile(folder / n, "<i8") for n in names if n.endswith(".places")]
        self.places: NDArray[np.int64] = np.concatenate(places) if places else np.zeros(0, np.int64)
        self._ends = np.cumsum([len(s) for s in self._shards], dtype=np.int64)

    def image(self, number: int) -> NDArray[np.uint8]:
        """Return an image (size, size, 3)."""
        shard = int(np.searchsorted(self._ends, number, side="right"))
        return self._shards[shard][number - (int(self._ends[shard - 1]) if shard else 0)]
