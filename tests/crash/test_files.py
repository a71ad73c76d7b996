"""Death at every file operation of a save and of the log, and disks that are full at any of them."""

import json
import re
import shutil
from functools import partial
from pathlib import Path

import pytest

from mixlaw.errors import CheckpointError, RunLogError
from tests.crash.conftest import Cases
from tests.crash.harm import DIED, break_operation, die_at, limit_file_size
from tests.crash.harness import FINISHED, Case
from tests.marks import slow

HOW = ["before", "after", "halfway", "full"]
SAVED, STEP = 12, 14  # a step that is evaluated and saved, which makes two older checkpoints one too many
REFUSED = (RunLogError.exit_code, CheckpointError.exit_code)


def harmed_at(case: Case, n: int, how: str, n_tokens: int = 0) -> bool:
    """Let the n-th operation go wrong, then have the run end well; say whether there was such an operation."""
    end = case.attempt(partial(break_operation, n, how, n_tokens))
    if end.code != FINISHED:
        case.counts["full disks" if how == "full" else f"deaths {how} a file operation"] += 1
        if how == "full":
            assert end.code in REFUSED, end.said
            assert_one_sentence(end.said, case.folder)
        else:
            assert end.code == DIED, end.said
    case.finish()
    return end.code != FINISHED


def assert_one_sentence(said: str, folder: Path) -> None:
    """It names what could not be written, and what to do."""
    (sentence,) = [line for line in said.splitlines() if not line.startswith("WARNING")]
    assert sentence.startswith("error: "), said
    assert str(folder.parent) in sentence
    assert "free some space" in sentence


def saved_at(case: Case, step: int, folder: Path) -> Path:
    """Return the directory of a run that was killed in the step after one that was saved."""
    assert case.attempt(partial(die_at, (step + 1) * case.plan.tokens_per_step)).code < 0
    return Path(shutil.copytree(case.folder, folder))


# A death after operation n leaves what one before operation n + 1 leaves.
@pytest.mark.parametrize(("how", "stride"), [("before", 6), ("full", 3), *(slow(how, 1) for how in HOW)])
def test_every_operation_of_one_save(how: str, stride: int, averaged: Case, tmp_path: Path) -> None:
    assert STEP in averaged.plan.evaluation_steps()
    origin, n = saved_at(averaged, SAVED, tmp_path / "origin"), 1 - stride
    harmed = True
    while harmed:
        n += stride
        averaged.restart(origin)
        harmed = harmed_at(averaged, n, how, STEP * averaged.plan.tokens_per_step)
    assert n > {"before": 20, "after": 20, "halfway": 5, "full": 7}[how]


@pytest.mark.crash
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("how", HOW)
def test_every_operation_of_a_whole_run(how: str, case: Case) -> None:
    n = 1
    while harmed_at(case, n, how):
        n += 1
    assert n > {"before": 250, "after": 250, "halfway": 60, "full": 80}[how]


@pytest.mark.crash
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("how", HOW)
def test_every_operation_among_the_debris_of_a_death(how: str, averaged: Case, tmp_path: Path) -> None:
    """The process before died with a checkpoint half written, and so does the one that resumes it, anywhere."""
    tokens = STEP * averaged.plan.tokens_per_step
    assert averaged.attempt(partial(break_operation, 3, "halfway", tokens)).code == DIED
    assert list(averaged.checkpoints.glob(".tmp-*"))
    origin, n = Path(shutil.copytree(averaged.folder, tmp_path / "origin")), 0
    harmed = True
    while harmed:
        n += 1
        averaged.restart(origin)
        harmed = harmed_at(averaged, n, how)
    assert n > {"before": 100, "after": 100, "halfway": 25, "full": 30}[how]


def test_a_disk_that_really_refuses_a_checkpoint(averaged: Case) -> None:
    """The largest file of a checkpoint is the optimizer's: the log and the small ones fit, it does not."""
    end = averaged.attempt(partial(limit_file_size, max(map(len, averaged.reference.values())) - 1))
    assert end.code == CheckpointError.exit_code
    assert end.said.startswith(f"error: cannot save {averaged.checkpoints}/step-00000002: ")
    assert re.search(r"it needs about [\d,]+ bytes: free some space and run the same command again\n", end.said)
    averaged.finish()


@pytest.mark.slow
def test_a_disk_that_really_refuses_the_log(cases: Cases) -> None:
    case = cases("checkpoint.every_steps=1000")
    end = case.attempt(partial(limit_file_size, len(case.reference["metrics.jsonl"]) - 1))
    assert end.code == RunLogError.exit_code
    assert_one_sentence(end.said, case.folder)
    case.finish()


@pytest.mark.slow
def test_a_log_that_lost_what_was_never_synced(averaged: Case) -> None:
    """What a power cut may leave behind the last checkpoint's rows: nothing, zeros, half a row."""
    for garbage in (b"", b"\0" * 100, b'{"kind": "tr'):
        assert averaged.attempt(partial(die_at, 15 * averaged.plan.tokens_per_step)).code < 0
        state = json.loads((averaged.checkpoints / "step-00000014" / "state.json").read_bytes())
        log = averaged.folder / "metrics.jsonl"
        log.write_bytes(log.read_bytes()[: state["log_bytes"]] + garbage)
        averaged.counts["logs with lost rows"] += 1
        averaged.finish()
