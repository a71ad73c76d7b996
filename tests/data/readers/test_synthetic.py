"""Synthetic domains have the entropy that they say, and pass through the preparation unchanged."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.config import MarkovConfig, SourceConfig
from data.preparation.corpus import clean
from data.prepare import compose_config, prepare
from data.readers.synthetic import check_markov, entropy_rate, stationary, synthetic, transitions
from mixlaw.errors import ConfigError


@given(n=st.integers(2, 26), concentration=st.floats(0.05, 20), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_rows_and_stationary_distribution_are_distributions(n: int, concentration: float, seed: int) -> None:
    config = MarkovConfig(n, concentration, seed=seed)
    rows = transitions(config)
    share = stationary(rows)
    assert np.allclose(rows.sum(1), 1)
    assert (rows > 0).all()
    assert np.allclose(share @ rows, share)
    assert share.min() > 0
    assert share.sum() == pytest.approx(1)
    assert 0 < entropy_rate(config) <= np.log(n) + 1e-12


@pytest.mark.parametrize(("n", "concentration"), [(3, 0.2), (8, 0.5), (16, 5.0)])
def test_the_text_has_the_entropy_that_is_stated(n: int, concentration: float) -> None:
    config = MarkovConfig(n, concentration, n_documents=60, n_chars=5000, seed=7)
    pairs: Counter[str] = Counter()
    for text in synthetic(SourceConfig("synthetic", markov=config)):
        pairs.update(a + b for a, b in pairwise(text))
    table = np.array([[pairs[chr(97 + i) + chr(97 + j)] for j in range(n)] for i in range(n)], float)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(table > 0, np.log(table / table.sum(1, keepdims=True)), 0.0)
    assert -(table * logs).sum() / table.sum() == pytest.approx(entropy_rate(config), rel=0.01)
    assert np.allclose(table.sum(1) / table.sum(), stationary(transitions(config)), atol=0.01)


def test_cleaning_leaves_the_texts_as_they_are_and_a_seed_is_a_text() -> None:
    config = MarkovConfig(n_documents=5, n_chars=300)
    one, again = (list(synthetic(SourceConfig("synthetic", markov=config))) for _ in range(2))
    other = list(synthetic(SourceConfig("synthetic", markov=MarkovConfig(n_documents=5, n_chars=300, seed=1))))
    assert one == again != other
    assert [clean(text) for text in one] == one
    assert {len(text) for text in one} == {300}
    assert len(set(one)) == 5


def test_the_shipped_domains_state_their_entropy(tmp_path: Path) -> None:
    small = [f"data.domains.{d}.markov.n_documents=60" for d in ("plain", "easy", "rich", "noisy")]
    config = compose_config(
        ["data=synthetic", *small, "data.targets.other.markov.n_documents=60", f"data.root={tmp_path}"]
    )
    manifest = prepare(config, lambda line: None)
    stated = {d: manifest.entry(d)["entropy_nats_per_byte"] for d in (*manifest.domains, *manifest.targets)}
    assert stated == {d: entropy_rate(s.markov) for d, s in (config.domains | config.targets).items()}
    assert stated["plain"] < stated["easy"] < stated["rich"] < stated["noisy"] < np.log(26)
    assert f"{stated['plain']:.4f} nats/byte" in manifest.entry("plain")["origin"]


@pytest.mark.parametrize("change", [{"n_symbols": 1}, {"n_symbols": 27}, {"concentration": 0.0}, {"n_chars": 1}])
def test_chains_that_cannot_be_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"^data\.domains\.x\.markov"):
        check_markov(MarkovConfig(**change), "data.domains.x")
