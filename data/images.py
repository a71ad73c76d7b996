"""Images in one canonical form: red, green and blue, square, on white ground, decoded once when data are prepared."""

import re
import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image, ImageOps

from data.documents import Pixels

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
        if opened.mode.startswith("I;16"):  # 16 bits of grey, which Pillow would cut off at 255
            return Image.fromarray((np.asarray(opened) >> 8).astype(np.uint8)).convert("RGB")
        if opened.mode in ("RGBA", "LA", "PA") or "transparency" in opened.info:
            layer = opened.convert("RGBA")
            ground = Image.new("RGBA", layer.size, "white")
            return Image.alpha_composite(ground, layer).convert("RGB")
        return opened.convert("RGB")


def _render(svg: bytes, size: int) -> bytes:
    """Return a drawing as PNG. Nothing outside of the drawing is read: no fonts, and no files that it names."""
    import resvg_py

    if _OUTSIDE.search(svg):
        raise ValueError("it refers to something outside of itself")
    text = svg.decode("utf-8")
    return resvg_py.svg_to_bytes(svg_string=text, width=size, skip_system_fonts=True, background="white", dpi=96)
