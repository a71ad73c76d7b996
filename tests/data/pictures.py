"""A tiny prepared folder of pictures: coloured halves with captions that name them, pages with several, and text."""

from pathlib import Path

import numpy as np

from data.readers.documents import IMAGE, Document, Pixels
from data.store.images import write_images
from data.store.tokens import SPLITS, Manifest, open_manifest, write_manifest, write_split

SIZE, IMAGE_ID = 8, 256
COLOURS = {"red": (220, 30, 30), "green": (30, 180, 60), "blue": (40, 60, 220), "black": (0, 0, 0)}
PLACES = ["top", "bottom", "left", "right"]
ROLES = {"text": "train", "captions": "train", "pages": "train", "loud": "train", "other": "target"}


def picture(rng: np.random.Generator) -> tuple[Pixels, str]:
    """Return a half of a square in a colour, and its caption."""
    colour, place = rng.choice(list(COLOURS)), rng.choice(PLACES)
    image = np.full((SIZE, SIZE, 3), 255, np.uint8)
    half = {"top": np.s_[:4], "bottom": np.s_[4:], "left": np.s_[:, :4], "right": np.s_[:, 4:]}[place]
    image[half] = COLOURS[colour]
    return image, f"{colour} {place}"


def document(kind: str, rng: np.random.Generator) -> Document:
    """Return a document of a kind: text, one captioned picture, or a page."""
    if kind == "text":
        return Document(" ".join(rng.choice([*COLOURS, *PLACES], rng.integers(3, 40))))
    if kind in ("captions", "loud", "other"):
        image, name = picture(rng)
        marks = {"captions": 0, "loud": int(rng.integers(9)), "other": 1}
        return Document(IMAGE + name + "!" * marks[kind], (image,))
    parts = [picture(rng) for _ in range(rng.integers(1, 6))]
    text = "".join(f"see {name}: {IMAGE} " for _, name in parts)
    return Document(text + "end", tuple(image for image, _ in parts))


def tokens(document: Document) -> np.ndarray:
    """Return the tokens of a document, IMAGE_ID where an image stands, with the end token."""
    parts = [np.frombuffer(part.encode(), np.uint8).astype(np.uint16) for part in document.text.split(IMAGE)]
    joined = [piece for part in parts for piece in (np.array([IMAGE_ID], np.uint16), part)][1:]
    return np.concatenate([*joined, np.zeros(1, np.uint16)])


def documents(name: str, split: str, n: int, seed: int = 0) -> list[Document]:
    """Return the documents of a domain's split."""
    if (ROLES.get(name), split) == ("target", "train"):
        return []
    rng = np.random.default_rng([seed, list(SPLITS).index(split), *name.encode()])
    return [document(name, rng) for _ in range(n if split == "train" else n // 4)]


def write_pictures(folder: Path, n: int = 200, names: tuple[str, ...] = tuple(ROLES), seed: int = 0) -> Manifest:
    """Write a prepared folder with several shards of tokens and of images."""
    domains = {}
    for name in names:
        splits = {}
        for split in SPLITS:
            found, dtype = documents(name, split, n, seed), np.dtype("<u2")
            entry = write_split(folder / name, split, [tokens(d) for d in found], dtype, 1500)
            images = (np.array(d.images, np.uint8).reshape(-1, SIZE, SIZE, 3) for d in found)
            write_images(folder / name, split, entry, images, image_id=IMAGE_ID, dtype=dtype, shard_bytes=20_000)
            splits[split] = entry
        domains[name] = {"role": ROLES[name], "splits": splits}
    tokenizer = {"kind": "bytes", "vocab_size": 256, "end_id": 0, "sha256": "0" * 64}
    image = {"size": SIZE, "id": IMAGE_ID}
    write_manifest(folder, {"format": 1, "tokenizer": tokenizer, "image": image, "domains": domains})
    return open_manifest(folder)
