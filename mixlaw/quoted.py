"""Parse names in command-line options; a name with a separator must be quoted, as in '"cc,news"=0.1'."""

from collections.abc import Iterable

from mixlaw.errors import ConfigError

QUOTES = "\"'"


def split_names(names: str | Iterable[str]) -> list[str]:
    """Return names, each once, from a list or a text with commas."""
    parts = names.split(",") if isinstance(names, str) else names
    return list(dict.fromkeys(name.strip() for name in parts if name.strip()))


def split(text: str, separator: str) -> list[str]:
    """Split a text at separators outside of quotes; quotes are kept.

    A quote opens at the start of a part, or after `+`, `=` or `:`; elsewhere it is a letter, as in don't.

    >>> split('"cc,news"=0.1,web=0.2', ",")
    ['"cc,news"=0.1', 'web=0.2']

    Raises
    ------
    ConfigError
        If a quote is not closed.
    """
    parts, start, quote, opens = [], 0, "", True
    for i, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in QUOTES and opens:
            quote = letter
        elif letter == separator:
            parts.append(text[start:i])
            start = i + 1
        opens = letter in "+=:, " or letter == separator
    if quote:
        raise ConfigError(f"{text}: the quote {quote} is not closed")
    return [*parts, text[start:]]


def unquoted(name: str) -> str:
    """Return a name without surrounding blanks and quotes.

    >>> unquoted(' "cc,news" ')
    'cc,news'
    """
    name = name.strip()
    inside = len(name) > 1 and name[0] in QUOTES and name[0] == name[-1]
    return name[1:-1] if inside else name


def quoted(name: str) -> str:
    """Return a name as `split` and `unquoted` read it: in quotes if it holds a separator, a quote or outer blanks.

    A name with both kinds of quotes cannot be written.

    >>> quoted("cc,news"), quoted("web")
    ('"cc,news"', 'web')
    """
    if name and name == name.strip() and not any(letter in "+=:,\"'" for letter in name):
        return name
    quote = "'" if '"' in name else '"'
    return f"{quote}{name}{quote}"


def read_pairs(text: str) -> dict[str, float]:
    """Return {'a': 0.1, 'b': 0.2} from 'a=0.1,b=0.2'; a name that holds a comma or = stands in quotes."""
    if not text:
        return {}
    parts = [split(part, "=") for part in split(text, ",")]
    try:
        pairs = [(unquoted(name), float(value)) for name, value in parts]
    except ValueError:
        raise ConfigError(
            f"'{text}': write NAME=NUMBER,NAME=NUMBER; a name that holds , or = stands in quotes: '\"a,b\"=0.1'"
        ) from None
    if len(dict(pairs)) < len(pairs):
        raise ConfigError(f"'{text}' names something twice")
    return dict(pairs)


def read_texts(text: str) -> dict[str, str]:
    """Return {'a': 'x', 'b': 'y=z'} from 'a=x,b=y=z'; a name or text that holds a comma stands in quotes.

    Raises
    ------
    ConfigError
        If a part has no = or no name, or a name occurs twice.
    """
    parts = [split(part, "=") for part in split(text, ",")] if text else []
    if not all(name.strip() and rest for name, *rest in parts):
        raise ConfigError(f"'{text}': write NAME=TEXT,NAME=TEXT; what holds a comma stands in quotes: 'a=\"x,y\"'")
    pairs = [(unquoted(name), unquoted("=".join(rest))) for name, *rest in parts]
    if len(dict(pairs)) < len(pairs):
        raise ConfigError(f"'{text}' names something twice")
    return dict(pairs)
