"""Where numbers go beside the run log: the console, and Weights & Biases as a mirror that may fail without harm."""

import logging
import queue
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)
DEADLINE_S = 4.0  # the most that a dead mirror may cost a run, in all


class WandbMirror:
    """Sends rows to W&B from a thread of its own. The first failure is one warning and the end of the mirror.

    Group is the study, id the run's id, so a resumed run continues its page; tokens are the x axis.

    Parameters
    ----------
    folder : the run directory, where W&B keeps its own files
    facts : what run.json holds
    project : the W&B project
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any], project: str) -> None:
        self._rows: queue.Queue[dict[str, Any] | None] = queue.Queue(maxsize=10_000)
        self._failed = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(folder, facts, project), daemon=True)
        self._thread.start()

    def write(self, row: Mapping[str, Any]) -> None:
        """Queue one run-log row; never waits."""
        if not self._failed.is_set():
            try:
                self._rows.put_nowait(dict(row))
            except queue.Full:
                self._give_up("it cannot keep up")

    def close(self) -> None:
        """Let the mirror finish, but not for long."""
        if self._failed.is_set():
            return
        with suppress(queue.Full):
            self._rows.put(None, timeout=DEADLINE_S)
        self._thread.join(DEADLINE_S)
        if self._thread.is_alive():
            self._give_up(f"it did not finish within {DEADLINE_S:g} s")

    def _give_up(self, reason: str) -> None:
        if not self._failed.is_set():
            self._failed.set()
            log.warning("W&B is left behind (%s); the run log has everything: scripts/sync_wandb.sh", reason)

    def _serve(self, folder: Path, facts: Mapping[str, Any], project: str) -> None:
        try:
            run = _open_wandb(folder, facts, project)
            while (row := self._rows.get()) is not None:
                run.log(_as_metrics(row))
            run.finish()
        except Exception as error:  # noqa: BLE001 - a mirror may fail in any way, and must never stop a run
            self._give_up(f"{type(error).__name__}: {str(error)[:200]}")


def _open_wandb(folder: Path, facts: Mapping[str, Any], project: str) -> Any:
    import wandb

    run = wandb.init(
        project=project,
        group=facts["study"],
        job_type="train",
        id=facts["run_id"],
        name=facts["run_name"],
        resume="allow",
        dir=str(folder),
        config={k: v for k, v in facts.items() if k != "hardware"},
        settings=wandb.Settings(silent=True, console="off", x_disable_stats=True, disable_git=True),
    )
    for prefix in ("train", "loss", "loss_se", "weight"):
        run.define_metric(f"{prefix}/*", step_metric="n_tokens")
    return run


def _as_metrics(row: Mapping[str, Any]) -> dict[str, Any]:
    """Name a run-log row's numbers for a dashboard."""
    if row["kind"] == "eval":
        return {
            "n_tokens": row["n_tokens"],
            f"loss/{row['domain']}": row["loss"],
            f"loss_se/{row['domain']}": row["loss_se"],
        }
    spent = row["tokens_by_domain"]
    shares = {f"weight/{d}": n / max(sum(spent.values()), 1) for d, n in spent.items()}
    return {
        "n_tokens": row["n_tokens"],
        **{f"train/{k}": row[k] for k in ("loss", "grad_norm", "lr")},
        **shares,
    }
