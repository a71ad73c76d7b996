"""The candidate laws of `auto`, and which of them can be fitted to a table."""

from mixlaw.errors import FitError
from mixlaw.fitting.identifiability import check_identifiable, distinct, form_of, repeats
from mixlaw.laws.registry import LAWS, get_law
from mixlaw.selection.regression_trees import NAME as TREES
from mixlaw.tables.phase_mixtures import changes_mixture
from mixlaw.tables.table import Table

AUTO = "auto"
PREFERRED = "multiplicative"  # lowest errors in `scripts/protocol.py`, in all its forms
PHASED, REPEATING = (
    f"{PREFERRED}-phases",
    f"{PREFERRED}-repeats",
)  # of runs that change their mixture, or repeat domains
ONE_CORPUS_REPEATED = ("muennighoff", "coupled-repeats")


def auto_laws(table: Table) -> list[str]:
    """Return the candidates that can be fitted to the table.

    Raises
    ------
    FitError
        If none can be fitted; the message is that of the first candidate.
    """
    errors, fittable = [], []
    for name in candidates(table):
        try:
            check_identifiable(get_law(name), table)
            fittable.append(name)
        except FitError as error:
            errors.append(error)
    if not fittable:
        raise errors[0]
    return fittable


def candidates(table: Table) -> list[str]:
    """Return the laws that `auto` considers, in the form that the table's N, D and mixtures allow.

    If the mixture never varies, these are the laws of N and D alone, and those of repeated tokens if any are.
    """
    sizes, tokens, mixtures = distinct(table)
    form = form_of(sizes, tokens)
    again = repeats(table)
    if mixtures > 1:
        extended = [name for name, used in ((PHASED, changes_mixture(table)), (REPEATING, again)) if used]
        return [name + form for name in (PREFERRED, "additive", "joint", *extended) if name + form in LAWS]
    repeating = ONE_CORPUS_REPEATED if again else ()
    return [name + form for name in ("base", "coupled", *repeating) if name + form in LAWS] or ["base"]


def usual_laws(table: Table) -> list[str]:
    """Return the laws that `compare` scores by default: the base law and the candidates of `auto`, by name."""
    sizes, tokens, _ = distinct(table)
    base = "base" + form_of(sizes, tokens)
    return list(dict.fromkeys([*([base] if base in LAWS else []), *sorted(candidates(table))]))


def n_free(name: str, k: int) -> float:
    """Return the number of free parameters of a law for k domains; infinity for regression trees."""
    return float("inf") if name == TREES else float(get_law(name).n_free(k))
