"""Where numbers go beside the run log: Weights & Biases, as a mirror that may fail without harm."""

import logging
import subprocess
import sys
from pathlib import Path

from train.peaks import peak_in_use

log = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parent.parent
DEADLINE_S = 4.0  # the most that a mirror may cost a run, in all


class WandbMirror:
    """A process beside the run, `train.mirror`, that sends its log to W&B. If it fails, that is one warning.

    Parameters
    ----------
    folder : the run directory, whose run.json is written; W&B keeps its own files in it
    project : the W&B project
    offset : how many bytes of the log were mirrored by the process that this one resumes
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
        """Let the mirror finish, but do not wait for long (4 s): one that is slow goes on alone."""
        patience_s = DEADLINE_S if patience_s is None else patience_s
        if self._process is None:
            return
        process, self._process = self._process, None
        if process.stdin:
            process.stdin.close()
        try:
            code = process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.returncode = 0  # it is on its own now, and not this process's to reap
            self._warn(f"it did not finish within {patience_s:g} s, and tries a little longer by itself")
            return
        if code:
            said = self._messages.read_text(errors="replace").strip().splitlines()
            self._warn(said[-1][:200] if said else f"exit {code}")

    def _warn(self, reason: str) -> None:
        advice = "the run log has everything: scripts/sync_wandb.sh"
        log.warning("W&B is left behind (%s; see %s); %s", reason, self._messages, advice)
