"""Names of domains and targets inside the values of options: `web=0.1,"cc,news"=0.2`, `web+code:0.2:0.6`, `web:2,code`.

A name that holds what separates names stands in quotes, single or double; a quote inside is doubled, as in CSV files.
Where names are known, one of them that is followed by a separator needs no quotes: the longest is meant.
"""

import math
import re
from collections.abc import Collection

from mixlaw.errors import ConfigError

HINT = "; a name that holds , = : or + stands in quotes, such as '\"cc,news\"=0.1'"
_QUOTED = re.compile(r"""\s*(?:"((?:[^"]|"")*)"|'((?:[^']|'')*)')\s*""")


def take_name(text: str, ends: str, known: Collection[str] = ()) -> tuple[str, str]:
    r"""Return the name that a text begins with, and the rest, which is empty or begins with one of `ends`.

    >>> take_name("web=0.1", "="), take_name('"a=b"=0.1', "="), take_name("c++:2", "+:", ["c", "c++"])
    (('web', '=0.1'), ('a=b', '=0.1'), ('c++', ':2'))
    """
    start = text.lstrip()
    for name in sorted(known, key=len, reverse=True):
        rest = start[len(name) :].lstrip()
        if start.startswith(name) and rest[:1] in ("", *ends):
            return name, rest
    quoted = _QUOTED.match(text)
    if quoted and text[quoted.end() :][:1] in ("", *ends):
        double, single = quoted.groups()
        name = double.replace('""', '"') if double is not None else single.replace("''", "'")
        return name, text[quoted.end() :]
    end = min((at for at in map(text.find, ends) if at >= 0), default=len(text))
    return text[:end].strip(), text[end:]


def read_pairs(text: str, known: Collection[str] = ()) -> dict[str, float]:
    """Return {'a': 0.1, 'b': 0.2} from 'a=0.1,b=0.2'.

    Parameters
    ----------
    known : names that may be meant, which then need no quotes

    Raises
    ------
    ConfigError
        If it is written otherwise, a number is not finite, or a name stands twice.
    """
    pairs: dict[str, float] = {}
    rest, more = text, bool(text)
    while more:
        name, rest = take_name(rest, "=", known)
        value, more, rest = _partition(rest.removeprefix("="))
        if not name or not _is_number(value):
            raise ConfigError(f"'{text}': write NAME=NUMBER,NAME=NUMBER{HINT}")
        if name in pairs:
            raise ConfigError(f"'{text}' names something twice: {name}")
        pairs[name] = float(value)
    return pairs


def read_importances(text: str, known: Collection[str] = ()) -> dict[str, float]:
    """Return {'a': 2.0, 'b': 1.0} from 'a:2,b'; an importance that is left out is 1.

    Raises
    ------
    ConfigError
        If it is written otherwise, or a name stands twice.
    """
    parts: dict[str, float] = {}
    rest, more = text, True
    while more:
        name, rest = take_name(rest, ":,", known)
        number, more, rest = _partition(rest.removeprefix(":"))
        if not name or not _is_number(number or "1"):
            raise ConfigError(f"--target {text}: write NAME or NAME:IMPORTANCE,...{HINT}")
        if name in parts:
            raise ConfigError(f"--target {text} names something twice: {name}")
        parts[name] = float(number or 1)
    return parts


def read_group(text: str, known: Collection[str] = ()) -> tuple[str, tuple[tuple[str, ...], float, float]]:
    """Return name, and members, least and most, from 'NAME=A+B:LEAST:MOST'; either limit may be left empty.

    Raises
    ------
    ConfigError
        If it is written otherwise, or a limit is not between 0 and 1.
    """
    wrong = ConfigError(f"--group {text}: write NAME=DOMAIN+DOMAIN:LEAST:MOST, limits between 0 and 1{HINT}")
    name, rest = take_name(text, "=")
    if not name or not rest:
        raise wrong
    members, more = list[str](), True
    rest = rest.removeprefix("=")
    while more:
        member, rest = take_name(rest, "+:", known)
        members.append(member)
        more, rest = rest[:1] == "+", rest[1:]
    ends = [end or default for end, default in zip(rest.split(":"), ("0", "1"), strict=False)]
    if (
        not all(members)
        or rest.count(":") != 1
        or not all(map(_is_number, ends))
        or not all(0 <= float(end) <= 1 for end in ends)
    ):
        raise wrong
    return name, (tuple(members), float(ends[0]), float(ends[1]))


def _partition(text: str) -> tuple[str, bool, str]:
    """Return what stands before the first comma, whether there is one, and what follows it."""
    before, comma, after = text.partition(",")
    return before, bool(comma), after


def _is_number(text: str) -> bool:
    """Return whether a text is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
