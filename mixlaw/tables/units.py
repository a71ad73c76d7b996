"""Units of losses: nats per token, unless the name of the target, the layout or the user says otherwise.

A unit is a short text that is passed from the table to the fit, to `laws.json`, tables and figures. Nothing is
converted: laws are fitted to the numbers of the table.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import pandas as pd

from mixlaw.errors import ConfigError, RunLogError, unknown_name

NATS = "nats/token"
BITS_PER_BYTE, PERPLEXITY, ERROR_RATE, ERROR_PERCENT = "bits/byte", "perplexity", "error rate", "error rate in %"
MIXED = "mixed units"
LONGEST = 40  # characters of a unit that the user states


@dataclass(frozen=True)
class Kind:
    """How values and differences in a unit are written.

    Attributes
    ----------
    noun : the quantity
    level : the unit of a value, in brackets on axes; '' if it has none
    difference : the unit of a difference, in brackets
    after : the unit of a difference, after its number
    """

    noun: str
    level: str
    difference: str
    after: str


KINDS = {
    NATS: Kind("loss", NATS, "nats", "nats"),
    PERPLEXITY: Kind("perplexity", "", "perplexity", "in perplexity"),
    ERROR_RATE: Kind("error rate", "", "error rate", "in error rate"),
    ERROR_PERCENT: Kind("error rate", "%", "percentage points", "percentage points"),
    "squared error": Kind("squared error", "", "squared error", "in squared error"),
    "training loss": Kind("training loss", "", "training loss", "in training loss"),
    "Brier score": Kind("Brier score", "", "Brier score", "in Brier score"),
    MIXED: Kind("loss", MIXED, MIXED, "in mixed units"),
}
SYNONYMS = {
    "bpb": BITS_PER_BYTE,
    "bpc": "bits/character",
    "ppl": PERPLEXITY,
    "nats": NATS,
    "nat": NATS,
    "%": ERROR_PERCENT,
    "error": ERROR_RATE,
    "error %": ERROR_PERCENT,
    "bits/char": "bits/character",
    "nats/char": "nats/character",
}
NAMED = (  # regular expression in the name of a target -> its unit
    (r"bpb|bits?_?per_?byte", BITS_PER_BYTE),
    (r"bpc|bits?_?per_?char(acter)?", "bits/character"),
    (r"bits?_?per_?token", "bits/token"),
    (r"nats?_?per_?byte", "nats/byte"),
    (r"nats?_?per_?char(acter)?", "nats/character"),
    (r"ppl|perplexity", PERPLEXITY),
    (r"err|error|error_rate|wer|cer", ERROR_RATE),
    (r"brier", "Brier score"),
)


def kind_of(unit: str) -> Kind:
    """Return how a unit is written; an unknown unit is that of a loss."""
    return KINDS.get(unit, Kind("loss", unit, unit, unit))


def axis(what: str, unit: str, of: str = "") -> str:
    """Return an axis label.

    >>> axis("measured", "nats/token"), axis("measured", "error rate"), axis("", "bits/byte", "web")
    ('measured loss [nats/token]', 'measured error rate', 'web loss [bits/byte]')
    """
    kind = kind_of(unit)
    words = " ".join(part for part in (what, of, kind.noun) if part)
    return words + (f" [{kind.level}]" if kind.level else "")


def difference(text: str, unit: str) -> str:
    """Return a difference with its unit.

    >>> difference("+0.012", "nats/token"), difference("+0.012", "error rate"), difference("+0.012", "bits/byte")
    ('+0.012 nats', '+0.012 in error rate', '+0.012 bits/byte')
    """
    return f"{text} {kind_of(unit).after}"


def brackets(unit: str) -> str:
    """Return the unit of differences in brackets, for column titles: [nats]."""
    return f"[{kind_of(unit).difference}]"


def together(units: Iterable[str]) -> str:
    """Return the common unit, or 'mixed units'."""
    found = list(dict.fromkeys(units))
    return found[0] if len(found) == 1 else MIXED if found else NATS


def canonical_unit(text: str) -> str:
    """Return the canonical spelling of a unit; unknown units are returned unchanged.

    >>> [canonical_unit(text) for text in ("bits per byte", "BPB", "nats", "kilojoules")]
    ['bits/byte', 'bits/byte', 'nats/token', 'kilojoules']
    """
    word = re.sub(r"\s*(\bper\b|/)\s*", "/", text.strip())
    word = re.sub(r"^(bit|nat)(/|$)", r"\1s\2", word)
    known = {name.lower(): name for name in KINDS}
    return SYNONYMS.get(word.lower(), known.get(word.lower(), word.lower() if "/" in word else word))


def named_unit(name: str) -> str:
    """Return the unit that a name of a target or column states, or ''.

    >>> named_unit("web_bpb"), named_unit("ppl/c4"), named_unit("wikipedia")
    ('bits/byte', 'perplexity', '')
    """
    for words, unit in NAMED:
        if re.search(rf"(^|[^a-z0-9])({words})([^a-z0-9]|$)", name.lower()):
            return unit
    return ""


def units_of(
    frame: pd.DataFrame,
    targets: Sequence[str],
    error_rates: Collection[str] = (),
    names_in_file: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return target -> unit, by names and ranges of values.

    Parameters
    ----------
    frame : with loss_<target>
    error_rates : targets that were accuracies and are now error rates
    names_in_file : loss_<target> -> the column in the file, if its name differs
    """
    units, names_in_file = {}, names_in_file or {}
    for target in targets:
        values = frame[f"loss_{target}"]
        named = named_unit(target) or named_unit(names_in_file.get(f"loss_{target}", ""))
        unit = ERROR_RATE if target in error_rates else named or _of_images(target, targets)
        if unit == ERROR_RATE and values.max() > 1:
            unit = ERROR_PERCENT if values.max() <= 100 and values.median() > 10 else ""  # else "error" names a domain
        units[target] = unit or NATS
    return units


def _of_images(target: str, targets: Sequence[str]) -> str:
    """Return the unit of a target of the vision family, whose losses have an image part; '' for other targets."""
    if target.endswith("-image") and target.removesuffix("-image") in targets:
        return "squared error"
    return "training loss" if f"{target}-image" in targets else ""


def with_stated(units: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Return units, replaced by those that the user states.

    Parameters
    ----------
    units : target -> unit
    given : patterns of targets -> unit

    Raises
    ------
    ConfigError
        If a pattern matches no target, or the unit is empty or longer than 40 characters.
    """
    found = dict(units)
    for pattern, text in given.items():
        fitting = [target for target in found if fnmatchcase(target.lower(), pattern.lower())]
        if not fitting:
            raise ConfigError(f"--units {pattern}={text}: {unknown_name('target', pattern, found)}")
        if not text.strip() or len(text) > LONGEST:
            raise ConfigError(f"--units {pattern}={text}: write a unit such as bits/byte, perplexity or nats/token")
        found |= dict.fromkeys(fitting, canonical_unit(text))
    return found


def combined_units(tables: Iterable[tuple[str, Mapping[str, str]]], given: Mapping[str, str]) -> dict[str, str]:
    """Return target -> unit over several tables, replaced by the units that the user states.

    Parameters
    ----------
    tables : name of each table, and its target -> unit
    given : patterns of targets -> unit

    Raises
    ------
    RunLogError
        If tables have different units for a target, and the user states none.
    ConfigError
        See `with_stated`.
    """
    places: dict[str, dict[str, str]] = {}
    for where, units in tables:
        for target, unit in units.items():
            places.setdefault(target, {}).setdefault(unit, where)
    for target, found in places.items():
        if len(found) > 1 and not any(fnmatchcase(target.lower(), pattern.lower()) for pattern in given):
            shown = ", and in ".join(f"{unit} in {where}" for unit, where in found.items())
            raise RunLogError(
                f"loss_{target} is in {shown}: one fit needs one unit. State it by --units {target}=UNIT if the "
                "values have the same unit, or convert one table"
            )
    return with_stated({target: next(iter(found)) for target, found in places.items()}, given)


def mixed_warning(targets: Mapping[str, float], units: Mapping[str, str]) -> list[str]:
    """Return a warning if targets in different units are averaged, else nothing.

    Parameters
    ----------
    targets : target -> importance
    units : target -> unit
    """
    by_unit: dict[str, list[str]] = {}
    for target in targets:
        by_unit.setdefault(units.get(target, NATS), []).append(target)
    if len(by_unit) < 2:
        return []
    shown = "; ".join(f"{unit}: {', '.join(names[:4])}{' ...' * (len(names) > 4)}" for unit, names in by_unit.items())
    return [
        f"the target is a mean of values in different units ({shown}), which are added without conversion: "
        "recommend for targets in one unit, or weight them by --target NAME:IMPORTANCE,..."
    ]
