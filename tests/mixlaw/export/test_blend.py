"""Rounding, shares of samples, paths, epochs and notes of blends."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw import Mixture
from mixlaw.errors import ConfigError
from mixlaw.export.blend import Blend, blend

TWO = Mixture.of({"code": 0.25, "docs": 0.75})


@st.composite
def mixtures(draw: st.DrawFn) -> Mixture:
    """Return a mixture of 1 to 12 domains, some with weight 0."""
    parts = draw(st.lists(st.integers(0, 10**6), min_size=1, max_size=12).filter(any))
    return Mixture.proportional({f"d{i}": part for i, part in enumerate(parts)})


def decimal_sum(blended: Blend, attribute: str) -> Decimal:
    return sum((Decimal(repr(getattr(d, attribute))) for d in blended.domains), Decimal(0))


@given(mixtures(), st.integers(3, 9))
def test_weights_sum_to_one_and_are_near(mixture: Mixture, digits: int) -> None:
    made = blend(mixture, digits)
    assert decimal_sum(made, "weight") == decimal_sum(made, "share") == 1
    for d in made.domains:
        assert 0 < d.weight
        assert abs(d.weight - mixture[d.name]) < 1.001 / 10**digits
    listed = {d.name for d in made.domains}
    assert all(weight < 1 / 10**digits for name, weight in mixture.items() if name not in listed)
    assert bool(made.notes) == (len(listed) < len(mixture))


@given(mixtures(), st.lists(st.floats(1, 1e3), min_size=12, max_size=12))
def test_samples_of_any_length_give_the_shares_of_tokens(mixture: Mixture, lengths: list[float]) -> None:
    mean_tokens = {f"d{i}": length for i, length in enumerate(lengths[: len(mixture)])}
    made = blend(mixture, 4, mean_tokens=mean_tokens)
    assert decimal_sum(made, "share") == 1
    total = sum(d.share * mean_tokens[d.name] for d in made.domains)
    for d in made.domains:
        assert d.share * mean_tokens[d.name] / total == pytest.approx(d.weight, rel=0.02)


def test_epochs_need_both_sizes() -> None:
    made = blend(TWO, 6, n_tokens=1000, available={"docs": 300})
    assert [d.epochs for d in made.domains] == [None, 2.5]
    assert [d.epochs for d in blend(TWO, 6, available={"docs": 300}).domains] == [None, None]


def test_rounding_does_not_break_the_limit_on_epochs() -> None:
    made = blend(
        Mixture.of({"code": 0.99984, "docs": 0.00016}), 4, n_tokens=1e6, available={"docs": 50}, max_epochs=3.5
    )
    assert made.domains[1].epochs == pytest.approx(4)


def test_domains_without_weight_are_left_out_with_a_note() -> None:
    made = blend(Mixture.of({"code": 0.9999999, "docs": 1e-7, "web": 0.0}), 6)
    assert [d.name for d in made.domains] == ["code"]
    assert made.notes == ("left out, as their weights round to 0 at 6 digits: docs (1e-07), web (0)",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"paths": {"cod": "x"}}, "--paths: unknown domain 'cod'; did you mean 'code'"),
        ({"paths": {"code": ""}}, "path '' of 'code' is empty"),
        ({"paths": {"code": "a\nb"}}, "control characters"),
        ({"paths": {"code": "docs"}}, "'code' and 'docs' have the same path docs"),
        ({"mean_tokens": {"code": 10}}, "--mean-tokens lacks docs"),
        ({"mean_tokens": {"code": 10, "docs": 0}}, "--mean-tokens docs=0: tokens must be"),
        ({"mean_tokens": {"code": 10, "docs": float("nan")}}, "tokens must be a finite number"),
        ({"mean_tokens": {"code": 1, "docs": 1e9}}, "'docs' would be less than 1e-07 of the samples"),
        ({"available": {"doc": 10}}, "--available: unknown domain 'doc'; did you mean 'docs'"),
        ({"n_tokens": float("inf")}, "n_tokens must be a finite number above 0, not inf"),
        ({"available": {"docs": 100}, "n_tokens": 1000, "max_epochs": 4}, "'docs' would be read 7.5 times"),
    ],
)
def test_what_cannot_be_blended(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        blend(TWO, 6, **options)
