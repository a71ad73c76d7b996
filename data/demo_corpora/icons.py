"""Reader of icon sets: SVG files of a wheel, named by their file names."""

import zipfile
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from data.config import SourceConfig
from data.demo_corpora.captions import captioned, spaced_name
from data.readers.budget import BadDocuments
from data.readers.documents import Document
from mixlaw.errors import DataError


def icons(path: Path, source: SourceConfig, bad: BadDocuments) -> Iterator[Document]:
    """Yield one document per icon whose file matches `pictures.members`, named by its file name.

    The concept is the first word of the name: "bell", "bell off" and "bell ring outline" share most of their drawing,
    in other icon sets too.

    Raises
    ------
    DataError
        If no file in the wheel matches.
    """
    with zipfile.ZipFile(path) as archive:
        members = [n for n in sorted(archive.namelist()) if fnmatchcase(n, source.pictures.members)]
        if not members:
            raise DataError(f"{path.name}: no file matches pictures.members, '{source.pictures.members}'")
        for member in members:
            name = spaced_name(PurePosixPath(member).stem.replace("-", " "))
            concept = name.split(" ")[0].casefold()
            yield captioned(archive.read(member), name, source, concept=concept, where=f"{path.name}: {member}")
