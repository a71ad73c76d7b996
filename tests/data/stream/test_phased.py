"""A mixture that changes: every prefix of every phase is exact, and nothing else of the order changes."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.stream.order import GlobalOrder
from data.stream.phased import PhasedSchedule
from data.stream.schedule import MixtureSchedule
from mixlaw.errors import ConfigError
from tests.data.stream.test_schedule import mixtures, shares

Phases = list[tuple[int, list[float]]]


@st.composite
def phased(draw: st.DrawFn, longest: int = 10**9) -> Phases:
    """Return phases of any lengths over the same domains."""
    first = draw(mixtures)
    weight = st.one_of(st.just(0.0), st.floats(1e-6, 1.0))
    same_length = st.lists(weight, min_size=len(first), max_size=len(first)).filter(lambda w: sum(w) > 0)
    lengths = draw(st.lists(st.one_of(st.integers(1, 50), st.integers(1, longest)), max_size=4))
    firsts = np.cumsum([0, *lengths]).tolist()
    return [(begin, first if begin == 0 else draw(same_length)) for begin in firsts]


@given(phases=phased(), n=st.integers(0, 10**9), which=st.integers(0, 4))
def test_any_prefix_of_any_phase_is_within_two_sequences_of_its_weights(phases: Phases, n: int, which: int) -> None:
    schedule = PhasedSchedule(phases)
    first, weights = phases[which % len(phases)]
    ends = [begin for begin, _ in phases[1:]]
    stop = min(first + n, *(end for end in ends if end > first), first + n)
    within = schedule.counts(stop) - schedule.counts(first)
    assert within.sum() == stop - first
    assert np.abs(within - (stop - first) * shares(weights)).max() <= 2


@given(phases=phased(300), start=st.integers(0, 900), cuts=st.lists(st.integers(0, 400), min_size=3, max_size=6))
def test_blocks_across_boundaries_do_not_depend_on_how_they_are_cut(
    phases: Phases, start: int, cuts: list[int]
) -> None:
    schedule, edges = PhasedSchedule(phases), sorted(start + c for c in cuts)
    domain, draw = schedule.block(edges[0], edges[-1])
    parts = [schedule.block(a, b) for a, b in pairwise(edges)]
    assert (np.concatenate([part[0] for part in parts]) == domain).all()
    assert (np.concatenate([part[1] for part in parts]) == draw).all()
    listed = np.bincount(domain, minlength=len(phases[0][1]))
    assert (listed == schedule.counts(edges[-1]) - schedule.counts(edges[0])).all()


@given(phases=phased(300), start=st.integers(0, 900))
def test_the_draws_of_a_domain_are_numbered_on_through_all_phases(phases: Phases, start: int) -> None:
    schedule = PhasedSchedule(phases)
    domain, draw = schedule.block(start, start + 600)
    for i, before in enumerate(schedule.counts(start)):
        assert (draw[domain == i] == before + np.arange((domain == i).sum())).all()


@given(weights=mixtures, start=st.integers(0, 10**9))
def test_a_single_phase_is_the_schedule_of_its_mixture(weights: list[float], start: int) -> None:
    ours, plain = PhasedSchedule([(0, weights)]), MixtureSchedule(weights)
    for one, other in zip(ours.block(start, start + 300), plain.block(start, start + 300), strict=True):
        assert (one == other).all()
    assert (ours.counts(start) == plain.counts(start)).all()


@given(change=st.integers(1, 30), sizes=st.lists(st.integers(1, 60), min_size=3, max_size=3), steps=st.integers(1, 20))
@settings(max_examples=30)
def test_up_to_a_change_the_order_is_that_of_the_first_mixture(change: int, sizes: list[int], steps: int) -> None:
    names, before, after = ["a", "b", "c"], [0.5, 0.3, 0.2], [0.1, 0.1, 0.8]
    static = GlobalOrder(names, before, sizes, 8, seed=1).steps(0, change + steps)
    changing = GlobalOrder(names, before, sizes, 8, seed=1, changes=[(change, after)])
    order = changing.steps(0, change + steps)
    for what in ("domain", "epoch", "item"):
        assert (getattr(order, what)[:change] == getattr(static, what)[:change]).all()
    for i, size in enumerate(sizes):  # through the change, no item comes back before its epoch is over
        seen = np.bincount(order.item[order.domain == i], minlength=size)
        assert seen.max() - seen.min() <= 1
    alone = changing.steps(change - 1, 2)
    assert (alone.item == order.item[change - 1 : change + 1]).all()


@pytest.mark.parametrize("firsts", [[], [5], [0, 0], [0, 9, 4]])
def test_phases_that_do_not_follow_each_other_are_refused(firsts: list[int]) -> None:
    with pytest.raises(ConfigError, match="phases begin at"):
        PhasedSchedule([(first, [1.0]) for first in firsts])


def test_the_order_of_a_phase_is_the_one_of_schedule_version_1() -> None:
    domain, draw = PhasedSchedule([(0, [0.5, 0.5, 0.0]), (6, [0.2, 0.3, 0.5])]).block(0, 16)
    assert domain.tolist() == [0, 1, 0, 1, 0, 1, 2, 1, 2, 0, 2, 1, 2, 0, 2, 1]
    assert draw.tolist() == [0, 0, 1, 1, 2, 2, 0, 3, 1, 3, 2, 4, 3, 4, 4, 5]
