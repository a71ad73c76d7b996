"""A mixture that changes: its whole run, the run so far, its files, and what is refused."""

import pickle

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.errors import ConfigError
from mixlaw.mixture import Mixture
from mixlaw.phased_mixture import PhasedMixture

A, B = Mixture.of({"a": 0.9, "b": 0.1}), Mixture.of({"a": 0.2, "b": 0.8})


@st.composite
def phased(draw):
    count = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ends = np.append(np.sort(rng.uniform(0.01, 0.99, count - 1)), 1.0)
    return PhasedMixture(ends, [Mixture("abc", h) for h in rng.dirichlet(np.ones(3), count)])


@given(mixture=phased())
def test_the_whole_run_is_the_mean_over_tokens_and_json_keeps_everything(mixture):
    assert mixture.array == pytest.approx(np.array(mixture.shares) @ mixture.by_phase)
    assert PhasedMixture.from_json(mixture.to_json()) == mixture == pickle.loads(pickle.dumps(mixture))


@given(mixture=phased(), share=st.floats(0.01, 3.0))
def test_a_run_so_far_has_read_what_the_whole_run_read_until_then(mixture, share):
    so_far = mixture.at(share)
    ends = np.array([0.0, *mixture.ends[:-1], max(share, 1.0)])
    read = np.diff(np.minimum(ends, share)) @ mixture.by_phase
    assert so_far.array * share == pytest.approx(read, abs=1e-9)


def test_files_of_the_trainer_hold_the_phases():
    mixture = PhasedMixture([0.8, 1.0], [A, B])
    facts = yaml.safe_load(mixture.to_yaml())
    assert facts["phases"] == [{"until": 0.8, "weights": dict(A)}, {"until": 1, "weights": dict(B)}]
    override = "mixture.phases=[{until:0.8,weights:{a:0.9000,b:0.1000}},{until:1,weights:{a:0.2000,b:0.8000}}]"
    assert mixture.hydra_override() == override


def test_a_changing_mixture_differs_from_its_mean():
    mixture = PhasedMixture([0.5, 1.0], [A, B])
    assert mixture != Mixture.of(dict(mixture))
    assert mixture != PhasedMixture([0.4, 1.0], [A, B])
    assert len({mixture, PhasedMixture([0.5, 1.0], [A, B])}) == 1


@pytest.mark.parametrize(
    ("mixtures", "until", "error"),
    [
        ([A, B], [], "2 times --mixture and 0 times --until: give --until"),
        ([], [], "0 times --mixture"),
        ([A, B], [1.0], "phases end at 1, 1 of the run: the ends must increase"),
        ([A, B, A], [0.8, 0.3], "phases end at 0.8, 0.3, 1 of the run"),
        ([A, Mixture.of({"a": 1.0})], [0.5], "all phases must have the same domains"),
    ],
)
def test_phases_that_do_not_make_a_run_are_refused(mixtures, until, error):
    with pytest.raises(ConfigError, match=error):
        PhasedMixture.parse_phases(mixtures, until)
