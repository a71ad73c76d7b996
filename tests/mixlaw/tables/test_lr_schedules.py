"""Checkpoints in the middle of a schedule are no ends of shorter runs, and constant rates have no middle."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mixlaw.cli.main import main
from mixlaw.tables.check import check_frame
from mixlaw.tables.clean import prepare
from mixlaw.tables.lr_schedules import in_the_middle, is_last, mid_schedule_warnings, rate_column
from mixlaw.tables.read import read_table

DOMAINS, SHARES = ["a", "b"], np.arange(0.1, 1.0, 0.1)


def runs(kind: str, above: float = 0.05, noise: float = 0.002, seed: int = 0) -> pd.DataFrame:
    """Return runs of two sizes, four mixtures and three lengths under a schedule; `above` is what its end gives."""
    rng, rows = np.random.default_rng(seed), []
    for n in (1e7, 4e7):
        for share in (0.2, 0.4, 0.6, 0.8):
            for length in (10, 20, 40):
                for part in np.append(SHARES, 1.0):
                    d = length * n * part
                    falls = {"cosine": 1 - part, "cooled": min(1.0, (1 - part) / 0.2), "constant": 1.0}[kind]
                    loss = 1.5 + 90 / n**0.3 + 300 / d**0.3 + 0.1 * share
                    gain = above * loss * (falls if kind != "constant" else 0)
                    rows.append(
                        {
                            "run_id": f"{n:g}-{share}-{length}",
                            "n_params": n,
                            "n_tokens": d,
                            "weight_a": share,
                            "weight_b": 1 - share,
                            "loss_x": (loss + gain) * np.exp(noise * rng.standard_normal()),
                            "train/lr": 3e-3 * falls,
                        }
                    )
    return pd.DataFrame(rows)


def said(frame: pd.DataFrame) -> list[str]:
    table = check_frame(frame, "t")
    return mid_schedule_warnings(table.frame, table.domains, table.targets)[0]


@pytest.mark.parametrize("kind", ["cosine", "cooled"])
def test_a_rate_that_falls_is_seen_with_how_many_rows_and_by_how_much_they_lie_above(kind: str) -> None:
    frame = runs(kind)
    assert rate_column(frame) == "train/lr"
    (text,) = said(frame)
    assert f"{in_the_middle(frame).sum()} of 240 rows, of 24 runs" in text
    assert in_the_middle(frame).sum() == 216
    measured = float(text.split("they lie ")[1].split(" %")[0])
    expected = 5 * np.median([1 - 0.25, 1 - 0.5, 1 - 0.5]) if kind == "cosine" else 5.0
    assert measured == pytest.approx(expected, abs=1.3)
    assert "--ends-only" in text


@pytest.mark.parametrize("kind", ["cosine", "cooled"])
def test_without_a_column_of_rates_ends_below_the_checkpoints_of_other_runs_tell(kind: str) -> None:
    (text,) = said(runs(kind).drop(columns="train/lr"))
    assert "seem to be in the middle of a schedule" in text
    assert "216 of 240 rows" in text


@pytest.mark.parametrize("seed", range(5))
def test_constant_rates_are_not_doubted_with_a_column_or_without(seed: int) -> None:
    frame = runs("constant", noise=0.01, seed=seed)
    assert said(frame) == []
    assert said(frame.drop(columns="train/lr")) == []


def test_a_warm_up_is_no_schedule_that_falls() -> None:
    frame = runs("constant")
    first = ~frame.duplicated("run_id")
    frame.loc[first, "train/lr"] = 1e-4
    assert not in_the_middle(frame).any()
    assert said(frame) == []


def test_ends_alone_are_not_doubted_and_are_what_ends_only_keeps(tmp_path: Path) -> None:
    frame = runs("cosine")
    frame.to_csv(tmp_path / "runs.csv", index=False)
    ends = frame[frame["train/lr"] < 1e-9]
    ends.to_csv(tmp_path / "ends.csv", index=False)
    assert prepare(read_table([tmp_path / "ends.csv"])).warnings == []
    assert len(prepare(read_table([tmp_path / "runs.csv"])).warnings) == 1
    kept = prepare(read_table([tmp_path / "runs.csv"], ends_only=True))
    assert kept.warnings == []
    assert kept.frame["loss_x"].tolist() == ends["loss_x"].tolist()
    assert "216 of 240 rows are not the last of their run; left out" in " ".join(kept.notes)


@pytest.mark.slow
def test_ends_only_fits_what_the_ends_alone_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = runs("cosine")
    frame.to_csv(tmp_path / "runs.csv", index=False)
    frame[frame["train/lr"] < 1e-9].to_csv(tmp_path / "ends.csv", index=False)
    predicted = []
    for name, more in (("runs", ["--ends-only"]), ("ends", [])):
        laws, out = tmp_path / f"{name}.json", tmp_path / f"{name}-p.csv"
        fit = ["fit", str(tmp_path / f"{name}.csv"), *more, "--law", "base", "--n-bootstrap", "4", "--n-starts", "4"]
        assert main([*fit, "--out", str(laws)]) == 0
        assert "middle of a schedule" not in capsys.readouterr().err
        assert main(["predict", str(laws), str(tmp_path / "ends.csv"), "--out", str(out)]) == 0
        predicted.append(out.read_text())
    assert predicted[0] == predicted[1]
    capsys.readouterr()
    assert main(["fit", str(tmp_path / "runs.csv"), "--law", "base", "--n-bootstrap", "2", "--n-starts", "2"]) == 0
    assert "warning: 216 of 240 rows, of 24 runs, are checkpoints in the middle" in capsys.readouterr().err


def test_where_runs_have_no_ids_ends_are_where_the_rate_is_lowest() -> None:
    frame = runs("cosine").drop(columns="run_id")
    table = check_frame(frame, "t")
    last = is_last(table.frame)
    assert last.sum() == 24
    assert (table.frame["train/lr"][last] < 1e-9).all()


def test_checkpoints_of_several_schedules_without_ids_are_seen_and_a_rate_varied_on_purpose_is_none() -> None:
    rows = [
        (n, share * end, web, 2e-3 * (1 - share))
        for n in (1e7, 1e8)
        for web in (0.2, 0.5, 0.8)
        for end in (1e9, 2e9, 4e9)
        for share in (0.25, 0.5, 0.75, 1.0)
    ]
    frame = pd.DataFrame(rows, columns=["n_params", "n_tokens", "weight_web", "lr"]).assign(
        weight_code=lambda f: 1 - f["weight_web"],
        loss_x=lambda f: 3 + f["weight_web"] + (f["n_tokens"] / 1e9) ** -0.3 + 40 * f["lr"] + 1e7 / f["n_params"] / 10,
    )
    table = check_frame(frame, "t")
    assert not table.frame.duplicated("run_id").any()
    (text,) = said(table.frame)
    assert text.startswith("54 of 72 rows are checkpoints in the middle of a schedule: lr falls after them")
    assert is_last(table.frame).sum() == 18
    swept = frame.assign(lr=np.tile([2e-3, 1e-4, 5e-4, 1e-3], 18))
    assert not in_the_middle(check_frame(swept, "t").frame).any()
