"""Images in one canonical form: red, green and blue, square, on white ground, decoded once when data are prepared.

Brighter greys than 8 bits hold become 8 bits by this rule, from black (0) to white (255):

    integers of 16 bits   the upper 8 of their bits (of 12, where TIFF says 12); values up to 255 as they are
    integers of 32 bits   values up to 255 as they are, up to 65,535 as those of 16 bits, others from least to most
    floats                in [0, 1] times 255, in [0, 255] as they are, others from least to most; none may be NaN
"""

import re
import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from data.readers.documents import Pixels

UNDECODABLE = (  # what Pillow and resvg raise for damaged images
    OSError,
    ValueError,
    SyntaxError,
    LookupError,
    EOFError,
    TypeError,
    RuntimeError,
    ArithmeticError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "pgm")
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # others run programs, or are none of photographs
MOST_PIXELS = 1 << 26
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # of TIFF
_SVG_HEAD = 1024  # bytes in which an SVG file says that it is one
_OUTSIDE = re.compile(rb"""<(?:\w+:)?(?:image|feImage|use)\b[^>]*?href\s*=\s*["'](?!\s*(?:#|data:image/))""", re.I)


def canonical(image: bytes | Pixels, size: int, drawings: bool = False) -> Pixels:
    """Return an image as (size, size, 3): its longer side fills the square, white is where it has nothing.

    Parameters
    ----------
    drawings : whether SVG is an image, too: only of sources that are trusted

    Raises
    ------
    One of UNDECODABLE, if the bytes are no image that can be read.
    """
    opened = open_image(image, size, drawings)
    opened.thumbnail((size, size), Image.Resampling.LANCZOS)
    if max(opened.size) < size:
        scale = size / max(opened.size)
        wanted = [max(round(side * scale), 1) for side in opened.size]
        opened = opened.resize((wanted[0], wanted[1]), Image.Resampling.BICUBIC)
    square = Image.new("RGB", (size, size), "white")
    square.paste(opened, ((size - opened.width) // 2, (size - opened.height) // 2))
    return np.asarray(square)


def open_image(image: bytes | Pixels, size: int, drawings: bool = False) -> Image.Image:
    """Return a decoded image, upright and without transparency; drawings (SVG) are rendered at the given size."""
    if not isinstance(image, bytes):
        return Image.fromarray(image).convert("RGB")
    if drawings and b"<svg" in image[:_SVG_HEAD]:
        image = _render(image, size)
    with Image.open(BytesIO(image), formats=FORMATS) as stored:
        if stored.width * stored.height > MOST_PIXELS:
            raise ValueError(f"it has {stored.width} x {stored.height} pixels")
        opened = ImageOps.exif_transpose(stored)
        if opened.mode[0] in "IF":  # grey of 16 or 32 bits, which Pillow would cut off at 255
            return Image.fromarray(_in_8_bits(np.asarray(opened), stored)).convert("RGB")
        if opened.mode in ("RGBA", "LA", "PA") or "transparency" in opened.info:
            layer = opened.convert("RGBA")
            ground = Image.new("RGBA", layer.size, "white")
            return Image.alpha_composite(ground, layer).convert("RGB")
        return opened.convert("RGB")


def _in_8_bits(values: NDArray[Any], stored: Image.Image) -> NDArray[np.uint8]:
    """Return grey values (height, width) of 16 or 32 bits in 8 bits, by the rule at the top of this file.

    Raises
    ------
    ValueError
        If a value is not finite.
    """
    if not np.isfinite(values).all():
        raise ValueError("some of its values are NaN or infinite")
    tags: Any = getattr(stored, "tag_v2", {})  # of TIFF
    least, most = values.min(), values.max()
    grey: NDArray[Any]
    if values.dtype.kind == "f" and 0 <= least and most <= 1:
        grey = values * 255.0
    elif 0 <= least and most <= 255:
        grey = values
    elif 0 <= least and most <= 0xFFFF and values.dtype.kind != "f":
        bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
        grey = values >> (bits - 8 if most < 1 << bits <= 1 << 16 else 8)
    else:
        span = float(most) - float(least)
        grey = (values.astype(np.float64) - least) * (255.0 / span) if span else np.full(values.shape, 127.0)
    whole = np.rint(grey).astype(np.uint8)
    return 255 - whole if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else whole


def _render(svg: bytes, size: int) -> bytes:
    """Return a drawing as PNG. Nothing outside of the drawing is read: no fonts, and no files that it names."""
    import resvg_py

    if _OUTSIDE.search(svg):
        raise ValueError("it refers to something outside of itself")
    text = svg.decode("utf-8")
    return resvg_py.svg_to_bytes(svg_string=text, width=size, skip_system_fonts=True, background="white", dpi=96)
