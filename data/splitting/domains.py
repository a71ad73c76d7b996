"""Which labels become domains: the largest ones; all others and documents without a label are one domain, `other`."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain, count

from data.misread import is_no_name
from mixlaw.errors import DataError
from mixlaw.mixture import check_domain_name
from mixlaw.text import percent

OTHER = "other"
MOST_LABELS = 1 << 20  # counted at a time; beyond, rare ones are forgotten
LONGEST_NAME = 40
SHOWN = 5  # labels that a message lists


@dataclass
class LabelSizes:
    """The bytes of each label, in constant memory.

    Exact up to `most` labels. Beyond, the median is subtracted from all and labels at zero are forgotten, so that a
    size is too small by at most 2 / most of the total (Anderson et al. 2017, "A high-performance algorithm for
    identifying frequent items in data streams", https://arxiv.org/abs/1705.07001).
    """

    most: int = MOST_LABELS
    n_bytes: dict[str, int] = field(default_factory=dict)
    total: int = 0

    def add(self, label: str | None, n_bytes: int) -> None:
        """Count the bytes of a document."""
        self.total += n_bytes
        if label is None:
            return
        self.n_bytes[label] = self.n_bytes.get(label, 0) + n_bytes
        if len(self.n_bytes) > self.most:
            median = sorted(self.n_bytes.values())[self.most // 2]
            self.n_bytes = {name: size - median for name, size in self.n_bytes.items() if size > median}

    def largest(self) -> list[tuple[str, int]]:
        """Return labels and bytes, the largest first."""
        return sorted(self.n_bytes.items(), key=lambda pair: (-pair[1], pair[0]))


def choose_domains(sizes: LabelSizes, max_domains: int, min_share: float) -> dict[str, str]:
    """Return label -> domain of the labels that are domains of their own, the largest first.

    Parameters
    ----------
    max_domains : number of domains, `other` included
    min_share : of all bytes, that a domain has at least

    Raises
    ------
    DataError
        If there is no text, or fewer than two domains would result.
    """
    if not sizes.total:
        raise DataError("the corpus has no text: it has no documents, or all are empty")
    largest = [label for label, size in sizes.largest() if size >= min_share * sizes.total]
    kept = largest[:max_domains]
    if sum(sizes.n_bytes[label] for label in kept) < sizes.total and len(kept) == max_domains:
        kept = kept[:-1]  # the last place is of `other`
    if not kept or sizes.n_bytes[kept[0]] == sizes.total:
        found = [f"{label} {percent(size / sizes.total)}" for label, size in sizes.largest()[:SHOWN]]
        raise DataError(
            f"all documents would be in one domain; labels: {', '.join(found) or 'none'}"
            f"{' ...' if len(sizes.n_bytes) > SHOWN else ''}: lower --min-share {min_share:g} or choose another --by"
        )
    return dict(zip(kept, domain_names(kept), strict=True))


def domain_names(labels: Iterable[str]) -> list[str]:
    """Return a different domain name for each label.

    >>> domain_names(["en", "EN", "bbc.co.uk", "null", "\\u4e2d"])
    ['en', 'en_2', 'bbc_co_uk', 'd-null', 'domain']
    """
    names = [OTHER]
    for label in labels:
        plain = re.sub("[^a-z0-9-]+", "_", label.lower()).strip("_-")[:LONGEST_NAME] or "domain"
        plain = f"d-{plain}" if is_no_name(plain) else plain
        numbered = chain([plain], (f"{plain}_{n}" for n in count(2)))
        names.append(check_domain_name(next(name for name in numbered if name not in names)))
    return names[1:]


def too_small(n_bytes: Mapping[str, int], min_share: float) -> bool:
    """Return whether `other` exists and is smaller than a domain must be."""
    return 0 < n_bytes.get(OTHER, 0) < min_share * sum(n_bytes.values())
