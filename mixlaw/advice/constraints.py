"""`Question`: the big run, the importance of its targets, and the constraints on its mixture."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, count
from pathlib import Path

import numpy as np

from mixlaw.advice.simplex import Group, Limits
from mixlaw.errors import ConfigError, unknown_name
from mixlaw.fitting.fitted import FittedLaw
from mixlaw.laws.jacobian import Array
from mixlaw.mixture import SUM_TOLERANCE, Mixture
from mixlaw.paths import expand_path
from mixlaw.quoted import split, unquoted

AVERAGE = ("average", "mean")  # of the losses of the training domains
FILES = (".yaml", ".yml", ".json")  # a mixture's configuration, or an answer of `mixlaw recommend`
RECOMMENDED = "recommended"  # name of h* among the mixtures of an answer
MEAN, WORST = OBJECTIVES = ("mean", "worst")  # what is minimised over the targets
KINDS = {  # of constraints -> where a question holds them
    "min": "floors",
    "max": "caps",
    "pin": "pins",
    "group": "groups",
    "epochs": "available",
    "not worse": "not_worse",
}
UNNAMED = "baseline"  # name of a baseline that is given by its weights


@dataclass(frozen=True)
class Question:
    """The big run that a mixture is recommended for.

    Attributes
    ----------
    n_params, n_tokens : N and D of the big run
    targets : target -> importance, summing to one
    floors, caps : domain -> minimum and maximum weight
    pins : domain -> its weight
    groups : name -> (domains, minimum, maximum) of the sum of their weights; groups must not overlap
    available : domain -> number of tokens available
    max_epochs : maximum number of passes over a domain's tokens; caps its weight
    stay_near : a mixture to stay near, penalised by `kl_penalty` [nats per unit of KL(h || stay_near)]
    baselines : name -> a mixture to compare with; the first one is in use today
    flops : compute of the big run, if N and D are the optimal ones at that compute
    not_worse : target -> by how many per cent its loss may exceed that of the first baseline
    objective : "mean" (of the targets' losses, weighted by importance) or "worst" (the largest ratio to the loss of the
        first baseline, over targets of any importance)
    """

    n_params: float
    n_tokens: float
    targets: dict[str, float]
    floors: dict[str, float] = field(default_factory=dict)
    caps: dict[str, float] = field(default_factory=dict)
    pins: dict[str, float] = field(default_factory=dict)
    groups: dict[str, tuple[tuple[str, ...], float, float]] = field(default_factory=dict)
    available: dict[str, float] = field(default_factory=dict)
    max_epochs: float | None = None
    stay_near: Mixture | None = None
    kl_penalty: float = 0.0
    baselines: dict[str, Mixture] = field(default_factory=dict)
    flops: float | None = None
    not_worse: dict[str, float] = field(default_factory=dict)
    objective: str = MEAN

    def __post_init__(self) -> None:
        for name in ("n_params", "n_tokens", "flops"):
            value = getattr(self, name)
            if name == "flops" and value is None:
                continue
            if isinstance(value, str) or not 0 < value < np.inf:
                raise ConfigError(f"{name} must be a finite number above 0, not {value!r}")
        if isinstance(self.kl_penalty, str) or not 0 <= self.kl_penalty < np.inf:
            raise ConfigError(f"--kl-penalty must be a finite number of at least 0, not {self.kl_penalty!r}")
        if self.objective not in OBJECTIVES:
            raise ConfigError(f"--objective: {unknown_name('objective', self.objective, OBJECTIVES)}")
        compared = "--not-worse" if self.not_worse else "--objective worst" if self.objective == WORST else ""
        if compared and not self.baselines:
            raise ConfigError(f"{compared} needs the mixture to compare with: --baseline natural, D=W,..., or a file")

    @property
    def in_use(self) -> Mixture:
        """The first baseline."""
        return next(iter(self.baselines.values()))

    def constraints(self) -> list[str]:
        """Return the names of all constraints, as `without` takes them."""
        named = [f"min {d}" for d in self.floors] + [f"max {d}" for d in self.caps] + [f"pin {d}" for d in self.pins]
        named += [f"group {name}" for name in self.groups] + [f"not worse {t}" for t in self.not_worse]
        return named + ([f"epochs {d}" for d in self.available] if self.max_epochs else [])

    def without(self, constraint: str) -> "Question":
        """Return the question without one of its constraints."""
        kind = next(kind for kind in KINDS if constraint.startswith(f"{kind} "))
        name, attribute = constraint.removeprefix(f"{kind} "), KINDS[kind]
        rest = {k: v for k, v in getattr(self, attribute).items() if k != name}
        return replace(self, **{attribute: rest})  # type: ignore[arg-type]

    def unlimited(self) -> "Question":
        """Return the question without any constraint, and without the penalty of the distance to a mixture."""
        asked = {"baselines": self.baselines, "objective": self.objective}
        return Question(self.n_params, self.n_tokens, self.targets, **asked)  # type: ignore[arg-type]

    def epoch_caps(self) -> dict[str, float]:
        """Return the weight of each domain at which `max_epochs` is reached."""
        if not self.max_epochs:
            return {}
        return {d: self.max_epochs * tokens / self.n_tokens for d, tokens in self.available.items()}


def limits(domains: list[str], question: Question) -> Limits:
    """Return the feasible set of mixtures.

    Raises
    ------
    ConfigError
        If a name is unknown, groups overlap, or no mixture can satisfy all limits.
    """
    caps = dict(question.caps)
    for domain, cap in question.epoch_caps().items():
        caps[domain] = min(caps.get(domain, 1.0), cap)
    for name, weight in question.pins.items():
        if not question.floors.get(name, 0.0) <= weight <= caps.get(name, 1.0):
            raise ConfigError(f"limits: '{name}' is pinned to {weight:g}, outside its other limits")
    floors = question.floors | question.pins
    caps |= question.pins
    in_groups = [d for members, _, _ in question.groups.values() for d in members]
    for name in (*floors, *caps, *in_groups, *(question.stay_near or ())):
        if name not in domains:
            raise ConfigError(f"limits: {unknown_name('domain', name, domains)}")
    if not all(value >= 0 for value in (*floors.values(), *caps.values())):  # also refuses NaN
        raise ConfigError(f"limits: weights must be at least 0: {floors | caps}")
    low = np.array([floors.get(d, 0.0) for d in domains])
    high = np.array([min(caps.get(d, 1.0), 1.0) for d in domains])
    if (low > high).any():
        bad = domains[int(np.argmax(low > high))]
        raise ConfigError(f"limits: '{bad}' must have at least {floors[bad]:g} and at most {caps.get(bad, 1):g}")
    if low.sum() > 1 + SUM_TOLERANCE or high.sum() < 1 - SUM_TOLERANCE:
        table = ", ".join(f"{d} {a:.3g} to {b:.3g}" for d, a, b in zip(domains, low, high, strict=True))
        raise ConfigError(
            f"limits: no mixture fits them: floors sum to {low.sum():.3g}, caps to {high.sum():.3g} ({table})"
        )
    return Limits(low, high, _groups(domains, question, low, high))


def _groups(domains: list[str], question: Question, low: Array, high: Array) -> tuple[Group, ...]:
    groups, least, most = [], 0.0, 0.0
    seen: set[str] = set()
    for name, (members, floor, cap) in question.groups.items():
        at = np.array([domains.index(d) for d in members])
        if len(set(members)) < len(members) or seen & set(members):
            raise ConfigError(f"limits: group '{name}' shares domains with another: groups must not overlap")
        floor, cap = max(floor, float(low[at].sum())), min(cap, float(high[at].sum()), 1.0)
        if floor > cap + 1e-12:
            raise ConfigError(f"limits: group '{name}' must have at least {floor:.3g} and can have at most {cap:.3g}")
        seen |= set(members)
        least, most = least + floor, most + cap
        groups.append(Group(at, floor, cap))
    rest = [i for i, d in enumerate(domains) if d not in seen]
    if groups and (least + low[rest].sum() > 1 + SUM_TOLERANCE or most + high[rest].sum() < 1 - SUM_TOLERANCE):
        raise ConfigError("limits: no mixture fits the groups and the limits of single domains together")
    return tuple(groups)


def read_targets(wanted: str | Mapping[str, float], fit: FittedLaw) -> dict[str, float]:
    """Return importance by target, summing to one, from 'average', 'NAME', 'NAME:2,OTHER:1', or target -> importance.

    'average' (or 'mean') is the mean over the training domains, unless a target has that name. Names with a comma are
    quoted.
    """
    if isinstance(wanted, str) and wanted in AVERAGE and wanted not in fit.targets:
        return dict(Mixture.uniform([d for d in fit.domains if d in fit.targets] or list(fit.targets)))
    raw = _importances(wanted, fit) if isinstance(wanted, str) else dict(wanted)
    for name in raw:
        fit.target(name)
    total = sum(raw.values())
    if not 0 < total < np.inf or min(raw.values()) < 0:
        raise ConfigError(f"--target {wanted}: importances must be finite, at least 0 and not all 0")
    return {name: weight / total for name, weight in raw.items()}


def _importances(text: str, fit: FittedLaw) -> dict[str, float]:
    """Return importance by target from NAME:2,OTHER:1; a single target may have commas in its name."""
    try:
        return dict(_importance(part, fit) for part in ([text] if text in fit.targets else split(text, ",")))
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"--target {text}: write NAME or NAME:IMPORTANCE,...") from None


def _importance(part: str, fit: FittedLaw) -> tuple[str, float]:
    """Return a target and its importance from NAME or NAME:2."""
    if (whole := unquoted(part)) in fit.targets:
        return whole, 1.0
    name, *weights = split(part, ":")
    return unquoted(name), float(":".join(weights) or 1)


def read_groups(texts: Iterable[str]) -> dict[str, tuple[tuple[str, ...], float, float]]:
    """Return groups from 'NAME=A+B:LEAST:MOST'; either limit may be empty, names may be quoted."""
    groups = {}
    for text in texts:
        name, *rest = split(text, "=")
        members, *ends = split("=".join(rest), ":")
        try:
            low, high = (float(end) if end else default for end, default in zip(ends, (0.0, 1.0), strict=True))
        except ValueError:
            raise ConfigError(f"--group {text}: write NAME=DOMAIN+DOMAIN:LEAST:MOST") from None
        if not (rest and name and 0 <= low <= 1 and 0 <= high <= 1):
            raise ConfigError(f"--group {text}: write NAME=DOMAIN+DOMAIN:LEAST:MOST, limits between 0 and 1")
        if (name := unquoted(name)) in groups:
            raise ConfigError(f"--group {name} is given twice")
        groups[name] = (tuple(unquoted(m) for m in split(members, "+")), low, high)
    return groups


def read_mixture(wanted: str | Mapping[str, float], domains: list[str], known: Mapping[str, Mixture]) -> Mixture:
    """Return a mixture from its name (uniform, natural), 'D=W,...', the path of a file, or domain -> weight.

    A file is the trainer's configuration (YAML) or an answer of `mixlaw recommend` (JSON).
    """
    if isinstance(wanted, Mapping):
        return Mixture.of(wanted, domains)
    if not isinstance(wanted, str):
        raise ConfigError(f"a mixture is its name, 'D=W,...', the path of a file, or domain -> weight, not {wanted!r}")
    if wanted in known:
        return known[wanted]
    if is_file(wanted):
        return _saved_mixture(expand_path(wanted, "mixture"), domains)
    if "=" not in wanted:
        raise ConfigError(unknown_name("mixture", wanted, known))
    return Mixture.parse(wanted, domains)


def _saved_mixture(path: str, domains: list[str]) -> Mixture:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    return Mixture.from_yaml(text, domains, path)


def is_file(wanted: str) -> bool:
    """Return whether a text names a file of a mixture, by its suffix."""
    return Path(wanted).suffix in FILES


def read_baselines(
    wanted: Iterable[str | Mapping[str, float]] | Mapping[str, str | Mapping[str, float]],
    domains: list[str],
    known: Mapping[str, Mixture],
) -> dict[str, Mixture]:
    """Return baselines by name: as given, or else uniform, natural, the stem of a file's name, or "baseline".

    A name that another mixture bears, such as uniform or recommended, gets a number.
    """
    named = wanted.items() if isinstance(wanted, Mapping) else ((_name_of(text, known), text) for text in wanted)
    found = dict[str, Mixture]()
    for name, given in named:
        try:
            mixture = read_mixture(given, domains, known)
        except ConfigError as error:
            raise ConfigError(f"--baseline: {error}") from None
        taken = {RECOMMENDED, *found, *(usual for usual, other in known.items() if other != mixture)}
        found[_free(name, taken, len(found) + 1)] = mixture
    return found


def _free(name: str, taken: Container[str], number: int) -> str:
    """Return a name, or the first of "name 2", "name 3", ... from a number on, that is not taken."""
    numbered = (f"{name} {i}" for i in count(max(number, 2)))
    return next(each for each in chain([name], numbered) if each not in taken)


def _name_of(wanted: str | Mapping[str, float], known: Mapping[str, Mixture]) -> str:
    if not isinstance(wanted, str):
        return UNNAMED
    if wanted in known:
        return wanted
    return Path(wanted).stem if is_file(wanted) else UNNAMED
