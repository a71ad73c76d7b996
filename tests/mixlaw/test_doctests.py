"""The examples in the fitter's docstrings run and give what they say."""

import doctest
import importlib
import pkgutil

import pytest

import mixlaw
from mixlaw.laws.registry import LAWS

MODULES = [
    module.name
    for module in pkgutil.walk_packages(mixlaw.__path__, "mixlaw.")
    if not module.name.endswith("__main__")  # importing it runs the command
]


@pytest.fixture
def same_laws():
    """Forget the laws that examples register."""
    before = dict(LAWS)
    yield
    LAWS.clear()
    LAWS.update(before)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_give_what_they_say(name, same_laws):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_there_are_examples_of_how_to_fit_and_how_to_add_a_law():
    found = {
        name: doctest.DocTestFinder().find(importlib.import_module(name))
        for name in ("mixlaw.fitting.estimator", "mixlaw.laws.registry")
    }
    assert all(any(test.examples for test in tests) for tests in found.values())
