"""Match names of domains and targets that differ in case or punctuation: older laws.json have them in lower case."""

import re
from collections.abc import Iterable, Sequence


def matching_names(names: Iterable[str], wanted: Sequence[str]) -> dict[str, str]:
    """Return name -> wanted name, for names that differ from exactly one wanted name in case and punctuation only.

    >>> matching_names(["Pile-CC", "web"], ["web", "pile-cc"])
    {'Pile-CC': 'pile-cc'}
    """
    names = list(names)
    free = [name for name in names if name not in wanted]
    open_ = [name for name in wanted if name not in names]
    found = {}
    for name in free:
        alike = [other for other in free if _plain(other) == _plain(name)]
        matches = [other for other in open_ if _plain(other) == _plain(name)]
        if len(alike) == len(matches) == 1:
            found[name] = matches[0]
    return found


def _plain(name: str) -> str:
    """Return a name as versions before 0.2 wrote it."""
    return re.sub(r"[^a-z0-9_-]", "_", name.lower())
