"""Names on the command line: any name can be written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.advice.constraints import read_groups, read_targets
from mixlaw.errors import ConfigError
from mixlaw.quoted import quoted, read_pairs, read_texts, split, unquoted
from tests.mixlaw.synthetic import TRUTHS, fitted

NAMES = st.text("abcXYZ019 _-,=:+.()[]{}", min_size=1, max_size=12).filter(lambda name: name == name.strip())


@given(st.dictionaries(NAMES, st.floats(0, 1), min_size=1, max_size=5))
def test_any_name_in_quotes_is_read_as_it_is(weights):
    text = ",".join(f'"{name}"={weight!r}' for name, weight in weights.items())
    assert read_pairs(text) == weights
    assert split(text, ",") == [f'"{name}"={weight!r}' for name, weight in weights.items()]
    members = "+".join(f"'{name}'" for name in weights)
    assert read_pairs(",".join(f"{quoted(name)}={weight!r}" for name, weight in weights.items())) == weights
    assert read_groups([f'"a=b:c"={members}:0.1:0.6']) == {"a=b:c": (tuple(weights), 0.1, 0.6)}


def test_plain_names_need_no_quotes():
    assert read_pairs("cc-news = 0.1,don't=0.2") == {"cc-news": 0.1, "don't": 0.2}
    assert unquoted("'web") == "'web"
    with pytest.raises(ConfigError, match='the quote " is not closed'):
        read_pairs('"cc,news=0.1')
    with pytest.raises(ConfigError, match="write NAME=NUMBER"):
        read_pairs("cc,news=0.1")


def test_targets_with_commas_and_colons_and_one_called_average():
    names = ["code", "cc,news", "de:wiki"]
    fit = fitted(
        "additive", dict.fromkeys([*names, "average"], TRUTHS["additive"]), domains=["code", "docs", "web"]
    ).best
    assert read_targets("cc,news", fit) == {"cc,news": 1.0}
    assert read_targets("de:wiki", fit) == {"de:wiki": 1.0}
    assert read_targets('"cc,news":3,code', fit) == {"cc,news": 0.75, "code": 0.25}
    assert read_targets("average", fit) == {"average": 1.0}
    assert read_targets("mean", fit) == {"code": 1.0}  # of the domains that have a loss


@given(st.dictionaries(NAMES, NAMES, min_size=1, max_size=5))
def test_texts_are_read_as_they_were_written(texts: dict[str, str]) -> None:
    line = ",".join(f"{quoted(name)}={quoted(text)}" for name, text in texts.items())
    assert read_texts(line) == texts


@pytest.mark.parametrize("line", ["a", "=b", "a=b,", "a=1,a=2"])
def test_texts_without_a_name_or_twice_are_refused(line: str) -> None:
    with pytest.raises(ConfigError):
        read_texts(line)
