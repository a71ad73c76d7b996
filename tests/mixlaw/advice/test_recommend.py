"""Recommending: the mixture that exact algebra finds, inside the limits, and never one worse than a plain choice."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from mixlaw.advice.ask import usual_mixtures
from mixlaw.advice.constraints import Question
from mixlaw.advice.objective import Objective
from mixlaw.advice.recommend import recommend
from mixlaw.advice.recommendation import Recommendation
from mixlaw.advice.simplex import lowest, starts
from mixlaw.errors import ConfigError, FitError, RunLogError
from mixlaw.laws.jacobian import Array
from mixlaw.laws.registry import get_law
from mixlaw.mixture import Mixture
from mixlaw.report.terminal import summary
from tests.marks import slow
from tests.mixlaw.synthetic import DOMAINS, TRUTHS, fitted, optimum, warned

N, D = 1e9, 1e11


def ask(floors: dict[str, float] | None = None, caps: dict[str, float] | None = None, **targets: float) -> Question:
    return Question(N, D, targets or {"main": 1.0}, floors or {}, caps or {})


def additive(c: Array, gamma: Array) -> Array:
    return np.concatenate([[0.5], np.log(c), np.log(gamma), np.log([0.3, 0.3, 0.3, 0.3])])


def random_theta(law: str, rng: np.random.Generator) -> Array:
    return np.clip(get_law(law).term.start(rng, 1, 3), *get_law(law).bounds(3))[0]


def closed_form(c: Array, gamma: Array) -> Array:
    """Return the minimum over the simplex: h_i = (C_i gamma_i / mu)^(1 / (1 - gamma_i)), mu by bisection."""
    below, above = -60.0, 60.0
    for _ in range(200):
        log_mu = (below + above) / 2
        h = np.exp((np.log(c * gamma) - log_mu) / (1 - gamma))
        below, above = (log_mu, above) if h.sum() > 1 else (below, log_mu)
    return h


@pytest.mark.parametrize("k", [2, 3, 5, 8])
def test_the_additive_laws_optimum_is_the_one_that_algebra_gives(k):
    rng = np.random.default_rng(k)
    c, gamma = np.exp(rng.normal(0, 0.3, k)), rng.uniform(0.4, 0.8, k)
    domains = [f"d{i}" for i in range(k)]
    answer = recommend(fitted("additive", {"main": additive(c, gamma)}, domains, spread=0.0), ask())
    assert list(answer.weights) == domains
    assert list(answer.weights.values()) == pytest.approx(closed_form(c, gamma), abs=1e-3)


@pytest.mark.parametrize(
    ("law", "seed"), [("additive", 36), ("joint", 1), slow("joint", 37), slow("simple", 3), slow("full", 4)]
)
def test_no_random_mixture_no_corner_and_no_baseline_is_predicted_to_be_better(law, seed):
    rng = np.random.default_rng(seed)
    theta = {name: random_theta(law, rng) for name in ("one", "two")}
    laws = fitted(law, theta, sizes={"code": 1e9, "docs": 3e9, "web": 9e9})
    question = ask(one=0.3, two=0.7)
    answer = recommend(laws, question)
    loss = Objective(laws.best, question, {})
    others = np.vstack([rng.dirichlet(np.full(3, a), 2000) for a in (0.2, 1, 5)] + [np.eye(3)])
    assert loss.at(answer.weights) <= loss.loss(others).min() + 1e-7
    assert list(answer.outcomes["mixture"]) == ["recommended", "uniform", "natural"]


def test_the_additive_optimum_is_the_same_at_every_scale_and_the_joint_one_moves():
    for law, moves in (("additive", False), ("joint", True)):
        laws = fitted(law, {"main": TRUTHS[law]})
        small, big = (optimum(laws, Question(n, 20 * n, {"main": 1.0}, {}, {})) for n in (1e8, 1e11))
        distance = max(abs(small[d] - big[d]) for d in DOMAINS)
        assert distance > 0.01 if moves else distance < 1e-6


def test_floors_and_caps_are_honoured_and_what_is_free_is_still_optimal():
    laws = fitted("additive", {"main": TRUTHS["additive"]})
    free = optimum(laws, ask())
    bound = recommend(laws, ask({"docs": 0.2}, {"web": 0.5})).weights
    assert free["docs"] < 0.1
    assert free["web"] > 0.6
    assert bound == pytest.approx({"docs": 0.2, "web": 0.5, "code": 0.3}, abs=1e-6)
    floored = optimum(laws, ask({"docs": 0.2}))
    gradient = Objective(laws.best, ask(), {})(np.array([list(floored.values())]))[1][0]
    assert floored["docs"] == pytest.approx(0.2, abs=1e-6)
    assert gradient[0] == pytest.approx(gradient[2], rel=1e-3)  # both free domains


def test_the_answer_holds_intervals_gains_and_what_each_domain_does():
    laws = fitted("additive", {"main": TRUTHS["additive"]}, n_draws=30, sizes={"code": 1e9, "docs": 1e9, "web": 2e9})
    answer = recommend(laws, ask())
    table, outcomes = answer.table.set_index("domain"), answer.outcomes.set_index("mixture")
    assert set(table.columns) == {
        "weight",
        "low",
        "high",
        "gradient",
        "unconstrained",
        "uniform",
        "natural",
        "flat_low",
        "flat_high",
    }
    assert table["natural"].tolist() == [0.25, 0.25, 0.5]
    assert (table["low"] <= table["weight"]).all()
    assert (table["weight"] <= table["high"]).all()
    assert (table["high"] - table["low"]).max() > 1e-3
    loss = outcomes["predicted"]
    assert outcomes["gain"].tolist() == pytest.approx((loss - loss["recommended"]).tolist())
    assert (outcomes["low"] < loss).all()
    assert (loss < outcomes["high"]).all()
    assert outcomes.loc["uniform", "gain_low"] < outcomes.loc["uniform", "gain"] < outcomes.loc["uniform", "gain_high"]
    assert outcomes.loc["recommended", ["gain", "gain_low", "gain_high"]].tolist() == [0, 0, 0]
    assert answer.per_target["main"].tolist()[1:] == pytest.approx(loss.tolist()[1:])


@pytest.mark.parametrize("law", ["additive", "joint", "simple", "full"])
def test_the_slope_that_is_descended_is_exact_also_at_weights_near_zero(law):
    theta = random_theta(law, np.random.default_rng(1))
    loss = Objective(fitted(law, {"main": theta}).best, ask(), {})
    for h in (np.array([[0.2, 0.3, 0.5]]), np.array([[1e-3, 5e-4, 0.9985]]), np.array([[0.99, 0.01, 1e-5]])):
        steps = 1e-7 * np.eye(3)
        numeric = (loss(h + steps)[0] - loss(h - steps)[0]) / 2e-7
        np.testing.assert_allclose(loss(h)[1][0], numeric, rtol=1e-4, atol=1e-5)


def test_the_gradient_is_the_slope_of_the_loss_from_the_uniform_mixture_towards_a_domain():
    laws = fitted("joint", {"main": TRUTHS["joint"]})
    loss, middle = Objective(laws.best, ask(), {}), np.full((1, 3), 1 / 3)
    for gradient, corner in zip(recommend(laws, ask()).table["gradient"], np.eye(3), strict=True):
        step = 1e-6 * (corner - middle)
        assert gradient == pytest.approx(float(loss(middle + step)[0][0] - loss(middle - step)[0][0]) / 2e-6, rel=1e-5)


def test_importances_weigh_the_targets():
    rng = np.random.default_rng(0)
    theta = {t: additive(np.exp(rng.normal(0, 1, 3)), rng.uniform(0.2, 0.8, 3)) for t in ("one", "two")}
    laws = fitted("additive", theta)
    one, both, two = (optimum(laws, ask(one=w, two=1 - w))["code"] for w in (1.0, 0.5, 0.0))
    assert min(one, two) < both < max(one, two)
    assert one == pytest.approx(optimum(laws, ask(one=1.0))["code"], abs=1e-6)


def test_the_override_is_what_the_trainer_takes_and_the_answer_is_plain_json():
    answer = recommend(fitted("additive", {"main": TRUTHS["additive"]}), ask())
    facts = json.loads(json.dumps(answer.to_json(), allow_nan=False))
    override = facts["override"]
    assert override.startswith("mixture.weights={code:0.")
    parsed = {name: float(value) for name, value in re.findall(r"(\w+):([\d.]+)", override)}
    assert Mixture.of(parsed, DOMAINS) == pytest.approx(answer.weights, abs=1e-4)
    assert Mixture.of(facts["weights"], DOMAINS) == answer.weights
    assert override in summary(answer)
    assert all(domain in summary(answer) for domain in DOMAINS)


def test_a_weight_that_is_numerically_zero_is_zero():
    useless = additive(np.array([2.0, 1.0, 4e-4]), np.array([0.5, 0.5, 1.5]))
    assert recommend(fitted("additive", {"main": useless}), ask()).weights["web"] == 0


def test_warnings_of_the_fit_and_of_extrapolation_are_passed_on():
    laws = warned(fitted("additive", {"main": TRUTHS["additive"]}), "additive", "two model sizes")
    near = recommend(laws, ask())
    far = recommend(laws, Question(1e12, 1e11, {"main": 1.0}, {}, {}))
    assert near.warnings[0] == "two model sizes"
    assert not any("far outside" in w for w in near.warnings)
    assert far.warnings[:2] == ["two model sizes", "n_params 1e+12 is far outside the data (2e+07 to 5e+08)"]


def test_only_a_fitted_law_of_mixtures_can_recommend():
    laws = fitted("additive", {"main": TRUTHS["additive"]})
    with pytest.raises(ConfigError, match=r"unknown law 'joint';.* known: additive"):
        recommend(laws, ask(), law="joint")
    with pytest.raises(ConfigError, match=r"unknown target 'mian'; did you mean 'main'\?"):
        recommend(laws, ask(mian=1.0))
    with pytest.raises(FitError, match="the base law does not depend on the mixture: fit another"):
        recommend(fitted("base", {"main": TRUTHS["base"]}), ask())


def test_a_law_named_by_hand_answers_with_its_own_warnings():
    laws = fitted("additive", {"main": TRUTHS["additive"]})
    laws = replace(laws, fits=laws.fits | fitted("simple", {"main": TRUTHS["simple"]}).fits)
    laws = warned(laws, "simple", "of simple")
    answer = recommend(laws, ask(), law="simple")
    assert (answer.law, answer.reason, answer.warnings[0]) == ("simple", "named by hand", "of simple")
    assert recommend(laws, ask(), law="additive").reason == "given"


def test_the_natural_mixture_is_a_baseline_only_if_all_sizes_are_known():
    assert list(usual_mixtures(DOMAINS, {"code": 1.0, "docs": 1.0})) == ["uniform"]
    assert usual_mixtures(DOMAINS, {"code": 1.0, "docs": 1.0, "web": 2.0})["natural"]["web"] == 0.5


def test_baselines_are_compared_in_the_order_given_and_before_the_usual_ones(tmp_path):
    laws = fitted("additive", {"main": TRUTHS["additive"]})
    file = tmp_path / "today.yaml"
    file.write_text('weights: {"code": 0.2, "docs": 0.3, "web": 0.5}')
    earlier = tmp_path / "earlier.json"
    recommend(laws, ask()).save(earlier)
    given = [str(file), "code=0.1,docs=0.2,web=0.7", str(earlier), "code=1"]
    answer = recommend(laws, n_params=1e10, n_tokens=1e11, target="main", baselines=given)
    names = ["recommended", "today", "baseline", "earlier", "baseline 4", "uniform"]
    assert answer.outcomes["mixture"].tolist() == names
    assert answer.baselines["today"]["web"] == 0.5
    assert list(answer.question.baselines) == names[1:-1]
    again = Recommendation.from_json(answer.to_json())
    assert again.baselines == answer.baselines
    assert again.question.baselines == answer.question.baselines


def test_baselines_have_the_names_that_they_are_given():
    laws = fitted("additive", {"main": TRUTHS["additive"]})
    given = {"today": "code=1", "recommended": {"docs": 1.0}, "even": "uniform"}
    answer = recommend(laws, n_params=1e10, n_tokens=1e11, target="main", baselines=given)
    assert list(answer.question.baselines) == ["today", "recommended 2", "even"]
    unnamed = recommend(laws, n_params=1e10, n_tokens=1e11, target="main", baselines=[{"code": 1.0}])
    assert unnamed.baselines["baseline"]["code"] == 1.0


def test_a_file_called_like_a_usual_mixture_is_compared_as_what_it_holds(tmp_path):
    laws = fitted("additive", {"main": TRUTHS["additive"]})
    file = tmp_path / "uniform.yaml"
    file.write_text('weights: {"code": 0.2, "docs": 0.3, "web": 0.5}')
    answer = recommend(laws, n_params=1e10, n_tokens=1e11, target="main", baselines=[str(file), "uniform"])
    assert answer.baselines["uniform 2"]["web"] == 0.5
    assert answer.outcomes["mixture"].tolist() == ["recommended", "uniform 2", "uniform"]


@pytest.mark.parametrize("target", ["mixture", "objective"])
def test_targets_with_names_that_answers_use_are_refused(target):
    laws = fitted("additive", {target: TRUTHS["additive"]})
    with pytest.raises(ConfigError, match=f"'{target}' .* rename its column loss_{target}"):
        recommend(laws, n_params=1e10, n_tokens=1e11, target=target)


@pytest.mark.parametrize(
    ("baseline", "said"),
    [
        ("naturl", "--baseline: unknown mixture 'naturl'"),
        ("cod=0.5,docs=0.5", "--baseline: mixture: unknown domain 'cod'; did you mean 'code'"),
        ("code=0.5", "--baseline: mixture: weights sum to 0.5, not 1"),
        ("absent.yaml", "--baseline: absent.yaml cannot be read"),
        ([5], "--baseline: a mixture is its name, 'D=W,...', the path of a file, or domain -> weight, not 5"),
        ({"today": [0.5, 0.5]}, "or domain -> weight, not [0.5, 0.5]"),
    ],
)
def test_a_baseline_that_is_no_mixture_of_these_domains_is_refused(baseline, said):
    laws = fitted("additive", {"main": TRUTHS["additive"]})
    with pytest.raises(ConfigError, match=re.escape(said)):
        recommend(laws, n_params=1e10, n_tokens=1e11, target="main", baselines=baseline)


def test_the_order_of_the_domains_does_not_matter():
    order = [2, 0, 1]
    c, gamma = np.array([1.2, 0.6, 2.0]), np.array([0.5, 0.3, 0.7])
    turned = fitted("additive", {"main": additive(c[order], gamma[order])}, [DOMAINS[i] for i in order], spread=0.0)
    expected = dict(zip(DOMAINS, closed_form(c, gamma), strict=True))
    assert optimum(turned, ask()) == pytest.approx(expected, abs=1e-3)


def test_where_fits_disagree_the_mixture_that_is_good_for_all_of_them_is_recommended():
    """Two resampled laws out of three want a corner each; the best fit alone would go to its own corner."""
    c = np.array([[3.0, 0.5, 1.0], [0.5, 3.0, 1.0]])
    one, other = (additive(row, np.full(3, 0.9)) for row in c)
    laws = fitted("additive", {"main": one})
    main = replace(laws.best.target("main"), draws=np.stack([one, other] * 20))
    laws = replace(laws, fits={"additive": replace(laws.best, targets={"main": main})})
    objective = Objective(laws.best, ask(), {})
    weights = recommend(laws, ask()).weights
    single = optimum_of(objective.best_fit())
    assert single[0] > 0.9
    assert weights["code"] == pytest.approx(weights["docs"], abs=0.01)
    worst = [max(objective.drawn().loss(np.tile(h, (40, 1)))) for h in (list(weights.values()), single)]
    assert worst[0] < worst[1]


def optimum_of(objective: Objective) -> Array:
    where = objective.limits
    return lowest(objective, starts(where), where)


def test_a_saved_recommendation_comes_back_and_knows_whether_it_is_outdated(tmp_path):
    laws = replace(
        fitted("additive", {"main": TRUTHS["additive"]}, sizes=dict.fromkeys(DOMAINS, 1e10)), data_sha256="a"
    )
    answer = recommend(laws, n_params=N, n_tokens=D, target="main", floors={"web": 0.3}, groups={"g": (["code"], 0, 1)})
    answer.save(tmp_path / "new/recommendation.json")
    loaded = Recommendation.load(tmp_path / "new/recommendation.json")
    assert loaded.to_json() == answer.to_json()
    assert loaded.question == answer.question
    assert not loaded.outdated(laws)
    assert loaded.outdated(replace(laws, data_sha256="b"))
    assert loaded.outdated(fitted("simple", {"main": TRUTHS["simple"]}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n_tokens": None}, "n_tokens is missing"),
        ({"n_params": "7e9"}, "n_params is missing"),
        ({"domains": [{"domain": "a", "weight": 1.0}]}, "high, low of the domains is missing"),
        ({"outcomes": [1]}, "outcomes is missing"),
        ({"outcomes": []}, "outcomes need numbers as predicted, low, high"),
        ({"limits": {"groups": {"a": 1}}}, "its limits cannot be read"),
        ({"weights": {"code": "half"}}, "weight of 'code' is 'half', not a number"),
    ],
)
def test_a_file_that_holds_no_recommendation_is_refused(tmp_path, change, said):
    path = tmp_path / "recommendation.json"
    laws = fitted("additive", {"main": TRUTHS["additive"]})
    path.write_text(json.dumps(recommend(laws, ask()).to_json() | change))
    with pytest.raises(RunLogError, match=f"is not a file of `mixlaw recommend --out`: .*{said}"):
        Recommendation.load(path)
    path.write_text("[]")
    with pytest.raises(RunLogError, match="it is not a JSON object"):
        Recommendation.load(path)
    with pytest.raises(RunLogError, match="cannot be read"):
        Recommendation.load(tmp_path)


def test_columns_of_files_before_0_2_have_their_present_names():
    facts = recommend(fitted("additive", {"main": TRUTHS["additive"]}), ask()).to_json()
    for row in facts["domains"]:
        row["pull"] = row.pop("gradient")
    assert "gradient" in Recommendation.from_json(facts).table


def test_a_question_is_an_object_or_its_arguments_and_names_are_checked():
    laws = fitted("additive", {"main": TRUTHS["additive"], "web": TRUTHS["additive"]})
    same = recommend(laws, Question(N, D, {"main": 0.75, "web": 0.25}))
    assert recommend(laws, n_params=N, n_tokens=D, target={"main": 3, "web": 1}).weights == same.weights
    assert recommend(laws, n_params=N, n_tokens=D, target="main:3,web:1").weights == same.weights
    with pytest.raises(ConfigError, match="either a question or n_params"):
        recommend(laws)
    with pytest.raises(ConfigError, match="either a question or n_params"):
        recommend(laws, ask(), n_params=N)
    with pytest.raises(ConfigError, match=r"unknown domain 'wbe'; did you mean 'web'\?"):
        recommend(laws, n_params=N, n_tokens=D, floors={"wbe": 0.1})
    with pytest.raises(ConfigError, match="--kl-penalty needs a mixture"):
        recommend(laws, n_params=N, n_tokens=D, kl_penalty=0.1)


@pytest.mark.parametrize("wrong", [{"n_params": -7e9}, {"n_tokens": 0}, {"n_tokens": float("nan")}, {"n_params": "7B"}])
def test_a_big_run_without_size_is_refused(wrong):
    laws = fitted("additive", {"main": TRUTHS["additive"]})
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))} must be a finite number above 0"):
        recommend(laws, **{"n_params": N, "n_tokens": D, "target": "main"} | wrong)


def test_every_step_is_told():
    told: list[str] = []
    recommend(fitted("additive", {"main": TRUTHS["additive"]}), ask(), progress=told.append)
    assert len(told) == len(set(told)) >= 5
    assert all(text.startswith("recommend: ") for text in told)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"level": 2}, "the level of intervals must lie between 0 and 1, such as 0.9; it is 2"),
        ({"level": "0.9"}, "it is '0.9'"),
        ({"stay_near": "uniform", "kl_penalty": -1.0}, "--kl-penalty must be a finite number of at least 0, not -1.0"),
    ],
)
def test_numbers_out_of_their_range_are_refused(wrong, said):
    laws = fitted("additive", {"main": TRUTHS["additive"]})
    with pytest.raises(ConfigError, match=re.escape(said)):
        recommend(laws, n_params=1e9, n_tokens=1e11, target="main", **wrong)
