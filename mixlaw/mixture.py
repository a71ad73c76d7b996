"""`Mixture`: the weights h of L(N, D, h), by name, checked once; and the rule that rounds weights to integers."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mixlaw.errors import ConfigError, unknown_name
from mixlaw.quoted import quoted, read_pairs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SUM_TOLERANCE = 1e-6
_NAME = re.compile(r"[a-z0-9_-]{1,64}")
_KEY = re.compile(r"[A-Za-z0-9_/\-+.$%*@?|\\()\[\]{}:=, \t]+")  # what keys of a dictionary hold in Hydra's overrides
_SPECIAL = re.compile(r"([\\()\[\]{}:=, \t])")  # what must be escaped there
_YAML_UNITS = 10_000  # weights in YAML files have four digits


def check_domain_name(name: str) -> str:
    """Return `name` if it can safely be a column, a folder and a Hydra key.

    Raises
    ------
    ConfigError
        If it holds anything but lower-case letters, digits, '_' and '-' (at most 64 of them).
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"domain name {name!r} is not allowed: use 1 to 64 of a-z, 0-9, '_' and '-'")
    return name


class Mixture(Mapping[str, float]):
    """The weight of each domain: an immutable, hashable mapping, in the order of the domains.

    Weights lie in [0, 1] and sum to 1 within 1e-6; they are stored as given. Two mixtures are equal if they have the
    same names and weights, in any order. `str(mixture)` is `D=W,...`, which `Mixture.parse` reads.

    Parameters
    ----------
    names : of the k domains
    weights : (k,) share of the training tokens of each
    where : how an error names the mixture

    Raises
    ------
    ConfigError
        If a name occurs twice, a weight is not a number in [0, 1], or they do not sum to 1 within 1e-6.

    Examples
    --------
    >>> mixture = Mixture.parse("code=0.75,docs=0.25")
    >>> mixture["code"], mixture.distance(Mixture.uniform(["code", "docs"]))
    (0.75, 0.25)
    """

    __slots__ = ("_weights",)
    _weights: dict[str, float]

    def __init__(self, names: Iterable[str], weights: Iterable[float], where: str = "mixture") -> None:
        checked: dict[str, float] = {}
        for name, weight in zip(names, weights, strict=True):
            if name in checked:
                raise ConfigError(f"{where}: '{name}' is named twice")
            checked[name] = _checked_weight(name, weight, where)
        total = float(sum(checked.values()))
        if abs(total - 1) > SUM_TOLERANCE:
            shares = ", ".join(f"{n}: {w / total:.4g}" for n, w in checked.items()) if total > 0 else "none"
            raise ConfigError(f"{where}: weights sum to {total:.6g}, not 1. Scaled to one they are {shares}")
        object.__setattr__(self, "_weights", checked)

    @classmethod
    def of(
        cls, weights: Mapping[str, float], domains: Iterable[str] | None = None, where: str = "mixture"
    ) -> "Mixture":
        """Return the mixture of a mapping from name to weight.

        Parameters
        ----------
        domains : the names and their order; absent weights are 0. By default those of `weights`

        Raises
        ------
        ConfigError
            If a name is not one of the domains, or the weights are not a mixture.
        """
        names = list(weights if domains is None else domains)
        for name in weights:
            if name not in names:
                raise ConfigError(f"{where}: {unknown_name('domain', name, names)}")
        given = cls(weights.keys(), weights.values(), where)  # without zeros, so that errors show what was given
        return given if domains is None else cls(names, [given.get(name, 0.0) for name in names], where)

    @classmethod
    def uniform(cls, domains: Iterable[str]) -> "Mixture":
        """Return the mixture with equal weights."""
        names = list(domains)
        return cls(names, [1 / len(names)] * len(names) if names else [])

    @classmethod
    def proportional(cls, sizes: Mapping[str, float]) -> "Mixture":
        """Return the natural mixture: each domain by its share of the available tokens.

        Raises
        ------
        ConfigError
            If there are no tokens at all.
        """
        total = float(sum(sizes.values()))
        if not total > 0:
            raise ConfigError("no domain has tokens, so there is no natural mixture")
        return cls(sizes.keys(), [size / total for size in sizes.values()])

    @classmethod
    def parse(cls, text: str, domains: Iterable[str] | None = None, where: str = "mixture") -> "Mixture":
        """Return the mixture of a text `D=W,...`; names with a comma or = are quoted. For `domains` see `of`.

        Raises
        ------
        ConfigError
            If the text has another form, or the weights are not a mixture.
        """
        try:
            weights = read_pairs(text)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
        return cls.of(weights, domains, where)

    @classmethod
    def from_yaml(cls, text: str, domains: Iterable[str] | None = None, where: str = "mixture") -> "Mixture":
        """Return the weights of a configuration of the trainer's group `mixture`. For `domains` see `of`.

        Raises
        ------
        ConfigError
            If the text is not YAML, holds no weights (as in `named: uniform`), or they are not a mixture.
        """
        import yaml

        try:
            facts = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"{where}: not valid YAML: {' '.join(str(error).split())[:120]}") from None
        weights = facts.get("weights") if isinstance(facts, dict) else None
        if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
            raise ConfigError(f'{where}: it needs weights, as in `weights: {{"code": 0.7, "docs": 0.3}}`')
        return cls.of(weights, domains, where)

    def __getitem__(self, name: str) -> float:
        return self._weights[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)

    def __hash__(self) -> int:
        return hash(frozenset(self._weights.items()))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a Mixture is immutable: make another one")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (tuple(self), tuple(self.values()))

    def __repr__(self) -> str:
        return f"Mixture.of({self._weights!r})"

    def __str__(self) -> str:
        return ",".join(f"{quoted(name)}={weight!r}" for name, weight in self.items())

    @property
    def array(self) -> "NDArray[np.float64]":
        """Weights (k,)."""
        import numpy as np

        return np.array(list(self.values()), np.float64)

    def rounded(self, total: int) -> dict[str, int]:
        """Return name -> integer weight; they sum to `total`, see `round_to_sum`."""
        return dict(zip(self, round_to_sum(self.array, total), strict=True))

    def distance(self, other: Mapping[str, float]) -> float:
        """Return the total variation distance: the share of the tokens that differ, in [0, 1]. Absent weights are 0."""
        names = dict.fromkeys([*self, *other])
        return sum(abs(self.get(name, 0.0) - other.get(name, 0.0)) for name in names) / 2

    def hydra_override(self, digits: int = 4) -> str:
        """Return the trainer's override, with rounded weights that sum to one, and special letters escaped.

        It is empty if a name has letters that Hydra's grammar does not know: its keys are ASCII and take no quotes.

        >>> Mixture.of({"code": 1 / 3, "docs": 2 / 3}).hydra_override()
        'mixture.weights={code:0.3333,docs:0.6667}'
        """
        weights = self._hydra_value(digits)
        return f"mixture.weights={weights}" if weights else ""

    def _hydra_value(self, digits: int) -> str:
        """Return the weights as a value of Hydra's overrides; '' if a name cannot be written there."""
        if not all(map(_KEY.fullmatch, self)):
            return ""
        units = self.rounded(10**digits)
        names = [_SPECIAL.sub(r"\\\1", name) for name in units]
        parts = [f"{name}:{unit / 10**digits:.{digits}f}" for name, unit in zip(names, units.values(), strict=True)]
        return "{" + ",".join(parts) + "}"

    def to_yaml(self) -> str:
        """Return a configuration of the trainer's group `mixture`, with weights of four digits that sum to one."""
        units = self.rounded(_YAML_UNITS)
        parts = [f"{json.dumps(d, ensure_ascii=False)}: {u / _YAML_UNITS:.4f}" for d, u in units.items()]
        return f"named: natural # weights take precedence\nweights: {{{', '.join(parts)}}}\n"


def _checked_weight(name: str, weight: float, where: str) -> float:
    try:
        number = float(weight)
    except (TypeError, ValueError):
        raise ConfigError(f"{where}: weight of '{name}' is {weight!r}, not a number") from None
    if not 0 <= number <= 1:  # also refuses NaN
        raise ConfigError(f"{where}: weight of '{name}' is {number:g}; weights must lie in [0, 1]")
    return number


def ramp(one: Mixture, other: Mixture, steps: int) -> list[tuple[float, Mixture]]:
    """Return a linear ramp between two mixtures, as (share of the run at its end, mixture) of phases of equal length.

    Each phase has the mixture of its middle, so that the whole run has the mean of the two mixtures.

    Parameters
    ----------
    steps : number of phases

    Raises
    ------
    ConfigError
        If steps is below 1, or the mixtures have different domains.
    """
    if steps < 1 or set(one) != set(other):
        raise ConfigError(f"a ramp needs one phase or more ({steps} given), and two mixtures of the same domains")
    shares = [(i + 0.5) / steps for i in range(steps)]
    mixtures = [Mixture(one, [(1 - s) * w + s * other[d] for d, w in one.items()], "ramp") for s in shares]
    return [((i + 1) / steps, mixture) for i, mixture in enumerate(mixtures)]


def phases_override(phases: Iterable[tuple[float, Mixture]], digits: int = 4) -> str:
    """Return the trainer's override for phases (share of the run at its end, mixture); '' if a name has other letters.

    >>> phases_override(ramp(Mixture.of({"code": 1.0, "docs": 0.0}), Mixture.of({"code": 0.0, "docs": 1.0}), 2), 2)
    'mixture.phases=[{until:0.5,weights:{code:0.75,docs:0.25}},{until:1,weights:{code:0.25,docs:0.75}}]'
    """
    parts = [(until, mixture._hydra_value(digits)) for until, mixture in phases]
    if not all(weights for _, weights in parts):
        return ""
    return "mixture.phases=[" + ",".join(f"{{until:{until:.12g},weights:{weights}}}" for until, weights in parts) + "]"


def round_to_sum(weights: "NDArray[np.float64]", total: int) -> list[int]:
    """Return integers near `weights * total` that sum to `total` exactly (largest remainders).

    Parameters
    ----------
    weights : (k,), at least 0, of any sum

    Raises
    ------
    ConfigError
        If the weights are all zero.
    """
    import numpy as np

    scale = float(np.sum(weights))
    if scale <= 0:
        raise ConfigError("a mixture needs at least one weight above 0")
    ideal = [float(w) / scale * total for w in weights]
    units = [int(x) for x in ideal]
    by_remainder = sorted(range(len(ideal)), key=lambda i: units[i] - ideal[i])
    for i in by_remainder[: total - sum(units)]:
        units[i] += 1
    return units
