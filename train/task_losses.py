"""Losses of benchmark tasks: bits per byte of the right answer, and accuracy, with errors over questions.

The loss of an answer is the sum of the losses of its tokens given its context, in bits, divided by the bytes of its
text, which include the space before it: bits per byte do not depend on the tokenizer. A question is answered rightly if
no other choice has a lower loss per byte (the normalisation of `acc_norm` in lm-evaluation-harness, and of OLMES:
Gu et al. 2024, arXiv:2406.08446).
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from data.store.questions import Choices
from train.standard_error import standard_error

Row = dict[str, float | int]
Floats = NDArray[np.float64]


def task_row(nats: Floats, choices: Choices) -> Row:
    """Return the loss of a task [bits/byte] and its accuracy, with standard errors, as a row of the run log.

    Parameters
    ----------
    nats : (n_choices,) loss of each answer, summed over its tokens
    choices : the choices in the same order

    Returns
    -------
    loss, loss_se, n_eval_tokens (of the right answers), n_questions; score and score_se where there are alternatives
    """
    bits = nats / math.log(2) / choices.n_bytes
    right = np.flatnonzero(choices.right)
    row = _mean("loss", bits[right]) | {
        "n_eval_tokens": int(choices.n_tokens[right].sum()),
        "n_questions": choices.n_questions,
    }
    return row | _mean("score", _answered(bits, choices)) if choices.have_alternatives else row


def _answered(bits: Floats, choices: Choices) -> Floats:
    """Return (n_questions,) 1 where the right choice has the lowest loss per byte, else 0."""
    order = np.lexsort((1 - choices.right, bits, choices.question))  # the right one wins a tie
    first = np.unique(choices.question[order], return_index=True)[1]
    return choices.right[order[first]].astype(np.float64)


def _mean(name: str, values: Floats) -> Row:
    mean = float(values.mean())
    return {name: mean, f"{name}_se": standard_error((values - mean) / len(values))}


def group_row(rows: Mapping[str, Row], weights: Mapping[str, float]) -> Row:
    """Return the weighted mean of several tasks, as a row of the run log; a score only if all of them have one.

    Parameters
    ----------
    rows : task -> its row
    weights : task -> weight; they need not sum to one
    """
    members = [rows[name] for name in weights]
    shares = [weight / sum(weights.values()) for weight in weights.values()]
    row: Row = {key: sum(int(member[key]) for member in members) for key in ("n_eval_tokens", "n_questions")}
    for name in ("loss", "score"):
        if all(name in member for member in members):
            row[name] = sum(share * member[name] for share, member in zip(shares, members, strict=True))
            row[f"{name}_se"] = math.hypot(*(s * m[f"{name}_se"] for s, m in zip(shares, members, strict=True)))
    return row
