"""Exit codes and one-line error messages of the commands of `train` and `sweeps`.

    0    finished
    2    a setting is wrong
    3    data or run directory cannot be used
    4    a checkpoint cannot be written or read
    75   a signal stopped the run and it saved: the same command resumes it
    76   diverged: a loss or a gradient was not finite
    130  interrupted by Ctrl-C before anything was saved

`mixlaw/console.py` has the parts that need no Hydra, for the commands of `data` and `mixlaw`.
"""

from collections.abc import Callable

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from mixlaw.console import AGAIN, DIVERGED, INTERRUPTED, remark
from mixlaw.errors import ConfigError, MixlawError, RunLogError
from train.compose import explain

EXIT_CODES = {"finished": 0, "again": AGAIN, "diverged": DIVERGED}
STATUS_SENTENCES = {
    "finished": "finished",
    "again": "stopped and saved; the same command resumes it",
    "diverged": "diverged: a loss or gradient was not finite; it is left out of fits",
}


def run_command(task: Callable[[], int]) -> int:
    """Run the body of a command that trains or launches; return its exit code and print errors on one line."""
    try:
        return task()
    except KeyboardInterrupt:
        remark("interrupted; the same command resumes from the last checkpoint")
        return INTERRUPTED
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # first, as some are OSErrors too
        known = as_mixlaw_error(error)
        if known is None:
            raise
        remark(f"error: {known}")
        return known.exit_code
    except OSError as error:
        advice = "choose another machine.runs, or free some space"
        remark(f"error: {error.filename or 'stdout'}: {error.strerror or error}; {advice}")
        return RunLogError.exit_code


def as_mixlaw_error(error: Exception) -> MixlawError | None:
    """Convert an error of Hydra or OmegaConf to a MixlawError with a readable message; None if it is a bug of ours."""
    if isinstance(error, MixlawError):
        return error
    if isinstance(error, HydraException | OmegaConfBaseException):
        if isinstance(error.__cause__, MixlawError):  # raised by a launcher's options
            return error.__cause__
        cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
        return ConfigError(explain(error if "Could not" in str(error) else cause))
    # Hydra raises a bare ValueError for a group whose choice is a number: `model=3`
    return ConfigError(str(error)) if "Config group override" in str(error) else None
