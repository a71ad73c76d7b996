"""mixlaw: scaling laws for data mixtures. Train small, fit L(N, D, h), recommend the mixture of the big run.

>>> import mixlaw
>>> table = mixlaw.examples.load("text")
>>> laws = mixlaw.fit_laws(table, "additive", n_starts=2, n_bootstrap=4)
>>> answer = mixlaw.recommend(laws, n_params=7e9, n_tokens=150e9)
>>> sorted(answer.weights)
['code', 'dialogue', 'dict', 'docs']

The names in `__all__` are public; each is imported when it is first used, so that `import mixlaw` takes milliseconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mixlaw.version import __version__

if TYPE_CHECKING:
    from mixlaw import forecast
    from mixlaw.advice.recommend import recommend
    from mixlaw.advice.recommendation import Recommendation
    from mixlaw.benchmarks.fit_benchmarks import fit_benchmarks
    from mixlaw.benchmarks.saved import Benchmarks
    from mixlaw.export.exported import export_mixture
    from mixlaw.fitting.estimator import LawFit
    from mixlaw.fitting.fitted import FittedLaw
    from mixlaw.fitting.saved import FittedLaws
    from mixlaw.laws.registry import register
    from mixlaw.mixture import Mixture
    from mixlaw.report.notebook import show
    from mixlaw.runs.load import load_runs
    from mixlaw.selection.compare import Comparison, compare
    from mixlaw.selection.fit_laws import fit_laws
    from mixlaw.tables import examples
    from mixlaw.tables.read import read_table

__all__ = [
    "Benchmarks",
    "Comparison",
    "FittedLaw",
    "FittedLaws",
    "LawFit",
    "Mixture",
    "Recommendation",
    "__version__",
    "compare",
    "examples",
    "export_mixture",
    "fit_benchmarks",
    "fit_laws",
    "forecast",
    "load_runs",
    "read_table",
    "recommend",
    "register",
    "show",
]
_MODULES = ("examples", "forecast")
_HOMES = {
    "Benchmarks": "mixlaw.benchmarks.saved",
    "Comparison": "mixlaw.selection.compare",
    "FittedLaw": "mixlaw.fitting.fitted",
    "FittedLaws": "mixlaw.fitting.saved",
    "LawFit": "mixlaw.fitting.estimator",
    "Mixture": "mixlaw.mixture",
    "Recommendation": "mixlaw.advice.recommendation",
    "compare": "mixlaw.selection.compare",
    "examples": "mixlaw.tables",
    "export_mixture": "mixlaw.export.exported",
    "fit_benchmarks": "mixlaw.benchmarks.fit_benchmarks",
    "fit_laws": "mixlaw.selection.fit_laws",
    "forecast": "mixlaw",
    "load_runs": "mixlaw.runs.load",
    "read_table": "mixlaw.tables.read",
    "recommend": "mixlaw.advice.recommend",
    "register": "mixlaw.laws.registry",
    "show": "mixlaw.report.notebook",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mixlaw' has no attribute {name!r}; public are {', '.join(__all__)}")
    home = import_module(_HOMES[name])
    return import_module(f"{home.__name__}.{name}") if name in _MODULES else getattr(home, name)


def __dir__() -> list[str]:
    return __all__
