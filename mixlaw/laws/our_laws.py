"""Our own laws: multiplicative and coupled, also for phases and for repeated data, and laws of forgetting."""

from mixlaw.laws.exposure import Exposed
from mixlaw.laws.forgetting import injected, saturating
from mixlaw.laws.law import Law
from mixlaw.laws.multiplicative import Coupled, Emergence, Shares, Usefulness, WarmDecay, coupling
from mixlaw.laws.published import Formula
from mixlaw.laws.repetition import EffectiveDecay, FreshDecay, OfShares, Repeated
from mixlaw.laws.terms import Constant, exponent
from mixlaw.laws.tree import Decay, Nested, Product, Sum

_E = Constant("E", near=(0.5, 0.5))
_N = Product(Constant("A"), Decay("N", exponent("alpha")))
_WARM_D = Product(Constant("B"), WarmDecay("beta", "D0"))
_RESOURCES = Coupled(coupling("q"), _N, _WARM_D)
_FLOORS = Shares("b", 0.2)
_MIXTURE = Sum(_FLOORS, Product(Emergence("D1"), Usefulness()))
_MIXED_E = Product(_E, Shares("e", 0.05))
_SEEN, _SEEN_FLOORS = Exposed(Usefulness()), Exposed(_FLOORS, free=False)
_SEEN_MIXTURE = Sum(_SEEN_FLOORS, Product(Emergence("D1"), _SEEN))
_SEEN_E = Product(_E, Exposed(Shares("e", 0.05), free=False))
_EFFECTIVE_D = Product(Constant("B"), EffectiveDecay("beta", "D0"))
_EFFECTIVE = Coupled(coupling("q"), _N, _EFFECTIVE_D)
_FRESH, _FRESH_MIXTURE = FreshDecay("beta", Constant("B")), Sum(OfShares(_FLOORS), Usefulness())  # at one D
_EFFECTIVE_MIXTURE = Sum(OfShares(_FLOORS), Product(Emergence("D1"), Usefulness()))
_OURS = "this project, 2026: mixlaw/laws/multiplicative.py"
_EXPOSED = (
    "m_i = (sum_p (t_p^r - t_(p-1)^r) h_pi^s)^(1/s) over the phases p of a run, which end at the shares t_p of D; "
    "h is the mixture of the whole run; convex in h_p of all phases together"
)
_REPEATED = (
    "of domain i of U_i tokens v_i h_i D count, v_i = 1/(1 + z_i^p), z_i = (h_i D/U_i - 1)/R h_i^sigma (N/D)^delta; "
    "needs available_<domain>; not convex in h in general"
)


def _phased(form: str, formula: str, term: Nested) -> Law:
    """Return a form of the multiplicative law for runs that change their mixture."""
    static, source = f"multiplicative{form}", "this project, 2026: mixlaw/laws/exposure.py"
    return Law(f"multiplicative-phases{form}", formula, source, term, contains=static, remark=_EXPOSED)


def _repeats(static: str, form: str, formula: str, term: Nested, contains: bool = True) -> Law:
    """Return a form of a law for runs that repeat domains; `static` is the law of fresh tokens."""
    source, fresh = "this project, 2026: mixlaw/laws/repetition.py", static + form if contains else None
    one = static == "coupled"
    return Law(f"{static}-repeats{form}", formula, source, term, pools_only=one, contains=fresh, remark=_REPEATED)


OUR_LAWS: tuple[Law, ...] = (
    Law(
        "multiplicative",
        "E sum e_i h_i + R(N, D) (sum b_i h_i + D/(D + D1) / sum C_i h_i^gamma)",
        _OURS,
        Sum(_MIXED_E, Product(_RESOURCES, _MIXTURE)),
        remark="R = ((A/N^alpha)^q + (B/D~^beta)^q)^(1/q), D~ = D - D0; convex in h",
    ),
    Law(
        "multiplicative-fixed-n",
        "E sum e_i h_i + R(D) (sum b_i h_i + D/(D + D1) / sum C_i h_i^gamma)",
        _OURS,
        Sum(_MIXED_E, Product(Coupled(coupling("q"), Constant("A"), _WARM_D), _MIXTURE)),
        remark="R = (A^q + (B/D~^beta)^q)^(1/q), D~ = D - D0; convex in h",
    ),
    Law(
        "multiplicative-fixed-d",
        "E sum e_i h_i + R(N) (sum b_i h_i + 1/sum C_i h_i^gamma)",
        _OURS,
        Sum(_MIXED_E, Product(Coupled(coupling("q"), _N, Constant("B")), Sum(_FLOORS, Usefulness()))),
        remark="R = ((A/N^alpha)^q + B^q)^(1/q); convex in h",
    ),
    Law(
        "multiplicative-fixed-nd",
        "A (sum b_i h_i + 1/sum C_i h_i^gamma)",
        _OURS,
        Product(Constant("A"), Sum(_FLOORS, Usefulness())),
        remark="convex in h",
    ),
    _phased(
        "",
        "E sum e_i h_i + R(N, D) (sum b_i h_i + D/(D + D1) / sum C_i m_i^gamma)",
        Sum(_SEEN_E, Product(_RESOURCES, _SEEN_MIXTURE)),
    ),
    _phased(
        "-fixed-n",
        "E sum e_i h_i + R(D) (sum b_i h_i + D/(D + D1) / sum C_i m_i^gamma)",
        Sum(_SEEN_E, Product(Coupled(coupling("q"), Constant("A"), _WARM_D), _SEEN_MIXTURE)),
    ),
    _phased(
        "-fixed-d",
        "E sum e_i h_i + R(N) (sum b_i h_i + 1/sum C_i m_i^gamma)",
        Sum(_SEEN_E, Product(Coupled(coupling("q"), _N, Constant("B")), Sum(_SEEN_FLOORS, _SEEN))),
    ),
    _phased("-fixed-nd", "A (sum b_i h_i + 1/sum C_i m_i^gamma)", Product(Constant("A"), Sum(_SEEN_FLOORS, _SEEN))),
    _repeats(
        "multiplicative",
        "",
        "E sum e_i h_i + R(N, D_v) (sum b_i h~_i + D/(D + D1) / sum C_i (v_i h_i)^gamma)",
        Sum(_MIXED_E, Repeated(Product(_EFFECTIVE, _EFFECTIVE_MIXTURE))),
    ),
    _repeats(
        "multiplicative",
        "-fixed-n",
        "E sum e_i h_i + R(D_v) (sum b_i h~_i + D/(D + D1) / sum C_i (v_i h_i)^gamma)",
        Sum(
            _MIXED_E,
            Repeated(Product(Coupled(coupling("q"), Constant("A"), _EFFECTIVE_D), _EFFECTIVE_MIXTURE)),
        ),
    ),
    _repeats(
        "multiplicative",
        "-fixed-d",
        "E sum e_i h_i + R(N, sum v_i h_i) (sum b_i h~_i + 1/sum C_i (v_i h_i)^gamma)",
        Sum(_MIXED_E, Repeated(Product(Coupled(coupling("q"), _N, _FRESH), _FRESH_MIXTURE))),
    ),
    _repeats(
        "multiplicative",
        "-fixed-nd",
        "A (sum v_i h_i)^-beta (sum b_i h~_i + 1/sum C_i (v_i h_i)^gamma)",
        Repeated(Product(FreshDecay("beta", Constant("A")), _FRESH_MIXTURE)),
    ),
    _repeats("coupled", "", "E + ((A/N^alpha)^q + (B/D_v~^beta)^q)^(1/q)", Sum(_E, Repeated(_EFFECTIVE))),
    _repeats("coupled", "-fixed-n", "E + B/D_v~^beta", Sum(_E, Repeated(_EFFECTIVE_D)), contains=False),
    _repeats(
        "coupled",
        "-fixed-d",
        "E + ((A/N^alpha)^q + (B/(sum v_i h_i)^beta)^q)^(1/q)",
        Sum(_E, Repeated(Coupled(coupling("q"), _N, _FRESH))),
        contains=False,
    ),
    Law(
        "coupled",
        "E + ((A/N^alpha)^q + (B/D~^beta)^q)^(1/q)",
        _OURS,
        Sum(_E, _RESOURCES),
        remark="D~ = D - D0; the multiplicative law without a mixture",
    ),
    Law(
        "forgetting-injected",
        "L_before + A D^beta/((1 + B D h_t)^gamma N^alpha)",
        "this project, 2026: mixlaw/laws/forgetting.py",
        Sum(
            Formula(
                injected,
                ("N", "D", "share", "before"),
                convex_in_h=True,
                A=(1e-6, 3e3),
                beta=(0.01, 2),
                alpha=(0.001, 2),
                B=(1e-2, 1e6),
                gamma=(0.01, 4),
            )
        ),
        remark="needs before_<target>, the loss before finetuning; convex in h",
    ),
    Law(
        "forgetting-saturating",
        "L_before + (E - kappa L_before)/(1 + (D1/D)^beta (1 + B D h_t)^gamma)",
        "this project, 2026: mixlaw/laws/forgetting.py",
        Sum(
            Formula(
                saturating,
                ("D", "share", "before"),
                E=(0.1, 10),
                kappa=(0.2, 3),
                beta=(0.01, 2),
                D1=(1e-3, 1e3),
                B=(1e-2, 1e6),
                gamma=(0.01, 4),
            )
        ),
        remark="needs before_<target>, the loss before finetuning; the rise is at least 0; convexity in h is not known",
    ),
)
