"""What previews show: aligned tables, shortened texts, and contact sheets of images."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from mixlaw.errors import ConfigError

CAPTION_CHARS = 60  # of a text below an image
COLUMNS, TILE, LINE = 6, 160, 16  # of the contact sheet: images in a row, pixels of an image and of its caption


def aligned(rows: Sequence[Sequence[str]], n_names: int) -> str:
    """Return rows as an aligned table: the first `n_names` columns left-aligned, the others (numbers) right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = zip(row, widths, strict=True)
        lines.append("  ".join(c.ljust(w) if i < n_names else c.rjust(w) for i, (c, w) in enumerate(cells)).rstrip())
    return "\n".join(lines) + "\n"


def shortened(text: str, length: int) -> str:
    """Return the beginning of a text on one line."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def contact_sheet(images: Sequence[tuple[Image.Image, str]]) -> Image.Image:
    """Draw images in a grid, each with its caption below."""
    n_rows = -(-len(images) // COLUMNS)
    width, height = TILE + 8, TILE + LINE + 8
    sheet = Image.new("RGB", (COLUMNS * width, n_rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), 10)
    for i, (image, text) in enumerate(images):
        left, top = i % COLUMNS * width + 4, i // COLUMNS * height + 4
        sheet.paste(image, (left + (TILE - image.width) // 2, top + (TILE - image.height) // 2))
        while text and draw.textlength(text, font) > TILE:
            text = text.rstrip("…")[:-1] + "…"
        draw.text((left, top + TILE + 2), text, "black", font)
    return sheet


def write_png(sheet: Image.Image, path: Path) -> None:
    """Write an image as PNG.

    Raises
    ------
    ConfigError
        If the name does not end in .png, or the file cannot be written.
    """
    if path.suffix != ".png":
        raise ConfigError(f"--out {path}: the name must end in .png")
    try:
        sheet.save(path)
    except OSError as error:
        raise ConfigError(f"--out {path}: cannot be written: {error.strerror or error}") from None
