"""How much of a run's log W&B has: `wandb.sent` in the run directory, which the mirror keeps, in bytes of the log."""

import os
from contextlib import suppress
from pathlib import Path

NAME = "wandb.sent"


def sent_bytes(folder: Path, unrecorded: int) -> int:
    """Return how many bytes of a run's log were sent.

    Parameters
    ----------
    unrecorded : what a run has that was mirrored before such records were kept
    """
    with suppress(OSError, ValueError):
        return int((folder / NAME).read_text())
    return unrecorded if (folder / "wandb").is_dir() else 0


def record_sent(folder: Path, n_bytes: int) -> None:
    """Write down how many bytes were sent; where that cannot be written, they are sent once more later."""
    staged = folder / f".{NAME}.{os.getpid()}.tmp"
    with suppress(OSError):
        staged.write_text(f"{n_bytes}\n")
        staged.replace(folder / NAME)


def unsent_rows(folder: Path) -> int:
    """Return how many whole rows of a run's log W&B does not have."""
    log = folder / "metrics.jsonl"
    try:
        raw = log.read_bytes()
    except OSError:
        return 0
    return raw[sent_bytes(folder, len(raw)) :].count(b"\n")
