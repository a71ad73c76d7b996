"""Read the cells of a file: text tables in any dialect and encoding, JSON, workbooks, parquet."""

import bz2
import csv
import gzip
import io
import lzma
import re
import warnings
import zipfile
import zlib
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from xml.etree.ElementTree import ParseError

import numpy as np
import pandas as pd

from mixlaw.errors import RunLogError
from mixlaw.tables.formats.json_tables import frame_of_json
from mixlaw.tables.formats.text_dialect import (
    SEPARATORS,
    Dialect,
    RowWidths,
    detect_dialect,
    row_widths,
    why_unreadable,
)
from mixlaw.tables.notes import listed, ranges
from mixlaw.tables.number_parsing import decimal_mark_of, is_empty, parse_number, parse_numbers

EXPECTED = {",": (".csv", ".txt", ""), "\t": (".tsv", ".txt", ".tab")}  # suffixes for which no note is needed
WORKBOOKS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
LFS = "version https://git-lfs.github.com/"  # first line of a pointer file
FEW_WIDE = 0.1  # rows with more cells than the header are left out, up to this share
BOMS = {  # byte order mark -> encoding; longer marks first
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
OF_CONTAINERS = (csv.Error, zlib.error, lzma.LZMAError, zipfile.BadZipFile, ParseError, EOFError)
OF_PARSERS = (OSError, ValueError, LookupError, TypeError, AttributeError, ImportError, OverflowError, RuntimeError)
UNREADABLE = (*OF_CONTAINERS, *OF_PARSERS)  # what pandas and its engines raise for damaged files


@dataclass
class Cells:
    """The cells of a file.

    Attributes
    ----------
    frame : the cells, indexed by row number, counted from 1 below the header
    decimal : the decimal mark of cells that can be read in two ways, such as 1,234
    notes : how the file was read, where its name suggests something else
    n_rows : rows of the file; some may be left out of the frame, with a note
    """

    frame: pd.DataFrame
    decimal: str = "."
    notes: list[str] = field(default_factory=list)
    n_rows: int = 0


def read_cells(path: Path, texts: set[str]) -> Cells:
    """Read the cells of a file.

    Parameters
    ----------
    path : .csv, .tsv, .txt, .json, .jsonl, .parquet, .xlsx, also compressed (.gz, .bz2, .xz, or .zip with one file)
    texts : columns whose cells stay text, such as ids: 007 is not 7

    Raises
    ------
    RunLogError
        If the file is absent or not a table.
    """
    try:
        raw, suffix = _content(path)
        if suffix == ".parquet":
            cells = Cells(_without_index(pd.read_parquet(io.BytesIO(raw))))
        elif suffix in WORKBOOKS:
            cells = _from_workbook(raw, suffix, texts)
        else:
            cells = _from_text(raw, suffix, texts)
    except FileNotFoundError:
        raise RunLogError(f"{path} does not exist") from None
    except ImportError as error:
        raise RunLogError(f"{path} cannot be read: {_missing(suffix, error)}") from None
    except UNREADABLE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RunLogError(f"{path} cannot be read as a table: {reason[:200]}") from None
    frame = cells.frame
    frame.columns = pd.Index([str(c).strip() for c in frame.columns])
    nameless = [c for c in frame.columns if c.startswith("Unnamed: ") and frame[c].map(is_empty).all()]
    cells.frame = frame.drop(columns=nameless)
    if not cells.n_rows:
        cells.n_rows = len(frame)
        cells.frame.index = pd.RangeIndex(1, len(frame) + 1)
    return cells


def _missing(suffix: str, error: ImportError) -> str:
    if suffix in (".xlsx", ".xlsm"):
        return "workbooks need openpyxl: pip install 'mixlaw[excel]', or save the sheet as CSV"
    if suffix == ".parquet":
        return "parquet files need pyarrow: pip install 'mixlaw[parquet]', or save the table as CSV"
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return f"{first[:160]} Or save it as CSV"


def _content(path: Path) -> tuple[bytes, str]:
    """Return the decompressed bytes of a file, and its suffix without that of the compression."""
    raw, suffix = path.read_bytes(), path.suffix.lower()
    inner = Path(path.stem).suffix.lower()
    if suffix == ".zip":
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            names = [n for n in archive.namelist() if not n.endswith("/") and not n.startswith("__MACOSX/")]
            if len(names) != 1:
                raise ValueError(f"it holds {len(names)} files ({listed(names, 5)}): extract them")
            return archive.read(names[0]), Path(names[0]).suffix.lower()
    if suffix in (".gz", ".bz2", ".xz"):
        opened = {".gz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress}[suffix](raw)
        return opened, inner
    return raw, suffix


def _without_index(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame with its named index as columns."""
    return frame.reset_index() if any(name is not None for name in frame.index.names) else frame.reset_index(drop=True)


def _from_text(raw: bytes, suffix: str, texts: set[str]) -> Cells:
    text, encoding = _decoded(raw)
    if not text.strip():
        raise ValueError("it is empty")
    if text.startswith(LFS):
        raise ValueError("it is a pointer of Git LFS, not the file: git lfs pull")
    cells = _from_json(text) if text.lstrip()[0] in "[{" else _from_delimited(text, suffix, texts)
    if not encoding.startswith("utf-8"):
        cells.notes.insert(0, f"read as {encoding}")
    return cells


def _from_json(text: str) -> Cells:
    frame, bad = frame_of_json(text)
    n_rows = len(frame) + len(bad)
    frame.index = pd.Index([i for i in range(1, n_rows + 1) if i not in set(bad)])
    notes = [f"row{'s' if len(bad) > 1 else ''} {ranges(bad)}: not a JSON record; left out"] if bad else []
    return Cells(frame, ".", notes, n_rows)


def _from_delimited(text: str, suffix: str, texts: set[str]) -> Cells:
    """Return the cells of a text table; a few rows with more cells than the header are left out."""
    dialect = detect_dialect(re.split(r"\r\n|\n|\r", text))
    notes = _dialect_notes(dialect, suffix)
    widths = row_widths(dialect.lines, dialect.separator)
    few = 0 < len(widths.wide) <= FEW_WIDE * widths.rows and not widths.quoted[1]
    for line, _ in widths.wide.values() if few else ():
        dialect.lines[line - 1] = ""
    frame = _parsed("\n".join(dialect.lines), dialect, widths, texts)
    if dialect.decimal == ",":
        frame = _with_numbers(frame, texts)
    if not few or len(frame) != widths.rows - len(widths.wide):
        return Cells(frame, dialect.decimal, notes)
    frame.index = pd.Index([i for i in range(1, widths.rows + 1) if i not in widths.wide])
    shown = listed([f"row {i} has {cells}" for i, (_, cells) in widths.wide.items()], 3)
    notes.append(f"the header has {widths.header} cells, {shown}; left out")
    return Cells(frame, dialect.decimal, notes, widths.rows)


def _dialect_notes(dialect: Dialect, suffix: str) -> list[str]:
    """Return what is unusual about a dialect, for a file with this suffix."""
    notes = []
    if suffix not in EXPECTED.get(dialect.separator, ()):
        notes.append(f"columns are separated by {SEPARATORS.get(dialect.separator, 'blanks')}")
    if dialect.decimal == ",":
        notes.append("commas are decimal")
    if dialect.skipped:
        shown = listed([i + 1 for i in dialect.skipped], 3)
        notes.append(f"line{'s' if len(dialect.skipped) > 1 else ''} {shown}: comments; skipped")
    return notes


def _decoded(raw: bytes) -> tuple[str, str]:
    """Return a text and its encoding, by the byte order mark, else UTF-16 if every other byte is 0, else UTF-8."""
    encoding = next((name for mark, name in BOMS.items() if raw.startswith(mark)), "")
    even, odd = (np.frombuffer(raw[i:4000:2], np.uint8) == 0 for i in (0, 1))
    if not encoding and len(odd) and max(even.mean(), odd.mean()) > 0.4:
        encoding = "UTF-16-LE" if odd.mean() > even.mean() else "UTF-16-BE"
    if not encoding:
        try:
            return _without_nul(raw.decode("utf-8")), "utf-8"
        except UnicodeDecodeError:
            return _without_nul(raw.decode("cp1252", "replace")), "Windows-1252, because it is not UTF-8"
    return _without_nul(raw.decode(encoding)), encoding


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("it is not text: it holds bytes of value 0")
    return text


def _parsed(text: str, dialect: Dialect, widths: RowWidths, texts: set[str]) -> pd.DataFrame:
    """Parse a text table. The header is checked first, because pandas renames repeated columns silently."""
    header = pd.read_csv(
        io.StringIO(text), sep=dialect.separator, header=None, nrows=1, dtype=str, skipinitialspace=True
    )
    names = header.iloc[0].dropna().str.strip()
    if names.duplicated().any():
        raise ValueError(f"column '{names[names.duplicated()].iloc[0]}' appears twice")
    kept = {str(name): str for name in header.iloc[0].dropna() if str(name).strip() in texts}
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            return pd.read_csv(
                io.StringIO(text),
                sep=dialect.separator,
                index_col=False,  # else the first cells of too wide rows become an index
                skipinitialspace=True,
                low_memory=False,
                dtype=str if dialect.decimal == "," else kept,
            )
        except (pd.errors.ParserWarning, pd.errors.ParserError) as error:
            raise ValueError(why_unreadable(widths) or str(error)) from None


def _with_numbers(frame: pd.DataFrame, texts: set[str]) -> pd.DataFrame:
    """Return a frame in which text columns of numbers with decimal commas are numeric."""
    for column in frame.columns:
        if str(column).strip() in texts:
            continue
        numbers, bad = parse_numbers(frame[column], ",")
        if bad.any() or numbers.isna().all():
            continue
        whole = numbers.notna().all() and (numbers == numbers.round()).all() and (numbers.abs() < 2**53).all()
        frame[column] = numbers.astype("int64") if whole else numbers
    return frame


def _from_workbook(raw: bytes, suffix: str, texts: set[str]) -> Cells:
    """Return the first sheet of a workbook with a table of numbers, or else the first with a table."""
    if suffix in (".xlsx", ".xlsm"):
        import_module("openpyxl")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # unsupported styles and extensions
        sheets = pd.read_excel(io.BytesIO(raw), sheet_name=None, header=None, dtype=object)
    tables = {name: sheet for name, sheet in sheets.items() if sheet.notna().any(axis=1).sum() > 1}
    if not tables:
        raise ValueError("no sheet has a header and rows")
    name, sheet = next(((n, s) for n, s in tables.items() if _has_numbers(s)), next(iter(tables.items())))
    others = listed([s for s in tables if s != name], 5)
    notes = [f"its sheet '{name}' is read, not: {others}"] if len(tables) > 1 else []
    frame = _below_header(sheet)
    for column in frame.columns:
        own = frame[column]
        frame[column] = own.map(str, na_action="ignore") if column.strip() in texts else own.infer_objects()
    return Cells(frame, decimal_mark_of([c for c in frame.to_numpy().ravel() if isinstance(c, str)]), notes)


def _below_header(sheet: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a sheet below its header: the first row with several cells that is not a comment."""
    filled = sheet.notna().sum(axis=1).to_numpy()
    comment = sheet.iloc[:, 0].astype(str).str.startswith("#").to_numpy() & (filled == 1)
    last = int(np.flatnonzero(filled)[-1])
    first = int(np.flatnonzero((filled > (filled.max() > 1)) & ~comment)[0])
    frame = sheet.iloc[first + 1 : last + 1].reset_index(drop=True)
    names = [f"Unnamed: {i}" if is_empty(head) else str(head) for i, head in enumerate(sheet.iloc[first])]
    frame.columns = pd.Index(names)
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise ValueError(f"column '{twice[0]}' appears twice")
    return frame


def _has_numbers(sheet: pd.DataFrame) -> bool:
    """Return whether most rows below the header have at least two numbers, as rows of runs do."""
    numbers = sheet.iloc[1:].map(lambda cell: not is_empty(cell) and parse_number(cell, counts=True) is not None)
    return bool((numbers.sum(axis=1) > 1).mean() > 0.5)
