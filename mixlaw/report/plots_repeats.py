"""The figure of repeated data: the predicted loss of a big run over the epochs of the domains that it repeats."""

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from mixlaw.advice.recommendation import Recommendation
from mixlaw.advice.repeats import Scarcity
from mixlaw.errors import ConfigError
from mixlaw.report.plots_laws import axes, colours, legend_above, short
from mixlaw.tables.units import axis

FEW = (1.0, 2.0, 5.0)  # ticks per decade
MOST_DOMAINS = 4  # curves; those with the most epochs


def epochs(ax: Axes | None, answer: Recommendation, found: Scarcity | None) -> Axes:
    """Draw the loss over the epochs of each repeated domain, the others keeping their proportions of h*.

    At most four domains are drawn. The band is the interval over resampled laws; the dashed line is the loss if all
    tokens of the domain were fresh.

    Raises
    ------
    ConfigError
        If h* repeats no domain, or the law does not know repetition.
    """
    if not (found and found.curves):
        raise ConfigError(
            "there are no repeated domains to draw: state the tokens of scarce ones with --available D=TOKENS, and fit "
            "multiplicative-repeats"
        )
    ax, targets = axes(ax), list(answer.question.targets)
    shown = sorted(found.curves, key=lambda domain: -answer.epochs[domain])[:MOST_DOMAINS]
    for domain, colour in colours(shown).items():
        curve, many = found.curves[domain], answer.epochs[domain]
        ax.plot(curve["epochs"], curve["loss"], color=colour, label=f"{short(domain)}, repeated")
        ax.fill_between(curve["epochs"], curve["low"], curve["high"], color=colour, alpha=0.13, lw=0)
        ax.plot(curve["epochs"], curve["fresh"], "--", color=colour, label=f"{short(domain)}, if all were fresh")
        best = float(curve["loss"].iloc[(curve["epochs"] - many).abs().argmin()])
        ax.plot(many, best, "*", ms=14, mec="white", color=colour, label=f"h*: {many:.1f} epochs", zorder=4)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(10, FEW))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    what = "mean" if len(targets) > 1 else short(targets[0])
    ax.set(xlabel="epochs of the domain in the big run", ylabel=axis("predicted", answer.unit, what))
    ax.set_title("Loss over epochs")
    legend_above(ax, columns=3)
    return ax
