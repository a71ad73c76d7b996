"""Random samples of a stream."""

import random
from typing import Generic, TypeVar

T = TypeVar("T")


class Reservoir(Generic[T]):
    """A uniform random sample of a stream in constant memory (algorithm R of Vitter 1985), the same for a seed."""

    def __init__(self, size: int, seed: int) -> None:
        self.kept: list[T] = []
        self._size, self._rng, self._seen = size, random.Random(seed), 0

    def add(self, item: T) -> None:
        """Take the next item, or not."""
        place = self._seen if self._seen < self._size else self._rng.randrange(self._seen + 1)
        self._seen += 1
        if place < self._size:
            self.kept[place : place + 1] = [item]
