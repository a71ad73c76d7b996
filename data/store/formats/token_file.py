"""`TokenFile`: one file of token ids in the format of another trainer, read in place."""

import os
import weakref
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixlaw.errors import DataError

Ints = NDArray[np.int64]
INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")


@dataclass(frozen=True)
class FileSettings:
    """What a file may not say itself.

    Attributes
    ----------
    dtype : name of the NumPy type of the ids; empty: as the file says
    end_id : token that ends a document
    column : MDS: name of the column of the ids
    """

    dtype: str = ""
    end_id: int = 0
    column: str = "tokens"


@dataclass(frozen=True)
class FileFacts:
    """What the headers and the index of a file say; `tokenizer` is its name, or empty."""

    dtype: str
    n_tokens: int
    n_documents: int
    tokenizer: str = ""


class TokenFile(ABC):
    """One file of concatenated documents. Nothing is read before a method needs it.

    Parameters
    ----------
    path : the file of the ids; its index, if it has one, lies beside it
    """

    def __init__(self, path: Path, settings: FileSettings) -> None:
        self.path, self.settings = path, settings

    @abstractmethod
    def facts(self) -> FileFacts:
        """Return type and counts, after comparing the index with the size of the file.

        Raises
        ------
        DataError
            If the index is missing or damaged, or does not belong to the file; names the file.
        """

    @abstractmethod
    def bounds(self, documents: Ints) -> Ints:
        """Return the first token of each of these documents; the number of documents gives the end of the last one."""

    @abstractmethod
    def tokens(self, start: int, stop: int) -> NDArray[Any]:
        """Return the ids of the tokens [start, stop); `settings.dtype` must be the type that `facts` found."""

    def _chosen(self, dtype: str, says: str) -> str:
        """Return the type that the file states, unless another one is configured.

        Parameters
        ----------
        says : which part of the file states it
        """
        if dtype not in INTEGERS:
            raise DataError(f"{self.path}: {says} states the type {dtype}; token ids must be integers")
        if self.settings.dtype not in ("", dtype):
            raise DataError(
                f"{self.path}: {says} states the type {dtype}, but dtype is {self.settings.dtype}: remove the setting"
            )
        return dtype

    def _read(self, first_byte: int, n_bytes: int) -> bytes:
        """Return bytes of the file.

        One read of exactly these bytes: a memory map would read ahead up to megabytes for every window, and on a
        cluster's file system fetch page by page.
        """
        raw = os.pread(self._handle, n_bytes, first_byte)
        if len(raw) != n_bytes:
            raise DataError(
                f"{self.path} ends before byte {first_byte + n_bytes:,}: it was truncated while it was read"
            )
        return raw

    @cached_property
    def _handle(self) -> int:
        handle = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, handle)
        return handle


class ContiguousFile(TokenFile):
    """A file that holds nothing but ids, end to end."""

    def tokens(self, start: int, stop: int) -> NDArray[Any]:
        """Return the ids of the tokens [start, stop)."""
        dtype = np.dtype(self.settings.dtype).newbyteorder("<")
        return np.frombuffer(self._read(start * dtype.itemsize, (stop - start) * dtype.itemsize), dtype)
