"""Detect the dialect of a text table: separator, decimal mark, comment lines, and the number of cells per row."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mixlaw.tables.number_parsing import decimal_mark_of, is_empty, parse_number

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
SAMPLE = 200  # lines that are looked at


@dataclass(frozen=True)
class Dialect:
    """How a text table is written.

    Attributes
    ----------
    lines : its lines; those without cells are empty
    separator : one character, or the regular expression for white space
    decimal : the decimal mark, "." or ","
    skipped : indices of comment lines and titles
    """

    lines: list[str]
    separator: str
    decimal: str
    skipped: list[int]


def detect_dialect(lines: list[str]) -> Dialect:
    """Detect how a text table is written, by its first 200 lines."""
    lines, skipped = list(lines), []
    declared = re.fullmatch(r"sep=(.)", lines[0].strip('\ufeff "')) if lines else None
    if declared:
        skipped.append(0)
    full = [i for i, line in enumerate(lines) if line.strip() and i not in skipped]
    comments = [i for i in full if lines[i].lstrip().startswith("#")]
    if 2 * len(comments) > len(full):  # ids such as #12
        comments = []
    rest = [i for i in full if i not in set(comments)][:SAMPLE]
    separator = declared[1] if declared else _separator([lines[i] for i in rest])
    rows = [_split(lines[i], separator) for i in rest]
    width = _usual_width(rows)
    above = [i for i in comments if rest and i < rest[0]]
    if above and _is_header(lines[above[-1]].lstrip("# \t"), rows, separator, width):
        header = above[-1]
        lines[header] = lines[header].lstrip("# \t")
        comments.remove(header)
    elif width > 1:
        titles = [i for i, row in zip(rest, rows, strict=True) if sum(bool(c.strip()) for c in row) > 1]
        skipped += [i for i in rest if titles and i < titles[0]]
    skipped = sorted({*skipped, *comments})
    for i in skipped:
        lines[i] = ""
    default = "," if separator == ";" else "."
    decimal = decimal_mark_of([cell for row in rows for cell in row], default)
    return Dialect(lines, separator, decimal, skipped)


def _separator(lines: Sequence[str]) -> str:
    """Return the separator that gives most cells in most lines; a comma for a single column."""
    scores = {}
    for separator in SEPARATORS:
        rows = [_split(line, separator) for line in lines]
        width = _usual_width(rows)
        scores[separator] = (width > 1) * width * sum(len(row) == width for row in rows)
    best = max(scores, key=scores.__getitem__, default=",")
    if scores[best]:
        return best
    words = [len(line.split()) for line in lines]
    return r"\s+" if words and min(words) > 1 and len(set(words)) == 1 else ","


def _split(line: str, separator: str) -> list[str]:
    if separator == r"\s+":
        return line.split()
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        return []


def _usual_width(rows: Sequence[list[str]]) -> int:
    """Return the most frequent number of cells."""
    widths = [len(row) for row in rows]
    return max(set(widths), key=lambda w: (widths.count(w), w)) if widths else 0


def _is_header(line: str, rows: Sequence[list[str]], separator: str, width: int) -> bool:
    """Return whether a comment line is the header: as many words as rows have cells, and no numbers among them."""
    words = _split(line, separator)
    number = lambda cell: parse_number(cell) is not None and not is_empty(cell)  # noqa: E731
    return len(words) == width and not any(map(number, words)) and any(map(number, rows[0]))


@dataclass(frozen=True)
class RowWidths:
    """How many cells the rows of a text table have.

    Attributes
    ----------
    header : cells of the header
    rows : number of rows below it
    wide : row -> (line, cells) of rows with more cells than the header
    quoted : first and last line of the last quoted cell that spans lines; (0, 0) if there is none
    """

    header: int
    rows: int
    wide: dict[int, tuple[int, int]]
    quoted: tuple[int, int]


def row_widths(lines: Sequence[str], separator: str) -> RowWidths:
    """Count the cells of every row; rows are counted from 1 below the header, lines from 1.

    All counts are 0 where `csv` cannot parse: separators of several characters, cells of more than 131,072 characters.
    """
    try:
        return _counted(lines, separator)
    except (csv.Error, TypeError):
        return RowWidths(0, 0, {}, (0, 0))


def _counted(lines: Sequence[str], separator: str) -> RowWidths:
    header, count, before = 0, -1, 0
    wide, quoted = dict[int, tuple[int, int]](), (0, 0)
    reader = csv.reader((line + "\n" for line in lines), delimiter=separator, skipinitialspace=True)
    for row in reader:
        quoted = (before + 1, reader.line_num) if reader.line_num > before + 1 else quoted
        before = reader.line_num
        if any(cell.strip() for cell in row) or len(row) > 1:
            count, header = count + 1, header or len(row)
            if len(row) > header:
                wide[count] = (reader.line_num, len(row))
    return RowWidths(header, max(count, 0), wide, quoted)


def why_unreadable(widths: RowWidths) -> str:
    """Return the error for the first row with more cells than the header, else for an unclosed quote, else ''."""
    if widths.wide:
        line, cells = next(iter(widths.wide.values()))
        return (
            f"line {line} has {cells} cells, the header has {widths.header}; decimal commas in cells need quotes or "
            "semicolons"
        )
    begun, ended = widths.quoted
    return f"the quote opened in line {begun} is closed in line {ended} or never" if ended else ""
