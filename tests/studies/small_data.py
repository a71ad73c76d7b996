"""Small local data in the layouts of the paper's studies: files like SlimPajama's, DCLM's, img2dataset's and OBELICS'.

Texts are made of invented words; every domain has some of its own and shares the rest, so that domains differ and help
each other. Pictures show a shape on a ground, and captions name it, except noisy ones, half of which say nothing of it.
"""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from webdataset import TarWriter

SETS = ("ArXiv", "Book", "C4", "CommonCrawl", "Github", "StackExchange", "Wikipedia")
COLOURS = ("red", "green", "blue", "black", "orange", "purple", "brown", "gray")
SHAPES = ("circle", "square", "bar")
PLACES = {"left": 2, "middle": 12, "right": 22}


class Words:
    """An invented language: common words, and words that only one domain has."""

    def __init__(self, domain: int, rng: np.random.Generator) -> None:
        spell = np.random.default_rng(0)  # the words are the same in all domains
        syllables = [c + v for c in "bcdfghjklmnprstvwz" for v in ("a", "e", "i", "o", "u", "ai", "or", "en")]
        words = ["".join(spell.choice(syllables, spell.integers(1, 4))) for _ in range(2400)]
        own = words[600 + 200 * domain : 800 + 200 * domain]
        self._rng, self._words = rng, np.array([*words[:400], *own])
        frequencies = np.concatenate([0.5 / np.arange(2, 402), 1 / np.arange(2, 202)])
        self._shares = frequencies / frequencies.sum()

    def say(self, n: int) -> str:
        return " ".join(self._rng.choice(self._words, n, p=self._shares)) + "."


def documents(domain: int, n_chars: int) -> list[str]:
    """Return texts of some sentences, together as long as asked for."""
    rng = np.random.default_rng([1, domain])
    words, texts, length = Words(domain, rng), list[str](), 0
    while length < n_chars:
        texts.append("\n".join(words.say(int(n)) for n in rng.integers(5, 15, 8)))
        length += len(texts[-1])
    return texts


def write_slimpajama(folder: Path, n_chars: int) -> Path:
    """Write JSON lines as SlimPajama has them, its seven sets mingled."""
    rows = [
        {"text": text, "meta": {"redpajama_set_name": f"RedPajama{name}"}}
        for i, name in enumerate(SETS)
        for text in documents(i, n_chars)
    ]
    order = np.random.default_rng(0).permutation(len(rows))
    (folder / "train").mkdir(parents=True)
    lines = "".join(json.dumps(rows[i]) + "\n" for i in order)
    (folder / "train" / "example_0.jsonl").write_text(lines)
    return folder


def write_openhermes(folder: Path, n_chars: int) -> Path:
    """Write JSON lines as OpenHermes has them: what is asked, and the answer, in words of two of the domains."""
    folder.mkdir(parents=True)
    answers = [a + " " + b for a, b in zip(documents(5, n_chars // 2), documents(6, n_chars // 2), strict=False)]
    rows = [{"instruction": "say", "input": "", "output": answer} for answer in answers]
    (folder / "openhermes.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def write_dclm(folder: Path, n_chars: int) -> Path:
    """Write parquet as DCLM has it."""
    folder.mkdir(parents=True)
    pd.DataFrame({"text": documents(0, n_chars), "url": "u"}).to_parquet(folder / "part-0.parquet")
    return folder


def picture(rng: np.random.Generator) -> tuple[bytes, str]:
    """Return a picture as JPEG and what it shows."""
    colour, shape, place = (str(rng.choice(list(them))) for them in (COLOURS, SHAPES, PLACES))
    image = Image.new("RGB", (40, 40), tuple(int(x) for x in rng.integers(190, 256, 3)))
    x, y, pen = PLACES[place], int(rng.integers(2, 22)), ImageDraw.Draw(image)
    if shape == "circle":
        pen.ellipse((x, y, x + 14, y + 14), fill=colour)
    else:
        pen.rectangle((x, y, x + 14, y + (14 if shape == "square" else 5)), fill=colour)
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue(), f"{colour} {shape} {place}"


def write_captions(path: Path, domain: int, n: int, noise: float = 0.0) -> Path:
    """Write a shard as img2dataset does; a share of the captions says nothing about its picture."""
    rng = np.random.default_rng([2, domain])
    words = Words(domain, rng)
    with TarWriter(str(path)) as shard:
        for i in range(n):
            jpeg, shows = picture(rng)
            said = words.say(3) if rng.random() < noise else f"{shows} {words.say(2)}"
            shard.write({"__key__": f"{domain}{i:06d}", "jpg": jpeg, "txt": said})
    return path


def write_pages(path: Path, n: int) -> Path:
    """Write a shard of interleaved pages: a list of texts with null where a picture stands."""
    rng = np.random.default_rng(3)
    words = Words(2, rng)
    with TarWriter(str(path)) as shard:
        for i in range(n):
            pictures = [picture(rng) for _ in range(2)]
            texts = [words.say(8)]
            for _, shows in pictures:
                texts += [None, f"{shows} {words.say(8)}"]
            files = {f"{j:03d}.jpg": jpeg for j, (jpeg, _) in enumerate(pictures)}
            shard.write({"__key__": f"{i:06d}", "json": json.dumps({"texts": texts}).encode()} | files)
    return path


def write_all(folder: Path, n_chars: int, n_images: int) -> dict[str, str]:
    """Write the data of all three studies; return the variables that say where they lie."""
    folder.mkdir(parents=True)
    shards = {"CAPTION": 1, "TARGET": 4, "NOISY": 0, "GOOD1": 1, "GOOD2": 2, "SYNTHETIC": 3}
    tars = {
        f"{name}_SHARDS": write_captions(folder / f"{name}.tar", i, n_images, 0.5 * (name == "NOISY"))
        for name, i in shards.items()
    }
    paths = tars | {
        "SLIMPAJAMA": write_slimpajama(folder / "slimpajama", n_chars),
        "OPENHERMES": write_openhermes(folder / "openhermes", n_chars // 4),
        "DCLM": write_dclm(folder / "dclm", n_chars),
        "PAGE_SHARDS": write_pages(folder / "pages.tar", n_images // 2),
    }
    return {name: str(path) for name, path in paths.items()}
