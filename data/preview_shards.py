"""The preview of tar shards: what kinds of members they hold, their first captions, and their first images."""

import argparse
from pathlib import Path

from PIL import Image

from data.config import DataConfig, SourceConfig
from data.display import CAPTION_CHARS, TILE, aligned, contact_sheet, shortened, write_png
from data.readers.budget import BadDocuments
from data.readers.files import sample_text
from data.readers.images import SUFFIXES, UNDECODABLE, open_image
from data.readers.paths import find_files
from data.readers.webdataset import TarShards
from mixlaw.errors import DataError

N_SAMPLES, N_IMAGES = 5, 24  # that are shown


class Allowed:
    """Counts images that cannot be decoded against the budget of --bad-budget."""

    def __init__(self, budget: int) -> None:
        self.budget, self.count = budget, 0

    def add(self, where: str, cause: str) -> None:
        """Count one more; raise DataError if it exceeds the budget."""
        self.count += 1
        if self.count > self.budget:
            advice = "repair or remove it, or raise --bad-budget"
            raise DataError(f"{where}: cannot be decoded ({cause}): {advice}")


def caption(shards: TarShards, number: int, text_key: str) -> str:
    """Return the caption of a sample, or the reason in brackets why it has none."""
    where = shards.where(number)
    try:
        text = sample_text(shards.sample(number), where, text_key, BadDocuments())
    except DataError as error:
        text = f"({str(error).removeprefix(where).lstrip(': ')})"
    return shortened(text or "", CAPTION_CHARS)


def decoded(raw: bytes, where: str, allowed: Allowed) -> Image.Image | None:
    """Return an image scaled to a tile; None if it cannot be decoded and the budget allows to skip it."""
    try:
        image = open_image(raw, TILE)
        image.thumbnail((TILE, TILE))
        return image
    except UNDECODABLE as error:
        allowed.add(where, shortened(str(error), CAPTION_CHARS) or type(error).__name__)
        return None


def first_images(shards: TarShards, allowed: Allowed) -> list[tuple[Image.Image, int]]:
    """Return the first images with the numbers of their samples."""
    found: list[tuple[Image.Image, int]] = []
    for number in range(len(shards)):
        for suffix, raw in shards.sample(number).items():
            if suffix.rpartition(".")[2] in SUFFIXES:
                image = decoded(raw, f"{shards.where(number)}.{suffix}", allowed)
                found += [(image, number)] if image else []
        if len(found) >= N_IMAGES:
            break
    return found[:N_IMAGES]


def inspect_shards(args: argparse.Namespace) -> str:
    """Return a summary of the shards; write the contact sheet if --out is given.

    Raises
    ------
    ConfigError, DataError
        If a shard or an image is damaged, or the sheet cannot be written.
    """
    shards = TarShards(find_files(SourceConfig("webdataset", path=args.shards), "--shards"), index_folder())
    allowed = Allowed(args.bad_budget)
    kinds = ", ".join(f"{n:,} .{kind}" for kind, n in shards.kinds.most_common())
    lines = [f"{len(shards.paths):,} shards, {len(shards):,} samples: {kinds}", ""]
    shown = range(min(N_SAMPLES, len(shards)))
    rows = [[key, caption(shards, i, args.text_key)] for i, key in zip(shown, shards.keys, strict=False)]
    lines.append(aligned(rows, 2))
    if args.out:
        images = first_images(shards, allowed)
        if not images:
            raise DataError(f"{args.shards}: no image for {args.out}: no .{', .'.join(SUFFIXES)} can be decoded")
        write_png(contact_sheet([(image, caption(shards, i, args.text_key)) for image, i in images]), args.out)
        lines.append(f"{len(images)} images in {args.out}; {allowed.count} could not be decoded\n")
    return "\n".join(lines)


def index_folder() -> Path:
    """Return the folder for indices of shards that are read without a configuration."""
    return DataConfig().root_folder / "tar_indices"
