"""python -m train.mirror RUN_DIRECTORY PROJECT OFFSET PEAK: send a run's log to Weights & Biases while it grows.

A separate process, so that W&B can neither stop nor delay a run. It reads the run log from byte OFFSET (the part before
was sent already) until its standard input is closed, sends the rest, and exits. Its progress is in wandb.sent
(train/sent.py), so that logs can be sent late. The W&B group is the study and the W&B id is the run id, so a resumed
run continues on its page; the x axis is tokens. W&B's step is the number of the row in the log, so a row that is
written again after a resume is not a second point.

The speed of a run is not part of its log: tokens/s and MFU are computed from the times at which rows reached the disk.
PEAK is the peak FLOP/s for MFU, 0 if unknown.
"""

import json
import os
import select
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from mixlaw.runs.log import read_facts
from mixlaw.runs.phases import phases_so_far
from train.sent import record_sent

LOSSES, SCORES = ("loss", "loss_se"), ("score", "score_se")  # in eval rows; scores are of tasks only
POLL_S = 1.0
PATIENCE_S = 120  # after the end of the run, even if W&B hangs


def main(folder: Path, project: str, offset: int, peak: float) -> None:
    """Mirror one run until its trainer has ended."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # they are meant for the trainer, which still writes rows
    facts = read_facts(folder)
    speed = Speed(facts["flops_per_token"]["palm"], peak)
    record_sent(folder, offset)
    with (folder / "metrics.jsonl").open("rb") as log:
        step = log.read(offset).count(b"\n")
        run = open_run(folder, facts, project)
        kept = getattr(run, "offline", True)  # offline rows are in a file at once; online ones may still be in transit
        for lines, written_at in follow(log):
            rows = [json.loads(line) for line in lines]
            sent = [as_metrics(row, facts) for row in rows]
            sent[-1] |= speed.reached(rows[-1]["n_tokens"], written_at)
            for metrics in sent:
                run.log(metrics, step=step, commit=True)
                step += 1
            offset += sum(len(line) + 1 for line in lines)
            if kept:
                record_sent(folder, offset)
        run.finish()
        record_sent(folder, offset)


def follow(log: BinaryIO) -> Iterator[tuple[list[bytes], float]]:
    """Yield new lines of a log with the time [s], until standard input is closed; then the remaining lines."""
    rest, over = b"", False
    while True:
        *lines, rest = (rest + log.read()).split(b"\n")
        if lines:
            yield lines, os.fstat(log.fileno()).st_mtime
        if over:
            return
        if select.select([sys.stdin], [], [], POLL_S)[0]:
            over = True
            signal.signal(signal.SIGALRM, lambda *_: os._exit(1))
            signal.alarm(PATIENCE_S)


class Speed:
    """Tokens/s and MFU between two rows of the log, including the time of evaluations.

    Parameters
    ----------
    flops_per_token : by the convention of MFU, see `train.models.count`
    peak : FLOP/s of all GPUs together; 0: unknown, no MFU
    """

    def __init__(self, flops_per_token: float, peak: float) -> None:
        self._flops_per_token, self._peak = flops_per_token, peak
        self._last: tuple[int, float] | None = None  # tokens, and when

    def reached(self, n_tokens: int, moment: float) -> dict[str, float]:
        """Return the rates since the previous row; none for the first row, which includes start-up and compilation."""
        last = self._last
        if last and n_tokens <= last[0]:  # an evaluation
            return {}
        self._last = n_tokens, moment
        if not last or moment <= last[1]:
            return {}
        rates = {"train/tokens_per_s": (n_tokens - last[0]) / (moment - last[1])}
        if self._peak:
            rates["train/mfu"] = rates["train/tokens_per_s"] * self._flops_per_token / self._peak
        return rates


def open_run(folder: Path, facts: Mapping[str, Any], project: str) -> Any:
    """Open the run's page."""
    import wandb

    run = wandb.init(
        project=project,
        group=facts["study"],
        job_type="train",
        tags=[facts["family"]],
        id=facts["run_id"],
        name=facts["run_name"],
        resume="allow",
        dir=str(folder),
        config={k: v for k, v in facts.items() if k != "hardware"},
        settings=wandb.Settings(silent=True, console="off", x_disable_stats=True, disable_git=True),
    )
    by_phase = [f"weight@{number}" for number, _ in enumerate(facts.get("phases", []), 1)]
    for prefix in ("train", *LOSSES, *(SCORES if facts.get("units") else ()), "weight", "epochs", *by_phase):
        run.define_metric(f"{prefix}/*", step_metric="n_tokens")
    return run


def as_metrics(row: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a row of the run log to the metric names of the dashboard."""
    metrics = {"n_tokens": row["n_tokens"]}
    if row["kind"] == "eval":
        return metrics | {f"{key}/{row['domain']}": row[key] for key in (*LOSSES, *SCORES) if key in row}
    metrics |= {f"train/{key}": row[key] for key in ("loss", "grad_norm", "lr")}
    spent = row["tokens_by_domain"]
    for domain, n_tokens in spent.items():
        metrics[f"weight/{domain}"] = n_tokens / max(sum(spent.values()), 1)
        metrics[f"epochs/{domain}"] = n_tokens / max(facts["data"][domain]["n_tokens"], 1)
    for phase in phases_so_far(row["step"], spent, facts):
        metrics["train/phase"] = phase.number
        shares = {d: n / max(sum(phase.spent.values()), 1) for d, n in phase.spent.items()}
        metrics |= {f"weight@{phase.number}/{d}": share for d, share in shares.items()}
    return metrics


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
