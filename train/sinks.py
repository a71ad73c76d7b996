"""Starts the W&B mirror of a run log; its failure does not affect the run."""

import logging
import subprocess
import sys
from pathlib import Path

from train.peaks import peak_in_use

log = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parent.parent
DEADLINE_S = 4.0  # maximum delay of a run by its mirror


class WandbMirror:
    """A separate process, `train.mirror`, that sends the run log to W&B; a failure is one warning.

    Parameters
    ----------
    folder : run directory with run.json; W&B stores its own files there too
    project : W&B project
    offset : bytes of the log that were sent before
    """

    def __init__(self, folder: Path, project: str, offset: int) -> None:
        self._messages = folder / "wandb.log"
        more = [project, str(offset), str(peak_in_use() or 0)]
        command = [sys.executable, "-m", "train.mirror", str(folder.resolve()), *more]
        with self._messages.open("wb") as messages:
            self._process: subprocess.Popen[bytes] | None = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=messages, stderr=messages
            )

    def close(self, patience_s: float | None = None) -> None:
        """Wait up to `patience_s` (default 4 s) for the mirror; a slower one continues on its own."""
        patience_s = DEADLINE_S if patience_s is None else patience_s
        if self._process is None:
            return
        process, self._process = self._process, None
        if process.stdin:
            process.stdin.close()
        try:
            code = process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.returncode = 0  # it continues on its own; do not wait for it
            self._warn(f"it did not finish within {patience_s:g} s, and tries a little longer by itself")
            return
        if code:
            said = self._messages.read_text(errors="replace").strip().splitlines()
            self._warn(said[-1][:200] if said else f"exit {code}")

    def _warn(self, reason: str) -> None:
        advice = "the run log has everything: scripts/sync_wandb.sh"
        log.warning("W&B is left behind (%s; see %s); %s", reason, self._messages, advice)
