"""The benches run, from end to end, in shapes so small that their figures mean nothing."""

import json
import sys
from pathlib import Path

import pytest

from scripts.check_gpu import STEPS
from scripts.gpu_jobs import Runner
from scripts.gpu_measures import together
from scripts.gpu_runs import SMOKE
from tests.commands import call
from train.peaks import MEMORY, NAMES, memory_of, peak_of


@pytest.mark.slow  # compiles eight models
@pytest.mark.timeout(1500)
def test_the_gpu_check_takes_all_of_its_steps(tmp_path: Path) -> None:
    smoke = ["--smoke", "--minutes", "60", "--json", str(tmp_path / "check.json")]  # on any machine, however busy
    code, out, err = call("-m", "scripts.check_gpu", *smoke, timeout=1400)
    assert code == 0, err
    assert "failed" not in err
    assert "left out" not in err
    assert "SMOKE: no figures" in out.splitlines()[0]
    heads = [line for line in out.splitlines() if line.startswith("== ")]
    skipped = {"waiting": "skipped, it needs CUDA"}
    assert heads == [f"== {step.name}: {skipped.get(step.name, 'ok')}" for step in STEPS]
    rows = json.loads((tmp_path / "check.json").read_text())["rows"]
    models = {r["label"]: r for r in rows if "label" in r}
    variants = ("ours", "no cuDNN attention", "fp32 residual", "transformers")
    assert list(models) == [f"125M, {variant}" for variant in variants]
    assert min(row["tokens_per_s"] for row in models.values()) > 0
    assert models["125M, ours"]["profile"]
    assert {r["family"] for r in rows if "family" in r} == {"text", "multimodal", "vision"}
    assert min(r["graphs"] for r in rows if "family" in r or "shards" in r) >= 1
    alone, pair = [r for r in rows if "tiny" in r]
    assert (alone["at_once"], alone["graphs"], pair["at_once"], pair["graphs"]) == (1, False, 2, True)
    assert alone["tokens_per_s"] > 0  # the pair's few steps may miss each other: see the next test
    [resumed] = [r for r in rows if "resume" in r]
    assert resumed["apart"] == 0.0  # on a CPU
    assert sum("checkpoint" in r or "evaluation" in r for r in rows) == 2


def test_steps_of_the_gpu_check_fit_into_its_time() -> None:
    assert sum(step.share for step in STEPS) <= 0.99


@pytest.mark.slow  # compiles until its time is used up
def test_a_step_that_fails_is_named_and_later_ones_run(tmp_path: Path) -> None:
    little = ["--smoke", "--minutes", "0.2", "--steps", "kernels,waiting", "--json", str(tmp_path / "check.json")]
    code, out, _ = call("-m", "scripts.check_gpu", *little)
    assert code == 1
    assert "== kernels: failed\n! compiler: left out, the time is used up\n" in out
    assert out.endswith("== waiting: skipped, it needs CUDA\n")


def test_an_unknown_step_is_refused() -> None:
    code, _, err = call("-m", "scripts.check_gpu", "--steps", "kernel")
    assert (code, err.split(":")[1]) == (2, " --steps kernel")


def test_runs_at_once_are_counted_while_all_of_them_run() -> None:
    shape = SMOKE["10M"]
    early, late = {"times": [0.0, 1.0, 2.0, 3.0]}, {"times": [1.0, 2.5, 4.0]}
    assert together([early], shape) == shape.tokens_per_step
    assert together([early, late], shape) == shape.tokens_per_step * 3 / 2  # at 2, 2.5 and 3
    assert together([early, {"times": [3.0, 4.0]}], shape) == 0.0


def runner(tmp_path: Path, code: str) -> Runner:
    """Return a runner of one minute whose jobs are Python code that finds its job in `job`."""
    start = "import json, pathlib, sys, time; job = json.loads(sys.argv[-1]); "
    go = Runner([sys.executable, "-c", start + code], 1.0, tmp_path / "rows.json", {"machine": "this"})
    go.within(1.0)
    return go


def test_jobs_at_once_wait_for_each_other(tmp_path: Path) -> None:
    code = (
        f"here = pathlib.Path({str(tmp_path)!r}); (here / str(job)).touch()\n"
        "while len(list(here.iterdir())) < 2: time.sleep(0.01)\n"
        "print('x' * 300000, file=sys.stderr); print('noise'); print(json.dumps({'job': job}))"
    )
    assert runner(tmp_path, code)("pair", {"n": 1}, {"n": 2}) == [{"job": {"n": 1}}, {"job": {"n": 2}}]


def test_a_job_that_fails_ends_those_that_wait_for_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = "time.sleep(600) if job else sys.exit('out of memory')"
    assert runner(tmp_path, code)("pair", {"n": 1}, {}) == []
    assert capsys.readouterr().err == "pair: failed, out of memory\n"


@pytest.mark.slow  # waits 2 s
def test_a_job_ends_with_the_time_of_its_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    go = runner(tmp_path, "time.sleep(600)")
    go.within(2.2 / 60)
    assert go("long", {}) == go("next", {}) == []
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("long: left out, stopped after 2 s")
    assert second == "next: left out, the time is used up"
    go.note({"model": "none"})
    assert json.loads((tmp_path / "rows.json").read_text()) == {"machine": "this", "rows": [{"model": "none"}]}


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989.5e12),
        ("NVIDIA H100 80GB HBM3", 989.5e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA H200 NVL", None),
        ("NVIDIA RTX A1000", None),
        ("no GPU", None),
    ],
)
def test_a_peak_is_stated_for_known_cards_only(name: str, peak: float | None) -> None:
    assert peak_of(name) == peak


def test_the_memory_of_known_cards_is_stated() -> None:
    assert all(memory_of(name) and peak_of(name) for name in NAMES)
    assert (memory_of("NVIDIA H100 80GB HBM3"), memory_of("NVIDIA A100-SXM4-40GB")) == (80e9, 40e9)
    assert memory_of("NVIDIA H100 80GB HBM3 MIG 1g.10gb") is memory_of("H1000") is memory_of("no GPU") is None
    assert len(NAMES) <= len(MEMORY)


def test_without_a_gpu_the_gpu_check_says_so(tmp_path: Path) -> None:
    code, out, err = call("-m", "scripts.check_gpu", "--json", str(tmp_path / "x.json"), CUDA_VISIBLE_DEVICES="")
    assert (code, out) == (2, "")
    assert err == "error: torch sees no GPU here; --smoke runs the same in tiny shapes\n"


@pytest.mark.slow
def test_the_trainers_bench_prints_both_sides(tmp_path: Path) -> None:
    small = "--turns 1 --width 32 --seq-len 16 --batch-size 2 --json".split()
    code, out, err = call("-m", "scripts.bench_trainer", *small, str(tmp_path / "b.json"))
    assert code == 0, err
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert all(row["ratio"] == pytest.approx(row["ours"] / row["theirs"]) for row in rows)
    assert len(out.splitlines()) == 2 + len(rows)
