"""Limits on losses, `--not-worse TARGET:PERCENT`: read, checked, and written."""

from collections.abc import Iterable, Mapping
from numbers import Real

import numpy as np

from mixlaw.errors import ConfigError
from mixlaw.fitting.fitted import FittedLaw
from mixlaw.quoted import quoted, split, unquoted

ALL = "all"  # stands for every target that is not named


def read_not_worse(texts: Iterable[str]) -> dict[str, float]:
    """Return the limits of losses, target -> per cent, from 'TARGET:PERCENT'; a name with a colon is quoted."""
    found = dict[str, float]()
    for text in texts:
        name, *percents = split(text, ":")
        try:
            (percent,) = (float(each) for each in percents)
        except ValueError:
            raise ConfigError(f"--not-worse {text}: write TARGET:PERCENT, such as code:1") from None
        if (name := unquoted(name)) in found:
            raise ConfigError(f"--not-worse {name} is given twice")
        found[name] = percent
    return found


def check_not_worse(wanted: Mapping[str, float], fit: FittedLaw) -> dict[str, float]:
    """Return the limits of losses by target; 'all' stands for every target that is not named, unless one is called so.

    Raises
    ------
    ConfigError
        If a target was not fitted, or a limit is not a number of per cent above -100.
    """
    if not isinstance(wanted, Mapping):
        raise ConfigError(f"not_worse must be target -> per cent, such as {{'code': 1}}, not {wanted!r}")
    for name, percent in wanted.items():
        if name != ALL:
            fit.target(name)
        if not isinstance(percent, Real):
            raise ConfigError(f"not_worse: the per cent of '{name}' must be a number, not {percent!r}")
        if not -100 < percent < np.inf:
            raise ConfigError(f"--not-worse {name}:{percent:g}: the per cent must be a finite number above -100")
    if ALL not in wanted or ALL in fit.targets:
        return dict(wanted)
    return {target: wanted.get(target, wanted[ALL]) for target in fit.targets}


def limits_text(not_worse: Mapping[str, float]) -> str:
    """Return limits of losses as the option takes them.

    >>> limits_text({"code": 1.0, "a:b": -0.5})
    'code:1, "a:b":-0.5'
    """
    return ", ".join(f"{quoted(target)}:{percent:g}" for target, percent in not_worse.items())
