"""Output to a terminal or a pipe that cannot show every character, or that ends before we do."""

import os
import sys


def show_any_text() -> None:
    r"""Let stdout and stderr write what their encoding lacks as \u escapes, instead of ending in a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what tests put in their place has no encoding to fail
            stream.reconfigure(errors="backslashreplace")


def leave_closed_pipe() -> None:
    """Write nothing more: who reads our output has gone, as `head` does, and that is no error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
