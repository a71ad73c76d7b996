"""Decodes images to one format: RGB, square, on white. Images are decoded once, when data are prepared.

Grey values of more than 8 bits are converted to 8 bits, from black (0) to white (255):

    16-bit integers   upper 8 bits (of 12 if TIFF says so); values up to 255 unchanged
    32-bit integers   values up to 255 unchanged, up to 65,535 as 16-bit integers, others scaled from minimum to maximum
    floats            in [0, 1] times 255, in [0, 255] unchanged, others scaled from minimum to maximum; no NaN
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

UNDECODABLE = (  # exceptions of Pillow and resvg for damaged images
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
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # some other decoders of Pillow start programs
MOST_PIXELS = 1 << 26
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # TIFF tags, and a value
_SVG_HEAD = 1024  # bytes in which `<svg` must occur
_OUTSIDE = re.compile(rb"""<(?:\w+:)?(?:image|feImage|use)\b[^>]*?href\s*=\s*["'](?!\s*(?:#|data:image/))""", re.I)


def canonical(image: bytes | Pixels, size: int, drawings: bool = False) -> Pixels:
    """Return an image (size, size, 3): scaled so that its longer side fits, centred on white.

    Parameters
    ----------
    drawings : accept SVG; only for trusted sources

    Raises
    ------
    One of UNDECODABLE, if the image cannot be decoded.
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
    """Return a decoded RGB image, rotated as EXIF says, on white if transparent; SVG is rendered `size` pixels wide."""
    if not isinstance(image, bytes):
        return Image.fromarray(image).convert("RGB")
    if drawings and b"<svg" in image[:_SVG_HEAD]:
        image = _render(image, size)
    with Image.open(BytesIO(image), formats=FORMATS) as stored:
        if stored.width * stored.height > MOST_PIXELS:
            raise ValueError(f"it has {stored.width} x {stored.height} pixels")
        opened = ImageOps.exif_transpose(stored)
        if opened.mode[0] in "IF":  # grey of 16 or 32 bits, which Pillow would clip at 255
            return Image.fromarray(_in_8_bits(np.asarray(opened), stored)).convert("RGB")
        if opened.mode in ("RGBA", "LA", "PA") or "transparency" in opened.info:
            layer = opened.convert("RGBA")
            ground = Image.new("RGBA", layer.size, "white")
            return Image.alpha_composite(ground, layer).convert("RGB")
        return opened.convert("RGB")


def _in_8_bits(values: NDArray[Any], stored: Image.Image) -> NDArray[np.uint8]:
    """Convert grey values (height, width) of 16 or 32 bits to 8 bits, by the rule in the module's docstring.

    Raises
    ------
    ValueError
        If a value is not finite.
    """
    if not np.isfinite(values).all():
        raise ValueError("some of its values are NaN or infinite")
    tags: Any = getattr(stored, "tag_v2", {})  # TIFF
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
    """Render an SVG to PNG. System fonts and other files are not read; references to them are errors."""
    import resvg_py

    if _OUTSIDE.search(svg):
        raise ValueError("it refers to an external file")
    text = svg.decode("utf-8")
    return resvg_py.svg_to_bytes(svg_string=text, width=size, skip_system_fonts=True, background="white", dpi=96)
