"""`--not-worse` and `--objective`: read, expanded, refused with a sentence, shown, priced and saved."""

import json

import pytest

from mixlaw.advice.constraints import Question
from mixlaw.advice.loss_limits import check_not_worse, limits_text, read_not_worse
from mixlaw.advice.recommend import recommend
from mixlaw.advice.recommendation import Recommendation
from mixlaw.errors import ConfigError
from mixlaw.mixture import Mixture
from mixlaw.report.terminal import summary
from tests.mixlaw.synthetic import DOMAINS, fitted
from tests.mixlaw.target_laws import opposed

ASKED = {"n_params": 1e9, "n_tokens": 1e11, "target": "one"}


def test_limits_are_read_and_written_alike():
    read = read_not_worse(["code:1", '"a:b": -0.5'])
    assert read == {"code": 1.0, "a:b": -0.5}
    assert read_not_worse(limits_text(read).split(", ")) == read


@pytest.mark.parametrize("text", ["code", "code:", "code:x", "code:1:2", ":"])
def test_a_limit_without_target_or_number_is_refused(text):
    with pytest.raises(ConfigError, match="write TARGET:PERCENT, such as code:1"):
        read_not_worse([text])


def test_all_stands_for_the_targets_that_are_not_named():
    fit = fitted("additive", opposed()).best
    assert check_not_worse({"all": 2.0, "two": 1.0}, fit) == {"one": 2.0, "two": 1.0}
    named = fitted("additive", opposed() | {"all": opposed()["one"]}).best
    assert check_not_worse({"all": 2.0}, named) == {"all": 2.0}


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"not_worse": {"tow": 1}}, r"unknown target 'tow'; did you mean 'two'\?"),
        ({"not_worse": {"two": float("nan")}}, "--not-worse two:nan: the per cent must be a finite number above -100"),
        ({"not_worse": "two:1"}, "not_worse must be target -> per cent, such as {'code': 1}, not 'two:1'"),
        ({"not_worse": {"two": "1"}}, "not_worse: the per cent of 'two' must be a number, not '1'"),
        ({"not_worse": {"two": -100}}, "--not-worse two:-100: the per cent must be"),
        ({"not_worse": {"two": 1}, "baselines": ()}, "--not-worse needs the mixture to compare with: --baseline"),
        ({"objective": "worst", "baselines": ()}, "--objective worst needs the mixture to compare with: --baseline"),
        ({"objective": "wurst"}, r"--objective: unknown objective 'wurst'; did you mean 'worst'\?"),
    ],
)
def test_what_cannot_be_asked_is_refused(asked, sentence):
    with pytest.raises(ConfigError, match=sentence):
        recommend(fitted("additive", opposed()), **ASKED | {"baselines": "uniform"} | asked)


def test_the_same_target_twice_is_refused():
    with pytest.raises(ConfigError, match="--not-worse code is given twice"):
        read_not_worse(["code:1", "code:2"])


def test_a_limit_holds_has_a_price_and_is_saved():
    laws = fitted("additive", opposed())
    answer = recommend(laws, **ASKED, baselines="uniform", not_worse={"two": 1.0})
    losses = answer.per_target.set_index("mixture")["two"]
    assert losses["recommended"] == pytest.approx(1.01 * losses["uniform"], rel=1e-5)
    assert answer.prices["constraint"].tolist() == ["not worse two"]
    free = recommend(laws, **ASKED, baselines="uniform")
    gap = answer.outcomes["predicted"].iloc[0] - free.outcomes["predicted"].iloc[0]
    assert answer.prices["cost"].iloc[0] == pytest.approx(gap, abs=1e-6)
    assert "not worse two" in summary(answer)
    saved = Recommendation.from_json(json.loads(json.dumps(answer.to_json())))
    assert saved.question == answer.question


def test_limits_on_losses_are_constraints_like_others():
    in_use = {"today": Mixture.uniform(DOMAINS)}
    question = Question(1e9, 1e11, {"one": 1.0}, caps={"web": 0.5}, not_worse={"a b": 1.0, "two": 0}, baselines=in_use)
    assert question.constraints() == ["max web", "not worse a b", "not worse two"]
    assert question.without("not worse a b").not_worse == {"two": 0}
    assert question.without("max web").caps == {}
    assert question.unlimited().constraints() == []
