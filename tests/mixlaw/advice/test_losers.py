"""Losers: every target that a recommendation makes worse than a baseline is named, and no other."""

import json

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.advice.gains import GAINS
from mixlaw.advice.losers import WORSE, losers
from mixlaw.advice.recommend import recommend
from mixlaw.advice.recommendation import Recommendation
from mixlaw.report.sections import answer_box
from mixlaw.report.terminal import summary
from tests.mixlaw.synthetic import fitted
from tests.mixlaw.target_laws import opposed

levels = st.lists(st.floats(0.01, 20), min_size=3, max_size=3)


@given(st.lists(levels, min_size=2, max_size=5))
def test_a_target_is_named_exactly_if_its_loss_rises(losses):
    names = ["recommended", *(f"mixture{i}" for i in range(1, len(losses)))]
    table = pd.DataFrame(losses, columns=["a", "b", "c"]).assign(mixture=names)
    rows = [
        (name, target, loss - best, loss - best - 0.1, loss - best + 0.2)
        for name, row in zip(names[1:], losses[1:], strict=True)
        for target, best, loss in zip("abc", losses[0], row, strict=True)
    ]
    rows += [(name, "objective", -1.0, -2.0, 0.0) for name in names[1:]]
    found = losers(table, pd.DataFrame(rows, columns=GAINS))
    expected = {
        (name, target)
        for name, row in zip(names[1:], losses[1:], strict=True)
        for target, best, loss in zip("abc", losses[0], row, strict=True)
        if best > loss * (1 + WORSE)
    }
    assert set(zip(found["baseline"], found["target"], strict=True)) == expected
    assert (found["change"] > 0).all()
    assert (found["change"] - found["low"]).tolist() == pytest.approx([0.2] * len(found))
    assert (found["high"] - found["change"]).tolist() == pytest.approx([0.1] * len(found))
    for _, rows in found.groupby("baseline"):
        assert rows["percent"].is_monotonic_decreasing


def test_losers_stand_in_the_first_lines_also_those_outside_of_the_objective():
    answer = recommend(fitted("additive", opposed()), n_params=1e9, n_tokens=1e11, target="one")
    (row,) = answer.losers.query("baseline == 'uniform'").to_dict("records")
    assert row["target"] == "two"
    losses = answer.per_target.set_index("mixture")["two"]
    assert row["change"] == pytest.approx(losses["recommended"] - losses["uniform"])
    assert row["percent"] == pytest.approx(100 * row["change"] / losses["uniform"])
    third = summary(answer).splitlines()[2]
    interval = f"{row['low']:+.4f} to {row['high']:+.4f}"
    assert third == f"Worse than on uniform: two {row['change']:+.4f} nats ({interval}; {row['percent']:+.2g} %)."
    assert third in str(answer_box(answer))
    assert json.loads(json.dumps(answer.to_json()))["losers"][0] == row


def test_answers_of_older_versions_have_no_losers():
    facts = recommend(fitted("additive", opposed()), n_params=1e9, n_tokens=1e11, target="one").to_json()
    del facts["losers"]
    assert Recommendation.from_json(facts).losers.empty


def test_many_losers_are_counted():
    theta = {f"target{i}": opposed()["two"] for i in range(9)} | {"one": opposed()["one"]}
    text = summary(recommend(fitted("additive", theta), n_params=1e9, n_tokens=1e11, target="one"))
    assert "%) and 3 more." in text.splitlines()[2]
