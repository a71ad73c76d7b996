"""Files of the example tables: measured runs that ship with the package and are read as `example:NAME`."""

from pathlib import Path

from mixlaw.errors import ConfigError, unknown_name

PREFIX = "example:"
FOLDER = Path(__file__).with_name("measured")


def names() -> list[str]:
    """Return the names of the example tables."""
    return sorted(file.stem for file in FOLDER.glob("*.csv"))


def path(name: str) -> Path:
    """Return the CSV file of an example table.

    >>> path("text").name
    'text.csv'

    Raises
    ------
    ConfigError
        If there is no such example; the message names the closest one.
    """
    if name not in names():
        raise ConfigError(unknown_name("example", name, names()))
    return FOLDER / f"{name}.csv"


def resolve(file: str | Path) -> Path:
    """Return the file that `example:NAME` stands for; any other path is returned as it is.

    Raises
    ------
    ConfigError
        If there is no example of this name.
    """
    text = str(file)
    return path(text.removeprefix(PREFIX)) if text.startswith(PREFIX) else Path(file)
