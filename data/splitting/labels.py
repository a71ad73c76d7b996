"""Labels of documents: the value of a column, the host or site of a URL, and the language of the text."""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from data.splitting.documents import Document
from mixlaw.errors import ConfigError, DataError

Labeller = Callable[[Iterable[Document]], Iterator[str | None]]  # None: the document has no label
LANGUAGE_CHARS = 5_000  # of a document that decide its language
_WITH_HOST = re.compile(r"\s*([a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)
_WITHOUT_HOST = re.compile(r"\s*[a-z][a-z0-9+-]*:(?!//|\d)", re.IGNORECASE)  # mailto:, javascript:; not localhost:80
_HOST = re.compile(r"[\w.:-]+")  # not words of a sentence
LEAST_CONFIDENCE = 0.5  # probability of the most likely language below which a document has none


def by_column(documents: Iterable[Document]) -> Iterator[str | None]:
    """Yield the value of the column as text.

    Raises
    ------
    DataError
        If a value is a list or an object.
    """
    return (_label(document.value) for document in documents)


def _label(value: Any) -> str | None:
    if isinstance(value, list | dict | tuple):
        raise DataError(
            f"--column: a value is a {type(value).__name__}, {str(value)[:60]}: choose one of text or numbers"
        )
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # pandas writes whole numbers so where some are missing
    return None if value is None or value != value else str(value).strip() or None


def by_host(documents: Iterable[Document]) -> Iterator[str | None]:
    """Yield the host of the URL in the column, without a leading `www.`."""
    return (host_of(document.value) for document in documents)


def by_site(documents: Iterable[Document]) -> Iterator[str | None]:
    """Yield the registrable domain of the URL in the column: bbc.co.uk of https://news.bbc.co.uk/1.

    By the Public Suffix List (https://publicsuffix.org) that the library `publicsuffixlist` contains.
    """
    registrable = _registrable()
    for document in documents:
        host = host_of(document.value)
        yield host and (registrable(host) or host)  # an address, or a host such as `localhost`


@cache
def _registrable() -> Callable[[str], str | None]:
    try:
        from publicsuffixlist import PublicSuffixList
    except ImportError:
        raise _missing("publicsuffixlist", "--by site") from None
    found: Callable[[str], str | None] = PublicSuffixList().privatesuffix
    return found


def host_of(url: Any) -> str | None:
    """Return the host of a URL, which may lack its scheme; None if it has none.

    >>> host_of("https://user@WWW.Example.org:80/a"), host_of("example.org/b"), host_of("/c"), host_of("mailto:d@e.f")
    ('example.org', 'example.org', None, None)
    """
    if not isinstance(url, str) or _WITHOUT_HOST.match(url):
        return None
    try:
        host = urlsplit(url if _WITH_HOST.match(url) else f"//{url}").hostname or ""
    except ValueError:  # brackets that are no address
        return None
    host = host.removeprefix("www.").rstrip(".")
    return host if _HOST.fullmatch(host) else None


def by_language(documents: Iterable[Document]) -> Iterator[str | None]:
    """Yield the ISO 639 code of the language of each text, `zxx` for code and other text in no language."""
    identify = _identifier()
    for document in documents:
        code, _ = identify(document.text[:LANGUAGE_CHARS])
        yield None if code == "und" else code


@cache
def _identifier() -> Callable[[str], tuple[str, float]]:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise _missing("py3langid", "--by language") from None
    model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True, min_confidence=LEAST_CONFIDENCE)
    found: Callable[[str], tuple[str, float]] = model.classify
    return found


def _missing(library: str, option: str) -> ConfigError:
    return ConfigError(f"{option} needs the library '{library}': pip install -e '.[split]'")
