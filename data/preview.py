"""Show what training would read: a prepared folder and its realised mixture, or tar shards.

    python -m data.preview                                                # the quick start's domains, natural mixture
    python -m data.preview data=mine --mixture 'code=0.7,docs=0.3' --first 1000 --seq-len 256
    python -m data.preview --mixture code=1 --until 0.8 --mixture docs=1    # the mixture changes after 80 %
    python -m data.preview --mixture 'code=0.7,docs=0.3' --unique-tokens docs=2e3    # a part of docs, repeated
    python -m data.preview data=multimodal --seq-len 256 --out sheet.png  # the first images of every domain
    python -m data.preview --shards '/data/shards/*.tar' --out sheet.png  # samples, captions, and the first images

Nothing is prepared or changed; indices of tar shards are saved in data.root.
"""

import argparse
import itertools
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from data.display import CAPTION_CHARS, COLUMNS, TILE, aligned, contact_sheet, shortened, write_png
from data.preparation.inputs import how_to_prepare
from data.prepare import compose_config
from data.preview_shards import inspect_shards
from data.store.images import ImageReader
from data.store.tokens import SPLITS, Manifest, TokenReader, open_manifest
from data.stream.items import Kinds, Layout, kinds_in
from data.stream.loader import WeightedStream
from data.stream.pools import pools_of
from data.stream.views import View
from data.tokenizers import Tokenizer, load_tokenizer
from mixlaw.console import command, exit_code_of
from mixlaw.errors import ConfigError, DataError
from mixlaw.mixture import Mixture
from mixlaw.paths import path_option
from mixlaw.quoted import read_pairs

TEXT_TOKENS, TEXT_CHARS = 400, 100  # lengths of the texts that are shown
PLACE = "[image]"


def layout_of(manifest: Manifest, seq_len: int, image_size: int, patch_size: int) -> Layout:
    """Return the layout of a prepared folder for a text model, or for a multimodal one if it has images.

    Raises
    ------
    ConfigError
        If images cannot be divided into such patches, or a sequence is too short for an image and a token.
    """
    if not manifest.image_size:
        return Layout(seq_len)
    layout = Layout(seq_len, "multimodal", patch_size, View(image_size or manifest.image_size))
    if layout.view.size % patch_size or layout.n_patches < 2:
        raise ConfigError(f"--patch-size {patch_size}: images of {layout.view.size} pixels need a divisor of that")
    if layout.n_patches >= seq_len:
        raise ConfigError(
            f"--seq-len {seq_len}: a sequence must hold an image of {layout.n_patches} patches and a token"
        )
    return layout


def describe(manifest: Manifest, layout: Layout) -> str:
    """Return tables of the domains: role, documents, tokens per split, sequences, and the beginning of the text.

    Raises
    ------
    DataError
        If the tokenizer file is missing or damaged.
    """
    tokenizer = load_tokenizer(manifest.folder, manifest.facts["tokenizer"])
    images = ["images"] * bool(manifest.image_size)
    rows = [
        ["domain", "role", "documents", *images, *(f"{s} tokens" for s in SPLITS), f"sequences of {layout.seq_len}"]
    ]
    texts = []
    for name, entry in manifest.facts["domains"].items():
        numbers = [sum(split["n_documents"] for split in entry["splits"].values())]
        numbers += [sum(split["n_images"] for split in entry["splits"].values()) for _ in images]
        numbers += [n_available(manifest, name, split, layout) for split in SPLITS]
        numbers.append(kinds_in(manifest, name, "train", layout).size)
        rows.append([name, entry["role"], *(f"{n:,}" for n in numbers)])
        texts.append([name, shortened(_beginning(manifest, name, tokenizer), TEXT_CHARS)])
    return f"{aligned(rows, 2)}\n{aligned(texts, 2)}"


def n_available(manifest: Manifest, domain: str, split: str, layout: Layout) -> int:
    """Return the number of tokens of a split; an image counts as its number of patches."""
    if not manifest.image_size:
        return manifest.n_tokens(domain, split)
    return kinds_in(manifest, domain, split, layout).total("n_tokens")


def _beginning(manifest: Manifest, domain: str, tokenizer: Tokenizer) -> str:
    """Return the text of the first tokens of a domain, in its first split that has tokens."""
    split = next((s for s in SPLITS if manifest.n_tokens(domain, s)), None)
    if split is None:
        return ""
    reader = TokenReader(manifest, domain, split)
    window = reader.windows(np.zeros(1, np.int64), min(TEXT_TOKENS, reader.n_tokens))[0]
    tokens = (t for t in window.tolist() if t != tokenizer.end_id)
    return decoded_text(tokenizer, tokens)


def decoded_text(tokenizer: Tokenizer, tokens: Iterable[int]) -> str:
    """Decode stored tokens to text, with [image] in place of images."""
    parts = (
        PLACE if is_image else tokenizer.decode(ids)
        for is_image, ids in itertools.groupby(tokens, lambda token: token >= tokenizer.vocab_size)
    )
    return "".join(parts)


def realised(
    manifest: Manifest,
    phases: Sequence[tuple[int, Mixture]],
    layout: Layout,
    first: int,
    unique_tokens: Mapping[str, float],
) -> str:
    """Return tables of requested and realised weights in the first sequences of the stream, with tokens and epochs.

    Parameters
    ----------
    phases : (sequences before it, mixture) of each phase
    first : number of sequences
    unique_tokens : domain -> limit of its unique tokens

    Raises
    ------
    DataError
        If a domain has no sequence.
    """
    drawn = {name for _, weights in phases for name, weight in weights.items() if weight}
    kinds = {name: kinds_in(manifest, name, "train", layout) for name in manifest.domains}
    available = {name: n_available(manifest, name, "train", layout) for name in kinds}
    pools = pools_of(kinds, available, unique_tokens, "--unique-tokens")
    for name in drawn:
        if not kinds[name].size:
            raise DataError(f"domain '{name}' has too few tokens for a sequence of {layout.seq_len}: lower --seq-len")
    stream = WeightedStream(manifest, phases[0][1], layout, 1, seed=0, changes=phases[1:], pools=pools)
    kinds |= pools
    stops = [*(begin for begin, _ in phases[1:]), first]
    lengths = [stop - begin for (begin, _), stop in zip(phases, stops, strict=True)]
    requested = {d: sum(n * h[d] for n, (_, h) in zip(lengths, phases, strict=True)) / first for d in phases[0][1]}
    whole = _shares(f"the first {first:,} sequences", requested, stream.tokens_by_domain(first), kinds, layout)
    if len(phases) == 1:
        return whole
    tables = []
    for (begin, weights), stop in zip(phases, stops, strict=True):
        before, after = stream.tokens_by_domain(begin), stream.tokens_by_domain(stop)
        spent = {domain: after[domain] - before[domain] for domain in after}
        tables.append(_shares(f"sequences {begin + 1:,} to {stop:,}", weights, spent, kinds, layout))
    return "\n".join([*tables, whole])


def _shares(
    title: str, requested: Mapping[str, float], spent: Mapping[str, int], kinds: Mapping[str, Kinds], layout: Layout
) -> str:
    rows = [["domain", "requested", "realised", "tokens", "unique", "epochs"]]
    for name, weight in requested.items():
        unique, share = kinds[name].total("n_tokens"), spent[name] / sum(spent.values())
        epochs = spent[name] / max(unique, 1)
        rows.append([name, f"{weight:.4f}", f"{share:.4f}", f"{spent[name]:,}", f"{unique:,}", f"{epochs:.4f}"])
    return f"{title} of {layout.seq_len} tokens:\n{aligned(rows, 1)}"


def phases_of(mixtures: Sequence[Mixture], until: Sequence[float], first: int) -> list[tuple[int, Mixture]]:
    """Return (sequences before it, mixture) of each phase.

    Parameters
    ----------
    until : share of the sequences at which each mixture but the last ends
    first : number of sequences

    Raises
    ------
    ConfigError
        If there is not one share between any two mixtures, or a phase would have no sequence.
    """
    if len(until) != len(mixtures) - 1:
        raise ConfigError(
            f"--until is given {len(until)} times and --mixture {len(mixtures)} times: each mixture but the last needs "
            "one, the share of the sequences at its end"
        )
    begins = [0, *(round(share * first) for share in until if 0 < share < 1)]
    if len(begins) != len(mixtures) or any(a >= b for a, b in itertools.pairwise([*begins, first])):
        shown = ", ".join(map(str, until))
        raise ConfigError(f"--until {shown}: shares must increase between 0 and 1, by a sequence or more")
    return list(zip(begins, mixtures, strict=True))


def inspect_prepared(args: argparse.Namespace) -> str:
    """Return a summary of a prepared folder with its realised mixture; write the contact sheet if --out is given."""
    config = compose_config(args.overrides)
    manifest = open_manifest(config.folder, how_to_prepare(config))
    layout = layout_of(manifest, args.seq_len, args.image_size, args.patch_size)
    mixtures = [Mixture.parse(text, manifest.domains, "--mixture") for text in args.mixture]
    if not mixtures:
        sizes = {name: n_available(manifest, name, "train", layout) for name in manifest.domains}
        mixtures = [Mixture.proportional(sizes)]
    phases = phases_of(mixtures, args.until, args.first)
    limits = read_pairs(args.unique_tokens)
    parts = [describe(manifest, layout), realised(manifest, phases, layout, args.first, limits)]
    if args.out:
        images = prepared_images(manifest)
        write_png(contact_sheet(images), args.out)
        parts.append(f"{len(images)} images in {args.out}\n")
    return "\n".join([*parts, f"in {manifest.folder}\n"])


def prepared_images(manifest: Manifest) -> list[tuple[Image.Image, str]]:
    """Return the first images of every domain, with the text that follows each.

    Raises
    ------
    DataError
        If the folder has no images.
    """
    tokenizer = load_tokenizer(manifest.folder, manifest.facts["tokenizer"])
    shown = []
    for domain in (*manifest.domains, *manifest.targets):
        split = "train" if domain in manifest.domains else "eval"
        reader, images = TokenReader(manifest, domain, split), ImageReader(manifest, domain, split)
        for number, place in enumerate(images.places[: 2 * COLUMNS].tolist()):
            window = reader.windows(np.array([place]), min(CAPTION_CHARS, reader.n_tokens - place))[0].tolist()
            text = decoded_text(tokenizer, itertools.takewhile(lambda t: t != tokenizer.end_id, window[1:]))
            image = Image.fromarray(images.image(number)).resize((TILE, TILE), Image.Resampling.NEAREST)
            shown.append((image, shortened(f"{domain}: {text}", CAPTION_CHARS)))
    if not shown:
        raise DataError(f"{manifest.folder} contains no images: --out needs data with images")
    return shown


def positive(text: str) -> int:
    """Parse an integer of at least 1, for argparse."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def parse_args(argv: list[str] | None) -> Any:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m data.preview", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", metavar="setting=value", help="a group or setting of configs/data")
    add = parser.add_argument
    weights = "weights of the domains (default: the natural mixture); repeat it for phases"
    add("--mixture", action="append", default=[], metavar="DOMAIN=WEIGHT,...", help=weights)
    shares = "phases: share of the sequences at which a mixture ends, for each but the last"
    add("--until", action="append", type=float, default=[], metavar="SHARE", help=shares)
    limits = "limits of unique tokens, as stream.unique_tokens of a run"
    add("--unique-tokens", default="", metavar="DOMAIN=TOKENS,...", help=limits)
    add("--first", type=positive, default=1000, metavar="N", help="number of sequences to count (%(default)s)")
    add("--seq-len", type=positive, default=64, metavar="TOKENS", help="length of a sequence (%(default)s)")
    add("--patch-size", type=positive, default=4, metavar="PIXELS", help="side of an image patch (%(default)s)")
    add("--image-size", type=int, default=0, metavar="PIXELS", help="side of images (default: the stored size)")
    add("--shards", metavar="PATH", help="show tar shards (a file, a folder or a glob) instead of prepared data")
    add("--text-key", default="", help="key of the caption in .json (default: .txt, else text or caption in .json)")
    add("--out", type=path_option, metavar="PNG", help="write a contact sheet of the first images")
    add("--bad-budget", type=int, default=0, metavar="N", help="undecodable images to skip (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: list[str] | None = None) -> int:
    """Run `python -m data.preview`; return the exit code."""
    args = parse_args(argv)
    return exit_code_of(lambda: _inspect(args))


def _inspect(args: argparse.Namespace) -> int:
    if args.shards and (args.overrides or args.mixture or args.until or args.unique_tokens):
        raise ConfigError("--shards shows tar shards only: remove the settings, --mixture, --until and --unique-tokens")
    sys.stdout.write(inspect_shards(args) if args.shards else inspect_prepared(args))
    return 0


if __name__ == "__main__":
    sys.exit(main())
