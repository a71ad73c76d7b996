"""Output, error messages and exit codes of all commands.

Exit codes of errors are attributes of their classes (`mixlaw/errors.py`); the others are defined here.
"""

import codecs
import functools
import os
import sys
from collections.abc import Callable
from typing import ParamSpec, TextIO

from mixlaw.errors import MixlawError

ESCAPED = "mixlaw.escaped"  # the name of the error handler
AGAIN = 75  # EX_TEMPFAIL of sysexits.h: the run was saved after a signal; the same command resumes it
DIVERGED = 76  # a loss or a gradient of a run was not finite
INTERRUPTED = 130  # by Ctrl-C before anything was saved
UNWRITABLE = 4  # a file cannot be read, or the output cannot be written
P = ParamSpec("P")


def command(main: Callable[P, int]) -> Callable[P, int]:
    """Decorate the main function of a command: prepare output streams before, flush them after."""

    @functools.wraps(main)
    def run(*args: P.args, **kwargs: P.kwargs) -> int:
        make_ready()
        try:
            return main(*args, **kwargs)
        finally:
            settle()

    return run


def exit_code_of(task: Callable[[], int], when_interrupted: str = "") -> int:
    """Run a command and return its exit code; an error prints its message on stderr instead of a traceback.

    Parameters
    ----------
    task : the command; returns its exit code
    when_interrupted : message after Ctrl-C
    """
    try:
        return task()
    except MixlawError as error:
        remark(f"error: {error}")
        return error.exit_code
    except BrokenPipeError:  # the reader of the pipe ended, as in `| head`
        return 0
    except OSError as error:
        remark(f"error: {error.filename or 'output'}: {error.strerror or error}")
        return UNWRITABLE
    except KeyboardInterrupt:
        if when_interrupted:
            remark(when_interrupted)
        return INTERRUPTED


def make_ready() -> None:
    r"""Prepare standard output and error: characters that their encoding lacks are escaped as in JSON.

    A closed stream (`>&-`) is redirected to the null device.

    >>> "网 \N{GRINNING FACE}".encode("latin-1", ESCAPED)
    b'\\u7f51 \\ud83d\\ude00'
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
        elif hasattr(stream, "reconfigure"):  # streams of notebooks have no encoding
            stream.reconfigure(errors=ESCAPED)


def say(text: str) -> None:
    """Print a line on standard output."""
    _print(text, sys.stdout)


def remark(text: str) -> None:
    """Print a line on standard error: notes and warnings, which scripts must not read as results."""
    _print(text, sys.stderr)


def settle() -> None:
    """Flush both streams; on failure, redirect to the null device, so that Python prints no error at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _drop(stream)


def _print(text: str, stream: TextIO) -> None:
    """Print a line and flush; after the reader of a pipe has ended (`| head -1`), further output is discarded."""
    try:
        stream.write(text + "\n")
        stream.flush()
    except BrokenPipeError:
        _drop(stream)


def _drop(stream: TextIO) -> None:
    """Redirect a stream to the null device."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4)), error.end


codecs.register_error(ESCAPED, _escaped)
