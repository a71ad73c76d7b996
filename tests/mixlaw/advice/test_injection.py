"""The share of injected pretraining data: exact where the law is known, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mixlaw.advice.injection import SHARES, Tuning, injection, largest_share
from mixlaw.cli.main import main
from mixlaw.errors import ConfigError, FitError
from mixlaw.laws.registry import get_law
from tests.mixlaw.synthetic import fitted, free_parameters

DOMAINS = ["code", "docs", "chat"]
PRETRAINING = {"code": 0.6, "docs": 0.4}
TUNING = Tuning(1e8, 1e10, "chat", PRETRAINING, {"code": 2.1})
MOST = 0.2
ALPHA, B = 0.7, 400.0


def forgets(**targets):
    """Return a law of forgetting with these B by target, and its draws."""
    law = get_law("forgetting")
    theta = {t: free_parameters(law, DOMAINS, A=0.5, beta=0.4, alpha=ALPHA, B=b)[0] for t, b in targets.items()}
    return fitted("forgetting", theta, DOMAINS, n_draws=40)


def own():
    law = get_law("d-cpt")
    values = {"E": 1.1, "A": 0.2, "alpha": 0.3, "B": 0.4, "eta": 0.5, "beta": 0.6, "C": 0.3, "gamma": 0.7, "eps": 0.05}
    return fitted("d-cpt", {"chat": free_parameters(law, DOMAINS, **values)[0]}, DOMAINS)


@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_the_share_is_the_one_that_the_formula_gives(kept):
    """(1 + B w p)^-alpha = 1 - kept, but for the floor that laws put below weights of 0."""
    found = injection(forgets(code=B).best, TUNING, MOST, kept)
    without = 1 + B * 1e-4
    exact = (without * (1 - kept) ** (-1 / ALPHA) - 1) / (B * PRETRAINING["code"])
    assert found.share == pytest.approx(exact, rel=0.01)
    assert found.low < found.share < found.high
    row = found.table[found.table["share"] == found.share].iloc[0]
    assert row["kept_away"] == pytest.approx(100 * kept, rel=1e-3)


def test_the_largest_share_of_the_runs_is_in_the_table_once():
    assert largest_share(np.array([[0.0, 0.0, 1.0], [0.1, 0.101, 0.799]]), DOMAINS, "chat") == pytest.approx(0.201)
    shares = injection(forgets(code=0.1).best, TUNING, 0.201).table["share"]
    assert shares.tolist() == [0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.201]


def test_several_pretraining_domains_count_by_their_weights():
    losses = {"code": 2.1, "docs": 2.6}
    both = injection(forgets(code=B, docs=100.0).best, replace(TUNING, before=losses), MOST)
    each = [
        injection(forgets(**{t: b}).best, replace(TUNING, before={t: losses[t]}), MOST)
        for t, b in (("code", B), ("docs", 100.0))
    ]
    alone = [found.share for found in each]
    assert min(alone) < both.share < max(alone)
    assert both.table["forgotten"][0] == pytest.approx(np.dot([e.table["forgotten"][0] for e in each], [0.6, 0.4]))


def test_a_share_that_no_injection_reaches_is_said():
    assert np.isinf(injection(forgets(code=0.1).best, TUNING, MOST).share)
    assert SHARES[-1] == 1


def test_the_cost_is_what_the_law_of_the_finetuning_domain_predicts():
    found = injection(forgets(code=B).best, TUNING, MOST, own=own().best)
    shares = found.table["share"]
    weights = {"weight_code": 0.6 * shares, "weight_docs": 0.4 * shares, "weight_chat": 1 - shares}
    losses = own().best.predict(pd.DataFrame({"n_params": 1e8, "n_tokens": 1e10, **weights}))["predicted"]
    np.testing.assert_allclose(found.table["cost"], losses - losses[0], atol=1e-12)
    row = found.at(found.share)
    assert row["cost_low"] <= row["cost"] <= row["cost_high"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"domain": "caht"}, "--finetuning: unknown domain 'caht'; did you mean 'chat'?"),
        ({"domain": "code"}, "--pretraining: 'code' is the finetuning domain"),
        ({"pretraining": {"code": 0.5}}, "--pretraining: weights sum to 0.5, not 1"),
        ({"pretraining": {"docs": 1.0}}, "--pretraining: the law is fitted to code, and none has a weight there"),
        ({"before": {}}, "--before lacks the loss before finetuning of code: add code=LOSS"),
        ({"before": {"cod": 2.6}}, "--before: unknown pretraining domain 'cod'; did you mean 'code'?"),
        ({"before": {"code": -2.6}}, "--before code=-2.6: a loss is above 0"),
    ],
)
def test_wrong_domains_are_refused(changes, said):
    with pytest.raises(ConfigError, match=f"^{said.replace('?', '[?]')}"):
        injection(forgets(code=B).best, replace(TUNING, **changes), MOST)


def test_laws_that_say_nothing_about_it_are_refused():
    base = fitted("base", {"chat": np.log([1.8, 0.3, 0.35, 0.25, 0.3])}, DOMAINS)
    with pytest.raises(FitError, match="the base law does not say what is forgotten"):
        injection(base.best, TUNING, MOST)
    with pytest.raises(FitError, match="the base law does not depend on the mixture"):
        injection(forgets(code=B).best, TUNING, MOST, own=base.best)
    with pytest.raises(ConfigError, match=r"^--own: its laws are of code: fit one with --target chat$"):
        injection(forgets(code=B).best, TUNING, MOST, own=forgets(code=B).best)


def test_the_command_prints_the_share_and_its_cost(tmp_path, capsys):
    for name, laws in (("forgetting", forgets(code=B)), ("own", own())):
        stated = replace(laws.best, settings={"law": laws.chosen})
        replace(laws, fits={laws.chosen: stated}).save(tmp_path / f"{name}.json")
    asked = ["injection", f"{tmp_path}/forgetting.json", "--own", f"{tmp_path}/own.json", "--finetuning", "chat"]
    asked += ["--pretraining", "code=0.6,docs=0.4", "--before", "code=2.1", "--n-params", "1e8", "--n-tokens", "1e10"]
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert "keeps 90 % of the forgetting away at N = 100M and D = 10B and adds" in said
    assert main([*asked, "--json"]) == 0
    share = injection(forgets(code=B).best, TUNING, MOST).share
    assert json.loads(capsys.readouterr().out)["share"] == pytest.approx(share)
    assert main([*asked[:1], f"{tmp_path}/own.json", *asked[4:]]) == 5
    assert "the d-cpt law does not say what is forgotten" in capsys.readouterr().err
