"""Model selection: choose a law by its errors on held-out runs."""

from collections.abc import Mapping, Sequence

import pandas as pd

from mixlaw.laws.registry import get_law
from mixlaw.selection.candidates import PHASED, PREFERRED, REPEATING, n_free
from mixlaw.selection.paired import difference, mean_errors, on_shared_targets
from mixlaw.selection.splits import KINDS
from mixlaw.selection.trial import Trial

TIE = 1.02  # errors within this ratio are a tie, which the law with fewer parameters wins


def choose(mre: Mapping[str, float], parameters: Mapping[str, float], what: str) -> tuple[str, str]:
    """Choose a law by its error on held-out runs; return its name and the reason.

    The lowest mean relative error wins; of laws within 2 % of it, the one with the fewest parameters.

    Parameters
    ----------
    mre : law -> mean relative error [%]
    parameters : law -> number of free parameters
    what : description of the held-out runs
    """
    near = [law for law, error in mre.items() if error <= min(mre.values()) * TIE]
    best = min(near, key=lambda law: parameters[law])
    shown = ", ".join(f"{law} {error:.2f} %" for law, error in mre.items())
    tie = f"; {best} has the fewest parameters of those within 2 % of the lowest" if len(near) > 1 else ""
    return best, f"lowest mean MRE on {what}: {shown}{tie}"


def choose_law(trials: Sequence[Trial], names: list[str], k: int) -> tuple[str, str]:
    """Choose between fitted laws; return the name and the reason.

    Laws that do not depend on the mixture are considered only if no other law was fitted. The multiplicative law is
    the default, because it predicts best on most tables (`scripts/protocol.py`): another law replaces it only if a
    paired bootstrap over held-out runs finds that law better with 95 % confidence. If neither sizes nor the ends of
    runs could be held out, the default is the law with the fewest parameters.

    Parameters
    ----------
    trials : of all laws; empty if nothing could be held out
    names : the laws that were fitted to the whole table
    k : number of domains; 1 where the mixture never varies
    """
    considered = [name for name in names if k > 1 and get_law(name).mixes] or names
    if len(considered) == 1:
        return considered[0], "the only fitted law" + (" that depends on the mixture" if len(names) > 1 else "")
    refused = {law: why for trial in trials for law, why in trial.refused.items()}
    tried = [name for name in considered if trials and name not in refused]
    if not tried:
        fewest = min(considered, key=lambda name: n_free(name, k))
        return fewest, "fewest parameters; no runs could be held out to compare the laws on"
    name, reason = _by_errors(trials, tried, k)
    left = [f"{law} could not be tried ({refused[law]})" for law in considered if law in refused]
    return name, "; ".join([reason, *left])


def _by_errors(trials: Sequence[Trial], tried: list[str], k: int) -> tuple[str, str]:
    """Choose between laws that all trials have fitted."""
    errors = on_shared_targets({name: pd.concat([trial.errors(name) for trial in trials]) for name in tried})
    parameters = {name: n_free(name, k) for name in tried}
    what = ", and ".join(KINDS[trial.kind] for trial in trials)
    name, reason = choose(mean_errors(errors), parameters, what)
    default = _default(tried, {trial.kind for trial in trials}, k) or name
    if name == default:
        return name, reason
    gap = difference(errors[default], errors[name])
    if gap.significant:
        return name, f"{reason}; {name} is better than {default} with 95 % confidence ({gap})"
    return (
        default,
        f"{default} is the default; {reason}; {name} is not better than {default} with 95 % confidence ({gap})",
    )


def _default(tried: list[str], kinds: set[str], k: int) -> str | None:
    """Return the law that only a significantly better one replaces; None if the preferred law was not tried.

    If only mixtures were held out, the trial does not test extrapolation in N or D: the default is then the law with
    the fewest parameters.
    """
    preferred = next((name for name in tried if name.partition("-fixed")[0] in (PREFERRED, PHASED, REPEATING)), None)
    if preferred and kinds == {"mixture"} and get_law(preferred).uses & {"N", "D"}:
        return min(tried, key=lambda name: n_free(name, k))
    return preferred
