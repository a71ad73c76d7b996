"""The laws that ship with mixlaw, each with its formula and its source: of papers here, our own in `our_laws.py`."""

from mixlaw.laws.dai_zheng import Capacity
from mixlaw.laws.forgetting import forgetting
from mixlaw.laws.law import Law
from mixlaw.laws.our_laws import OUR_LAWS
from mixlaw.laws.published import (
    Exponential,
    Formula,
    Scheffe,
    SharePower,
    SumOfExponentials,
    autoscale,
    data_constrained,
    exponential_of_product,
    finite_pool,
)
from mixlaw.laws.terms import Constant, InverseSum, Number, PowerOfSum, Term, exponent
from mixlaw.laws.tree import Decay, Product, Sum


def _over(symbol: str, of: str, rate: str) -> Product:
    """A / N^alpha."""
    return Product(Constant(symbol), Decay(of, exponent(rate)))


def _mixed_over(symbol: str, of: str, rate: Term) -> Product:
    """(sum_i C_i h_i)^gamma / N^alpha."""
    return Product(PowerOfSum(symbol), Decay(of, rate))


def _rate(symbol: str) -> PowerOfSum:
    """An exponent that is itself a power of a sum."""
    return PowerOfSum(symbol, exponent(symbol).limits, (-1.0, 1.0), 0.3)


_N, _D = _over("A", "N", "alpha"), _over("B", "D", "beta")
_E = Constant("E", near=(0.5, 0.5))
_HOFFMANN = "Hoffmann et al. 2022, arXiv 2203.15556"
_PAPER = "Shukor et al. 2025, arXiv 2507.09404"
_YE = "Ye et al. 2024, arXiv 2403.16952, as listed by Shukor et al. 2025, appendix B.1"
_SUM_CONVEX = "convex in h where every gamma_i <= 1"

SHIPPED: tuple[Law, ...] = (
    Law("base", "E + A/N^alpha + B/D^beta", _HOFFMANN, Sum(_E, _N, _D)),
    Law("base-fixed-n", "E + B/D^beta", f"{_HOFFMANN}, at one N", Sum(_E, _D)),
    Law("base-fixed-d", "E + A/N^alpha", f"{_HOFFMANN}, at one D", Sum(_E, _N)),
    Law(
        "additive",
        "E + 1/sum C_i h_i^gamma_i + A/N^alpha + B/D^beta",
        f"{_PAPER}, eq. 2.4",
        Sum(_E, InverseSum(), _N, _D),
        remark=f"{_SUM_CONVEX}; its optimum is the same at every N and D",
    ),
    Law(
        "joint",
        "E + 1/sum C_i h_i^gamma_i + (sum CA_i h_i)^gammaA/N^alpha + (sum CB_i h_i)^gammaB/D^beta",
        f"{_PAPER}, eq. 2.5",
        Sum(_E, InverseSum(), _mixed_over("A", "N", exponent("alpha")), _mixed_over("B", "D", exponent("beta"))),
        contains="additive",
        remark=f"{_SUM_CONVEX}, and gammaA and gammaB are outside of (0, 1)",
    ),
    Law(
        "simple",
        "E + (sum C_i h_i)^gamma + A/N^alpha + B/D^beta",
        f"{_PAPER}, eq. 6.1",
        Sum(_E, PowerOfSum(), _N, _D),
        remark="convex in h where gamma is outside of (0, 1)",
    ),
    Law(
        "full",
        "E + 1/sum C_i h_i^gamma_i + A(h)/N^alpha(h) + B(h)/D^beta(h)",
        f"{_PAPER}, eq. 6.2-6.3",
        Sum(_E, InverseSum(), _mixed_over("A", "N", _rate("alpha")), _mixed_over("B", "D", _rate("beta"))),
        contains="joint",
        remark="not convex in h in general; in another unit of N or D it is another law",
    ),
    Law(
        "additive-fixed-nd",
        "E + 1/sum C_i h_i^gamma_i",
        f"{_PAPER}, eq. B.1",
        Sum(_E, InverseSum()),
        remark=_SUM_CONVEX,
    ),
    Law(
        "additive-fixed-n",
        "E + 1/sum C_i h_i^gamma_i + B/D^beta",
        f"{_PAPER}, eq. B.2",
        Sum(_E, InverseSum(), _D),
        remark=_SUM_CONVEX,
    ),
    Law(
        "joint-fixed-n",
        "E + 1/sum C_i h_i^gamma_i + (sum CB_i h_i)^gammaB/D^beta",
        f"{_PAPER}, eq. 2.5 at one N",
        Sum(_E, InverseSum(), _mixed_over("B", "D", exponent("beta"))),
        contains="additive-fixed-n",
        remark=f"{_SUM_CONVEX}, and gammaB is outside of (0, 1)",
    ),
    Law(
        "additive-fixed-d",
        "E + 1/sum C_i h_i^gamma_i + A/N^alpha",
        f"{_PAPER}, eq. 2.4 at one D",
        Sum(_E, InverseSum(), _N),
        remark=f"{_SUM_CONVEX}; its optimum is the same at every N",
    ),
    Law(
        "joint-fixed-d",
        "E + 1/sum C_i h_i^gamma_i + (sum CA_i h_i)^gammaA/N^alpha",
        f"{_PAPER}, eq. 2.5 at one D",
        Sum(_E, InverseSum(), _mixed_over("A", "N", exponent("alpha"))),
        contains="additive-fixed-d",
        remark=f"{_SUM_CONVEX}, and gammaA is outside of (0, 1)",
    ),
    *OUR_LAWS,
    Law("ye-m1", "E + sum C_i exp(t_i h_i)", _YE, Sum(_E, SumOfExponentials()), remark="convex in h"),
    Law(
        "ye-m2",
        "E + C sum exp(t_i h_i)",
        _YE,
        Sum(_E, Product(Constant("C"), SumOfExponentials(free=False))),
        remark="convex in h",
    ),
    Law(
        "ye-m3",
        "E + C exp(prod t_i h_i)",
        _YE,
        Sum(_E, Product(Constant("C"), Formula(exponential_of_product, "h", ("t",), t=(-10, 10)))),
        remark="only the product of the t_i is identified; the form could not be checked against the source's own text",
    ),
    Law(
        "ye-m4",
        "E + C exp(sum t_i h_i)",
        _YE + " (the data mixing law; olmix's log-linear law)",
        Sum(_E, Product(Constant("C"), Exponential())),
        remark="convex in h; C and a common shift of all t_i are one parameter",
    ),
    Law(
        "linear",
        "sum b_i h_i",
        "Scheffe 1958, J. R. Stat. Soc. B 20; RegMix's linear baseline",
        Sum(Scheffe(1)),
        remark="convex in h; its optimum is a corner. An intercept would not be identified, because weights sum to one",
    ),
    Law(
        "scheffe",
        "sum b_i h_i + sum_{i<j} b_ij h_i h_j",
        "Scheffe 1958, J. R. Stat. Soc. B 20",
        Sum(Scheffe(2)),
        remark="convex in h where its Hessian is positive on the simplex",
    ),
    Law(
        "bimix",
        "(B/D^beta + C)/h_t^a",
        "Ge et al. 2024, arXiv 2405.14908, as given by Shukor et al. 2025, appendix B.2",
        Product(SharePower("a", -1), Sum(Constant("C"), _D)),
        remark="h_t is the target's own weight, of a training domain; convex in h; B and C contain the source's A",
    ),
    Law(
        "d-cpt",
        "E + A/N^alpha + B h_t^eta/D^beta + C/(h_t + eps)^gamma",
        "Que et al. 2024, arXiv 2406.01375",
        Sum(
            _E,
            _N,
            Product(Constant("B"), SharePower("eta", 1), Decay("D", exponent("beta"))),
            Product(Constant("C"), SharePower("gamma", -1, shifted=True)),
        ),
        remark="h_t is the target's own weight; not convex in h where eta < 1",
    ),
    Law(
        "autoscale",
        "E + sum (N0_i + h_i D)^-gamma_i",
        "Kang et al. 2024, arXiv 2407.20177, as olmix implements it",
        Sum(_E, Formula(autoscale, "hD", ("N0", "gamma"), convex_in_h=True, N0=(1.0, 1e13), gamma=(0.005, 1))),
        remark="D in raw tokens: its terms have no prefactor; convex in h",
    ),
    Law(
        "dai-zheng-1",
        "c_i x_i(h, N)^-b_i + E_i",
        "Dai and Zheng 2026, arXiv 2606.08167, eq. 1",
        Sum(Capacity(noise=False)),
        joint_targets=True,
        remark="training domains only; for its target weights w the optimum is h = w",
    ),
    Law(
        "dai-zheng-3",
        "c_i x_i(h, N)^-b_i + A_i (D h_i)^-a_i + E_i",
        "Dai and Zheng 2026, arXiv 2606.08167, eq. 3",
        Sum(Capacity()),
        joint_targets=True,
        remark="training domains only; their own loss must be fitted with weights above 0",
    ),
    Law(
        "muennighoff",
        "E + A/N'^alpha + B/D'^beta, N' and D' the worth of repeated N and D",
        "Muennighoff et al. 2023, arXiv 2305.16264; U_N as in the authors' repository datablations",
        Sum(
            _E,
            Formula(
                data_constrained,
                ("N", "D", "h", "available"),
                A=(1e-6, 3e3),
                alpha=(0.01, 1),
                B=(1e-6, 3e3),
                beta=(0.01, 1),
                R_D=(0.1, 1e3),
                R_N=(0.1, 1e3),
            ),
        ),
        pools_only=True,
        remark="needs available_<domain>, or unique_tokens where nothing is mixed; a mixture's unique tokens are "
        "sum min(h_i D, available_i), our extension",
    ),
    Law(
        "sedova",
        "E + C/N^beta + B N^delta/D_eff^alpha + gamma h_t",
        "Sedova et al. 2026, arXiv 2605.12715",
        Sum(
            _E,
            Formula(
                finite_pool,
                ("N", "D", "h", "share", "available"),
                convex_in_h=True,
                C=(1e-6, 3e3),
                beta=(0.01, 1),
                B=(1e-6, 3e3),
                delta=(-1, 1),
                alpha=(0.01, 1),
                gamma=(0, 10),
                tau=(1e-3, 1e3),
                r1=(0.1, 1e3),
            ),
        ),
        remark="needs available_<target>; until the pool is used up its tokens count in full, our reading; convex in h",
    ),
    Law(
        "forgetting",
        "L_before + A D^beta/((1 + B h_t) N)^alpha",
        "Bethune et al. 2025, arXiv 2502.06042, eq. 7",
        Sum(
            Formula(
                forgetting,
                ("N", "D", "share", "before"),
                convex_in_h=True,
                A=(1e-6, 3e3),
                beta=(0.01, 2),
                alpha=(0.01, 2),
                B=(1e-2, 1e6),
            )
        ),
        remark="needs before_<target>, the loss before finetuning; without the E of some accounts; convex in h",
    ),
    Law(
        "moe",
        "E + A/N^alpha + B/D^beta + C/(1-S)^lambda + F/((1-S)^delta N^gamma)",
        "Abnar et al. 2025, arXiv 2501.12370, eq. 6",
        Sum(
            _E,
            _N,
            _D,
            Product(Constant("C"), Decay("active", Number("lambda", (-1.0, 1.0)))),
            Product(Constant("F"), Decay("active", exponent("delta")), Decay("N", exponent("gamma"))),
        ),
        remark="needs sparsity, the share of inactive experts; N is the total; the published lambda is below 0",
    ),
)
