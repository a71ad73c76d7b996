"""Mixtures: what is refused, the forms that they are written in, and rounding that never loses a share."""

import copy
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.errors import ConfigError
from mixlaw.mixture import Mixture, check_domain_name, phases_override, ramp, round_to_sum

NAMES = st.text('abcXYZ019 _-,=:+.()[]{}"é', min_size=1, max_size=8).filter(lambda name: name == name.strip())
HYDRA_NAMES = st.text("abcXYZ019_-,=:+.()[]{} \\", min_size=1, max_size=8).map(lambda name: f"x{name}x")
weights = st.lists(st.floats(0, 1), min_size=1, max_size=12).filter(lambda w: sum(w) > 1e-6)


@st.composite
def mixtures(draw, names=NAMES, most=6):
    """Draw a mixture; some of its weights may be 0."""
    sizes = draw(
        st.dictionaries(names, st.floats(0, 1), min_size=1, max_size=most).filter(lambda s: sum(s.values()) > 1e-3)
    )
    return Mixture.proportional(sizes)


@pytest.mark.parametrize("name", ["web", "c4", "common_crawl", "a-b", "x" * 64])
def test_a_plain_name_may_name_a_domain(name):
    assert check_domain_name(name) == name


@pytest.mark.parametrize("name", ["", "Web", "a b", "../etc", "a/b", "é", "x" * 65, "a\n", "a.b", "${x}"])
def test_a_name_that_is_no_safe_folder_is_refused(name):
    with pytest.raises(ConfigError, match="is not allowed"):
        check_domain_name(name)


def test_weights_come_back_in_the_order_of_the_domains_with_absent_ones_at_zero():
    mixture = Mixture.of({"web": 0.25, "code": 0.75}, ["code", "docs", "web"])
    assert list(mixture.items()) == [("code", 0.75), ("docs", 0.0), ("web", 0.25)]
    assert mixture.array.tolist() == [0.75, 0.0, 0.25]
    assert list(Mixture.of({"web": 0.25, "code": 0.75})) == ["web", "code"]


@pytest.mark.parametrize(
    ("given_weights", "sentence"),
    [
        ({"wbe": 1.0}, r"unknown domain 'wbe'; did you mean 'web'\?"),
        ({"web": -0.1, "code": 1.1}, r"weight of 'web' is -0.1"),
        ({"web": float("nan"), "code": 1.0}, "weight of 'web' is nan"),
        ({"web": float("inf"), "code": 1.0}, "weight of 'web' is inf"),
        ({"web": "much", "code": 1.0}, "weight of 'web' is 'much', not a number"),
        ({"web": None, "code": 1.0}, "weight of 'web' is None, not a number"),
        ({"web": 0.5, "code": 0.3}, "sum to 0.8, not 1. Scaled to one they are web: 0.625, code: 0.375$"),
        ({"web": 0.500_002, "code": 0.5}, "sum to 1, not 1|sum to 1.0"),
        ({"web": 0.0}, "sum to 0, not 1. Scaled to one they are none"),
        ({}, "sum to 0"),
    ],
)
def test_weights_that_are_no_mixture_are_refused_with_the_remedy(given_weights, sentence):
    with pytest.raises(ConfigError, match="mine: .*" + sentence):
        Mixture.of(given_weights, ["code", "docs", "web"], where="mine")


def test_names_and_weights_must_belong_together():
    with pytest.raises(ConfigError, match="mine: 'web' is named twice"):
        Mixture(["web", "code", "web"], [0.2, 0.5, 0.3], "mine")
    with pytest.raises(ValueError, match="shorter"):
        Mixture(["web", "code"], [1.0])


def test_weights_are_kept_as_they_were_given():
    """Not scaled by a sum that is 1 but for rounding: run ids are hashes of the weights."""
    weights = {"a": 0.1, "b": 0.2, "c": 0.7000001}
    assert dict(Mixture.of(weights)) == weights


def test_a_mixture_is_a_value():
    mixture, turned = Mixture.of({"code": 0.75, "web": 0.25}), Mixture.of({"web": 0.25, "code": 0.75})
    assert mixture == turned == {"web": 0.25, "code": 0.75}
    assert len({mixture, turned, Mixture.of({"code": 1.0})}) == 2
    assert mixture != Mixture.of({"code": 0.25, "web": 0.75})
    for again in (pickle.loads(pickle.dumps(mixture)), copy.deepcopy(mixture)):
        assert list(again.items()) == list(mixture.items())
        assert type(again) is Mixture
    assert repr(mixture) == "Mixture.of({'code': 0.75, 'web': 0.25})"
    with pytest.raises(AttributeError, match="immutable"):
        mixture.other = 1
    with pytest.raises(TypeError):
        mixture["code"] = 0.5
    assert json.dumps(dict(mixture)) == '{"code": 0.75, "web": 0.25}'


@given(st.dictionaries(st.text("abc", min_size=1), st.floats(1e-6, 1e15), min_size=1, max_size=8))
def test_the_natural_and_the_uniform_mixture_are_mixtures(sizes):
    natural = Mixture.proportional(sizes)
    assert list(natural) == list(sizes)
    assert natural == {name: size / sum(sizes.values()) for name, size in sizes.items()}
    assert set(Mixture.uniform(sizes).values()) == {1 / len(sizes)}


def test_the_natural_mixture_gives_every_domain_its_share_of_the_tokens():
    assert Mixture.proportional({"web": 3e9, "code": 1e9}) == {"web": 0.75, "code": 0.25}


def test_the_natural_mixture_of_no_tokens_is_refused():
    with pytest.raises(ConfigError, match="no domain has tokens"):
        Mixture.proportional({"web": 0, "code": 0})
    with pytest.raises(ConfigError, match="sum to 0"):
        Mixture.uniform([])


@given(weights, st.integers(1, 10**9))
def test_rounding_keeps_the_sum_stays_within_one_and_leaves_zeros_alone(shares, total):
    units = round_to_sum(np.array(shares), total)
    ideal = np.array(shares) / np.sum(shares) * total
    assert sum(units) == total
    assert np.abs(np.array(units) - ideal).max() < 1 + 1e-6
    assert all(unit == 0 for unit, share in zip(units, shares, strict=True) if share == 0)
    mixture = Mixture([f"d{i}" for i in range(len(shares))], np.array(shares) / sum(shares))
    rounded = mixture.rounded(total)
    assert list(rounded) == list(mixture)
    assert sum(rounded.values()) == total
    assert all(abs(rounded[name] - weight * total) < 1 + 1e-6 for name, weight in mixture.items())


def test_largest_remainders_are_rounded_up():
    assert round_to_sum(np.array([1, 1, 1]), 10) in ([4, 3, 3], [3, 4, 3], [3, 3, 4])
    assert round_to_sum(np.array([0.46, 0.39, 0.15]), 10) == [5, 4, 1]


def test_a_mixture_of_nothing_cannot_be_rounded():
    with pytest.raises(ConfigError, match="at least one weight above 0"):
        round_to_sum(np.zeros(3), 10)


@given(mixtures(HYDRA_NAMES), st.integers(1, 9))
def test_the_trainer_s_parser_reads_the_override_back(mixture, digits):
    read = OverridesParser.create().parse_override(mixture.hydra_override(digits))
    assert read.key_or_group == "mixture.weights"
    parsed = Mixture.of({str(name): weight for name, weight in read.value().items()})
    assert list(parsed) == list(mixture)
    assert parsed.distance(mixture) < len(mixture) * 10**-digits
    assert parsed.rounded(10**digits) == mixture.rounded(10**digits)


def test_there_is_no_override_for_names_that_hydra_cannot_read():
    for name in ("网页", 'a"b'):
        assert Mixture.uniform(["web", name]).hydra_override() == ""


@given(mixtures())
def test_the_text_of_a_mixture_is_read_back(mixture):
    again = Mixture.parse(str(mixture))
    assert list(again.items()) == list(mixture.items())


def test_a_text_has_names_and_weights():
    assert str(Mixture.of({"cc,news": 0.75, "web": 0.25})) == '"cc,news"=0.75,web=0.25'
    assert Mixture.parse("web=0.25, code=0.75", ["code", "docs", "web"]) == {"code": 0.75, "docs": 0.0, "web": 0.25}
    for text, sentence in {
        "web": "write NAME=NUMBER",
        "web=1,": "write NAME=NUMBER",
        "web=0.5,web=0.5": "names something twice",
        "web=0.5": "sum to 0.5",
        "wbe=1": "did you mean 'web'",
        "": "sum to 0",
    }.items():
        with pytest.raises(ConfigError, match=f"^mine: .*{sentence}"):
            Mixture.parse(text, ["code", "web"], "mine")


@given(mixtures())
def test_a_yaml_file_is_read_back_with_four_digits(mixture):
    text = mixture.to_yaml()
    again = Mixture.from_yaml(text)
    assert list(again) == list(mixture)
    assert again.rounded(10_000) == mixture.rounded(10_000)
    assert yaml.safe_load(text)["named"] == "natural"
    assert again.to_yaml() == text


def test_names_that_yaml_takes_for_something_else_stay_names():
    names = ["no", "1e3", "on", "null", "12"]
    assert list(Mixture.from_yaml(Mixture.uniform(names).to_yaml())) == names


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("named: uniform\nweights: null\n", "it needs weights"),
        ("- code\n", "it needs weights"),
        ("weights: {no: 0.5, web: 0.5}\n", "it needs weights"),
        ("weights: {code: much}\n", "weight of 'code' is 'much', not a number"),
        ("weights: {code: 0.5\n", "not valid YAML"),
        ("weights: {code: 0.5}\n", "weights sum to 0.5"),
        ("weights: {cod: 1.0}\n", "did you mean 'code'"),
    ],
)
def test_a_yaml_file_without_a_mixture_is_refused(text, sentence):
    with pytest.raises(ConfigError, match=f"^big.yaml: .*{sentence}"):
        Mixture.from_yaml(text, ["code", "web"], "big.yaml")


@given(mixtures(), mixtures(), mixtures())
def test_the_distance_is_a_metric(a, b, c):
    assert a.distance(a) == 0
    assert (a.distance(b) == 0) == ({n: w for n, w in a.items() if w} == {n: w for n, w in b.items() if w})
    assert a.distance(b) == pytest.approx(b.distance(a))
    assert a.distance(c) <= a.distance(b) + b.distance(c) + 1e-12
    assert 0 <= a.distance(b) <= 1 + 1e-12


def test_the_distance_is_the_share_of_the_tokens_that_differ():
    mixture = Mixture.of({"code": 0.7, "web": 0.3})
    assert mixture.distance(Mixture.of({"code": 0.5, "web": 0.5})) == pytest.approx(0.2)
    assert mixture.distance({"docs": 1.0}) == pytest.approx(1)


def test_importing_mixtures_imports_nothing_heavy():
    code = """
import sys
from mixlaw import Mixture
assert str(Mixture.parse("a=0.5,b=0.5")) == "a=0.5,b=0.5"
assert not {"numpy", "yaml", "pandas"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@given(steps=st.integers(1, 20), share=st.floats(0, 1))
def test_a_ramp_has_the_mean_of_its_ends_and_is_written_as_the_trainers_phases(steps: int, share: float) -> None:
    one, other = Mixture.of({"a": 1.0, "b": 0.0}), Mixture.of({"a": share, "b": 1 - share})
    phases = ramp(one, other, steps)
    assert [until for until, _ in phases] == [(i + 1) / steps for i in range(steps)]
    assert sum(mixture["a"] for _, mixture in phases) / steps == pytest.approx((1 + share) / 2)
    [override] = OverridesParser.create().parse_overrides([phases_override(phases)])
    assert override.key_or_group == "mixture.phases"
    for (until, mixture), read in zip(phases, override.value(), strict=True):
        assert read["until"] == pytest.approx(until, rel=1e-11)
        assert read["weights"] == pytest.approx(dict(mixture), abs=1e-4)


def test_a_ramp_between_other_domains_is_refused() -> None:
    with pytest.raises(ConfigError, match="two mixtures of the same domains"):
        ramp(Mixture.of({"a": 1.0}), Mixture.of({"b": 1.0}), 2)
    assert phases_override([(1.0, Mixture.of({"\u00e9": 1.0}))]) == ""
