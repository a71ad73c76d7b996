"""A recommendation as tables of text and as sentences, for the report and for notebooks."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mixlaw.advice.constraints import RECOMMENDED, WORST
from mixlaw.advice.recommendation import Recommendation, records
from mixlaw.report.worth import balance, optimal_size, worth
from mixlaw.tables.units import NATS, axis, brackets, difference, kind_of
from mixlaw.text import count_text, percent, price, span

MOST_LOSERS = 6  # targets that are named as worse than one baseline; more are counted
FLATTEST = 3  # domains in the sentence about the flat frontier
MOST_NAMED = 6  # targets; more of equal weight are only counted
WORDS = {  # the glossary of the report
    "h*": "the recommended mixture: the share of the training tokens that each domain should have",
    "90 % interval": "bootstrap interval: laws are refitted to resampled whole runs, and 90 % of these fits lie inside."
    " Intervals of losses include the noise of single runs",
    "equally good": "flat frontier: the range of one weight, the others re-optimised, in which the loss rises by less"
    " than the noise of one run",
    "compute-equivalent gain": "how many times the tokens (at the same N) or the FLOPs (each at its best N) a"
    " baseline needs to reach the loss of h*",
    "regret": "the increase of the big run's loss if it is trained on the optimal mixture of a smaller run",
    "cost of a limit": "the increase of the predicted loss that the limit causes",
    "gradient": "the change of the loss per 1 % more of a domain, at the uniform mixture",
    "mean relative error": "mean of |predicted / measured - 1| over losses [%]; bias is the mean with sign",
}


def weights_table(answer: Recommendation) -> pd.DataFrame:
    """Return, as text, one row per domain: h*, its interval, its flat frontier, and the baseline mixtures."""
    domains, rows = answer.table, []
    for row in domains.to_dict("records"):
        shown = {"domain": row["domain"], "h*": percent(row["weight"])}
        shown[answer.interval_name] = span(row["low"], row["high"])
        if epochs := answer.epochs:
            shown["epochs"] = f"{epochs[row['domain']]:.1f}" if row["domain"] in epochs else ""
        if "flat_low" in row:
            shown["equally good"] = span(row["flat_low"], row["flat_high"])
        if "unconstrained" in row:
            shown["without limits"] = percent(row["unconstrained"])
        rows.append(shown | {name: percent(h[row["domain"]]) for name, h in answer.baselines.items()})
    return pd.DataFrame(rows)


def outcomes_table(answer: Recommendation) -> pd.DataFrame:
    """Return, per mixture, the predicted loss and the gain of h* over it, each with its 90 % interval."""
    rows, unit = [], answer.unit
    level = "predicted loss" if unit == NATS else axis("predicted", unit)
    for row in records(answer.outcomes):
        gain = f"{row['gain']:+.4f} ({row['gain_low']:+.4f} to {row['gain_high']:+.4f})" if "gain" in row else ""
        interval = f"{row['low']:.4f} to {row['high']:.4f}"
        rows.append(
            {
                "mixture": row["mixture"],
                level: f"{row['predicted']:.4f}",
                answer.interval_name: interval,
                "gain of h* over it": "" if row["mixture"] == "recommended" else gain,
            }
        )
    return pd.DataFrame(rows)


def scores_table(answer: Recommendation) -> pd.DataFrame:
    """Return, as text, a row per benchmark and a column per mixture; a dash where the score is not predictable."""
    wide: dict[str, dict[str, str]] = {}
    for row in records(answer.scores):
        shown = "-" if row["reason"] else f"{percent(row['score'])} ({span(row['low'], row['high'])})"
        wide.setdefault(row["benchmark"], {"benchmark": row["benchmark"]})[row["mixture"]] = shown
    return pd.DataFrame(list(wide.values()))


def scores_sentences(answer: Recommendation) -> list[str]:
    """Return a sentence for each benchmark that is not predictable under every mixture, with the first reason."""
    said = []
    for name, rows in answer.scores.groupby("benchmark", sort=False):
        without = rows[rows["reason"] != ""]
        if len(without):
            everywhere = len(without) == len(rows) and without["reason"].nunique() == 1
            where = "" if everywhere else f" under {', '.join(without['mixture'])}"
            said.append(f"{name} is not predictable{where}: {without['reason'].iloc[0]}")
    return said


def prices_table(answer: Recommendation) -> pd.DataFrame:
    """Return the cost of every active limit, the largest first; empty where none costs anything."""
    rows = []
    for row in sorted(records(answer.prices), key=lambda row: -float(row["cost"])):
        shares = {"weight": row["weight"], "weight without it": row["weight_without"]}
        known = {name: "" if pd.isna(w) else percent(w) for name, w in shares.items()}  # a group has no single weight
        rows.append({"limit": row["constraint"], f"cost {brackets(answer.unit)}": price(row["cost"])} | known)
    table = pd.DataFrame(rows)
    return table.loc[:, (table != "").any()]


def path_table(answer: Recommendation) -> pd.DataFrame:
    """Return h* from the smallest run to the big one, as text; empty where a saved answer has no path."""
    rows = []
    for row in path_steps(answer):
        shown = {
            "N": count_text(row["n_params"]),
            "D": count_text(row["n_tokens"]),
            f"regret {brackets(answer.unit)}": f"{row['regret']:.4f}",
        }
        ends = row["interval"]
        shown |= {d: f"{percent(w)} ({span(*ends[d])})" for d, w in row["weights"].items()}
        rows.append(shown)
    return pd.DataFrame(rows)


def path_steps(answer: Recommendation) -> list[dict[str, Any]]:
    """Return the steps of the path; none if N and D do not change, or if a file of an old version lacks intervals."""
    steps = [row for row in records(answer.path) if "interval" in row and "weights" in row]
    ends = [{count_text(row[count]) for row in steps} for count in ("n_params", "n_tokens")]
    return steps if max(map(len, ends)) > 1 else []


def others_table(answer: Recommendation) -> pd.DataFrame:
    """Return the recommendations of the other fitted laws; empty where there are none."""
    rows, costs = records(answer.others), f"costs {brackets(answer.unit)}"
    return pd.DataFrame(
        [
            {"other law": r["law"], "predicted by it": f"{r['predicted']:.4f}", costs: price(r["regret"])}
            | {d: percent(w) for d, w in r["weights"].items()}
            for r in rows
        ]
    )


def signals_table(answer: Recommendation) -> pd.DataFrame:
    """Return importance, signal and noise of every target, as text; empty for answers of older versions."""
    return pd.DataFrame(
        [
            {
                "target": row["target"],
                "importance": percent(row["importance"]),
                "signal (sd over the trained mixtures)": f"{row['signal']:.4f}",
                "noise (sd of one run)": f"{row['noise']:.4f}",
                "signal / noise": f"{row['snr']:.1f}",
            }
            for row in records(answer.signals)
        ]
    )


def question(answer: Recommendation) -> str:
    """Return the question as the beginning of a sentence."""
    asked, targets = answer.question, answer.question.targets
    shown = ", ".join(targets if len(set(targets.values())) == 1 else (f"{t} {w:.2f}" for t, w in targets.items()))
    if len(targets) > MOST_NAMED and len(set(targets.values())) == 1:
        shown = f"{len(targets)} targets"
    best = f"best at {shown}" if len(targets) == 1 else f"best at the mean of {shown}"
    return f"For {count_text(asked.n_params)} parameters on {count_text(asked.n_tokens)} tokens, {best}:"


def sentences(answer: Recommendation) -> list[str]:
    """Return sentences on the gain over baselines in loss and compute, the costs of limits, and the flat frontier."""
    unit, after = answer.unit, kind_of(answer.unit).after
    gains = [
        f"{r['gain']:+.4f} {after} over {r['mixture']} ({r['gain_low']:+.4f} to {r['gain_high']:+.4f})"
        for r in records(answer.outcomes)
        if r["mixture"] != "recommended" and "gain" in r
    ]
    said = [f"Predicted gain, with its {answer.interval_name}: {'; '.join(gains)}."] if gains else []
    said = [*optimal_size(answer), *said, *worth(answer), *balance(answer)]
    costs = [f"{r['constraint']} {price(r['cost'])}" for r in records(answer.prices)]
    said += [f"Limits that cost something {brackets(unit)}: {', '.join(costs)}."] if costs else []
    return said + flat_sentence(answer)


def losers_sentences(answer: Recommendation) -> list[str]:
    """Return a sentence per baseline that some targets get worse than, with the largest relative rises."""
    said, each = [], records(answer.losers)
    for baseline in dict.fromkeys(row["baseline"] for row in each):
        worse = [_rise(answer, row) for row in each if row["baseline"] == baseline]
        more = f" and {len(worse) - MOST_LOSERS} more" if len(worse) > MOST_LOSERS else ""
        said.append(f"Worse than on {baseline}: {', '.join(worse[:MOST_LOSERS])}{more}.")
    return said


def worst_sentences(answer: Recommendation) -> list[str]:
    """Return a sentence with the largest ratio of a target's loss to the first baseline's, if that was minimised."""
    question = answer.question
    if question.objective != WORST:
        return []
    in_use, losses = next(iter(question.baselines)), answer.per_target.set_index("mixture")
    ratios = {t: losses[t][RECOMMENDED] / losses[t][in_use] for t, w in question.targets.items() if w > 0}
    target = max(ratios, key=lambda name: ratios[name])
    return [f"Largest loss relative to {in_use}: {target} {ratios[target]:.4f}, the lowest possible."]


def _rise(answer: Recommendation, row: Mapping[str, Any]) -> str:
    by = difference(f"{row['change']:+.4f}", answer.units.get(row["target"], answer.unit))
    return f"{row['target']} {by} ({row['low']:+.4f} to {row['high']:+.4f}; {row['percent']:+.2g} %)"


def flat_sentence(answer: Recommendation) -> list[str]:
    """Return a sentence with the widest ranges of weights at a loss within the noise of one run."""
    domains, noise = answer.table, answer.noise
    if "flat_low" not in domains or not noise:
        return []
    widest = (domains["flat_high"] - domains["flat_low"]).nlargest(FLATTEST).index
    reach = ", ".join(
        f"{row['domain']} {span(row['flat_low'], row['flat_high'])}" for row in domains.loc[widest].to_dict("records")
    )
    one_run = difference(f"{noise:.4f}", answer.unit)
    return [f"Equally good within the noise of one run ({one_run}), the other weights following: {reach}."]
