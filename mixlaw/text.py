"""Numbers as text: counts, weights, intervals of weights, costs, and tables of them for a terminal."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def count_text(count: float) -> str:
    """Return a count with three digits and a unit: 492k, 1.4B.

    >>> count_text(492_512), count_text(1.4e9), count_text(812), count_text(999_999)
    ('493k', '1.4B', '812', '1M')
    """
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= 0.9995 * size:
            return f"{count / size:.3g}{unit}"
    return f"{count:.3g}"


def percent(weight: float) -> str:
    """Return a weight in per cent.

    >>> percent(0.0812), percent(0.5), percent(0.0), percent(0.0002)
    ('8.1 %', '50 %', '0 %', '< 0.1 %')
    """
    if 0 < weight < 0.0005:
        return "< 0.1 %"
    return f"{100 * weight:.0f} %" if weight >= 0.0995 or weight == 0 else f"{100 * weight:.1f} %"


def span(low: float, high: float) -> str:
    """Return an interval of a weight in per cent.

    >>> span(0.24, 0.381), span(0.0002, 0.02)
    ('24 to 38 %', '0 to 2.0 %')
    """
    return f"{percent(low if low >= 0.0005 else 0.0).removesuffix(' %')} to {percent(high)}"


def price(cost: float) -> str:
    """Return a cost with four decimals, without its unit.

    >>> price(0.0123), price(1e-6)
    ('0.0123', '< 0.0001')
    """
    return f"{cost:.4f}" if cost >= 5e-5 else "< 0.0001"


def text_table(frame: "pd.DataFrame", decimals: int = 4) -> str:
    """Return a DataFrame as a text table: words aligned left, numbers right, a dash where a number is missing.

    Parameters
    ----------
    decimals : digits after the point of every float

    >>> import pandas as pd
    >>> print(text_table(pd.DataFrame({"law": ["base", "joint"], "mre": [1.5, 0.25], "runs": [9, 12]}), decimals=2))
    law     mre  runs
    base   1.50     9
    joint  0.25    12
    """
    columns = [_column(str(name), values, decimals) for name, values in frame.items()]
    return "\n".join("  ".join(row).rstrip() for row in zip(*columns, strict=True))


def _column(name: str, values: "pd.Series[Any]", decimals: int) -> list[str]:
    """Return the header and the cells of a column, all equally wide."""
    cells = [name, *(_cell(value, decimals) for value in values)]
    width = max(map(len, cells))
    return [cell.rjust(width) if values.dtype.kind in "iuf" else cell.ljust(width) for cell in cells]


def _cell(value: object, decimals: int) -> str:
    if value is None or value != value:  # NaN
        return "-"
    return f"{value:.{decimals}f}" if isinstance(value, float) else str(value)
