"""Values in another unit than the rest are said with their rows, and real differences are not."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mixlaw.tables.check import check_frame
from mixlaw.tables.clean import prepare
from mixlaw.tables.unit_checks import unit_of_factor, unit_warnings

TARGETS = ["law", "news", "chat"]
Change = Callable[["pd.DataFrame | pd.Series[float]"], "pd.DataFrame | pd.Series[float]"]
BITS_PER_BYTE = 1 / np.log(2) / 4.0


def runs(
    sizes: tuple[float, ...] = (2e7, 6e7, 2e8, 6e8),
    tokens: tuple[float, ...] = (5.0, 20.0),
    n_mixtures: int = 8,
    level: float = 1.0,
    noise: float = 0.004,
    seed: int = 0,
    alpha: float = 0.3,
    beta: float = 0.3,
) -> pd.DataFrame:
    """Return runs of an additive law of three domains: tokens are per parameter."""
    rng, rows = np.random.default_rng(seed), []
    mixtures = rng.dirichlet(np.ones(3), n_mixtures)
    for n in sizes:
        for i, h in enumerate(mixtures):
            for ratio in tokens:
                row = {"run_id": f"{n:g}-{i}-{ratio:g}", "n_params": n, "n_tokens": ratio * n}
                row |= {f"weight_{t}": w for t, w in zip(TARGETS, h, strict=True)}
                for j, target in enumerate(TARGETS):
                    falls = 150 * (n / 1e3) ** -alpha / 12 + 500 * (ratio * n / 1e3) ** -beta / 60
                    loss = level * (1.7 + 0.2 * j + falls + 0.1 / (h[j] + 0.1) ** 0.5)
                    row[f"loss_{target}"] = loss * np.exp(noise * rng.standard_normal())
                rows.append(row)
    return pd.DataFrame(rows)


def changed(frame: pd.DataFrame, rows: "pd.Series[bool] | np.ndarray", columns: list[str], how: Change) -> pd.DataFrame:
    frame = frame.copy()
    frame.loc[rows, columns] = how(frame.loc[rows, columns])
    return frame


def found(frame: pd.DataFrame) -> list[tuple[list[int], str]]:
    table = check_frame(frame, "t")
    return [(np.flatnonzero(d.rows).tolist(), d.text) for d in unit_warnings(table.frame, table.domains, table.units)]


LOSSES = [f"loss_{t}" for t in TARGETS]
ALL = runs()
LARGEST, SMALLEST = (ALL["n_params"] == 6e8).to_numpy(), (ALL["n_params"] == 2e7).to_numpy()
THIRD = np.arange(len(ALL)) % 3 == 0
MISTAKES: dict[str, tuple[np.ndarray, list[str], Change, str]] = {
    "perplexity in all rows": (np.ones(len(ALL), bool), LOSSES, lambda v: np.exp(2 * v), "perplexity"),
    "one target in perplexity": (np.ones(len(ALL), bool), LOSSES[:1], lambda v: np.exp(1.6 * v), "perplexity"),
    "some rows in perplexity": (THIRD, LOSSES, np.exp, "logarithm of the losses continues"),
    "some rows of a target": (THIRD, LOSSES[1:2], np.exp, "logarithm of the losses continues"),
    "one row in perplexity": (np.arange(len(ALL)) == 5, LOSSES, np.exp, "logarithm of the losses continues"),
    "some rows in bits": (THIRD, LOSSES, lambda v: v / np.log(2), r"1\.4[3-6] times .* bits/token"),
    "some rows in per cent": (THIRD, LOSSES, lambda v: 100 * v, "100 times"),
    "the largest size in bits per byte": (
        LARGEST,
        LOSSES,
        lambda v: v * BITS_PER_BYTE,
        r"from N = 6e\+08 on.*bits/byte",
    ),
    "the largest size in perplexity": (LARGEST, LOSSES, np.exp, r"from N = 6e\+08 on.*perplexity"),
    "the smallest size in nats per byte": (SMALLEST, LOSSES, lambda v: v / 4, r"up to N = 2e\+07.*nats/byte"),
    "a target of a size": (LARGEST, LOSSES[2:], lambda v: v * BITS_PER_BYTE, "loss_chat: .*bits/byte"),
    "two rows in five in bits per byte": (
        np.arange(len(ALL)) % 5 < 2,
        LOSSES,
        lambda v: v * BITS_PER_BYTE,
        r"0\.3[4-7]\d? times .* bits/byte",
    ),
    "a size in the middle in bits": (
        (ALL["n_params"] == 6e7).to_numpy(),
        LOSSES,
        lambda v: v / np.log(2),
        r"1\.4\d* times .* bits/token",
    ),
    "some tokens in billions": (THIRD, ["n_tokens"], lambda v: v / 1e9, "in billions. Multiply these cells by 1e9"),
    "a size's tokens in millions": (LARGEST, ["n_tokens"], lambda v: v / 1e6, "in millions. Multiply .* by 1e6"),
    "some sizes in millions": (THIRD, ["n_params"], lambda v: v / 1e6, "n_params is .* in millions"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_rows_in_another_unit_are_named_with_the_factor_and_the_unit(name: str) -> None:
    rows, columns, how, words = MISTAKES[name]
    said = found(changed(ALL, rows, columns, how))
    assert len(said) == 1
    assert said[0][0] == np.flatnonzero(rows).tolist()
    assert pd.Series([said[0][1]]).str.contains(words, regex=True).all(), said[0][1]
    if columns[0].startswith("loss_"):
        assert all((column in said[0][1]) == (column in columns) for column in LOSSES)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.floats(0.15, 0.85), st.sampled_from([1 / np.log(2), BITS_PER_BYTE]))
def test_rows_at_random_on_another_level_are_found_whichever_side_is_the_mistake(
    seed: int, share: float, factor: float
) -> None:
    rows = np.random.default_rng(seed).random(len(ALL)) < share
    ((odd, _),) = found(changed(ALL, rows, LOSSES, lambda v: v * factor))
    assert odd in (np.flatnonzero(rows).tolist(), np.flatnonzero(~rows).tolist())


def test_the_runs_of_some_mixtures_in_bits_are_found() -> None:
    many = runs(n_mixtures=12)
    some = np.arange(len(many)) % 24 < 6
    ((odd, text),) = found(changed(many, some, LOSSES, lambda v: v / np.log(2)))
    assert odd == np.flatnonzero(some).tolist()
    assert "bits/token" in text


def test_two_sizes_suffice_to_see_a_jump_between_them() -> None:
    two = runs(sizes=(6e7, 6e8))
    assert found(two) == []
    ((rows, text),) = found(changed(two, two["n_params"] == 6e8, LOSSES, lambda v: v * BITS_PER_BYTE))
    assert len(rows) == len(two) / 2
    assert "per byte" in text or "bits/byte" in text


def test_a_table_without_a_mixture_is_looked_at_too() -> None:
    alone = ALL.drop(columns=[f"weight_{t}" for t in TARGETS])
    assert found(alone) == []
    ((rows, _),) = found(changed(alone, THIRD, LOSSES, np.exp))
    assert rows == np.flatnonzero(THIRD).tolist()


@settings(max_examples=25)
@given(
    st.floats(0.02, 0.6),
    st.floats(0.02, 0.6),
    st.floats(0.3, 2.0),
    st.floats(0.0, 0.03),
    st.integers(0, 99),
    st.sampled_from([(1e6, 6e7), (2e7, 1e8, 5e8), (1e8,), (1e7, 1e8, 1e9, 1e10)]),
)
def test_no_law_is_taken_for_a_mistake(
    alpha: float, beta: float, level: float, noise: float, seed: int, sizes: tuple[float, ...]
) -> None:
    frame = runs(sizes, (5.0, 100.0), 8, level, noise, seed, alpha, beta)
    assume(frame[LOSSES].max().max() < 12)  # more is no loss per token
    assert found(frame) == []


def test_runs_that_went_wrong_are_not_another_unit() -> None:
    worse = ALL.copy()
    hit = np.arange(len(ALL)) % 9 == 0
    worse.loc[hit, LOSSES] *= np.random.default_rng(1).uniform(1.3, 3, (int(hit.sum()), 1))
    assert found(worse) == []


def test_a_thousandth_of_the_tokens_is_believed_where_the_losses_are_higher() -> None:
    assert found(runs(tokens=(0.01, 20.0), beta=0.25)) == []


def test_declared_units_are_not_doubted() -> None:
    table = check_frame(changed(ALL, np.ones(len(ALL), bool), LOSSES, lambda v: np.exp(2 * v)), "t")
    assert unit_warnings(table.frame, table.domains, dict.fromkeys(TARGETS, "perplexity")) == []
    named = check_frame(table.frame.rename(columns={c: f"{c}_ppl" for c in LOSSES}), "t")
    assert set(named.units.values()) == {"perplexity"}
    assert unit_warnings(named.frame, named.domains, named.units) == []


def test_doubts_reach_a_cleaned_table_with_their_rows_and_long_lists_are_cut() -> None:
    table = prepare(check_frame(changed(ALL, THIRD, LOSSES, np.exp), "runs.csv"))
    assert len(table.warnings) == 1
    assert table.warnings[0].startswith(
        f"runs.csv rows 1, 4, 7 and {THIRD.sum() - 3} more ({THIRD.sum()} of {len(ALL)}): "
    )
    table = prepare(check_frame(changed(ALL, LARGEST, LOSSES, np.exp), "runs.csv"))
    assert table.warnings[0].startswith("runs.csv rows 49-64 (16 of 64): ")


def test_factors_have_names() -> None:
    assert unit_of_factor(1 / np.log(2)) == "bits/token"
    assert unit_of_factor(1 / np.log(2) / 5) == "bits/byte (5.0 bytes per token), or nats/byte (3.5)"
    assert unit_of_factor(1 / 6) == "nats/byte (6.0 bytes per token)"
    assert unit_of_factor(np.log(2) * 4) == "losses per token where the others are per byte (2.8)"
    assert unit_of_factor(100) == "another unit"
