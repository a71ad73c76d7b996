"""Detect values in another unit than the rest: whole targets, single rows, or all rows of some model sizes.

The checks look for usual mistakes: perplexity among nats, bits or nats per byte among nats per token, tokens in
millions or billions. Each leaves a trace that real differences do not have: the logarithm continues the other rows, or
one factor fits all targets, mixtures and lengths. Values are not changed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixlaw.tables.units import NATS

Array = NDArray[np.float64]
Rows = NDArray[np.bool_]
HIGHEST = 13.0  # nats/token: log of a vocabulary of 440,000, the loss of an untrained model
TRAINED = 6.0  # nats/token; trained models are usually below
STEEPEST, FLATTEST = 0.35, 0.02  # exponents of N and D with which a loss may fall, and rise
IMPOSSIBLE = 0.1  # beyond these bounds by more, an exponent is an artefact of a change of unit
USUAL = 0.06  # exponent to use where a table does not determine it
SLACK = 0.25  # log of the factor by which rows may differ from the prediction of the others
DRIFT = 0.12  # additional slack per unit of log N between them
ALIKE = 0.12  # log spread within which factors count as equal
SPREADS = 6.0  # a row is an outlier beyond this multiple of the other rows' residuals
MOST_ODD = 0.45  # largest share of outliers
MANY_HIGH = 0.2  # share of rows above HIGHEST that is enough for a warning
FEWEST = 8  # rows needed for comparison
MANY = 8  # rows of a single target needed to trust one factor
GAP = 2.0  # decades between counts in different units
SCALES = {3: "thousands", 6: "millions", 9: "billions", 12: "trillions"}
BYTES = (2.5, 7.0)  # bytes per token
ROUNDS = 30  # iterations of reweighting
ENOUGH = 1000  # rows used to find two levels


@dataclass(frozen=True)
class UnitWarning:
    """A mask (n,) of rows that seem to be in another unit, and the warning without row numbers."""

    rows: Rows
    text: str


@dataclass(frozen=True)
class Relation:
    """How some rows differ from the prediction of the others: log factor, whether they are exponentials, and a text."""

    size: float
    logarithm: bool
    text: str


def unit_warnings(frame: pd.DataFrame, domains: Sequence[str], units: Mapping[str, str]) -> list[UnitWarning]:
    """Return a warning for each set of rows that seems to be in another unit.

    Parameters
    ----------
    frame : checked rows: n_params, n_tokens, weight_<domain>, loss_<target>
    units : target -> unit; only targets in nats/token are checked
    """
    targets = [t for t, unit in units.items() if unit == NATS and f"loss_{t}" in frame]
    found = [d for column in ("n_tokens", "n_params") for d in _odd_counts(frame, targets, column)]
    sound = ~np.any([d.rows for d in found], axis=0) if found else np.ones(len(frame), bool)
    for warning in _odd_losses(frame[sound], domains, targets):
        rows = np.zeros(len(frame), bool)
        rows[sound] = warning.rows
        found.append(UnitWarning(rows, warning.text))
    return found


def _odd_counts(frame: pd.DataFrame, targets: Sequence[str], column: str) -> list[UnitWarning]:
    """Find N or D that are smaller by 1e3, 1e6 or 1e9 in some rows at the same losses."""
    places = np.log10(frame[column].to_numpy(float))
    ordered = np.unique(places)
    steps = np.diff(ordered)
    if not len(steps) or steps.max() < GAP:
        return []
    small = places <= ordered[int(steps.argmax())] + 1e-9
    counts, low, high = frame[column].to_numpy(float), places[~small].min() - 0.5, places[~small].max() + 0.5
    fitting = [k for k in SCALES if low <= np.median(places[small]) + k <= high]
    if not fitting or not _same_losses(frame, targets, small):
        return []
    text = (
        f"{column} is {_span(counts[small])}, and {_span(counts[~small])} in the other rows, whose losses are about "
        f"the same: in {SCALES[fitting[0]]}? Multiply these cells by 1e{fitting[0]}"
    )
    return [UnitWarning(small, text)]


def _span(values: Array) -> str:
    low, high = f"{np.nanmin(values):.3g}", f"{np.nanmax(values):.3g}"
    return low if low == high else f"{low} to {high}"


def _same_losses(frame: pd.DataFrame, targets: Sequence[str], some: Rows) -> bool:
    """Return whether rows have losses like the others, which is impossible at a thousandth of N or D."""
    gaps = []
    for target in targets:
        here, there = (np.log(frame.loc[rows, f"loss_{target}"].dropna()) for rows in (some, ~some))
        gaps += [here.median() - there.median()] if len(here) and len(there) else []
    return not gaps or float(np.median(gaps)) < 0.45


def _odd_losses(frame: pd.DataFrame, domains: Sequence[str], targets: Sequence[str]) -> list[UnitWarning]:
    """Find targets, model sizes and rows whose losses are in another unit."""
    whole = [t for t in targets if _is_beyond(frame, t, targets)]
    found = [_beyond(frame, whole, np.ones(len(frame), bool))] if whole else []
    rest = [t for t in targets if t not in whole and frame[f"loss_{t}"].notna().sum() >= FEWEST]
    levels = _odd_level(frame, domains, rest)
    sizes = _odd_sizes(frame, domains, rest) if not levels or _are_outer_sizes(frame, levels[0].rows) else []
    found += sizes or levels or (_odd_rows(frame, domains, rest) if rest else [])
    if found:
        return found
    high = {t: frame[f"loss_{t}"].to_numpy(float) > HIGHEST for t in rest}
    high = {t: rows for t, rows in high.items() if rows.mean() > MANY_HIGH}
    return [_beyond(frame, list(high), np.any(list(high.values()), axis=0))] if high else []


def _is_beyond(frame: pd.DataFrame, target: str, others: Sequence[str]) -> bool:
    """Return whether a whole target is too high for losses per token, or compared with all other targets."""
    values = frame[f"loss_{target}"].dropna()
    if (values > HIGHEST).mean() > 0.9:
        return True
    levels = [frame[f"loss_{t}"].median() for t in others if t != target]
    return len(levels) > 1 and bool(values.median() > max(TRAINED, 2 * max(levels)))


def _beyond(frame: pd.DataFrame, targets: Sequence[str], rows: Rows) -> UnitWarning:
    values = frame.loc[rows, [f"loss_{t}" for t in targets]].to_numpy(float)
    why = f"cannot be nats/token: an untrained model has the logarithm of its vocabulary size, at most {HIGHEST:g}"
    if np.nanmedian(values) < HIGHEST:
        why = "is more than twice the loss of any other target"
    return UnitWarning(
        rows,
        f"{_names(targets)}: {_span(values)} {why}. Perplexity? The logarithm is {_span(np.log(values))}. Take "
        f"logarithms, or state the unit by --units {targets[0]}=perplexity",
    )


def _names(targets: Sequence[str]) -> str:
    names = [f"loss_{t}" for t in targets[:4]]
    return ", ".join(names) + (f" and {len(targets) - 4} more targets" if len(targets) > 4 else "")


def _odd_sizes(frame: pd.DataFrame, domains: Sequence[str], targets: Sequence[str]) -> list[UnitWarning]:
    """Find model sizes above or below some N whose losses are all in another unit; the clearest cut is returned."""
    sizes = frame["n_params"].to_numpy(float)
    best: tuple[float, UnitWarning] | None = None
    for lower, upper in _cuts(np.unique(sizes)):
        for odd, which in ((sizes >= upper, f"from N = {upper:.3g} on"), (sizes <= lower, f"up to N = {lower:.3g}")):
            if odd.mean() > 0.5 or (~odd).sum() < FEWEST:
                continue
            unsure = DRIFT if len(np.unique(sizes[~odd])) > 1 else 2 * DRIFT
            relation = _relation(frame, domains, targets, odd, SLACK + unsure * float(np.log(upper / lower)))
            if relation and (best is None or relation.size > best[0]):
                best = relation.size, UnitWarning(odd, f"{_names(targets)}: {which}, {relation.text}")
    return [best[1]] if best else []


def _cuts(sizes: Array) -> Iterator[tuple[float, float]]:
    """Yield pairs of neighbouring sizes; of six or more sizes, only pairs at least a third apart."""
    for lower, upper in pairwise(sizes):
        if upper >= 1.33 * lower or len(sizes) < 6:
            yield float(lower), float(upper)


def _relation(
    frame: pd.DataFrame, domains: Sequence[str], targets: Sequence[str], odd: Rows, allowed: float
) -> Relation | None:
    """Return how some rows differ from the prediction of the others, if one relation holds for all of them.

    Parameters
    ----------
    odd : (n,) mask of these rows
    allowed : log of the factor that is not yet suspicious
    """
    gaps, exact, scatter = _against_others(frame, domains, targets, odd)
    if not gaps:
        return None
    middles, every = np.array([np.median(g) for g in gaps]), np.concatenate(gaps)
    middle = float(np.median(middles))
    if min(np.abs(middles)) < max(allowed, SPREADS * scatter) or np.ptp(np.sign(middles)):
        return None
    factor = float(np.exp(middle))
    if middle > 0 and np.median(np.abs(np.concatenate(exact))) < ALIKE and np.ptp(every) > ALIKE:
        times = f"they are {factor:.2g} times as high"
        return Relation(middle, True, f"the logarithm of the losses continues the other rows ({times}): perplexity?")
    one_factor = np.quantile(np.abs(every - middle), 0.8) < max(ALIKE, 3 * scatter)
    if not one_factor or np.ptp(middles) > 0.25 * abs(middle) + 0.05:
        return None
    all_alike = f", in all {len(gaps)} targets" if len(gaps) > 1 else ""
    text = f"losses are {factor:.3g} times the prediction of the other rows{all_alike}: {unit_of_factor(factor)}?"
    return Relation(abs(middle), False, text)


def _against_others(
    frame: pd.DataFrame, domains: Sequence[str], targets: Sequence[str], odd: Rows
) -> tuple[list[Array], list[Array], float]:
    """Return per target: log losses of odd rows minus predicted ones; log losses over predicted losses, minus 1.

    The second is near 0 if the odd rows are exponentials of losses. Third, the median residual of the other rows.
    """
    features, gaps, exact, scatter = _features(frame, domains), [], [], []
    for target in targets:
        logs = np.log(frame[f"loss_{target}"].to_numpy(float))
        here, there = np.isfinite(logs) & odd, np.isfinite(logs) & ~odd
        if here.sum() < 1 or there.sum() < FEWEST:
            continue
        line = _line(features[there], logs[there])
        predicted = features @ line
        gaps.append((logs - predicted)[here])
        exact.append((logs / np.exp(predicted) - 1)[here])
        scatter.append(np.median(np.abs(logs - predicted)[there]))
    return gaps, exact, float(np.median(scatter)) if scatter else 0.0


def unit_of_factor(factor: float) -> str:
    """Return the unit that losses in nats per token have after multiplication by a factor.

    >>> unit_of_factor(1.443), unit_of_factor(0.3435), unit_of_factor(0.18)
    ('bits/token', 'bits/byte (4.2 bytes per token), or nats/byte (2.9)', 'nats/byte (5.6 bytes per token)')
    """
    bits, nats = 1 / np.log(2) / factor, 1 / factor
    named = [f"bits/byte ({bits:.1f} bytes per token)"] if BYTES[0] <= bits <= BYTES[1] else []
    if BYTES[0] <= nats <= BYTES[1]:
        named.append(f"nats/byte ({nats:.1f})" if named else f"nats/byte ({nats:.1f} bytes per token)")
    if abs(np.log(factor * np.log(2))) < ALIKE:
        return "bits/token"
    if abs(np.log(factor / np.log(2))) < ALIKE:
        return "nats/token where the others are bits/token"
    if BYTES[0] * np.log(2) <= factor <= BYTES[1]:
        return f"losses per token where the others are per byte ({factor:.1f})"
    return ", or ".join(named) or "another unit"


def _odd_level(frame: pd.DataFrame, domains: Sequence[str], targets: Sequence[str]) -> list[UnitWarning]:
    """Find rows, up to half of all, whose losses lie on a second level in all targets."""
    if len(targets) < 2:
        return []
    features = _features(frame, domains)
    mean = np.log(frame[[f"loss_{t}" for t in targets]].to_numpy(float)).mean(
        1
    )  # a factor common to all targets is a factor of this mean
    known = np.flatnonzero(np.isfinite(mean))
    if len(known) < max(2 * FEWEST, 3 * features.shape[1]):
        return []
    some = np.random.default_rng(0).permutation(known)[:ENOUGH]
    line, step, scatter = _two_levels(features[some], mean[some])
    gaps = mean - features @ line
    upper = np.abs(gaps - step) < np.abs(gaps)  # false where the loss is unknown
    odd = upper if upper.sum() <= len(known) / 2 else np.isfinite(mean) & ~upper
    if step < max(SLACK, SPREADS * scatter) or odd.sum() < 2:
        return []
    relation = _relation(frame, domains, targets, odd, SLACK)
    return [UnitWarning(odd, f"{_names(targets)}: {relation.text}")] if relation else []


def _two_levels(features: Array, logs: Array) -> tuple[Array, float, float]:
    """Return the coefficients of the lower of two levels with common slopes, their distance, and the scatter.

    k-means with two clusters, started from several cuts of the residuals of one level.
    """
    gaps = logs - features @ _line(features, logs)
    ordered = np.sort(gaps)
    cuts = [ordered[int(np.argmax(np.diff(ordered)))], *np.quantile(gaps, (0.25, 0.5, 0.75))]
    upper = min((_settled(features, logs, gaps > cut) for cut in cuts), key=lambda found: found[1])[0]
    line = _line(np.column_stack([features, upper]), logs)
    gaps, step = logs - features @ line[:-1], float(line[-1])
    scatter = float(np.quantile(np.minimum(np.abs(gaps - step), np.abs(gaps)), 0.9)) / 2
    return line[:-1], step, scatter


def _settled(features: Array, logs: Array, upper: Rows) -> tuple[Rows, float]:
    """Iterate k-means to convergence; return the rows on the upper level, and the mean distance to the levels."""
    off = np.inf
    for _ in range(ROUNDS):
        line = np.linalg.lstsq(np.column_stack([features, upper]), logs)[0]
        gaps = logs - features @ line[:-1]
        nearer = np.abs(gaps - line[-1]) < np.abs(gaps)
        off = float(np.minimum(np.abs(gaps - line[-1]), np.abs(gaps)).mean())
        if (nearer == upper).all():
            break
        upper = nearer
    return upper, off


def _are_outer_sizes(frame: pd.DataFrame, odd: Rows) -> bool:
    """Return whether rows are exactly those of the smallest or of the largest sizes."""
    here, others = frame.loc[odd, "n_params"], frame.loc[~odd, "n_params"]
    return bool(here.min() > others.max() or here.max() < others.min())


def _odd_rows(frame: pd.DataFrame, domains: Sequence[str], targets: Sequence[str]) -> list[UnitWarning]:
    """Find single rows in another unit; targets with the same rows share a warning."""
    features = _features(frame, domains)
    by_rows: dict[bytes, tuple[Rows, list[str], bool]] = {}
    for target in targets:
        logs = np.log(frame[f"loss_{target}"].to_numpy(float))
        known = np.isfinite(logs)
        gaps = np.zeros(len(frame))
        gaps[known] = logs[known] - features[known] @ _line(features[known], logs[known])
        limit = max(SLACK, SPREADS * float(np.median(np.abs(gaps[known]))))
        for odd, away in ((gaps > limit, gaps), (gaps < -limit, -gaps)):
            if 0 < odd.sum() <= MOST_ODD * known.sum():
                apart = bool((away[~odd] < 0.5 * np.median(away[odd])).all())
                by_rows.setdefault(odd.tobytes(), (odd, [], apart))[1].append(target)
    found = []
    for odd, names, apart in by_rows.values():
        relation = _relation(frame, domains, names, odd, SLACK) if odd.sum() > 1 or len(names) > 1 else None
        if relation and (relation.logarithm or (apart and (len(names) > 1 or odd.sum() >= MANY))):
            found.append(UnitWarning(odd, f"{_names(names)}: {relation.text}"))
    return found


def _features(frame: pd.DataFrame, domains: Sequence[str]) -> Array:
    """Return (n, 3 + k): one, log N, log D, and square roots of the weights, all but the first centred."""
    columns = [np.log(frame[c].to_numpy(float)) for c in ("n_params", "n_tokens")]
    columns += [np.sqrt(frame[f"weight_{d}"].to_numpy(float)) for d in domains] if len(domains) > 1 else []
    values = np.column_stack(columns)
    return np.column_stack([np.ones(len(frame)), values - values.mean(0)])


def _line(features: Array, logs: Array) -> Array:
    """Return the coefficients of a robust line through logarithms of losses, by least absolute deviations.

    Slopes in log N and log D are bounded by what losses can have. A slope far outside is caused by a change of unit and
    is replaced by the usual one; so is a slope that the table does not determine.
    """
    n_features = features.shape[1]
    line, strength = np.zeros(n_features), np.full(n_features, 0.05)
    line[0], line[1:3], strength[0] = np.median(logs), -USUAL, 1e-9
    usual, free = line.copy(), np.ones(n_features, bool)
    for i in range(ROUNDS):
        weight = 1 / np.maximum(np.abs(logs - features @ line), 0.01)
        x = features[:, free] * (weight * len(logs) / weight.sum())[:, None]
        wanted = logs - features[:, ~free] @ line[~free]
        system = x.T @ features[:, free] + np.diag(strength[free])
        line[free] = np.linalg.solve(system, x.T @ wanted + strength[free] * usual[free])
        if i == ROUNDS // 2:
            slopes = np.clip(line[1:3], -STEEPEST, FLATTEST)
            free[1:3] = slopes == line[1:3]
            line[1:3] = np.where(np.abs(slopes - line[1:3]) > IMPOSSIBLE, -USUAL, slopes)
    return line
