"""The benches run, from end to end, in shapes so small that their figures mean nothing."""

import json
from pathlib import Path

import pytest

from tests.train.tiny import call


@pytest.mark.timeout(600)
def test_the_gpu_bench_runs_all_of_its_parts(tmp_path: Path) -> None:
    code, out, err = call("-m", "scripts.bench_gpu", "--smoke", "--json", str(tmp_path / "bench.json"), timeout=500)
    assert code == 0, err
    assert "failed" not in err
    assert "left out" not in err
    assert "SMOKE: no figures" in out.splitlines()[0]
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    [model] = [r for r in rows if "model" in r]
    assert min(model[side]["tokens_per_s"] for side in ("ours", "theirs")) > 0
    assert {r["at_once"]: r["graphs"] for r in rows if r.get("tokens_per_s")} == {1: False, 2: True}
    assert sum("data_wait" in r or "checkpoint" in r for r in rows) == 2


def test_without_a_gpu_the_gpu_bench_says_so(tmp_path: Path) -> None:
    code, out, err = call("-m", "scripts.bench_gpu", "--json", str(tmp_path / "x.json"), CUDA_VISIBLE_DEVICES="")
    assert (code, out) == (2, "")
    assert err == "error: torch sees no GPU here; --smoke runs the same in tiny shapes\n"


def test_the_trainers_bench_prints_both_sides(tmp_path: Path) -> None:
    small = [
        "--turns",
        "1",
        "--width",
        "32",
        "--seq-len",
        "16",
        "--batch-size",
        "2",
        "--json",
        str(tmp_path / "b.json"),
    ]
    code, out, err = call("-m", "scripts.bench_trainer", *small)
    assert code == 0, err
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert all(row["ratio"] == pytest.approx(row["ours"] / row["theirs"]) for row in rows)
    assert len(out.splitlines()) == 2 + len(rows)
