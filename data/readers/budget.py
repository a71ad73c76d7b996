"""The type of a reader, and the budget of documents that it may skip as unreadable."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from data.config import SourceConfig
from data.readers.documents import Document
from mixlaw.errors import DataError


@dataclass
class BadDocuments:
    """Counts the unreadable documents of one domain against a budget.

    Attributes
    ----------
    setting : of the budget, for messages
    """

    budget: int = 0
    count: int = 0
    setting: str = "data.bad_document_budget"

    def add(self, where: str, cause: str, fault: str = "not UTF-8") -> None:
        """Count one more.

        Raises
        ------
        DataError
            If this one exceeds the budget; names it.
        """
        self.count += 1
        if self.count > self.budget:
            raise DataError(
                f"{where}: {fault} ({cause}); bad documents so far: {self.count}, allowed: {self.budget}: "
                f"repair it, or raise {self.setting} to skip such documents"
            )

    def decode(self, raw: bytes, where: str) -> str | None:
        """Return the text, or None if it is not UTF-8 and the budget allows to skip it."""
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            self.add(where, f"byte {error.start:,} is 0x{raw[error.start]:02x}")
            return None


Reader = Callable[[Path, SourceConfig, BadDocuments], Iterator[str] | Iterator[Document]]
