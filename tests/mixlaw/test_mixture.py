"""Mixtures: what is refused, and rounding that never loses a share."""

import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mixlaw.errors import ConfigError
from mixlaw.mixture import (
    check_domain_name,
    check_weights,
    hydra_override,
    mixture_yaml,
    printable,
    proportional,
    round_to_sum,
    uniform,
)

weights = st.lists(st.floats(0, 1), min_size=1, max_size=12).filter(lambda w: sum(w) > 1e-6)


@pytest.mark.parametrize("name", ["web", "c4", "common_crawl", "a-b", "x" * 64])
def test_a_plain_name_may_name_a_domain(name):
    assert check_domain_name(name) == name


@pytest.mark.parametrize("name", ["", "Web", "a b", "../etc", "a/b", "é", "x" * 65, "a\n", "a.b", "${x}"])
def test_a_name_that_is_no_safe_folder_is_refused(name):
    with pytest.raises(ConfigError, match="is not allowed"):
        check_domain_name(name)


def test_weights_come_back_in_the_order_of_the_domains_with_absent_ones_at_zero():
    checked = check_weights({"web": 0.25, "code": 0.75}, ["code", "docs", "web"])
    assert list(checked.items()) == [("code", 0.75), ("docs", 0.0), ("web", 0.25)]


@pytest.mark.parametrize(
    ("given_weights", "sentence"),
    [
        ({"wbe": 1.0}, r"unknown domain 'wbe'; did you mean 'web'\?"),
        ({"web": -0.1, "code": 1.1}, r"weight of 'web' is -0.1"),
        ({"web": float("nan"), "code": 1.0}, "weight of 'web' is nan"),
        ({"web": 0.5, "code": 0.3}, "sum to 0.8, not 1. Scaled to one they are web: 0.625, code: 0.375"),
        ({"web": 0.0}, "sum to 0, not 1. Scaled to one they are none"),
        ({}, "sum to 0"),
    ],
)
def test_weights_that_are_no_mixture_are_refused_with_the_remedy(given_weights, sentence):
    with pytest.raises(ConfigError, match="mine: .*" + sentence):
        check_weights(given_weights, ["code", "docs", "web"], where="mine")


@given(st.dictionaries(st.text("abc", min_size=1), st.floats(1e-6, 1e15), min_size=1, max_size=8))
def test_the_natural_and_the_uniform_mixture_are_mixtures(sizes):
    check_weights(proportional(sizes), sizes)
    assert len(set(check_weights(uniform(sizes), sizes).values())) == 1


def test_the_natural_mixture_gives_every_domain_its_share_of_the_tokens():
    assert proportional({"web": 3e9, "code": 1e9}) == {"web": 0.75, "code": 0.25}


def test_the_natural_mixture_of_no_tokens_is_refused():
    with pytest.raises(ConfigError, match="no domain has tokens"):
        proportional({"web": 0, "code": 0})


@given(weights, st.integers(1, 10**9))
def test_rounding_keeps_the_sum_stays_within_one_and_leaves_zeros_alone(shares, total):
    units = round_to_sum(np.array(shares), total)
    ideal = np.array(shares) / np.sum(shares) * total
    assert sum(units) == total
    assert np.abs(np.array(units) - ideal).max() < 1 + 1e-6
    assert all(unit == 0 for unit, share in zip(units, shares, strict=True) if share == 0)


def test_largest_remainders_are_rounded_up():
    assert round_to_sum(np.array([1, 1, 1]), 10) in ([4, 3, 3], [3, 4, 3], [3, 3, 4])
    assert round_to_sum(np.array([0.46, 0.39, 0.15]), 10) == [5, 4, 1]


def test_a_mixture_of_nothing_cannot_be_rounded():
    with pytest.raises(ConfigError, match="at least one weight above 0"):
        round_to_sum(np.zeros(3), 10)


@given(weights)
def test_the_override_for_the_trainer_sums_to_one(shares):
    named = {f"d{i}": share / sum(shares) for i, share in enumerate(shares)}
    text = hydra_override(named)
    assert text.startswith("mixture.weights={d0:")
    parsed = {name: float(value) for name, value in re.findall(r"(\w+):([\d.]+)", text)}
    assert check_weights(parsed, named) == parsed
    assert all(abs(parsed[name] - named[name]) < 1.001e-4 for name in named)


def hydra_reads(text: str) -> dict[str, float]:
    """Return the weights that Hydra's own parser reads from an override."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    override = OverridesParser.create().parse_override(text)
    assert override.key_or_group == "mixture.weights"
    return override.value()


# what Hydra reads as a number or a word of its own: no spelling makes a name of it
RESERVED = re.compile(r"[+-]?[\d._]+(e[+-]?[\d_]+)?|[+-]?(inf|nan)|true|false|null", re.IGNORECASE)
HYDRA_NAMES = st.text("abcXYZ019_/-+.$%*@?|\\()[]{}:=, \t", min_size=1, max_size=8).filter(
    lambda name: not RESERVED.fullmatch(name.strip())
)


@given(st.lists(HYDRA_NAMES, min_size=1, max_size=4, unique=True))
@example(["cc,news"])
@example(["a=b", "x:y", "c++", "{x}", "${x}", "back\\slash", " blank ", "(a)"])
def test_hydra_reads_names_with_separators_as_they_are(names):
    weights = dict.fromkeys(names, 1 / len(names))
    assert hydra_reads(hydra_override(weights)) == pytest.approx(weights, abs=1e-4)


@pytest.mark.parametrize("name", ["网页", "é", "it's", '"q"', "a;b", "a&b", "#a", "a~b", "a!b", "line\nbreak", ""])
def test_names_that_hydra_s_command_line_cannot_hold_have_no_override(name):
    assert hydra_override({"web": 0.5, name: 0.5}) == ""
    with pytest.raises(Exception, match=r"mismatched|token recognition|no viable|missing|extraneous"):
        hydra_reads(f"mixture.weights={{web:0.5,{name}:0.5}}")


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=4, unique=True))
@example(["网页", "cc,news", 'say "hi"', "back\\slash", "no", "2019", "null", "line\nbreak", "\x85", "\u2028", "😀"])
def test_yaml_reads_any_names_as_they_are(names):
    import yaml

    weights = dict.fromkeys(names, 1 / len(names))
    text = mixture_yaml(weights, "made by\n" + printable(", ".join(names)))
    assert all(line.startswith("# ") for line in text.splitlines()[:2])
    read = yaml.safe_load(text)
    assert read["named"] == "natural"
    assert read["weights"] == pytest.approx(weights, abs=1e-4)
