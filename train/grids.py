"""The runs of a study as lists of overrides: the union of its grids, each the Cartesian product of its settings."""

import itertools
from collections.abc import Mapping, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from data.misread import quoted_home


def combinations(
    params: Mapping[str, str], grids: Sequence[Mapping[str, str]], arguments: Sequence[str] = ()
) -> list[list[str]]:
    """Return the overrides of every run: those of the study, then `study=NAME`, then the rest of the command line.

    Parameters
    ----------
    params : setting -> comma-separated values, part of every grid
    grids : more settings, one mapping per grid; a run that is in two grids comes twice
    arguments : overrides of the command line; they replace the study's values of the same setting

    Raises
    ------
    HydraException
        If Hydra cannot parse the values, or a setting sweeps over an interval instead of a list of values.
    """
    known = choices(sorted(arguments, key=lambda argument: not argument.startswith("study=")))
    shared = choices([quoted_home(f"{key}={values}") for key, values in params.items() if key not in known])
    jobs = []
    for grid in grids or [{}]:
        own = choices([quoted_home(f"{key}={values}") for key, values in grid.items() if key not in known])
        axes = (shared | own | known).values()
        jobs += [list(job) for job in itertools.product(*axes)]
    return jobs


def choices(overrides: Sequence[str]) -> dict[str, list[str]]:
    """Return setting -> one override for each value that it sweeps over."""
    found = {}
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.get_key_element()
        if not override.is_sweep_override():
            found[key] = [f"{key}={override.get_value_element_as_str()}"]
        elif override.is_discrete_sweep():
            found[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            raise HydraException(f"{key} sweeps over an interval; a study needs values with commas between")
    return found
