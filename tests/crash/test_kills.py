"""Kill a run at any moment, start it again: log, weights, optimizer and average are the bytes of an untouched run."""

import random
import signal

import pytest

from tests.crash.harness import AGAIN, DIED, FINISHED, Case, break_file_operation, die_at_steps

N_STEPS = 30


def strike(case: Case, number: int, n_wanted: int, seed: int) -> None:
    """Send signals at random moments until enough hit; whenever the run comes to its end, compare and begin anew."""
    rng, hits = random.Random(seed), 0
    while hits < n_wanted:
        code = case.struck(number, rng.uniform(0, 0.5))
        if (case.folder / "checkpoints").exists() and list((case.folder / "checkpoints").glob(".tmp-*")):
            case.count("half-written checkpoints left behind")
        if code == FINISHED:
            finish(case)
        else:
            assert code in (AGAIN, -number)
            hits += 1
            case.count(f"hits of {signal.Signals(number).name}, of which exit {code}")
    while case.attempt() != FINISHED:
        case.count("further attempts")
    finish(case)


def finish(case: Case) -> None:
    """Compare a run that is over with the one that was left alone."""
    assert case.artefacts() == case.reference
    case.count("runs finished with identical bytes")
    case.restart()


def test_kills_at_random_moments(case: Case) -> None:
    strike(case, signal.SIGKILL, 12, seed=1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_warnings_at_random_moments(number: int, case: Case) -> None:
    strike(case, number, 3, seed=2)


@pytest.mark.crash
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("seed", range(5))
def test_many_kills_at_random_moments(seed: int, case: Case) -> None:
    strike(case, signal.SIGKILL, 50, seed=10 + seed)


@pytest.mark.crash
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_many_warnings_at_random_moments(number: int, case: Case) -> None:
    strike(case, number, 25, seed=20)


@pytest.mark.parametrize("n", [1, 2, 3, 10])
def test_chains_of_deaths(n: int, case: Case) -> None:
    chain(case, n, seed=n)


@pytest.mark.crash
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("seed", range(10))
def test_long_chains_of_deaths(seed: int, case: Case) -> None:
    """Fifty deaths, several at the same step where they must be."""
    chain(case, 50, seed)


def chain(case: Case, n: int, seed: int) -> None:
    """Die n times after steps chosen among the tender ones: saves, evaluations, ends of epochs, windows over shards."""
    tender = sorted({s + d for s in special_steps(case) for d in (-1, 0, 1)} & set(range(1, N_STEPS)))
    rng = random.Random(seed)
    deaths = [rng.choice(tender) for _ in range(n)] if n > len(tender) else rng.sample(tender, n)
    for step in sorted(deaths):
        assert case.attempt(die_at_steps, [step]) == -signal.SIGKILL
        case.count("deaths in chains")
    assert case.attempt() == FINISHED
    finish(case)


def special_steps(case: Case) -> set[int]:
    """Return the steps after an evaluation, at the end of an epoch, and that read over the end of a shard."""
    from data.stream import WeightedStream

    config = case.plan.config
    stream = WeightedStream(case.plan.manifest, case.plan.weights, 16, 4, config.seed)
    found = set(config.evaluation_steps()) | set(range(2, N_STEPS, 8))
    for step in range(N_STEPS):
        draws, row = stream._draws_of(step)
        starts = draws.item[row] * 16
        if ((starts // 3000) != ((starts + 16) // 3000)).any() or len(set(draws.epoch[row])) > 1:
            found.add(step + 1)
    return found


def test_deaths_at_file_operations(case: Case) -> None:
    """A sample; every operation of a save alone has its turn in tests/train/test_checkpoint.py."""
    rng = random.Random(3)
    for how in ("before", "after", "halfway"):
        for at in rng.sample(range(1, 300), 3):
            die_at_operation(case, at, how)


@pytest.mark.crash
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("how", ["before", "after", "halfway"])
def test_deaths_at_every_file_operation_of_a_run(how: str, case: Case) -> None:
    at = 1
    while die_at_operation(case, at, how):
        at += 1
    assert at > 150


def die_at_operation(case: Case, at: int, how: str) -> bool:
    """Die at one operation and go on; say whether there was such an operation."""
    code = case.attempt(break_file_operation, at, how)
    assert code in (DIED, FINISHED)
    if code == DIED:
        case.count(f"deaths {how} a file operation")
        assert case.attempt() == FINISHED
    finish(case)
    return code == DIED


def test_a_full_disk_at_some_operations(case: Case) -> None:
    for at in random.Random(4).sample(range(1, 300), 5):
        run_out_of_space(case, at)


@pytest.mark.crash
@pytest.mark.timeout(3000)
def test_a_full_disk_at_every_operation(case: Case) -> None:
    at = 1
    while run_out_of_space(case, at):
        at += 1
    assert at > 150


def run_out_of_space(case: Case, at: int) -> bool:
    """Let the disk be full from one operation on, then have space again; say whether the run needed that operation."""
    code = case.attempt(break_file_operation, at, "full")
    assert code in (3, 4, FINISHED)
    if code != FINISHED:
        case.count("full disks")
        assert case.attempt() == FINISHED
    finish(case)
    return code != FINISHED


def test_a_log_that_was_cut_behind_its_checkpoint_is_written_again(case: Case) -> None:
    """What a power cut may leave: rows after the last checkpoint in part, or followed by garbage."""
    for seed in range(3):
        assert case.attempt(die_at_steps, [15]) == -signal.SIGKILL
        log = case.folder / "metrics.jsonl"
        raw = log.read_bytes()
        checkpoint = sorted((case.folder / "checkpoints").glob("step-*"))[-1]
        saved = int((checkpoint / "state.json").read_text().split('"log_bytes": ')[1].split(",")[0].rstrip("}"))
        end = random.Random(seed).randint(saved, len(raw))
        log.write_bytes(raw[:end] + [b"", b"\0" * 100, b'{"kind": "tr'][seed])
        assert case.attempt() == FINISHED
        finish(case)


@pytest.mark.parametrize("n", [1, pytest.param(20, marks=pytest.mark.crash)])
def test_of_two_processes_one_trains(n: int, case: Case) -> None:
    for _ in range(n):
        with case.process() as one, case.process() as other:
            one.join(60)
            other.join(60)
            codes = {one.exitcode, other.exitcode}
        assert codes in ({FINISHED}, {FINISHED, 3})  # the second is refused, or finds it finished
        case.count("pairs of processes on one run")
        finish(case)
