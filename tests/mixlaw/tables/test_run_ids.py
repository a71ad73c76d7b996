"""Which rows are one run: repeats are runs of their own, checkpoints stay together, whatever the order of the rows."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.errors import ConfigError
from mixlaw.tables.check import check_frame
from mixlaw.tables.clean import prepare
from mixlaw.tables.read import read_table
from mixlaw.tables.table import Table
from tests.marks import examples


def loss(n: float, d: float, h: float) -> float:
    return 1.6 + 400 / n**0.34 + 1800 / d**0.3 + 0.2 * h


def design(tokens: tuple[float, ...] = (1e9, 4e9), sizes: tuple[float, ...] = (1e7, 4e7)) -> pd.DataFrame:
    """Return a row for each size, mixture and number of tokens."""
    rows = [
        {"n_params": n, "n_tokens": d, "weight_a": h, "weight_b": 1 - h, "loss_x": loss(n, d, h)}
        for n in sizes
        for h in (0.25, 0.5, 0.75)
        for d in tokens
    ]
    return pd.DataFrame(rows)


def swept(frame: pd.DataFrame, column: str, values: tuple[object, ...]) -> pd.DataFrame:
    """Return each row once for each value of a setting, with other losses; the first is the worst."""
    parts = [
        frame.assign(**{column: value, "loss_x": frame["loss_x"] + 0.7 - 0.3 * i}) for i, value in enumerate(values)
    ]
    return pd.concat(parts).sort_index(kind="stable").reset_index(drop=True)


def partition(table: Table) -> set[frozenset[int]]:
    return {frozenset(rows) for rows in table.frame.groupby("run_id")["row"].agg(list)}


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("lr", (4e-3, 1e-3, 3e-4)),
        ("dataset", ("c4", "oscar")),
        ("batch_size", (64, 128, 256)),
        ("Optimizer", ("sgd", "adam")),
    ],
)
def test_rows_whose_losses_differ_are_runs_and_what_tells_them_apart_is_named(column, values):
    table = check_frame(swept(design(), column, values), "mine")
    ready = prepare(table)
    assert len(ready.frame) == ready.frame["run_id"].nunique() == 12 * len(values)
    assert ready.much_left_out() == []
    [note] = table.notes
    assert (
        f"mine: {12 * len(values)} of {12 * len(values)} rows have the n_params, n_tokens and weights of others" in note
    )
    assert f"They differ in {column} ({len(values)} values)" in note
    assert "--best" in note
    assert "--run-id" in note


def test_several_settings_of_many_repeats_are_all_named_and_no_measurement_goes_before_them():
    rng, n = np.random.default_rng(0), 400
    settings_ = {
        "width": rng.choice([64, 128], n),
        "opt": rng.choice(["sgd", "adam"], n),
        "lr": rng.choice([1, 2, 3], n),
    }
    columns = {"n_params": 1e7, "n_tokens": 1e9, "runtime": rng.uniform(1, 2, n), "loss_x": rng.uniform(3, 4, n)}
    table = check_frame(pd.DataFrame(columns | settings_), "mine")
    assert table.frame["run_id"].nunique() == n
    assert "They differ in width (2 values), opt (2 values), lr (3 values), runtime (400 values)" in table.notes[0]


def test_the_best_row_of_each_design_is_kept_on_demand():
    frame = swept(design(), "lr", (4e-3, 1e-3, 3e-4))
    table = check_frame(frame, "mine", best=True)
    assert table.frame["lr"].tolist() == [3e-4] * 12
    assert table.frame["loss_x"].tolist() == pytest.approx((design()["loss_x"] + 0.1).tolist())
    assert (
        table.notes[-1]
        == "--best: the lowest mean loss for each n_params, n_tokens and weights is kept; 24 of 36 rows are left out"
    )
    assert table.much_left_out() == []


def test_the_best_row_is_that_of_the_lowest_mean_of_the_targets_that_all_have():
    frame = pd.DataFrame(
        {"n_params": 1e7, "n_tokens": 1e9, "loss_x": [3.0, 2.0, 4.0], "loss_y": [3.0, 5.0, 1.0], "loss_z": [None, 9, 9]}
    )
    assert check_frame(frame, "mine", best=True).frame["row"].tolist() == [3]


def test_repeats_along_a_grid_of_checkpoints_are_grouped_by_what_tells_them_apart():
    """Four evenly spaced checkpoints of each learning rate are one run of it."""
    tokens = (1e9, 2e9, 3e9, 4e9)
    frame = swept(design(tokens), "lr", (1e-3, 3e-4))
    table = check_frame(frame, "mine")
    assert len(partition(table)) == 6 * 2
    assert all(len(rows) == 4 for rows in partition(table))
    assert (table.frame.groupby("run_id")["lr"].nunique() == 1).all()


def test_repeats_that_no_column_tells_apart_are_runs_of_their_own():
    frame = swept(design(), "lr", (1, 2)).drop(columns="lr")
    table = check_frame(frame, "mine")
    assert len(partition(table)) == 24
    assert "No column tells them apart" in table.notes[0]


def test_exact_duplicates_are_left_out_and_only_they():
    frame = swept(design(), "lr", (1e-3, 3e-4))
    table = check_frame(pd.concat([frame, frame[:3]], ignore_index=True), "mine")
    ready = prepare(table)
    assert len(ready.frame) == 24
    assert ready.notes[-1] == "mine rows 25-27: the same run and tokens as an earlier row; left out"
    assert ready.much_left_out() == ["3 of 27 rows (11 %) are left out: the same run and tokens as an earlier row (3)"]


def test_checkpoints_of_one_size_and_mixture_are_one_run():
    for tokens in ((1e9, 2e9), (1e9, 2e9, 4e9, 8e9), tuple(1e9 * np.arange(1, 12))):
        table = check_frame(design(tokens), "mine")
        assert len(partition(table)) == 6
        assert table.notes == []


def test_a_column_of_steps_shows_checkpoints_on_any_grid():
    frame = design((1e9, 2.7e9, 5.1e9), sizes=(1e7,))
    frame["n_tokens"] *= np.repeat([1, 1.07, 1.13], 3)  # no tokens of two mixtures are the same
    assert len(partition(check_frame(frame, "mine"))) == 9
    steps = frame.assign(iteration=np.tile([100, 270, 510], 3))
    assert len(partition(check_frame(steps, "mine"))) == 3


def test_rows_at_tokens_that_no_other_has_are_never_left_out_as_near():
    """As runs at one compute, whose tokens differ by less than 1 %: separate runs."""
    frame = pd.DataFrame(
        {"n_params": [1e7, 1e7, 2e7, 2e7], "n_tokens": [1e9, 1.004e9, 2e9, 2.01e9], "loss_x": [4, 3.9, 3.5, 3.6]}
    )
    ready = prepare(check_frame(frame, "mine"))
    assert len(ready.frame) == ready.frame["run_id"].nunique() == 4
    batches = swept(design(), "batch_size", (64, 128))
    batches["n_tokens"] *= np.where(batches["batch_size"] == 64, 1, 1.0003)  # whole batches
    assert len(prepare(check_frame(batches, "mine")).frame) == 24


def test_a_sweep_is_never_taken_for_warm_up():
    """Separate runs of eight numbers of tokens, of which the small ones had a bad learning rate."""
    tokens = tuple(1e9 * 1.9 ** np.arange(8) * np.array([1, 1.1, 0.95, 1, 1.07, 1, 0.9, 1]))
    frame = swept(design(tokens), "lr", (4e-3, 1e-3, 3e-4))
    frame.loc[frame["n_tokens"] < 2e9, "loss_x"] *= 1.3
    ready = prepare(check_frame(frame, "mine"))
    assert len(ready.frame) == len(frame)


def test_a_seed_names_runs_as_before():
    frame = pd.concat([design().assign(seed=s, loss_x=design()["loss_x"] + s / 100) for s in (0, 1)], ignore_index=True)
    table = check_frame(frame, "mine")
    assert len(partition(table)) == 12
    assert table.notes == []


def test_columns_that_name_a_run_together():
    frame = swept(design((1e9, 2.3e9)), "lr", (1e-3, 3e-4)).assign(cluster="x")
    frame["mix"] = frame["weight_a"].map(str)
    table = check_frame(frame, "mine", run_id=["n_params", "mix", "lr"])
    assert len(partition(table)) == 12
    assert all(len(rows) == 2 for rows in partition(table))
    assert table.notes == []
    with pytest.raises(ConfigError, match="--run-id lrr: mine: unknown column 'lrr'; did you mean 'lr'"):
        check_frame(frame, "mine", run_id=["lrr"])
    with pytest.raises(ConfigError, match="two ways to name runs"):
        check_frame(frame, "mine", run_id=["lr"], rows_are_runs=True)


def test_columns_that_name_a_run_may_bear_the_file_s_name_and_stay_text(tmp_path):
    path = tmp_path / "runs.csv"
    design().assign(job=[f"{i:03d}" for i in range(12)]).rename(columns={"n_params": "N"}).to_csv(path, index=False)
    table = read_table([path], columns={"N": "n_params"}, run_id=["job"])
    assert table.frame["run_id"].tolist() == [f"{i:03d}" for i in range(12)]
    assert table.notes == []
    both = read_table([path], columns={"N": "n_params"}, run_id=["N", "job"])
    assert both.frame["run_id"].tolist()[::11] == ["10000000.0, 000", "40000000.0, 011"]


def test_every_row_is_a_run_on_demand():
    frame = design((1e9, 2e9, 3e9, 4e9)).assign(run_id="all")
    table = check_frame(frame, "mine", rows_are_runs=True)
    assert len(partition(table)) == len(frame)
    assert len(prepare(table).frame) == len(frame)


def test_one_id_for_several_runs_is_split_where_losses_contradict():
    frame = swept(design(), "seed", (0, 1)).assign(
        run_id=lambda f: f["n_params"].map("{:g}".format) + f["weight_a"].map(str)
    )
    table = check_frame(frame, "mine")
    assert len(partition(table)) == 12
    assert (table.frame.groupby("run_id")["seed"].nunique() == 1).all()
    assert table.notes == [
        "mine rows 1-24: other losses at the same run_id and n_tokens: these are different runs, told apart by seed"
    ]
    assert len(prepare(table).frame) == 24


def test_one_id_for_a_whole_study_is_split_by_size_and_mixture():
    table = check_frame(design((1e9, 2e9, 3e9)).assign(run_id="study"), "mine")
    assert len(partition(table)) == 6
    assert table.notes[0].endswith("these are different runs, told apart by n_params and weights")


@given(st.data())
@examples(60)
def test_the_order_of_rows_does_not_change_which_runs_there_are(data):
    n = data.draw(st.integers(2, 14))
    column = lambda *values: data.draw(st.lists(st.sampled_from(values), min_size=n, max_size=n))  # noqa: E731
    frame = pd.DataFrame(
        {
            "n_params": column(1e7, 2e7),
            "n_tokens": column(1e9, 1.004e9, 2e9, 3e9, 4e9),
            "loss_x": column(3.0, 3.001, 3.5, 4.0),
        }
    )
    if data.draw(st.booleans()):
        frame["lr"] = column(1, 2)
    if data.draw(st.booleans()):
        frame["run_id"] = column("a", "b")
    order = data.draw(st.permutations(range(n)))
    one = check_frame(frame, "mine")
    other = check_frame(frame.iloc[list(order)], "mine", rows=np.array(order) + 1)
    assert partition(one) == partition(other)
    for table in (one, other):
        ready = prepare(table, keep_warmup=True)
        at = ready.frame.groupby(["n_params", "n_tokens"])["loss_x"].agg(set)
        given_ = frame.groupby(["n_params", "n_tokens"])["loss_x"].agg(set)
        if "run_id" not in frame:
            for key, losses in given_.items():
                near = [k for k in at.index if k[0] == key[0] and abs(k[1] / key[1] - 1) < 0.01]
                kept = set().union(*(at[k] for k in near))
                assert all(min(abs(loss / k - 1) for k in kept) < 0.002 + 1e-9 for loss in losses)
