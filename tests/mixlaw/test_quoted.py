"""Names on the command line: any name can be written, and Hydra reads back what is printed for it."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.advice.constraints import read_groups, read_pairs, read_targets
from mixlaw.errors import ConfigError
from mixlaw.mixture import hydra_override
from mixlaw.quoted import split, unquoted
from tests.mixlaw.synthetic import TRUTHS, fitted

NAMES = st.text("abcXYZ019 _-,=:+.()[]{}", min_size=1, max_size=12).filter(lambda name: name == name.strip())


@given(st.dictionaries(NAMES, st.floats(0, 1), min_size=1, max_size=5))
def test_any_name_in_quotes_is_read_as_it_is(weights):
    text = ",".join(f'"{name}"={weight!r}' for name, weight in weights.items())
    assert read_pairs(text) == weights
    assert split(text, ",") == [f'"{name}"={weight!r}' for name, weight in weights.items()]
    members = "+".join(f"'{name}'" for name in weights)
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


def test_there_is_no_override_for_names_that_hydra_cannot_read():
    assert hydra_override({"web": 0.5, "网页": 0.5}) == hydra_override({"web": 0.5, 'a"b': 0.5}) == ""


@given(st.lists(st.text("abcXYZ019_-,=:+.()[]{} \\", min_size=1, max_size=10), min_size=2, max_size=4, unique=True))
def test_hydra_reads_back_the_override_that_is_printed(names):
    names = [f"x{name}x" for name in names]
    weights = {name: 1 / len(names) for name in names}
    read = OverridesParser.create().parse_override(hydra_override(weights)).value()
    assert [str(name) for name in read] == names
    assert sum(read.values()) == pytest.approx(1, abs=1e-9)
