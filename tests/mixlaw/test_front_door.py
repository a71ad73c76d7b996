"""`import mixlaw`: a dozen public names, imported when they are first used."""

import importlib
import inspect
import subprocess
import sys

import pytest

import mixlaw


def test_every_public_name_is_there_and_documented():
    for name in mixlaw.__all__:
        thing = getattr(mixlaw, name)
        assert name == "__version__" or inspect.getdoc(thing), name
    assert dir(mixlaw) == sorted(mixlaw.__all__)


def test_a_name_that_is_not_public_is_refused():
    with pytest.raises(AttributeError, match="has no attribute 'recomend'; public are Benchmarks, Comparison"):
        mixlaw.recomend  # noqa: B018


def test_importing_mixlaw_and_asking_for_help_imports_nothing_heavy():
    heavy = {"numpy", "pandas", "scipy", "matplotlib", "bokeh", "jinja2", "torch", "sklearn"}
    code = f"""
import sys
import mixlaw
assert not {heavy!r} & set(sys.modules), {heavy!r} & set(sys.modules)
from mixlaw.cli.main import main
try:
    main(["--help"])
except SystemExit:
    pass
assert not {heavy!r} & set(sys.modules), {heavy!r} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "recommend" in done.stdout


def test_the_lazy_names_are_those_that_type_checkers_see():
    source = inspect.getsource(mixlaw)
    for name in set(mixlaw.__all__) - {"__version__"}:
        home = mixlaw._HOMES[name]
        assert f"from {home} import" in source
        assert hasattr(importlib.import_module(home), name) or name == "examples"
