"""A checked table of runs: one wide DataFrame, its domains and targets, and everything that was noted about it.

Columns: row (its number in the input), n_params, n_tokens, weight_<domain>..., loss_<target>..., and optionally run_id,
loss_se_<target>, score_<target> and score_se_<target> (share of questions answered, 0 to 1), seed, sparsity, flops (of
the run so far, where they are not 6 N D), available_<domain> [tokens] (or unique_tokens, where there are no weights),
before_<target> [nats], and weight_<domain>@p and until@p of runs with phases (`mixlaw.tables.phases`). One row per
(run, evaluation point).
`mixlaw.tables.read` reads tables from files and run directories, `mixlaw.tables.check` checks a DataFrame.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixlaw.counts import flops
from mixlaw.errors import ConfigError, unknown_name
from mixlaw.tables.columns import LOSS, LOSS_SE, SCORE, SCORE_SE, WEIGHT, phase_of
from mixlaw.tables.name_matching import matching_names
from mixlaw.tables.notes import listed, ranges, rows_in

Array = NDArray[np.float64]
OF_DOMAINS, OF_TARGETS = (WEIGHT, "available_", "requested_", "epochs_"), (LOSS, LOSS_SE, "before_", SCORE, SCORE_SE)
MUCH = 0.05  # share of the rows that may be left out without a warning
MAX_REASONS = 5


@dataclass
class Table:
    """Checked runs.

    Attributes
    ----------
    frame : one row per (run, evaluation point): row, run_id, n_params, n_tokens, weight_*, loss_*, loss_se_* where
        known, and all other columns of the input
    domains, targets : the names behind weight_* and loss_*
    notes : what was repaired or left out, with row numbers
    sizes : tokens available per domain, where the input states them
    sources : (name, number of rows) of every input; the column `row` counts through all of them
    left_out : reason -> number of rows left out for it, in reading and in cleaning
    units : target -> unit of its losses; nats/token unless something else is known
    warnings : what concerns every fit: losses in other units, checkpoints in the middle of a schedule
    identity : the settings that all run directories share, as text
    choice : how runs were chosen (where, varied, former, ends_only) and aggregates, to read the same again
    cleaned : whether `mixlaw.tables.clean.prepare` has been applied
    """

    frame: pd.DataFrame
    domains: list[str]
    targets: list[str]
    notes: list[str] = field(default_factory=list)
    sizes: dict[str, float] = field(default_factory=dict)
    sources: list[tuple[str, int]] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    identity: dict[str, str] = field(default_factory=dict)
    choice: dict[str, Any] = field(default_factory=dict)
    cleaned: bool = False

    @property
    def mixtures(self) -> Array:
        """(n, k) weights."""
        return self.frame[[WEIGHT + d for d in self.domains]].to_numpy(float)

    @property
    def flops(self) -> float:
        """Compute of all runs [FLOPs]: the column `flops` at the end of each run if it has numbers, or else 6 N D."""
        ends = self.frame.groupby("run_id")[["n_params", "n_tokens"]].max()
        counted = flops(ends["n_params"], ends["n_tokens"])
        if "flops" in self.frame:
            stated = pd.to_numeric(self.frame["flops"], errors="coerce").groupby(self.frame["run_id"]).max()
            counted = stated.where(stated > 0, counted)
        return float(counted.sum())

    def rows(self, keep: NDArray[np.bool_] | pd.Series) -> "Table":
        """Return the table with only the rows where `keep` (n,) is true."""
        return replace(self, frame=self.frame[np.asarray(keep, dtype=bool)].reset_index(drop=True))

    def place(self, rows: Iterable[int]) -> str:
        """Return row numbers as text, with the input that they are of: 'runs.csv rows 3-6'."""
        places, above, wanted = [], 0, set(rows)
        for where, count in self.sources:
            own = [row - above for row in wanted if above < row <= above + count]
            places += [rows_in(where, own)] if own else []
            above += count
        return " and ".join(places) or f"row {ranges(list(wanted))}"

    def without(self, out: NDArray[np.bool_], reason: str) -> "Table":
        """Return the table without the rows where `out` (n,) is true; they are counted under `reason`."""
        count = int(out.sum())
        counted = self.left_out | ({reason: self.left_out.get(reason, 0) + count} if count else {})
        return replace(self.rows(~out), left_out=counted)

    def much_left_out(self) -> list[str]:
        """Return a warning with the share and the reasons if more than 5 % of the rows were left out, else nothing."""
        count = sum(self.left_out.values())
        total = count + len(self.frame)
        if count <= MUCH * total:
            return []
        reasons = sorted(self.left_out.items(), key=lambda pair: -pair[1])
        shown = listed([f"{reason} ({n})" for reason, n in reasons], MAX_REASONS)
        return [f"{count} of {total} rows ({100 * count / total:.0f} %) are left out: {shown}"]

    def named_as(self, domains: Sequence[str], targets: Sequence[str]) -> "Table":
        """Return the table with domains and targets renamed to these, where only case or punctuation differs."""
        of_domains, of_targets = matching_names(self.domains, domains), matching_names(self.targets, targets)
        if not of_domains and not of_targets:
            return self
        new = {f"{prefix}{a}": f"{prefix}{b}" for prefix in OF_DOMAINS for a, b in of_domains.items()}
        new |= {f"{prefix}{a}": f"{prefix}{b}" for prefix in OF_TARGETS for a, b in of_targets.items()}
        by_phase = {c: c.rpartition("@") for c in map(str, self.frame.columns) if phase_of(c)}
        new |= {c: f"{new[name]}@{number}" for c, (name, _, number) in by_phase.items() if name in new}
        said = listed([f"{a} is {b}" for a, b in (of_domains | of_targets).items()])
        return replace(
            self,
            frame=self.frame.rename(columns=new),
            domains=[of_domains.get(d, d) for d in self.domains],
            targets=[of_targets.get(t, t) for t in self.targets],
            sizes={of_domains.get(d, d): size for d, size in self.sizes.items()},
            units={of_targets.get(t, t): unit for t, unit in self.units.items()},
            notes=[*self.notes, f"names matched although case or punctuation differs: {said}"],
        )

    def runs(self) -> Array:
        """Return (n,) the index of each row's run; rows of one run have correlated errors."""
        return pd.factorize(self.frame["run_id"])[0].astype(float)


def pick_targets(table: Table, wanted: Iterable[str]) -> list[str]:
    """Return the wanted targets, or all of the table's if none is named.

    Raises
    ------
    ConfigError
        If the table has no such target; the message names the closest one.
    """
    names = list(wanted)
    for name in names:
        if name not in table.targets:
            raise ConfigError(f"--target: {unknown_name('target', name, table.targets)}")
    return names or table.targets
