"""Runs that repeat a domain become a table with a pool for each run, to which a law of repetition is fitted."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from mixlaw.cli.main import main
from mixlaw.tables.read import read_table

SCARCE = "mixture.weights={code:0.5,docs:0.5}"  # 24 sequences of docs
POOLS = {"{}": 8000, "{docs:192}": 192, "{docs:96}": 96, "{docs:64}": 64}  # stream.unique_tokens -> available_docs


@pytest.mark.slow
def test_a_law_of_repetition_is_fitted_to_runs_with_pools(tiny: Callable[..., list[str]], tmp_path: Path) -> None:
    from train.compose import compose_config, plan_run
    from train.loop import run

    for width in (16, 32):
        for pool in POOLS:
            more = [SCARCE, f"model.width={width}", f"stream.unique_tokens={pool}", "stream.max_epochs=6"]
            assert run(plan_run(compose_config(tiny(*more)))) == "finished"
    runs, laws = tmp_path / "runs", tmp_path / "laws.json"
    assert main(["fit", str(runs), "--law", "muennighoff", "--n-bootstrap", "5", "--out", str(laws)]) == 0

    table = read_table([runs])
    assert table.sizes["docs"] == 8000
    last = table.frame.groupby("run_id").last()
    assert sorted(last["available_docs"]) == sorted([*POOLS.values()] * 2)
    assert last["epochs_docs"].to_numpy() == pytest.approx(384 / last["available_docs"].to_numpy())

    means = []  # of predicted and observed losses on docs
    for pool in (64, 8000):
        rows, predicted = tmp_path / f"{pool}.csv", tmp_path / f"{pool}_predicted.csv"
        table.frame[table.frame["available_docs"] == pool].to_csv(rows, index=False)
        assert main(["predict", str(laws), str(rows), "--out", str(predicted)]) == 0
        means.append(pd.read_csv(predicted).query("target == 'docs'")[["predicted", "observed"]].mean())
    repeated, fresh = means
    assert (repeated > fresh).all()
