"""Splits: what is held out is larger, unseen, or later than what is fitted."""

import numpy as np
import pytest

from mixlaw.errors import FitError
from mixlaw.selection.splits import KINDS, default_kind, held_out
from tests.mixlaw.synthetic import study


def test_scale_holds_out_the_largest_size():
    table = study("base")
    held = held_out(table, "scale")
    assert table.frame["n_params"][held].unique().tolist() == [5e8]
    assert table.frame["n_params"][~held].max() == 1e8


def test_mixture_holds_out_a_fifth_of_the_mixtures_with_all_their_runs():
    table = study("base")
    held = held_out(table, "mixture")
    seen, unseen = (np.unique(table.mixtures[rows], axis=0) for rows in (~held, held))
    assert (len(seen), len(unseen)) == (12, 3)
    assert not {tuple(h) for h in seen} & {tuple(h) for h in unseen}


def test_tokens_holds_out_the_end_of_every_run():
    table = study("base", tokens=(1e9, 5e9, 7e9, 1e10))
    held = held_out(table, "tokens")
    assert table.frame["n_tokens"][held].unique().tolist() == [7e9, 1e10]
    assert table.frame["run_id"][held].nunique() == table.frame["run_id"].nunique()


def test_three_sizes_are_needed_to_hold_out_one():
    assert default_kind(study("base")) == "scale"
    assert default_kind(study("base", sizes=(1e8, 5e8))) == "mixture"


def test_of_fewer_mixtures_than_folds_the_last_is_held_out():
    table = study("base", n_mixtures=3)
    assert len(np.unique(table.mixtures[held_out(table, "mixture")], axis=0)) == 1
    folds = [held_out(table, "mixture", fold) for fold in range(3)]
    assert np.sum(folds, axis=0).tolist() == [1] * len(table.frame)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_table_with_nothing_to_hold_out_is_refused(kind):
    one = study("base", n_mixtures=1, sizes=(1e8,), tokens=(1e9,))
    with pytest.raises(FitError, match=f"--holdout {kind}: the table has nothing to hold out"):
        held_out(one, kind)


def test_an_unknown_split_is_refused_with_the_near_match():
    with pytest.raises(FitError, match=r"unknown kind 'scales'; did you mean 'scale'\?"):
        held_out(study("base"), "scales")
