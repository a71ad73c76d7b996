"""Arrays for the solver from a table: the law's inputs, the losses and the row weights."""

from dataclasses import replace

import numpy as np

from mixlaw.errors import FitError
from mixlaw.fitting.collinear import WELL_SEPARATED, conditional_sd
from mixlaw.fitting.levenberg_marquardt import Problem
from mixlaw.laws.jacobian import Array
from mixlaw.laws.law import Law, Units, lifted
from mixlaw.laws.terms import PHASES, UNTIL, Inputs
from mixlaw.tables.available import available_tokens
from mixlaw.tables.columns import LOSS, LOSS_SE
from mixlaw.tables.phase_mixtures import Phases, phases_of
from mixlaw.tables.table import Table

OWN_INPUTS = {"share", "before"}  # differ between targets, so every target needs a problem of its own


def inputs(law: Law, table: Table, domains: list[str], units: Units, target: str = "") -> Inputs:
    """Return the inputs of a law for a table's rows; `share` and `before` are those of one target.

    Raises
    ------
    FitError
        Naming the column that the law needs and the table lacks, or the target that is no training domain.
    """
    frame, more = table.frame, {}
    if "share" in law.uses:
        if target not in domains:
            raise FitError(
                f"the {law.name} law predicts the loss of training domains only, and '{target}' is none of {domains}"
            )
        more["target"] = np.full(len(frame), domains.index(target))
    mixtures = frame[[f"weight_{d}" for d in domains]].to_numpy(float).T
    n_params, n_tokens = (frame[c].to_numpy(float) for c in ("n_params", "n_tokens"))
    return units.inputs(n_params, n_tokens, mixtures, columns=_columns(law, table, domains, units, target), **more)


def _columns(law: Law, table: Table, domains: list[str], units: Units, target: str) -> dict[str, Array]:
    frame, found = table.frame, {}
    if "available" in law.uses:
        found["available"] = _available(law, table).T / units.n_tokens
    for use, column in (("before", f"before_{target}"), ("sparsity", "sparsity")):
        if use in law.uses:
            if column not in frame or frame[column].isna().any():
                raise FitError(f"the {law.name} law needs a column {column} without empty cells: {law.remark}")
            found[use] = frame[column].to_numpy(float)
    if PHASES in law.uses and (phases := phases_of(replace(table, domains=domains))):
        found |= phase_columns(phases)
    return found


def phase_columns(phases: Phases) -> dict[str, Array]:
    """Return the phases of n rows as inputs of a law: lifted mixtures (P, k, n), and ends (P, n)."""
    return {PHASES: lifted(phases.weights.transpose(1, 2, 0))[0], UNTIL: phases.until.T}


def _available(law: Law, table: Table) -> Array:
    """Return the available tokens (n, k)."""
    tokens = available_tokens(table)
    if tokens is None:
        other = " (or unique_tokens)" if len(table.domains) == 1 else ""
        raise FitError(
            f"the {law.name} law needs a column available_{table.domains[0]}{other}, the number of tokens of the domain"
        )
    for domain, column in zip(table.domains, tokens.T, strict=True):
        if np.isnan(column).any():
            empty = table.place(table.frame["row"][np.isnan(column)])
            raise FitError(
                f"the {law.name} law needs available_{domain} in all rows, and it is empty in {empty}: fill them in"
            )
    return tokens


def problems(
    law: Law, table: Table, targets: list[str], units: Units, **settings: object
) -> list[tuple[list[str], Problem]]:
    """Return problems, each with the targets that it fits: one problem for all targets that share all inputs.

    A law of all domains at once has one problem, whose rows are the table's for every domain in turn.

    Parameters
    ----------
    settings : delta and logarithmic, as in `Problem`; by_error, whether to weight rows by their standard errors
    """
    by_error = bool(settings.pop("by_error", False))
    if law.joint_targets:
        rows = [_problem(law, table, [t], units, by_error, settings) for t in targets]
        return [(targets, _stacked(rows))]
    groups = [[t] for t in targets] if law.uses & OWN_INPUTS else [targets]
    return [(group, _sorted(_problem(law, table, group, units, by_error, settings))) for group in groups]


def _problem(
    law: Law, table: Table, targets: list[str], units: Units, by_error: bool, settings: dict[str, object]
) -> Problem:
    table = in_one_order(table, targets)
    frame = table.frame
    losses = frame[[LOSS + t for t in targets]].to_numpy(float).T
    known = np.isfinite(losses)
    weight = np.stack([_row_weight(table, t) if by_error else np.ones(len(frame)) for t in targets]) * known
    weight /= weight.sum(1, keepdims=True)
    x = inputs(law, table, table.domains, units, targets[0])
    runs = table.runs().astype(np.int64)
    collinear = conditional_sd(*(frame[c].to_numpy(float) for c in ("n_params", "n_tokens"))) < WELL_SEPARATED
    return Problem(law, x, np.where(known, losses, 1.0), weight, runs, collinear=collinear, **settings)  # type: ignore[arg-type]


def in_one_order(table: Table, targets: list[str]) -> Table:
    """Return the rows in a canonical order, so that random draws do not depend on the order of the file."""
    keys = ["n_params", *(f"weight_{d}" for d in table.domains), "n_tokens", *(LOSS + t for t in targets)]
    return replace(table, frame=table.frame.sort_values(keys, ignore_index=True, kind="stable"))


def _row_weight(table: Table, target: str) -> Array:
    """Return 1 / (se^2 + lower quartile^2); the quartile keeps one precise evaluation from dominating."""
    if LOSS_SE + target not in table.frame:
        raise FitError(f"weights by standard error need a column {LOSS_SE}{target}")
    error = table.frame[LOSS_SE + target].to_numpy(float)
    low, middle = np.nanquantile(error, [0.25, 0.5]) if np.isfinite(error).any() else (1.0, 1.0)
    error = np.where(np.isfinite(error), error, middle)
    return 1 / (error**2 + max(float(low), 1e-12) ** 2)


def _sorted(problem: Problem) -> Problem:
    """Return the problem with the rows of a mixture side by side, so that its terms are evaluated once."""
    if not len(problem.x.h):
        return problem
    ordered = problem.rows(problem.x.order())
    return replace(ordered, x=ordered.x.grouped())


def _stacked(parts: list[Problem]) -> Problem:
    """Return one problem whose rows are those of several, one after the other."""
    first, count = parts[0], len(parts)
    x = first.x
    columns = {name: np.tile(c, count) for name, c in (x.columns or {}).items()}
    long = Inputs.of(
        np.tile(x.log_n, count),
        np.tile(x.log_d, count),
        np.tile(x.h, count),
        target=np.concatenate([p.x.own() for p in parts]),
        columns=columns,
        log_d_unit=x.log_d_unit,
    )
    y, weight = (np.concatenate([getattr(p, name)[0] for p in parts])[None] for name in ("y", "weight"))
    return replace(first, x=long, y=y, weight=weight / count, runs=np.tile(first.runs, count))
