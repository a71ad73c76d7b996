"""python -m train.show RUN_DIRECTORY --out PNG [--n 24]: draw held-out images, their captions, and predictions.

Multimodal and vision models write a caption for each image by greedy decoding. Vision models also predict the patches
after a prefix, each from the true patches before it (with brightness and contrast of the true patch, which they do not
predict). A table above compares held-out losses with baselines: token frequencies and the mean patch.
"""

import argparse
import itertools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from data.display import shortened, write_png
from data.preview import decoded_text, positive
from data.store.images import ImageReader
from data.store.tokens import Manifest, TokenReader, open_manifest
from data.stream.items import IGNORED, NO_IMAGE, Layout
from data.stream.loader import Batch, evaluation_batches
from data.stream.views import seen
from data.tokenizers import Tokenizer
from mixlaw.console import command, exit_code_of
from mixlaw.errors import ConfigError, DataError
from mixlaw.paths import path_option
from train.export import Trained, find_tokenizer, read_run
from train.models.layers import patches_of
from train.models.multimodal import targets as following
from train.models.vision import EPS, behind, normalised

MOST_TOKENS, MOST_SEQUENCES = 60, 512  # of a caption; of a domain, for the baselines
TILE, COLUMNS, LINE, GAP = 96, 4, 15, 10
CHARS = 44  # of a line of text


@dataclass(frozen=True)
class Shown:
    """One image with its true caption and the predictions of the model."""

    domain: str
    image: NDArray[np.uint8]
    caption: str
    said: str = ""
    predicted: NDArray[np.uint8] | None = None


def captioned_images(
    manifest: Manifest, domain: str, split: str, layout: Layout, tokenizer: Tokenizer, n: int
) -> list[Shown]:
    """Return the first captioned images of a domain and split."""
    reader, images = TokenReader(manifest, domain, split), ImageReader(manifest, domain, split)
    bounds, shown = reader.document_bounds(), []
    for start, stop in itertools.pairwise(bounds):
        first, last = np.searchsorted(images.places, (start, stop))
        if last - first != 1 or images.places[first] != start:
            continue  # text, or an interleaved document
        tokens = reader.windows(np.array([start + 1]), int(stop - start) - 2)[0].tolist()
        image = seen(images.image(int(first)), layout.view, None)
        shown.append(Shown(domain, image, decoded_text(tokenizer, tokens)))
        if len(shown) == n:
            break
    return shown


@torch.no_grad()
def say(run: Trained, images: NDArray[np.uint8], end_id: int) -> list[list[int]]:
    """Return a caption (token ids) of each image (n, size, size, 3) by greedy decoding."""
    layout = run.config.layout()
    said = np.full((len(images), 0), IGNORED, np.int64)
    for _ in range(min(MOST_TOKENS, layout.seq_len - layout.n_patches)):
        batch = {k: torch.from_numpy(v) for k, v in asked(run.config.model.family, layout, images, said).items()}
        scores = run.model.logits(batch)[:, layout.n_patches - 1 + said.shape[1]]  # type: ignore[operator]
        said = np.concatenate([said, scores.argmax(-1, keepdim=True).numpy()], 1)
    rows = [row.tolist() for row in said]
    return [row[: row.index(end_id)] if end_id in row else row for row in rows]


def asked(family: str, layout: Layout, images: NDArray[np.uint8], said: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return a batch of images, each followed by the caption so far, for predicting the next token."""
    n, P = len(images), layout.n_patches
    if family == "vision":
        behind = np.full((n, 1), IGNORED, np.int64)  # the last token is only a target
        return {"images": images, "prefix": np.full(n, P), "tokens": np.concatenate([said, behind], 1)}
    text, patches = np.full((n, P), IGNORED, np.int64), np.tile(np.arange(P), (n, 1))
    tokens = np.concatenate([text, said], 1)
    most = layout.seq_len // P
    padded = np.zeros((n, most, *images.shape[1:]), np.uint8)
    padded[:, 0] = images
    return {
        "tokens": tokens,
        "document": np.zeros_like(tokens),
        "patch": np.concatenate([patches, np.full(said.shape, NO_IMAGE)], 1),
        "images": padded,
    }


@torch.no_grad()
def predict_patches(run: Trained, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images whose second half is predicted by a vision model, each patch from the true ones before it."""
    layout = run.config.layout()
    P, size = layout.n_patches, layout.patch_size
    batch = asked("vision", layout, images, np.zeros((len(images), 0), np.int64))
    batch["prefix"] = np.full(len(images), P // 2)
    tensors = {k: torch.from_numpy(v) for k, v in batch.items()}
    guessed_BPC = run.model.image_head(run.model.decode(tensors)[:, : P - 1])  # type: ignore[operator]
    true_BPC = patches_of(tensors["images"][:, None], size)[:, 0]
    spread = (true_BPC.var(-1, keepdim=True, unbiased=False) + EPS).sqrt()
    pixels_BPC = true_BPC.clone()
    pixels_BPC[:, P // 2 :] = (guessed_BPC * spread[:, 1:] + true_BPC.mean(-1, keepdim=True)[:, 1:])[:, P // 2 - 1 :]
    side = layout.view.size // size
    cut = pixels_BPC.view(-1, side, side, size, size, 3).transpose(2, 3).reshape(images.shape)
    return ((cut + 1) * 127.5).clamp(0, 255).round().to(torch.uint8).numpy()


def show(run: Trained, n: int) -> list[Shown]:
    """Return held-out images of all domains and targets with the predictions of the model.

    Raises
    ------
    ConfigError, DataError
        If the model reads no images, or its data are not on this machine.
    """
    if run.config.model.family == "text":
        raise ConfigError(f"{run.folder} is a model of text: it has no images to show")
    manifest, layout, tokenizer = open_manifest(run.config.data.folder), run.config.layout(), find_tokenizer(run)
    names = [*manifest.targets, *manifest.domains]
    split = run.config.evaluation.split
    by_domain = [
        captioned_images(manifest, name, manifest.measured_split(name, split), layout, tokenizer, n) for name in names
    ]
    kept = [found for found in by_domain if found]
    asked_of = [shown for found in kept for shown in found[: max(n // len(kept), 1)]]
    if not asked_of:
        raise DataError(f"{manifest.folder} has no captioned images to evaluate, so there is nothing to show")
    images = np.stack([shown.image for shown in asked_of])
    vision = run.config.model.family == "vision"
    captions = say(run, images, tokenizer.end_id) if "text" in run.model.loss_weights else [[]] * len(images)  # type: ignore[operator]
    predicted = predict_patches(run, images) if vision and "image" in run.model.loss_weights else None  # type: ignore[operator]
    return [
        Shown(s.domain, s.image, s.caption, tokenizer.decode(said), None if predicted is None else predicted[i])
        for i, (s, said) in enumerate(zip(asked_of, captions, strict=True))
    ]


def against_nothing(run: Trained) -> list[str]:
    """Return a table of the last losses next to baselines: token frequencies, and the mean patch."""
    manifest, config = open_manifest(run.config.data.folder), run.config
    lines = [f"{'held-out':<14}{'captions and text':>20}{'letters alone':>16}{'patches':>12}{'mean patch':>14}"]
    for name in (*manifest.domains, *manifest.targets):
        batches = evaluation_batches(manifest, name, config.evaluation.split, config.layout(), MOST_SEQUENCES, 64)
        whole = {key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}
        image = run.losses.get(f"{name}-image")
        text = run.losses.get(f"{name}-text") if config.model.family == "vision" else run.losses.get(name)
        cells = [
            f"{name:<14}",
            f"{text['loss']:>20.3f}{letters_alone(whole):>16.3f}" if text else f"{'-':>20}{'-':>16}",
        ]
        if image:
            cells += [f"{image['loss']:>12.3f}", f"{mean_patch(whole, config.model.patch_size):>14.3f}"]
        lines.append("".join(cells))
    return lines


def letters_alone(batch: Batch) -> float:
    """Return the unigram entropy of the predicted tokens [nats per token], the loss of predicting their frequencies."""
    tokens = following(batch) if "document" in batch else batch["tokens"]
    shares = torch.bincount(tokens[tokens >= 0]).double()
    return float(torch.distributions.Categorical(shares / shares.sum()).entropy())


def mean_patch(batch: Batch, patch_size: int) -> float:
    """Return the mean squared error of predicting the mean patch."""
    patches = normalised(patches_of(batch["images"][:, None], patch_size)[:, 0])
    wanted = patches[:, 1:][behind(batch["prefix"], patches.shape[1])]
    return float((wanted - wanted.mean(0)).square().mean())


def draw(shown: list[Shown], lines: list[str]) -> Image.Image:
    """Draw the lines of text, and each image (with its predicted patches), its true and its predicted caption."""
    from matplotlib import get_data_path

    fonts = Path(get_data_path()) / "fonts/ttf"
    font, mono = (ImageFont.truetype(str(fonts / name), 11) for name in ("DejaVuSans.ttf", "DejaVuSansMono.ttf"))
    width, height, head = 300, TILE + 3 * LINE + GAP, LINE * len(lines) + 2 * GAP
    rows = -(-len(shown) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * width, head + rows * height), "white")
    pen = ImageDraw.Draw(sheet)
    for i, line in enumerate(lines):
        pen.text((GAP, GAP + i * LINE), line, "#111", mono)
    for i, one in enumerate(shown):
        left, top = i % COLUMNS * width + GAP, head + i // COLUMNS * height
        for column, pixels in enumerate(p for p in (one.image, one.predicted) if p is not None):
            tile = Image.fromarray(pixels).resize((TILE, TILE), Image.Resampling.NEAREST)
            sheet.paste(tile, (left + column * (TILE + GAP), top))
        told = [(f"{one.domain}:", "#777"), (f"true: {one.caption}", "#111"), (f"said: {one.said}", "#1650a0")]
        for row, (text, colour) in enumerate(told):
            pen.text((left, top + TILE + row * LINE), shortened(text, CHARS), colour, font)
    return sheet


@command
def main(argv: list[str] | None = None) -> int:
    """Run `python -m train.show`; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m train.show", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=path_option, metavar="RUN_DIRECTORY")
    parser.add_argument("--out", type=path_option, required=True, metavar="PNG")
    parser.add_argument("--n", type=positive, default=24, help="images (%(default)s)")
    return exit_code_of(lambda: _show(parser.parse_args(argv)))


def _show(options: argparse.Namespace) -> int:
    trained = read_run(options.run, unfinished=True)
    shown = show(trained, options.n)
    write_png(draw(shown, against_nothing(trained)), options.out)
    sys.stdout.write(f"{len(shown)} images in {options.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
