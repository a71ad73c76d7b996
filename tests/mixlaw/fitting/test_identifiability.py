"""Laws and parameters that a table cannot identify are refused or warned about before anything is fitted."""

import numpy as np
import pytest

from mixlaw.fitting.identifiability import check_identifiable, distinct
from mixlaw.laws.registry import get_law
from mixlaw.tables.check import check_frame
from tests.mixlaw.synthetic import study


def test_a_good_design_has_no_warnings():
    table = study("additive")
    assert check_identifiable(get_law("joint"), table) == []
    assert distinct(table) == (3, 3, 15)


def test_weights_that_rise_together_are_named():
    frame = study("additive").frame
    frame["weight_docs"] = frame["weight_code"] = frame["weight_code"] / 2
    frame["weight_web"] = 1 - 2 * frame["weight_code"]
    warnings = check_identifiable(get_law("additive"), check_frame(frame, "study"))
    assert any("'code' and 'docs' rise together in all runs" in w for w in warnings)
    assert not any("'web'" in w for w in warnings)


def test_two_domains_always_move_against_each_other_and_that_is_fine():
    frame = study("additive").frame.drop(columns="weight_web")
    frame["weight_docs"] = 1 - frame["weight_code"]
    assert not any("rise together" in w for w in check_identifiable(get_law("additive"), check_frame(frame, "study")))


@pytest.mark.parametrize("law", ["linear", "ye-m4", "additive-fixed-nd"])
def test_laws_of_the_mixture_alone_need_no_sizes_and_no_tokens(law):
    table = study("additive")
    one = table.rows((table.frame["n_params"] == 1e8) & np.isclose(table.frame["n_tokens"], 1e10))
    assert check_identifiable(get_law(law), one) == []
