"""Progress of the W&B mirror: `wandb.sent` in the run directory has the number of log bytes that were sent."""

import os
from contextlib import suppress
from pathlib import Path

NAME = "wandb.sent"


def sent_bytes(folder: Path, unrecorded: int) -> int:
    """Return the number of log bytes that were sent.

    Parameters
    ----------
    unrecorded : result for runs that an earlier version mirrored without this record
    """
    with suppress(OSError, ValueError):
        return int((folder / NAME).read_text())
    return unrecorded if (folder / "wandb").is_dir() else 0


def record_sent(folder: Path, n_bytes: int) -> None:
    """Record the number of bytes that were sent; if it cannot be written, they are sent again later."""
    staged = folder / f".{NAME}.{os.getpid()}.tmp"
    with suppress(OSError):
        staged.write_text(f"{n_bytes}\n")
        staged.replace(folder / NAME)


def unsent_rows(folder: Path) -> int:
    """Return the number of complete log rows that were not sent."""
    log = folder / "metrics.jsonl"
    try:
        raw = log.read_bytes()
    except OSError:
        return 0
    return raw[sent_bytes(folder, len(raw)) :].count(b"\n")
