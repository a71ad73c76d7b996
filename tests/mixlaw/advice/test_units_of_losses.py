"""The unit of a loss does not matter to h*: laws fit bits per byte as they fit nats per token."""

from dataclasses import replace
from math import log

import pytest

import mixlaw
from mixlaw.tables.examples import small_study
from mixlaw.tables.table import Table

BYTES_PER_TOKEN = 3.7


def in_bits_per_byte(table: Table) -> Table:
    """Return the same losses in bits per byte."""
    frame = table.frame.assign(loss_main=table.frame["loss_main"] / log(2) / BYTES_PER_TOKEN)
    return replace(table, frame=frame, units={"main": "bits/byte"})


def answer(table: Table) -> mixlaw.Recommendation:
    settings = {"n_starts": 32, "n_bootstrap": 8, "seed": 0}
    laws = mixlaw.fit_laws(table, laws=["additive"], **settings)
    return mixlaw.recommend(laws, n_params=1e9, n_tokens=1e11, target="main")


def test_the_same_mixture_is_best_whichever_the_unit() -> None:
    nats, bits = answer(small_study()), answer(in_bits_per_byte(small_study()))
    assert bits.unit == "bits/byte"
    for domain, weight in nats.weights.items():
        assert bits.weights[domain] == pytest.approx(weight, abs=0.005)
