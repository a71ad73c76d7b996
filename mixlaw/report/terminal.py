"""A recommendation as text for a terminal."""

from mixlaw.advice.recommendation import Recommendation
from mixlaw.tables.units import NATS, brackets, difference, kind_of


def summary(answer: Recommendation) -> str:
    """Return a recommendation as text for a terminal."""
    n, d = answer.question.n_params, answer.question.n_tokens
    targets = ", ".join(f"{t} {w:.2f}" if w < 1 else t for t, w in answer.question.targets.items())
    lines = [f"{answer.law} law ({answer.reason})", f"N = {n:.4g} parameters, D = {d:.4g} tokens, target: {targets}"]
    lines += ["", *_domain_lines(answer), "", *_outcome_lines(answer)]
    if len(answer.prices):
        lines += ["", f"limits that cost something {brackets(answer.unit)}:"]
        lines += [f"  {row.constraint:<24}{row.cost:.4f}" for row in answer.prices.itertuples()]
    lines += [*_path_lines(answer), *_other_lines(answer)]
    without = "Hydra's command line cannot hold these names; --override FILE writes the weights as YAML"
    lines += ["", f"train it with: {answer.override or without}"]
    return "\n".join(lines + [f"warning: {w}" for w in answer.warnings])


def _domain_lines(answer: Recommendation) -> list[str]:
    others = [c for c in ("unconstrained", "uniform", "natural") if c in answer.table]
    wide = max(16, 2 + max(map(len, answer.weights)))
    laws = "others_low" in answer.table
    head = f"{'domain':<{wide}}{'h*':>7}   {answer.interval_name:<17}{'flat frontier':<17}"
    head += "other laws' h* " if laws else ""
    lines = [(head + "".join(f"{c:>14}" for c in others)).rstrip()]
    for row in answer.table.to_dict(orient="records"):
        shares = "".join(f"{row[c]:>14.3f}" for c in others)
        flat = f"{row['flat_low']:.3f} to {row['flat_high']:.3f}  "
        flat += f"{row['others_low']:.3f} to {row['others_high']:.3f} " if laws else ""
        lines.append(
            f"{row['domain']:<{wide}}{row['weight']:>7.3f}   {row['low']:.3f} to {row['high']:.3f}   {flat}{shares}"
        )
    return [
        *lines,
        "(flat frontier: what the others can make up for within the noise of one run, "
        f"{difference(f'{answer.noise:.4f}', answer.unit)})",
    ]


def _path_lines(answer: Recommendation) -> list[str]:
    """Return h* with its interval over scale: a column per step, a line per domain; none where there is no path."""
    if answer.path.empty:
        return []
    steps, regret = answer.path.to_dict("records"), f"regret {brackets(answer.unit)}"
    wide = max(16, 2 + max(map(len, [*answer.weights, regret])))
    head = [("N", "n_params", ".3g"), ("D", "n_tokens", ".3g"), (regret, "regret", ".4f")]
    lines = ["", "h* from the smallest run to this one, and what training this run on it would cost:"]
    lines += [f"{name:<{wide}}" + "".join(f"{row[c]:<20{form}}" for row in steps) for name, c, form in head]
    for name in answer.weights:
        cells = [(row["weights"][name], *row["interval"][name]) for row in steps]
        lines.append(f"{name:<{wide}}" + "".join(f"{h:.3f} ({a:.2f}-{b:.2f})   " for h, a, b in cells))
    return [line.rstrip() for line in lines]


def _other_lines(answer: Recommendation) -> list[str]:
    """Return what other fitted laws would recommend."""
    if answer.others.empty:
        return []
    lines = [
        "",
        f"what other laws predict for their own h*, and what theirs would cost by the {answer.law} law "
        f"{brackets(answer.unit)}:",
    ]
    for row in answer.others.to_dict("records"):
        h = " ".join(f"{row['weights'][name]:.3f}" for name in answer.weights)
        lines.append(f"  {row['law']:<24}{row['predicted']:.4f}  {row['regret']:.4f}   {h}")
    return lines


def _outcome_lines(answer: Recommendation) -> list[str]:
    level = NATS if answer.unit == NATS else kind_of(answer.unit).difference
    lines = [f"{'mixture':<16}{'predicted':>9}   {answer.interval_name:<19}gain of h* over it [{level}]"]
    for row in answer.outcomes.to_dict(orient="records"):
        gain = f"{row['gain']:+.4f} ({row['gain_low']:+.4f} to {row['gain_high']:+.4f})"
        shown = "" if row["mixture"] == "recommended" else gain
        lines.append(f"{row['mixture']:<16}{row['predicted']:>9.4f}   {row['low']:.4f} to {row['high']:.4f}   {shown}")
    return lines
