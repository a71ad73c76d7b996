"""Readers of Debian packages: clip art and stamps with what people wrote about them, and manuals with pictures."""

import html
import posixpath
import re
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatchcase
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from PIL import Image

from data.config import SourceConfig
from data.demo_corpora.debs import deb_members, deb_path
from data.demo_corpora.picture_wheels import captioned, check_languages, in_words
from data.readers.budget import BadDocuments, Reader
from data.readers.documents import IMAGE, Document
from data.readers.images import FORMATS, UNDECODABLE
from mixlaw.errors import DataError

MAX_SHARED_TITLE = 10  # a title of more pictures than this is a collection's ("Lemon SVG theme"), not a picture's
MAX_PIXELS = 16_000_000  # of clip art; a few have up to 623 million, which take seconds and gigabytes to decode
MIN_SIDE = 32  # pixels; smaller images in a page are buttons and bullets

_METADATA = re.compile(r"<(?:\w+:)?metadata\b.*?</(?:\w+:)?metadata\s*>", re.S)
_AGENT = re.compile(r"<((?:\w+:)?Agent)\b.*?</\1\s*>", re.S)  # people and publishers, whose names are titles too
_TITLE = re.compile(r"<(?:\w+:)?title\b[^>]*>([^<]*)<")
_DESCRIPTION = re.compile(r"<(?:\w+:)?description\b[^>]*>([^<]*)<")
_KEYWORD = re.compile(r"<(?:\w+:)?li\b[^>]*>([^<]*)<")
_NO_WORDS = re.compile(r"hash\b|unsorted$|\W*$", re.I)  # a script's mistake ("HASH(0x86d2470)"), or nothing at all
_MARKUP = re.compile(r"<|https?:|@|HASH\(")  # a description with this is a licence, an address or such a mistake
_TRAILING_NUMBER = re.compile(r"[-_. ]*\d*[-_. ]*$")


def clipart(path: Path, source: SourceConfig, bad: BadDocuments) -> Iterator[Document]:
    """Yield one document per picture of Open Clip Art, with title, keywords and description as its caption.

    The PNG come from one package, and what is known about them from the SVG of the other one (`pictures.names`), by
    path. A picture whose title is that of a whole collection is called by its file's name, and left out where that is
    no word (star_76pt03step).

    Raises
    ------
    DataError
        If a package is damaged, or the other one describes none of the pictures.
    """
    facts = _clipart_facts(deb_path(path.parent, source.pictures.names))
    shared = Counter(title.casefold() for title, _ in facts.values())
    found = False
    for member, image in deb_members(path, (".png",)):
        title, rest = facts.get(_below(member, "png"), ("", ""))
        found = found or bool(title)
        concept = without_number(PurePosixPath(member).stem)
        name = title if shared[title.casefold()] <= MAX_SHARED_TITLE else _file_words(concept)
        if title and name and _n_pixels(image) <= MAX_PIXELS:
            yield captioned(image, name + rest, source, concept, f"{path.name}: {member}")
    if not found:
        raise DataError(f"{path.name}: {source.pictures.names.package} has no title for any of its pictures")


def _file_words(stem: str) -> str:
    """Return a file's name as words, or nothing where it has digits in it or is shorter than a word."""
    words = in_words(stem.replace("-", " "))
    return words if len(words) > 2 and not re.search(r"\d", words) else ""


def _n_pixels(png: bytes) -> int:
    """Return width times height, which stand at a fixed place of each PNG file."""
    return int.from_bytes(png[16:20]) * int.from_bytes(png[20:24])


def _below(member: str, kind: str) -> str:
    """Return the path below the folder of PNG or SVG files, without its ending."""
    return posixpath.splitext(member)[0].partition(f"/openclipart/{kind}/")[2]


def _clipart_facts(path: Path) -> dict[str, tuple[str, str]]:
    """Return path -> title and the rest of the caption."""
    facts = {}
    for member, raw in deb_members(path, (".svg",)):
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            text = raw.decode("latin-1")
        facts[_below(member, "svg")] = clipart_caption(text)
    return facts


def clipart_caption(svg: str) -> tuple[str, str]:
    """Return the title that a drawing's metadata state, and ` (keywords). Description` behind it.

    The metadata are searched as text, never parsed as XML: many are not well-formed, and no entity is ever expanded.
    """
    block = _METADATA.search(svg)
    about = _AGENT.sub("", block[0]) if block else ""
    title, description = in_words(_stated(_TITLE.search(about))), _stated(_DESCRIPTION.search(about))
    keywords = dict.fromkeys(_tidy(word).replace("_", " ") for word in _KEYWORD.findall(about))
    kept = [word for word in keywords if not _NO_WORDS.match(word) and word.casefold() != title.casefold()]
    rest = f" ({', '.join(kept)})" if kept else ""
    if " " not in description or description.casefold().rstrip(".") == title.casefold():  # "s", ":)"
        return title, rest
    return title, f"{rest}. {description}"


def _stated(match: re.Match[str] | None) -> str:
    text = _tidy(match[1]) if match else ""
    return "" if _MARKUP.search(text) else text


def _tidy(text: str) -> str:
    """Return words with their characters for &amp;quot; and the like, which are often escaped twice."""
    return " ".join(html.unescape(html.unescape(text)).replace(IMAGE, " ").split())


def without_number(stem: str) -> str:
    """Return a file's name without the number behind it: clock_01 and clock_02 are variants of one thing."""
    return _TRAILING_NUMBER.sub("", stem).casefold() or stem


def stamps(path: Path, source: SourceConfig, bad: BadDocuments) -> Iterator[Document]:
    """Yield one document per stamp of Tux Paint and language asked for, with the caption that a person wrote.

    Raises
    ------
    ConfigError
        If no stamp has a caption in one of the languages.
    DataError
        If the package is damaged.
    """
    files = dict(deb_members(path, (".png", ".svg", ".txt")))
    captions: dict[str, dict[str, str]] = {}
    for member in sorted(name for name in files if "/stamps/" in name and name.endswith(".txt")):
        text = bad.decode(files[member], f"{path.name}: {member}")
        captions[member.removesuffix(".txt")] = stamp_captions(text or "")
    check_languages(source.pictures.languages, {code for known in captions.values() for code in known}, "pictures")
    for stem, known in captions.items():
        image = next((stem + suffix for suffix in (".png", ".svg") if stem + suffix in files), None)  # the same drawing
        for language in source.pictures.languages if image else ():
            if known.get(language):
                concept, where = without_number(PurePosixPath(stem).name), f"{path.name}: {image}"
                yield captioned(files[f"{image}"], known[language], source, concept, where)


def stamp_captions(text: str) -> dict[str, str]:
    """Return language code -> caption; the first line is the English one, the others are `de.utf8=Eine Ziege.`"""
    first, *others = text.split("\n")
    captions = {"en": _tidy(first)}
    for line in others:
        code, sign, caption = line.partition("=")
        if sign and code.endswith(".utf8"):
            captions.setdefault(code.removesuffix(".utf8"), _tidy(caption))
    return captions


def html_pages(path: Path, source: SourceConfig, bad: BadDocuments) -> Iterator[Document]:
    """Yield one document per page of a manual that matches `pictures.members` and shows a picture, both in their order.

    Raises
    ------
    DataError
        If the package is damaged, or no page matches.
    """
    files = dict(deb_members(path, (".html", ".htm", ".png", ".jpg", ".jpeg", ".gif")))
    pages = [name for name in sorted(files) if fnmatchcase(name, source.pictures.members)]
    if not pages:
        raise DataError(f"{path.name}: holds no page that matches pictures.members, '{source.pictures.members}'")
    for member in pages:
        markup = bad.decode(files[member], f"{path.name}: {member}")
        page = _Page(posixpath.dirname(member), files)
        page.feed(markup or "")
        page.close()
        if page.images:
            yield Document(page.text(), tuple(page.images), member, f"{path.name}: {member}", drawings=True)


class _Page(HTMLParser):
    """The text and the pictures of a page, without what leads to other pages."""

    SKIPPED = frozenset(("head", "script", "style", "nav", "header", "footer"))
    SKIPPED_CLASSES = frozenset(("navheader", "navfooter", "toc", "list-of-figures", "list-of-tables"))
    PARAGRAPHS = frozenset(
        "p div section article h1 h2 h3 h4 h5 h6 ul ol dl dt dd table pre blockquote figure figcaption hr".split()
    )
    LINES = frozenset(("br", "li", "tr"))

    def __init__(self, folder: str, files: dict[str, bytes]) -> None:
        super().__init__()
        self.folder, self.files = folder, files
        self.images: list[bytes] = []
        self._parts = [""]
        self._skipped, self._depth, self._pre = "", 0, 0  # the tag that is skipped, how often it is open; open <pre>

    def text(self) -> str:
        """Return the page with blank lines between paragraphs, and IMAGE where a picture stands."""
        text = re.sub(r"[ \t]+\n", "\n", "".join(self._parts))
        return re.sub(r"\n{3,}", "\n\n", text).strip()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open a paragraph or what is skipped, or add a picture."""
        facts = {key: value or "" for key, value in attrs}
        if self._skipped:
            self._depth += tag == self._skipped
        elif tag in self.SKIPPED or not self.SKIPPED_CLASSES.isdisjoint(facts.get("class", "").split()):
            self._skipped, self._depth = tag, 1
        elif tag == "img":
            self._add_image(facts)
        else:
            self._pre += tag == "pre"
            self._break(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close a paragraph or what is skipped."""
        if self._skipped:
            self._depth -= tag == self._skipped
            self._skipped = self._skipped if self._depth else ""
        else:
            self._pre -= tag == "pre"
            self._break(tag)

    def handle_data(self, data: str) -> None:
        """Add text; blanks and line ends are one blank, but in <pre>."""
        if self._skipped:
            return
        data = data.replace(IMAGE, "")
        if self._pre <= 0:
            data = re.sub(r"[ \t\r\n\xa0]+", " ", data)
            data = data.lstrip(" ") if self._parts[-1][-1:] in ("", "\n", " ") else data
        if data:
            self._parts.append(data)

    def _break(self, tag: str) -> None:
        if tag in self.PARAGRAPHS or tag in self.LINES:
            self._parts.append("\n\n" if tag in self.PARAGRAPHS else "\n")
        elif tag in ("td", "th"):
            self.handle_data(" ")

    def _add_image(self, facts: dict[str, str]) -> None:
        """Add a picture that is large enough; those that stand for `[Note]` and the like are DocBook's signs."""
        name = posixpath.normpath(posixpath.join(self.folder, unquote(facts.get("src", ""))))
        if name in self.files and not facts.get("alt", "").startswith("[") and _is_large(self.files[name]):
            self.images.append(self.files[name])
            self._parts.append(IMAGE)


def _is_large(image: bytes) -> bool:
    """Return whether both sides have MIN_SIDE pixels, by its header; a damaged one is kept, to be counted later."""
    try:
        with Image.open(BytesIO(image), formats=FORMATS) as opened:
            return min(opened.size) >= MIN_SIDE
    except UNDECODABLE:
        return True


DEB_READERS: dict[str, Reader] = {"clipart": clipart, "stamps": stamps, "html_pages": html_pages}
