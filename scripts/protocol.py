"""The protocol: the laws that could be recommended from, on every table at hand, by the same named splits.

    python -m scripts.protocol                    # all tables; cases that are in the result table already are skipped
    python -m scripts.protocol --only mixinglaws  # those whose name begins so

Tables are other people's runs (../shared/data, where it is there), our own studies (runs/, where they were trained),
and truths: losses that each family's own law writes, as fitted to the real runs, plus the scatter of real runs, so that
a law that wins on another's truth is seen to win by luck. Splits are those of `mixlaw compare --holdout`. The result is
`scripts/protocol.csv`.

What was chosen on what: the form of the multiplicative law and its beliefs were found on `slimpajama` and `quickstart`;
`mixinglaws`, `regmix` and the truths were first looked at with both fixed (that table is in the commit that added this
file). The first look showed three faults. Its form for one model size had lost the constant A; a C_i could vanish where
mixtures do not tell domains apart, which a belief in them ended; and E could not depend on h, which a few per cent of
freedom (e_i) mended. `auto` began to try the ends of runs as well. So `mixinglaws` is no longer an unseen table.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from mixlaw.errors import MixlawError
from mixlaw.fitting.estimator import LawFit
from mixlaw.laws.registry import get_law
from mixlaw.selection.compare import compare
from mixlaw.selection.splits import KINDS, held_out
from mixlaw.tables.check import check_frame
from mixlaw.tables.clean import prepare
from mixlaw.tables.columns import LOSS
from mixlaw.tables.read import read_table
from mixlaw.tables.table import Table

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared/data"
RESULT = ROOT / "scripts/protocol.csv"
LAWS = ("additive", "joint", "multiplicative", "auto")
TRUTHS = ("additive", "joint", "multiplicative")
SCATTER = 0.002  # of a run, and again of each of its rows, relative to the loss


@dataclass(frozen=True)
class Case:
    """One split of one table: which laws are fitted, and which one the others are compared with."""

    table: str
    kind: str
    make: Callable[[], Table]
    laws: tuple[str, ...] = LAWS
    against: str = "joint"


def cases() -> list[Case]:
    """Return all cases, in the order in which they are reported."""
    found = [Case("slimpajama", kind, slimpajama) for kind in KINDS]
    fixed_n = ("additive-fixed-n", "multiplicative-fixed-n", "auto")
    found += [Case("slimpajama-122M", kind, one_size, fixed_n, fixed_n[0]) for kind in ("mixture", "tokens")]
    for k, name in ((2, "tidy_2Mix"), (3, "tidy_3Mix"), (5, "tidy_5Mix_small")):
        kinds = KINDS if k == 3 else ("mixture", "tokens")  # the others have two sizes
        found += [Case(f"mixinglaws-{k}", kind, partial(mixinglaws, name)) for kind in kinds]
    fixed = ("additive-fixed-nd", "multiplicative-fixed-nd", "auto")
    found += [Case("regmix", "mixture", regmix, fixed, fixed[0])]
    found += [Case("quickstart", kind, quickstart) for kind in KINDS]
    found += [Case("quickstart-492k", "scale", quickstart_heldout)]
    return found + [Case(f"truth-{t}", kind, partial(truth, t)) for t in TRUTHS for kind in KINDS]


def slimpajama() -> Table:
    """The public small-scale runs of the paper: 7 domains, 122M to 680M parameters, a row per checkpoint."""
    return prepare(read_table([DATA / "slimpajama/slimpajama_llm_small.csv"], layout="paper"))


def one_size() -> Table:
    """Those of 122M parameters only."""
    table = slimpajama()
    return table.rows(table.frame["n_params"] == table.frame["n_params"].min())


def mixinglaws(name: str) -> Table:
    """Ye et al. 2024: runs of 19M to 302M parameters on 2, 3 or 5 domains of RedPajama or the Pile."""
    return prepare(read_table([DATA / f"mixinglaws/{name}.csv"], layout="mixinglaws"))


def regmix() -> Table:
    """Liu et al. 2024: 768 runs of 1M parameters on 17 domains of the Pile, 1B tokens each."""
    parts = [
        read_table(
            [DATA / f"regmix/{part}_mixture_1m.csv", DATA / f"regmix/{part}_pile_loss_1m.csv"],
            layout="regmix",
            constants={"n_params": 1e6, "n_tokens": 1e9},
        )
        for part in ("train", "test")
    ]
    frames = [part.frame.assign(run_id=f"{i}-" + part.frame["run_id"].astype(str)) for i, part in enumerate(parts)]
    return check_frame(pd.concat(frames, ignore_index=True).drop(columns="row"), "regmix")


def quickstart() -> Table:
    """Our own first study: 33 runs of 70k to 234k parameters on 4 domains, 5 targets."""
    return prepare(read_table([ROOT / "runs/quickstart"]))


def quickstart_heldout() -> Table:
    """The same with the runs of 492k parameters on mixtures that no other run has."""
    return prepare(read_table([ROOT / "runs/quickstart", ROOT / "runs/quickstart_heldout"]))


def truth(name: str) -> Table:
    """The paper's runs as one law would have them."""
    table, rng = slimpajama(), np.random.default_rng(0)
    fit, frame = LawFit(name, n_bootstrap=1).fit(table).fitted_, table.frame.copy()
    run = pd.factorize(frame["run_id"])[0]
    for target, fitted in fit.targets.items():
        clean = get_law(name).loss(fitted.theta[None], fit.inputs(table, target))[0]
        scatter = rng.normal(size=run.max() + 1)[run] + rng.normal(size=len(frame))
        frame[LOSS + target] = clean * (1 + SCATTER * scatter)
    return replace(table, frame=frame)


def run(case: Case) -> pd.DataFrame:
    """Return the scores of one case, or one row that says why there are none."""
    started = time.process_time()
    try:
        table = case.make()
        held = held_out(table, case.kind)
        found = compare(table, case.laws, holdout=case.kind, against=case.against)
    except MixlawError as error:
        return pd.DataFrame([{"table": case.table, "split": case.kind, "remark": str(error)}])
    scores, refused = found.laws, "; ".join(found.trials[-1].refused.values())
    took = ", ".join(dict.fromkeys(law for law, _ in found.auto))
    scores.insert(0, "table", case.table)
    scores.insert(1, "split", case.kind)
    runs = table.frame["run_id"]
    return scores.assign(
        k=len(table.domains),
        n_targets=len(table.targets),
        n_fitted=runs[~held].nunique(),
        n_held=runs[held].nunique(),
        auto_took=took,
        cpu_s=round(time.process_time() - started, 1),
        remark=refused,
    )


def finished(cases: list[Case], n_processes: int) -> Iterator[pd.DataFrame]:
    """Run cases side by side; yield each as it ends."""
    with ProcessPoolExecutor(n_processes, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(run, case) for case in cases]
        for future in tqdm(as_completed(waiting), total=len(waiting), unit="case", mininterval=5):
            yield future.result()


def main() -> int:
    """Run what is missing, write the table, print it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", metavar="TABLE", help="cases whose table begins so")
    parser.add_argument("--again", action="store_true", help="also those that are in the result table")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    known = pd.read_csv(RESULT) if RESULT.exists() else pd.DataFrame(columns=["table", "split"])
    wanted = [c for c in cases() if c.table.startswith(options.only)]
    order = {(c.table, c.kind): i for i, c in enumerate(cases())}
    if options.again:
        redone = {(c.table, c.kind) for c in wanted}
        known = known[[key not in redone for key in zip(known["table"], known["split"], strict=True)]]
    done = set(zip(known["table"], known["split"], strict=True))
    for rows in finished([c for c in wanted if (c.table, c.kind) not in done], options.processes):
        known = pd.concat([known, rows], ignore_index=True)
        known["order"] = [order.get(key, -1) for key in zip(known["table"], known["split"], strict=True)]
        known = known.sort_values("order", kind="stable").drop(columns="order")
        known.to_csv(RESULT, index=False, float_format="%.4f")
    shown = known[[c for c in known if c not in ("remark", "cpu_s", "n_targets", "against")]]
    print(shown.to_string(index=False, float_format=lambda v: f"{v:.2f}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
