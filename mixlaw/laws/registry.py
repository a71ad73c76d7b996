"""The laws: loss as a function of model size N, tokens D and mixture h. Fitting is in `mixlaw.fitting`.

The paper's laws ("Scaling Laws for Optimal Data Mixtures", Shukor et al. 2025, arXiv 2507.09404, sections 2, 6 and
appendix B) are

    L = E + M(h) + A(h) / N^alpha(h) + B(h) / D^beta(h)

where each of E, M, A, B, alpha and beta is absent, a constant, or one of two functions of the mixture:

    inverse sum     1 / sum_i C_i h_i^gamma_i          2k parameters: C_i, gamma_i
    power of sum    (sum_i C_i h_i)^gamma              k + 1 parameters: C_i, gamma

Other published laws follow, each with its source. A law is a tree of terms (`terms`, `published`,
`dai_zheng`); add your own with `register`:

>>> from mixlaw.laws.published import Formula
>>> from mixlaw.laws.tree import Sum
>>> def expression(p, x):
...     return p.E + p.B * np.exp(-p.beta * x.log_d) * (1 - p.s * x.h[..., 0, :])
>>> term = Formula(expression, "Dh", E=(0.1, 10), B=(0.01, 10), beta=(0.01, 1), s=(0, 1))
>>> register(Law("mine", "E + B (1 - s h_1) / D^beta", "my notebook", Sum(term))).n_free(k=3)
4

Then `LawFit("mine")` fits it, and `--law mine` works in every command of the same process.
"""

import copyreg

from mixlaw.errors import ConfigError, unknown_name
from mixlaw.laws.law import Law
from mixlaw.laws.shipped import SHIPPED

LAWS: dict[str, Law] = {law.name: law for law in SHIPPED}


def register(law: Law) -> Law:
    """Add a law to the registry.

    Raises
    ------
    ConfigError
        If another formula is registered under the same name.
    """
    if law.name in LAWS and LAWS[law.name].formula != law.formula:
        raise ConfigError(f"the law '{law.name}' exists already ({LAWS[law.name].formula}): choose another name")
    LAWS[law.name] = law
    return law


def get_law(name: str) -> Law:
    """Return a law by name.

    Raises
    ------
    ConfigError
        If it is unknown; suggests the nearest name and lists all laws.
    """
    if name not in LAWS:
        raise ConfigError(unknown_name("law", name, LAWS))
    return LAWS[name]


copyreg.pickle(Law, lambda law: (get_law, (law.name,)))  # formulas hold lambdas: a law goes between processes by name
