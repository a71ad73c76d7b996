"""The words that tell a domain from the others."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

_WORD = re.compile(r"[^\W\d_]{2,}")


def typical_words(texts: Mapping[str, Sequence[str]], n_words: int) -> dict[str, list[str]]:
    """Return the words of each domain that distinguish it most from all domains together.

    A word scores p log(p / q), its part of the Kullback-Leibler divergence: p is the share of the domain's texts that
    contain it, q the mean of this share over the domains.
    """
    shares = {name: _shares(found) for name, found in texts.items()}
    total: defaultdict[str, float] = defaultdict(float)
    for share in shares.values():
        for word, p in share.items():
            total[word] += p

    def typical(share: Mapping[str, float]) -> list[str]:
        scores = {word: p * math.log(p * len(shares) / total[word]) for word, p in share.items()}
        best = sorted(scores, key=lambda word: (-scores[word], word))[:n_words]
        return [word for word in best if scores[word] > 0]

    return {name: typical(share) for name, share in shares.items()}


def _shares(texts: Sequence[str]) -> dict[str, float]:
    """Return word -> share of the texts that contain it."""
    counts = Counter(word for text in texts for word in set(_WORD.findall(text.lower())))
    return {word: n / len(texts) for word, n in counts.items()}
