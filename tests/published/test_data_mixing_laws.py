"""Ye et al.'s two-domain runs against the coefficients that their notebook prints for them."""

import numpy as np
import pandas as pd
import pytest

from mixlaw.fitting.estimator import LawFit
from mixlaw.laws.registry import LAWS
from mixlaw.laws.terms import Inputs
from mixlaw.tables.check import check_frame
from tests.mixlaw.synthetic import free_parameters
from tests.published.real_tables import real_table

pytestmark = pytest.mark.published

TOKENS_PER_STEP = 4096 * 256
DOMAINS = ["github", "pile_cc"]
COLUMN = {"github": "Github", "pile_cc": "Pile-CC"}
# (size, step, domain) -> k, b of c + exp(k x + b), x being the domain's own weight; c is not printed
PRINTED = {
    ("70M", 10000, "github"): (-2.4381, -0.5978),
    ("70M", 10000, "pile_cc"): (-2.9041, -0.5333),
    ("70M", 20000, "github"): (-1.5473, -0.6506),
    ("70M", 20000, "pile_cc"): (-2.2959, -0.5862),
    ("70M", 30000, "github"): (-1.6405, -0.6819),
    ("70M", 30000, "pile_cc"): (-2.5189, -0.6257),
    ("160M", 10000, "github"): (-3.6654, -0.1843),
    ("160M", 20000, "github"): (-1.6850, -0.7528),
    ("160M", 20000, "pile_cc"): (-2.4178, -0.5877),
    ("160M", 30000, "github"): (-1.6139, -0.7760),
    ("160M", 30000, "pile_cc"): (-2.7239, -0.6131),
}


def runs(size: str, step: int) -> pd.DataFrame:
    """Return the five runs of one size at one step."""
    raw = pd.read_csv(real_table("mixinglaws/tidy_2Mix.csv"))
    raw = raw[(raw["size"] == size) & (raw["step"] == step)].reset_index(drop=True)
    frame = pd.DataFrame({"run_id": raw["run"], "n_params": raw["N_nonemb"], "n_tokens": raw["step"] * TOKENS_PER_STEP})
    for i, domain in enumerate(DOMAINS):
        frame[f"weight_{domain}"], frame[f"loss_{domain}"] = raw[f"w{i}"], raw[COLUMN[domain]]
    return frame


@pytest.mark.parametrize(("size", "step", "domain"), list(PRINTED))
def test_the_printed_coefficients_put_into_the_law_describe_the_runs(size, step, domain):
    frame, law = runs(size, step), LAWS["ye-m4"]
    k, b = PRINTED[size, step, domain]
    own = {"t_github": k if domain == "github" else 0.0, "t_pile_cc": k if domain == "pile_cc" else 0.0}
    h = frame[[f"weight_{d}" for d in DOMAINS]].to_numpy().T
    losses = frame[f"loss_{domain}"].to_numpy()
    theta = free_parameters(law, DOMAINS, E=1.0, C=np.exp(b), **own)
    law_alone = law.loss(theta, Inputs.of(np.zeros(5), np.zeros(5), h))[0] - 1.0
    c = np.median(losses - law_alone)
    assert 0 < c < losses.min()
    assert np.abs(losses - law_alone - c).max() < 0.03


def test_a_fit_of_the_law_finds_the_printed_coefficients():
    fit = (
        LawFit("ye-m4", prior_strength=0, delta=0.02, n_bootstrap=2).fit(check_frame(runs("70M", 30000), "ye")).fitted_
    )
    for domain, other, constant in (("github", "pile_cc", 1.1099), ("pile_cc", "github", 3.4232)):
        p = fit.params.loc[domain]
        k, b = PRINTED["70M", 30000, domain]
        assert p[f"t_{domain}"] - p[f"t_{other}"] == pytest.approx(k, abs=0.1)
        assert np.log(p["C"]) + p[f"t_{other}"] == pytest.approx(b, abs=0.02)
        assert p["E"] == pytest.approx(constant, abs=0.01)
    assert fit.scores(runs("70M", 30000))["mae"].max() < 0.003
