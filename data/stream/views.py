"""Image augmentation: random crop and flip, a function of the key only."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from data.readers.documents import Pixels


@dataclass(frozen=True)
class View:
    """Settings of the augmentation.

    Attributes
    ----------
    size : side of the image that the model reads, in pixels
    min_crop : minimum share of the area in a random crop; 1: no crop (RandomResizedCrop of the paper: 0.4)
    flip : probability of a horizontal flip
    """

    size: int = 0
    min_crop: float = 1.0
    flip: float = 0.0


def seen(image: Pixels, view: View, key: int | None) -> Pixels:
    """Return an augmented image (size, size, 3).

    Parameters
    ----------
    key : 64-bit random key; None: no augmentation
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
