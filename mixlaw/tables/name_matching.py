"""Names of domains and targets that were written otherwise: laws of former versions have theirs in lower case."""

import re
from collections.abc import Iterable, Sequence


def matching_names(names: Iterable[str], wanted: Sequence[str]) -> dict[str, str]:
    """Return the names that are wanted ones but for case and punctuation -> those, where that leaves no doubt.

    >>> matching_names(["Pile-CC", "web"], ["web", "pile-cc"])
    {'Pile-CC': 'pile-cc'}
    """
    names = list(names)
    free = [name for name in names if name not in wanted]
    open_ = [name for name in wanted if name not in names]
    found = {}
    for name in free:
        rivals = [other for other in free if _plain(other) == _plain(name)]
        matches = [other for other in open_ if _plain(other) == _plain(name)]
        if len(rivals) == len(matches) == 1:
            found[name] = matches[0]
    return found


def _plain(name: str) -> str:
    """Return a name as former versions wrote those that patterns and layouts found."""
    return re.sub(r"[^a-z0-9_-]", "_", name.lower())
