"""How a stored image is looked at: whole, or a random part of it, a function of the key alone."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from data.readers.documents import Pixels


@dataclass(frozen=True)
class View:
    """What is done to an image each time that it is seen.

    Attributes
    ----------
    size : pixels of a side that the model reads
    min_crop : least share of the area that is seen; 1: always all of it (RandomResizedCrop of the paper: 0.4)
    flip : probability of seeing it mirrored
    """

    size: int = 0
    min_crop: float = 1.0
    flip: float = 0.0


def seen(image: Pixels, view: View, key: int | None) -> Pixels:
    """Return an image (size, size, 3) as a view shows it.

    Parameters
    ----------
    key : decides which part, of 64 bits; None: all of the image as it is
    """
    if key is None or (view.min_crop == 1.0 and not view.flip):
        return _resized(image, None, view.size)
    random = np.random.Generator(np.random.Philox(key))
    side = image.shape[0] * np.sqrt(random.uniform(view.min_crop, 1.0))
    left, top = random.uniform(0, image.shape[0] - side, 2)
    part = _resized(image, (left, top, left + side, top + side), view.size)
    return np.ascontiguousarray(part[:, ::-1]) if random.random() < view.flip else part


def _resized(image: Pixels, box: tuple[float, float, float, float] | None, size: int) -> Pixels:
    if box is None and image.shape[0] == size:
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box=box))
