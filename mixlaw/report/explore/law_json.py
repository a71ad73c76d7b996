"""Laws as JSON: the tree of terms that `js/law.js` evaluates in the browser."""

from typing import Any

from mixlaw.laws.exposure import Exposed
from mixlaw.laws.multiplicative import Coupled, Emergence, Shares, Usefulness, WarmDecay
from mixlaw.laws.published import Exponential, Formula, Scheffe, SumOfExponentials, data_constrained
from mixlaw.laws.terms import PHASES, Constant, InverseSum, Number, PowerOfSum, Term
from mixlaw.laws.tree import Decay, Nested, Product, Sum

KINDS: dict[type[Term], str] = {
    Constant: "constant",
    Number: "number",
    InverseSum: "inverse_sum",
    Usefulness: "inverse_sum",
    PowerOfSum: "power_of_sum",
    Shares: "shares",
    Sum: "sum",
    Product: "product",
    Decay: "decay",
    Coupled: "coupled",
    WarmDecay: "warm_decay",
    Emergence: "emergence",
    Exponential: "exponential",
    SumOfExponentials: "sum_of_exponentials",
    Scheffe: "scheffe",
    Exposed: "exposed",
}
INPUTS = {"N", "D", "h", "available", PHASES}  # what a page can set


def term_json(term: Term, k: int) -> dict[str, Any] | None:
    """Return a term for k domains as JSON: its kind, its number of parameters, its children, and N or D of a decay.

    None if the browser cannot evaluate it: terms of a user's own, and terms of columns that a page does not have.
    """
    kind = _kind(term)
    if kind is None or term.uses - INPUTS:
        return None
    facts: dict[str, Any] = {"kind": kind, "size": term.size(k)}
    if isinstance(term, Decay):
        facts["of"] = term.of
    if isinstance(term, Nested):
        children = [term_json(child, k) for child in term.children]
        if None in children:
            return None
        facts["children"] = children
    return facts


def _kind(term: Term) -> str | None:
    """Return the kind of a term by its exact type, because a subclass may compute something else."""
    if isinstance(term, Formula):
        return "data_constrained" if term.expression is data_constrained else None
    return KINDS.get(type(term))
