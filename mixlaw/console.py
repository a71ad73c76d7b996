"""What all commands share: output that never fails to print, errors as one sentence, and exit codes.

The exit codes of errors are attributes of their classes (`mixlaw/errors.py`); the others stand here.
"""

import codecs
import functools
import os
import sys
from collections.abc import Callable
from typing import ParamSpec, TextIO

from mixlaw.errors import MixlawError

ESCAPED = "mixlaw.escaped"  # the name of the error handler
AGAIN = 75  # EX_TEMPFAIL of sysexits.h: a run saved after a signal, and the same command resumes it
DIVERGED = 76  # a loss or a gradient of a run was not finite
INTERRUPTED = 130  # by Ctrl-C before anything was saved
UNWRITABLE = 4  # a file or the output cannot be read or written
P = ParamSpec("P")


def command(main: Callable[P, int]) -> Callable[P, int]:
    """Decorate a command's main function: its output is made ready before, and flushed without a traceback after."""

    @functools.wraps(main)
    def run(*args: P.args, **kwargs: P.kwargs) -> int:
        make_ready()
        try:
            return main(*args, **kwargs)
        finally:
            settle()

    return run


def exit_code_of(task: Callable[[], int], when_interrupted: str = "") -> int:
    """Run the body of a command and return its exit code; an error prints one sentence on stderr, not a traceback.

    Parameters
    ----------
    task : the body; returns the exit code of a success
    when_interrupted : what to say after Ctrl-C
    """
    try:
        return task()
    except MixlawError as error:
        remark(f"error: {error}")
        return error.exit_code
    except BrokenPipeError:  # whoever read the output has enough of it
        return 0
    except OSError as error:
        remark(f"error: {error.filename or 'output'}: {error.strerror or error}")
        return UNWRITABLE
    except KeyboardInterrupt:
        if when_interrupted:
            remark(when_interrupted)
        return INTERRUPTED


def make_ready() -> None:
    r"""Let standard output and error print any character: what their encoding lacks is escaped as in JSON.

    A stream that the caller closed (`>&-`) takes everything and keeps nothing.

    >>> "网 \N{GRINNING FACE}".encode("latin-1", ESCAPED)
    b'\\u7f51 \\ud83d\\ude00'
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
        elif hasattr(stream, "reconfigure"):  # a notebook's has no encoding
            stream.reconfigure(errors=ESCAPED)


def say(text: str) -> None:
    """Print a line for a person; results in files and JSON go elsewhere."""
    _print(text, sys.stdout)


def remark(text: str) -> None:
    """Print a line that must not stand in the output, which a script may read."""
    _print(text, sys.stderr)


def settle() -> None:
    """Flush both streams; what cannot be written any more is dropped, so that Python says nothing when it exits."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _drop(stream)


def _print(text: str, stream: TextIO) -> None:
    """Print a line at once; where nobody reads any more (`| head -1`), the command goes on in silence."""
    try:
        stream.write(text + "\n")
        stream.flush()
    except BrokenPipeError:
        _drop(stream)


def _drop(stream: TextIO) -> None:
    """Let a stream's file take everything and keep nothing."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4)), error.end


codecs.register_error(ESCAPED, _escaped)
