"""How many documents may be unreadable before the preparation stops, and what a reader of documents is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from data.config import SourceConfig
from data.readers.documents import Document
from mixlaw.errors import DataError


@dataclass
class BadDocuments:
    """The documents of one domain that cannot be decoded, counted against the budget that its config declares."""

    budget: int = 0
    count: int = 0

    def add(self, where: str, cause: str, fault: str = "not UTF-8") -> None:
        """Count one more.

        Raises
        ------
        DataError
            Naming this one, if it is more than the budget allows.
        """
        self.count += 1
        if self.count > self.budget:
            raise DataError(
                f"{where}: {fault} ({cause}); {self.count} such documents, allowed are {self.budget}: "
                "repair it, or raise data.bad_document_budget to leave such documents out"
            )

    def decode(self, raw: bytes, where: str) -> str | None:
        """Return the text, or None where it is not UTF-8 and the budget allows that."""
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            self.add(where, f"byte {error.start:,} is 0x{raw[error.start]:02x}")
            return None


Reader = Callable[[Path, SourceConfig, BadDocuments], Iterator[str] | Iterator[Document]]
