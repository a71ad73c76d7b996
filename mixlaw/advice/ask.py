"""`ask` builds a `Question` from names and numbers, checked against the domains and targets of the fit."""

from collections.abc import Iterable, Mapping

from mixlaw.advice.compute_optimal import best_size, size_of
from mixlaw.advice.constraints import MEAN, Question, limits, read_baselines, read_mixture
from mixlaw.advice.loss_limits import check_not_worse
from mixlaw.advice.objective import Objective
from mixlaw.advice.snr import importances
from mixlaw.errors import ConfigError, FitError, unknown_name
from mixlaw.fitting.fitted import FittedLaw
from mixlaw.fitting.identifiability import form_of
from mixlaw.fitting.saved import FittedLaws
from mixlaw.mixture import Mixture
from mixlaw.tables.factor_levels import SAME

KL_PENALTY = 0.01  # default for `stay_near` [nats per unit of KL divergence]
RESERVED = {"mixture", "objective"}  # a column, and a row, of the tables of an answer, beside the targets
Groups = Mapping[str, tuple[Iterable[str], float, float]]


def ask(
    laws: FittedLaws,
    *,
    n_params: float | None = None,
    n_tokens: float | None = None,
    flops: float | None = None,
    target: str | Mapping[str, float] = "average",
    law: str | None = None,
    floors: Mapping[str, float] | None = None,
    caps: Mapping[str, float] | None = None,
    pins: Mapping[str, float] | None = None,
    groups: Groups | None = None,
    max_epochs: float | None = None,
    available: Mapping[str, float] | None = None,
    stay_near: str | Mapping[str, float] | None = None,
    kl_penalty: float | None = None,
    baselines: Iterable[str | Mapping[str, float]] | Mapping[str, str | Mapping[str, float]] = (),
    not_worse: Mapping[str, float] | None = None,
    objective: str = MEAN,
) -> Question:
    """Return a checked question about the mixture of a big run.

    Parameters
    ----------
    n_params, n_tokens : N and D of the big run; or, instead of both,
    flops : its compute C = 6 N D, for which N, D and the mixture are optimised together
    target : "average" (of the training domains), a target, "NAME:2,OTHER:1", target -> importance, or "snr" (all
        targets, by how well the runs distinguish mixtures by them)
    law : one of the fitted laws; the chosen one by default
    floors, caps, pins : domain -> minimum, maximum, fixed weight
    groups : name -> (domains, minimum, maximum) of the sum of their weights
    max_epochs : maximum number of passes over the tokens of any domain; caps its weight
    available : domain -> number of tokens available; by default as the runs state
    stay_near : a mixture to stay near: "uniform", "natural", "D=W,...", the path of a file, or domain -> weight
    kl_penalty : penalty of the distance to it [nats per unit of KL(h || stay_near)]
    baselines : mixtures to compare with, written as `stay_near`, or name -> mixture; first the one in use today
    not_worse : target -> by how many per cent its loss may exceed that of the first baseline (negative: must be lower);
        "all" stands for every other target
    objective : "mean" of the targets' losses, or "worst": their largest ratio to the loss of the first baseline

    Raises
    ------
    ConfigError
        If a law, target or domain is unknown, limits contradict each other, tokens for `max_epochs` are missing, or
        both sizes and `flops` are given, or neither, or a target is called "mixture" or "objective".
    FitError
        If the law does not depend on the mixture, has no optimal N at these FLOPs, or needs tokens that are not known.
    """
    fit = law_of(laws, law)
    require_mixture(laws, fit.name)
    _require_names(fit)
    for domain, tokens in (available or {}).items():
        if domain not in fit.domains:
            raise ConfigError(f"--available: {unknown_name('domain', domain, fit.domains)}")
        if not tokens > 0:
            raise ConfigError(f"--available {domain}={tokens:g}: tokens must be above 0")
    known = laws.sizes | dict(available or {})
    if max_epochs and not known:
        raise ConfigError("--max-epochs needs the tokens of each domain: --available code=3e9,docs=1e9,...")
    if "available" in fit.law.uses and not known:
        raise FitError(
            f"the {fit.name} law needs the tokens of the domains that are scarce: --available {fit.domains[0]}=TOKENS"
        )
    if kl_penalty and not stay_near:
        raise ConfigError("--kl-penalty needs a mixture to stay near: --stay-near uniform, natural, D=W,...")
    usual = usual_mixtures(fit.domains, known)
    near = read_mixture(stay_near, fit.domains, usual) if stay_near else None
    n, d = size_of(laws.ranges, n_params, n_tokens, flops)
    question = Question(
        n_params=n,
        n_tokens=d,
        targets=importances(target, laws, fit, known),
        floors=dict(floors or {}),
        caps=dict(caps or {}),
        pins=dict(pins or {}),
        groups={name: (tuple(members), low, high) for name, (members, low, high) in (groups or {}).items()},
        available=known,
        max_epochs=max_epochs,
        stay_near=near,
        kl_penalty=(kl_penalty or KL_PENALTY) if near else 0.0,
        baselines=read_baselines([baselines] if isinstance(baselines, str) else baselines, fit.domains, usual),
        flops=flops,
        not_worse=check_not_worse(not_worse or {}, fit),
        objective=objective,
    )
    if flops is not None:
        question = best_size(Objective(fit, question, laws.sizes), question.baselines | usual)
    limits(fit.domains, question)
    return question


def _require_names(fit: FittedLaw) -> None:
    """Raise if a target has a name that tables of an answer use for something else."""
    for name in RESERVED.intersection(fit.targets):
        raise ConfigError(
            f"the target '{name}' has a name that answers use for something else: rename its column loss_{name}, and "
            "fit again"
        )


def law_of(laws: FittedLaws, name: str | None = None) -> FittedLaw:
    """Return a fitted law by name, by default the chosen one.

    Raises
    ------
    ConfigError
        If it was not fitted; suggests the nearest name.
    """
    if name and name not in laws.fits:
        raise ConfigError(f"--law: {unknown_name('law', name, laws.fits)}")
    return laws.fits[name or laws.chosen]


def read_baseline(laws: FittedLaws, law: str, wanted: str | Mapping[str, float]) -> Mixture:
    """Return one mixture to compare with, in the domains of a fitted law; written as in `ask`."""
    domains = laws.fits[law].domains
    return next(iter(read_baselines({"baseline": wanted}, domains, usual_mixtures(domains, laws.sizes)).values()))


def usual_mixtures(domains: list[str], sizes: Mapping[str, float]) -> dict[str, Mixture]:
    """Return the mixtures that every recommendation is compared with: uniform and, if all sizes are known, natural."""
    known = all(d in sizes for d in domains)
    natural = {"natural": Mixture.proportional({d: sizes[d] for d in domains})} if known else {}
    return {"uniform": Mixture.uniform(domains)} | natural


def require_mixture(laws: FittedLaws, name: str) -> None:
    """Raise if no mixture can be recommended.

    Raises
    ------
    FitError
        If the law does not depend on the mixture or the runs have one mixture; says what to do instead.
    """
    k = len(laws.fits[name].domains)
    mixing = [law for law, fit in laws.fits.items() if fit.law.mixes and k > 1]
    if name in mixing and (laws.mixed or not laws.fits[name].law.pools_only):
        return
    if not laws.mixed:
        why = "all runs have the same mixture" if k > 1 else "the runs have no mixture"
        raise FitError(
            f"{why}, so no mixture can be recommended; `mixlaw predict` predicts the loss at another N and D"
        )
    ends = [laws.ranges[c] for c in ("n_params", "n_tokens")]
    other = f"multiplicative{form_of(*(1 + (high > low * (1 + SAME)) for low, high in ends))}"
    advice = f"ask the {mixing[0]} law (--law {mixing[0]})" if mixing else f"fit another, such as {other}"
    raise FitError(f"the {name} law does not depend on the mixture: {advice}")
