"""How a study is cut into arrays, and what is said where there is no Slurm: none of this needs one."""

import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from data.store.verified import verify_touched
from mixlaw.errors import ConfigError, MixlawError
from mixlaw.runs.ledger import PlannedRun, read_plan, record_job
from sweeps.jobs import plan_jobs
from sweeps.slurm import SlurmOptions, seconds_of, submit, submit_study, write_tasks
from sweeps.slurm_commands import ask_queue
from tests.commands import call
from tests.marks import slow
from train.compose import ROOT

Tiny = Callable[..., list[str]]
RUNS = [PlannedRun(name, flops=float(i)) for i, name in enumerate("abcdefghij")]


def empty_path(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("PATH", str(folder))


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, **commands: str) -> None:
    """Put shell scripts with the names of Slurm's commands before anything else on PATH."""
    for name, body in commands.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def arrays(out: str) -> list[str]:
    return [line.split("--parsable ")[1].split(" --time")[0] for line in out.splitlines() if "sbatch" in line]


@pytest.mark.parametrize(
    ("size", "max_running", "expected"),
    [
        (100, 0, ["--array=0-9"]),
        (100, 4, ["--array=0-9%4"]),
        (4, 0, ["--array=0-3", "--array=0-2", "--array=0-2"]),
        (4, 5, ["--array=0-3%2", "--array=0-2%2", "--array=0-2%1"]),
        (4, 2, ["--array=0-3%1", "--array=0-2%1", "--array=0-2%1 '--dependency=afterany:<0>'"]),
        (3, 1, ["--array=0-2%1", *(f"--array=0-{n}%1 '--dependency=afterany:<{i}>'" for i, n in enumerate((2, 1, 1)))]),
    ],
)
def test_arrays_are_no_longer_than_allowed_and_never_run_more_than_asked_for(
    size: int,
    max_running: int,
    expected: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install(monkeypatch, tmp_path, scontrol=f"echo 'MaxArraySize            = {size}'")
    submit(tmp_path, RUNS, ["--time=1"], max_running, dry_run=True)
    assert arrays(capsys.readouterr().out) == expected


def test_arrays_of_branches_wait_for_those_of_their_trunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, tmp_path, scontrol="echo 'MaxArraySize = 6'")
    branches = [PlannedRun(f"{run.run_id}2", flops=1.0, trunk=run.run_id) for run in RUNS[:3]]
    submit(tmp_path, [*branches, *RUNS, PlannedRun("other", trunk="elsewhere")], ["--time=1"], 0, dry_run=True)
    first = ["--array=0-5", "--array=0-4"]
    assert arrays(capsys.readouterr().out) == [*first, "--array=0-2 '--dependency=afterany:<0>:<1>'"]


def test_options_left_empty_are_left_to_the_cluster_and_extra_ones_are_passed_on() -> None:
    folder = Path("runs/s")
    given = ["--signal=B:USR2@180", "--job-name=s", "--output=runs/s/slurm/%A.log"]
    plain = ["--time=04:00:00", "--nodes=1", "--ntasks-per-node=1", "--gpus-per-node=1", "--cpus-per-task=8"]
    assert SlurmOptions().arguments(folder) == plain + given
    many = replace(SlurmOptions(), gpus_per_node=8, partition="gpu", extra=["--nice=5"])
    assert {"--partition=gpu", "--ntasks-per-node=8", "--gpus-per-node=8", "--nice=5"} < set(many.arguments(folder))
    assert "--gpus-per-node=0" not in replace(SlurmOptions(), gpus_per_node=0).arguments(folder)


def test_a_dry_run_needs_no_slurm_and_writes_nothing(tiny: Tiny, tmp_path: Path) -> None:
    code, out, err = call("-m", "train", "-m", "--dry-run", "hydra/launcher=slurm", *tiny("seed=0,1", "study_name=s"))
    assert (code, err) == (0, "")
    assert "study s: 2 runs: 2 planned; 2 to submit" in out
    assert "sbatch --parsable --array=0-1 --time=04:00:00" in out
    assert not (tmp_path / "runs" / "s").exists()


def test_a_machine_without_slurm_is_a_sentence(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="needs sbatch, which is not on PATH"):
        submit_study([tiny()], SlurmOptions(), 0)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("launcher.tiem=2", "unknown setting 'tiem'; did you mean 'time'? known: "),
        slow("launcher.nodes=two", "Value 'two' of type 'str' could not be converted to Integer\n"),
        slow("nosuch.x=2", "unknown setting 'nosuch'; known: "),
        slow("launcher.max_running=-1", "is -1; it must be at least 0\n"),
    ],
)
def test_a_wrong_option_of_the_launcher_is_a_sentence(option: str, words: str, tiny: Tiny) -> None:
    code, out, err = call("-m", "train", "hydra/launcher=slurm", "-m", f"hydra.{option}", *tiny())
    assert (code, out) == (2, "")
    assert err.startswith(f"error: hydra.{option.partition('=')[0]}")
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_a_task_of_an_array_is_the_run_that_was_planned(tiny: Tiny, tmp_path: Path) -> None:
    """What sweep.sbatch reads and starts has the identity of what the study planned, mode and all."""
    jobs = plan_jobs(
        [tiny("study=quickstart", f"seed={seed}", "mixture.weights={code:0.5,docs:0.5}") for seed in (0, 1)]
    )
    write_tasks(tmp_path / "tasks", tmp_path / "runs/quickstart", [job.planned() for job in jobs])
    for line, job in zip((tmp_path / "tasks").read_text().splitlines(), jobs, strict=True):
        folder, *overrides = line.split("\t")
        assert folder == str(job.folder)
        code, _, err = call("-m", "train", "hydra.mode=RUN", *overrides)
        assert (code, err) == (0, "")
        assert (Path(folder) / "done.json").exists()
    assert len(list((tmp_path / "runs/quickstart").glob("*/done.json"))) == 2
    with pytest.raises(ConfigError, match="a tab or a line break"):
        write_tasks(tmp_path / "x", tmp_path, [PlannedRun("a", overrides=["a=1\t2"])])


def test_what_sbatch_refuses_is_a_sentence_and_what_it_took_is_not_forgotten(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm's limits on jobs, as its commands word them: real ones are in tests/slurm."""
    limit = "Batch job submission failed: Job violates accounting/QOS policy (job submit limit, ...)"
    once = f'[ ! -e {tmp_path}/one ] || {{ echo "sbatch: error: {limit}" >&2; exit 1; }}; touch {tmp_path}/one; echo 41'
    install(monkeypatch, tmp_path, sbatch=once, scontrol="echo 'MaxArraySize = 2'", squeue="echo '41_0|PENDING|None'")
    monkeypatch.chdir(ROOT)
    jobs = [tiny("study_name=s", f"seed={seed}") for seed in range(3)]
    with pytest.raises(ValueError, match=r"sbatch refused: Batch job .* 2 of 3 runs were submitted before"):
        submit_study(jobs, SlurmOptions(), 0)
    study = tmp_path / "runs/s"
    assert len(read_plan(study)) == 3
    assert ask_queue(study) == {"41_0": ("PENDING", "None")}


@pytest.mark.parametrize("option", ["nodes=0", "gpus_per_node=-1", "max_running=-1", "warn_s=0", "cpus_per_task=0"])
def test_options_that_cannot_be_are_a_sentence(option: str) -> None:
    name, value = option.split("=")
    with pytest.raises(ConfigError, match=rf"hydra.launcher.{name} is {value}; it must be at least"):
        SlurmOptions(**{name: int(value)})


def test_runs_are_not_submitted_where_the_queue_cannot_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_job(tmp_path, "101", ["aaa"])
    install(monkeypatch, tmp_path, squeue="echo 'Unable to contact slurm controller' >&2; exit 1")
    assert ask_queue(tmp_path) is None
    with pytest.raises(MixlawError, match="must not be submitted twice"):
        ask_queue(tmp_path, must=True)
    assert ask_queue(tmp_path / "other", must=True) is None  # nothing was ever submitted there


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("24:00:00", 86_400),
        ("1:30:00", 5_400),
        ("90", 5_400),
        ("90:30", 5_430),
        ("2-00:00:00", 172_800),
        ("2-12", 216_000),
        ("2-12:30", 217_800),
        ("", None),
        ("UNLIMITED", None),
    ],
)
def test_a_limit_is_read_as_slurm_does(time: str, seconds: int | None) -> None:
    assert seconds_of(time) == seconds
    assert f"--time={time}" in SlurmOptions(time=time).arguments(Path("runs/s")) or not time


@pytest.mark.parametrize("time", ["1.5", "24h", "one day", "1:2:3:4", "-5"])
def test_a_limit_that_slurm_does_not_read_is_a_sentence(time: str) -> None:
    with pytest.raises(ConfigError, match=r"hydra\.launcher\.time is .*; Slurm takes hh:mm:ss, d-hh:mm:ss"):
        SlurmOptions(time=time)


def test_a_limit_below_the_warning_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match="is 120 s, and a job is told to save 180 s before that"):
        SlurmOptions(time="2")
    assert SlurmOptions(time="2", warn_s=60).warn_s == 60


def write_launcher(folder: Path, line: str) -> None:
    (folder / "hydra" / "launcher").mkdir(parents=True, exist_ok=True)
    (folder / "hydra" / "launcher" / "mine.yaml").write_text(f"defaults:\n  - slurm\n  - _self_\n\n{line}\n")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("time: 24:00:00", "YAML reads 24:00:00 as the number 86400 (base 60): put it in quotes"),
        slow("time: 90:00", "YAML reads 90:00 as the number 5400 (base 60)"),
        slow("warn_s: 10:00", "YAML reads 10:00 as the number 600 (base 60)"),
        slow('time: "24:00:00"', "--time=24:00:00 "),
        slow("time: 2-00:00:00", "--time=2-00:00:00 "),
        ("time: 08:00:00", "--time=08:00:00 "),
        slow("time: 90", "--time=90 "),
        slow("time: 1.5", "hydra.launcher.time is '1.5'; Slurm takes"),
    ],
)
def test_a_time_in_a_launcher_file_reaches_slurm_or_is_refused(
    line: str, told: str, tiny: Tiny, tmp_path: Path
) -> None:
    write_launcher(tmp_path / "own", line)
    study = ["study=quickstart", "hydra/launcher=mine", "--dry-run", "mixture.weights={code:1}", "model=text_70k"]
    code, out, err = call("-m", "train", *tiny(*study), MIXLAW_CONFIGS=str(tmp_path / "own"))
    assert told in out + err
    assert (code == 0) == told.startswith("--time")
    assert err.count("\n") == (0 if code == 0 else 1)


@pytest.mark.slow
def test_a_time_in_a_study_file_and_on_the_command_line(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "own" / "study").mkdir(parents=True)
    head = "# @package _global_\nstudy_name: mine\nhydra:\n  mode: MULTIRUN\n"
    (tmp_path / "own" / "study" / "mine.yaml").write_text(head + "  launcher:\n    time: 12:00:00\n")
    launched = ["study=mine", "hydra/launcher=slurm", "--dry-run"]
    code, _, err = call("-m", "train", *tiny(*launched), MIXLAW_CONFIGS=str(tmp_path / "own"))
    assert code == 2
    assert "mine.yaml, line 6: YAML reads 12:00:00 as the number 43200 (base 60)" in err
    (tmp_path / "own" / "study" / "mine.yaml").write_text(head)
    for time in ("12:00:00", "1-00:00:00"):
        more = [*launched, f"hydra.launcher.time={time}"]
        code, out, err = call("-m", "train", *tiny(*more), MIXLAW_CONFIGS=str(tmp_path / "own"))
        assert (code, err) == (0, "")
        assert f"--time={time} " in out


def test_data_that_no_run_has_verified_are_named_before_nodes_wait_for_them(
    data_root: Path, tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(data_root, tmp_path / "data", ignore=shutil.ignore_patterns(".verified*")))
    job = tiny(f"data.root={root}", "study_name=s")
    submit_study([job], SlurmOptions(dry_run=True), 0)
    out = capsys.readouterr().out
    assert " files (0.0 GB) of " in out
    assert "are not verified: `python -m data.prepare data=" in out
    verify_touched(plan_jobs([job])[0].plan.manifest)
    submit_study([job], SlurmOptions(dry_run=True), 0)
    assert "verified" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_dry_run_tells_how_much_memory_each_size_needs(tiny: Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [tiny(f"model.width={width}", f"mixture={m}") for width in (16, 32) for m in ("uniform", "natural")]
    submit_study(jobs, SlurmOptions(dry_run=True, gpus_per_node=2), 0)
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("memory of ")]
    assert [line.split(": ")[0] for line in told] == [f"memory of text of width {width}" for width in (16, 32)]
    assert all(line.endswith(" GB on each of 2 GPUs, estimated") for line in told)
    submit_study(jobs[:1], SlurmOptions(dry_run=True, gpus_per_node=3), 0)
    assert "memory of text of width 16: stream.batch_size 4 is not a multiple of the 3 ranks" in capsys.readouterr().out
    submit_study(jobs[:1], SlurmOptions(dry_run=True, gpus_per_node=0), 0)
    assert "memory of" not in capsys.readouterr().out
