"""Questions: texts are parsed, and constraints that no mixture satisfies are refused with their numbers."""

import numpy as np
import pytest

from mixlaw.advice.constraints import Question, limits, read_groups, read_mixture, read_targets
from mixlaw.advice.simplex import project
from mixlaw.errors import ConfigError
from mixlaw.mixture import Mixture
from mixlaw.quoted import read_pairs
from tests.mixlaw.synthetic import DOMAINS, TRUTHS, fitted


def ask(floors: dict[str, float] | None = None, caps: dict[str, float] | None = None, **more) -> Question:
    return Question(1e9, 1e11, {"main": 1.0}, floors or {}, caps or {}, **more)


@pytest.mark.parametrize(
    ("floors", "caps", "sentence"),
    [
        ({"wbe": 0.1}, {}, r"unknown domain 'wbe'; did you mean 'web'\?"),
        ({}, {"wbe": 0.1}, r"unknown domain 'wbe'; did you mean 'web'\?"),
        ({"web": 0.5}, {"web": 0.4}, "'web' must have at least 0.5 and at most 0.4"),
        ({"web": 1.5}, {}, "'web' must have at least 1.5 and at most 1"),
        ({"web": 0.6, "code": 0.6}, {}, "no mixture fits them: floors sum to 1.2, caps to 3"),
        ({}, dict.fromkeys(DOMAINS, 0.3), "no mixture fits them: floors sum to 0, caps to 0.9"),
        ({"web": -0.1}, {}, "weights must be at least 0"),
        ({}, {"web": -0.1}, "weights must be at least 0"),
        ({"web": float("nan")}, {}, "weights must be at least 0"),
    ],
)
def test_limits_that_contradict_each_other_are_refused(floors, caps, sentence):
    with pytest.raises(ConfigError, match=f"limits: .*{sentence}"):
        limits(DOMAINS, ask(floors, caps))


def test_a_cap_above_one_is_no_limit():
    assert limits(DOMAINS, ask({}, {"web": 7.0})).high.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("average", {"code": 0.5, "web": 0.5}),
        ("held", {"held": 1.0}),
        ("web:3,held:1", {"web": 0.75, "held": 0.25}),
        (" web : 1 , code", {"web": 0.5, "code": 0.5}),
        ("web:0,code:2", {"web": 0.0, "code": 1.0}),
    ],
)
def test_targets_are_an_average_a_name_or_names_with_importances(text, expected):
    fit = fitted("additive", dict.fromkeys(["code", "web", "held"], TRUTHS["additive"])).best
    assert read_targets(text, fit) == expected


def test_the_average_of_a_fit_without_training_domains_is_over_its_targets():
    assert read_targets("average", fitted("additive", {"held": TRUTHS["additive"]}).best) == {"held": 1.0}


@pytest.mark.parametrize("text", ["web:x", "web:-1,code:2", "web:0", "web:nan", "web:inf", "web:1:2"])
def test_importances_that_are_none_are_refused(text):
    fit = fitted("additive", dict.fromkeys(["code", "web"], TRUTHS["additive"])).best
    with pytest.raises(ConfigError, match="--target web"):
        read_targets(text, fit)


def test_a_target_that_was_not_fitted_is_refused_with_the_near_match():
    with pytest.raises(ConfigError, match=r"unknown target 'mian'; did you mean 'main'\?"):
        read_targets("mian:1", fitted("additive", {"main": TRUTHS["additive"]}).best)


def test_a_mixture_is_read_from_names_and_numbers():
    assert read_mixture("web=0.25, code=0.75", DOMAINS, {}) == {"code": 0.75, "docs": 0.0, "web": 0.25}
    assert read_pairs("") == {}
    for text in ("web", "web=", "web=x", "web=0.1,", "web=1=2"):
        with pytest.raises(ConfigError, match="write NAME=NUMBER,NAME=NUMBER"):
            read_pairs(text)
    with pytest.raises(ConfigError, match=r"weights sum to 0.5, not 1"):
        read_mixture("web=0.5", DOMAINS, {})


def test_a_known_mixture_is_named_and_an_unknown_one_gets_the_near_match():
    known = {"uniform": Mixture.uniform(DOMAINS)}
    assert read_mixture("uniform", DOMAINS, known) == known["uniform"]
    with pytest.raises(ConfigError, match=r"unknown mixture 'unifrom'; did you mean 'uniform'\?"):
        read_mixture("unifrom", DOMAINS, known)


def test_a_mixture_is_read_from_the_file_that_recommend_writes(tmp_path):
    path, mixture = tmp_path / "big.yaml", Mixture.of({"web": 0.25, "code": 0.75})
    path.write_text(mixture.to_yaml())
    assert read_mixture(str(path), DOMAINS, {}) == {"code": 0.75, "docs": 0.0, "web": 0.25}
    with pytest.raises(ConfigError, match=r"big\.yaml: unknown domain 'web'"):
        read_mixture(str(path), ["code", "docs"], {})
    with pytest.raises(ConfigError, match=r"other\.yaml cannot be read"):
        read_mixture(str(tmp_path / "other.yaml"), DOMAINS, {})


@pytest.mark.parametrize("shares", [[0.2, 0.65, 0.05, 0.1], [0.7, 0.2, 0.1]])
def test_limits_that_leave_one_mixture_give_it_whatever_floating_point_sums_to(shares):
    assert np.sum(shares) != 1
    domains = ["a", "b", "c", "d"][: len(shares)]
    exact = dict(zip(domains, shares, strict=True))
    for question in (ask(exact), ask({}, exact), ask(pins=exact)):
        assert project(np.ones((1, len(shares))), limits(domains, question))[0] == pytest.approx(shares)


def test_a_pin_is_a_floor_and_a_cap_and_epochs_cap_what_there_is_too_little_of():
    where = limits(DOMAINS, ask(pins={"code": 0.3}, available={"web": 1e10}, max_epochs=2.0))
    assert where.low.tolist() == [0.3, 0, 0]
    assert where.high.tolist() == [0.3, 1, 0.2]


def test_groups_are_read_and_kept_disjoint():
    groups = read_groups(["crawl=web+code:0.2:0.5", "rest=docs::0.9"])
    assert groups == {"crawl": (("web", "code"), 0.2, 0.5), "rest": (("docs",), 0.0, 0.9)}
    where = limits(DOMAINS, ask(groups=groups))
    assert [(g.members.tolist(), g.low, g.high) for g in where.groups] == [([2, 0], 0.2, 0.5), ([1], 0.0, 0.9)]
    for text in ("crawl", "crawl=web", "crawl=web:0.2", "crawl=web:x:1", "crawl=web:0:2", "=web:0:1"):
        with pytest.raises(ConfigError, match=r"write NAME=DOMAIN\+DOMAIN:LEAST:MOST"):
            read_groups([text])


@pytest.mark.parametrize(
    ("groups", "floors", "sentence"),
    [
        ({"a": (("web", "wbe"), 0, 1)}, {}, r"unknown domain 'wbe'; did you mean 'web'"),
        ({"a": (("web", "code"), 0, 1), "b": (("web",), 0, 1)}, {}, "group 'b' shares domains with another"),
        ({"a": (("web", "web"), 0, 1)}, {}, "group 'a' shares domains"),
        ({"a": (("web", "code"), 0, 0.2)}, {"web": 0.3}, "group 'a' must have at least 0.3 and can have at most 0.2"),
        ({"a": (("web", "code"), 0.9, 1)}, {"docs": 0.3}, "no mixture fits the groups"),
        ({"a": (("web", "code", "docs"), 0, 0.9)}, {}, "no mixture fits the groups"),
    ],
)
def test_groups_that_contradict_the_other_limits_are_refused(groups, floors, sentence):
    with pytest.raises(ConfigError, match=sentence):
        limits(DOMAINS, ask(floors, groups=groups))


def test_every_constraint_can_be_taken_away_alone():
    question = ask(
        {"web": 0.1},
        {"docs": 0.5},
        pins={"code": 0.3},
        groups={"g": (("web", "docs"), 0, 1)},
        available={"web": 1e9},
        max_epochs=4.0,
    )
    names = question.constraints()
    assert names == ["min web", "max docs", "pin code", "group g", "epochs web"]
    for name in names:
        assert question.without(name).constraints() == [other for other in names if other != name]
    assert question.unlimited().constraints() == []


@pytest.mark.parametrize("limit", [{"floors": {"web": 0.5}}, {"caps": {"web": 0.1}}])
def test_a_pin_outside_of_the_other_limits_is_refused(limit):
    with pytest.raises(ConfigError, match=r"'web' is pinned to 0\.2, outside its other limits"):
        limits(DOMAINS, ask(**limit, pins={"web": 0.2}))


def test_what_is_named_twice_is_refused():
    with pytest.raises(ConfigError, match="names something twice"):
        read_pairs("web=0.1,web=0.2")
    with pytest.raises(ConfigError, match="--group g is given twice"):
        read_groups(["g=web:0:1", "g=code:0:1"])
