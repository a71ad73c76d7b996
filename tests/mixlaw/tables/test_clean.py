"""What is done before fitting: every trap is found, named by row, and nothing that is sound is touched."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.errors import ConfigError, RunLogError
from mixlaw.tables.check import check_frame
from mixlaw.tables.clean import prepare
from mixlaw.tables.read import read_table
from mixlaw.tables.table import Table
from mixlaw.tables.warm_up import count_warm_up
from tests.marks import examples, slow
from tests.mixlaw.run_logs import write_run

BILLION = 1e9


def table_of(tokens: list[float], losses: list[float], **more: object) -> Table:
    """Return one run's checkpoints, checked."""
    columns = {"run_id": "a", "n_params": 1e7, "n_tokens": tokens, "loss_x": losses}
    return check_frame(pd.DataFrame(columns | more), "mine")


def clean(floor: float, scale: float, beta: float, tokens: np.ndarray) -> np.ndarray:
    return floor + scale * (tokens / tokens[0]) ** -beta


def warmed(tokens: np.ndarray, excess: float = 0.08) -> np.ndarray:
    """Return a real-looking curve whose first checkpoint still is in warm-up."""
    losses = clean(2.0, 1.2, 0.4, tokens)
    losses[0] *= 1 + excess
    return losses


GRID = np.arange(2, 22, 2) * BILLION


def mixed() -> Table:
    """Return 6 runs of 2 sizes and 3 mixtures of 2 domains that follow a law, 10 checkpoints each."""
    rows = [
        {"run_id": f"{n}-{h}", "n_params": n, "n_tokens": d, "weight_code": h, "weight_web": 1 - h, "loss_x": y}
        for n in (1e7, 4e7)
        for h in (0.25, 0.5, 0.75)
        for d, y in zip(GRID, clean(2 + 1 / n, 1 + h, 0.4, GRID), strict=True)
    ]
    return check_frame(pd.DataFrame(rows), "mine")


def test_a_sound_table_goes_through_without_a_word():
    table = mixed()
    ready = prepare(table)
    assert ready.notes == []
    pd.testing.assert_frame_equal(ready.frame, table.frame)


def test_exact_repetitions_are_left_out_and_named():
    ready = prepare(table_of([1e9, 2e9, 2e9, 4e9], [4.0, 3.5, 3.5, 3.0]))
    assert ready.frame["row"].tolist() == [1, 2, 4]
    assert ready.notes == ["mine row 3: the same run and tokens as row 2; left out"]


def test_repetitions_that_contradict_are_runs_of_their_own():
    ready = prepare(table_of([1e9, 2e9, 2e9, 4e9], [4.0, 3.5, 3.25, 3.0]))
    assert ready.frame["loss_x"].tolist() == [4.0, 3.5, 3.25, 3.0]
    assert ready.runs().tolist() == [0, 1, 2, 0]
    assert ready.notes == [
        "mine rows 2-3: other losses at the same run_id and n_tokens: these are different runs, "
        "--run-id COLUMN,COLUMN names what tells them apart"
    ]


def test_losses_that_only_the_repetition_has_are_kept():
    frame = pd.DataFrame(
        {"run_id": "a", "n_params": 1e7, "n_tokens": [1e9, 1e9], "loss_x": [3, None], "loss_y": [None, 4]}
    )
    ready = prepare(check_frame(frame, "mine"))
    assert ready.frame[["loss_x", "loss_y"]].to_numpy().tolist() == [[3.0, 4.0]]
    assert ready.notes[-1] == "mine row 2: the same run and tokens as row 1; left out"


def test_of_two_checkpoints_less_than_a_percent_apart_the_earlier_is_left_out():
    ready = prepare(table_of([5e9, 10e9, 19.998e9, 20e9], [4.0, 3.5, 3.25, 3.25]))
    assert ready.frame["row"].tolist() == [1, 2, 4]
    assert ready.notes == ["mine row 3: 2e+06 tokens, less than 1 %, before row 4 of the same run; left out"]


def test_rows_of_other_runs_are_never_near():
    table = table_of([5e9, 5.001e9, 10e9, 10.001e9], [4.0, 4.0, 3.0, 3.0], run_id=["a", "b", "a", "b"])
    ready = prepare(table)
    assert len(ready.frame) == 4
    assert [note[:30] for note in ready.notes] == ["n_tokens: 4 values count as 2 "]  # as numbers of tokens


@given(st.lists(st.floats(1, 2), min_size=1, max_size=60))
@examples(100)
def test_what_is_left_is_a_percent_apart_and_the_last_stays(tokens):
    kept = np.sort(prepare(table_of(tokens, [3.0] * len(tokens))).frame["n_tokens"])
    assert kept[-1] == max(tokens)
    assert (np.diff(kept) >= 0.01 * kept[1:]).all()
    thinned = [t for t in tokens if min(abs(kept / t - 1)) > 0.0102]
    assert thinned == []


def test_many_repetitions_are_one_line():
    ready = prepare(table_of([1e9] * 12, [3.0] * 12))
    assert len(ready.frame) == 1
    assert ready.notes == ["mine rows 2-12: the same run and tokens as an earlier row; left out"]
    assert ready.much_left_out() == [
        "11 of 12 rows (92 %) are left out: the same run and tokens as an earlier row (11)"
    ]


def test_what_is_left_out_in_reading_and_after_is_counted_by_reason():
    tokens, losses = [*(1e9 * 1.5**i for i in range(30)), 1e9], [*np.linspace(4, 3, 30), 4.0]
    assert prepare(table_of(tokens, losses)).much_left_out() == []  # 1 of 31
    frame = table_of([*tokens, 9e9], [*losses, 3.0]).frame.assign(n_params=[*[1e7] * 31, 0])
    [warning] = prepare(check_frame(frame, "mine")).much_left_out()
    assert warning == (
        "2 of 32 rows (6 %) are left out: n_params is not a number above 0 (1), "
        "the same run and tokens as an earlier row (1)"
    )


def test_a_first_checkpoint_in_warm_up_is_left_out_with_its_excess():
    ready = prepare(table_of(list(GRID), list(warmed(GRID))))
    assert ready.frame["row"].tolist() == list(range(2, 11))
    assert ready.notes == [
        "mine row 1: in warm-up: up to 2e+09 tokens of its run, loss_x is up to 7.9 % above any law that fits the "
        "later checkpoints; left out"
    ]
    assert prepare(table_of(list(GRID), list(warmed(GRID))), keep_warmup=True).notes == []


def test_runs_of_one_schedule_are_judged_together_and_those_with_gaps_with_them():
    """Scatter hides the warm-up of one run, not that of thirty."""
    rng, rows = np.random.default_rng(0), []
    for run in range(30):
        losses = warmed(GRID, 0.05) * (1 + 0.004 * rng.normal(size=10))
        rows += [
            {"run_id": run, "n_params": 1e7, "n_tokens": d, "loss_x": y} for d, y in zip(GRID, losses, strict=True)
        ]
    frame = pd.DataFrame(rows).drop(index=[4, 57])
    ready = prepare(check_frame(frame, "mine"))
    assert ready.frame["n_tokens"].min() == 4e9
    assert len(ready.frame) == 298 - 30
    assert "of 30 runs with 10M parameters" in ready.notes[0]


def test_warm_up_of_several_checkpoints_is_left_out_whole():
    """As in real logs: the loss leaves its plateau late and falls fast, so the first few lie below what follows."""
    tokens = np.arange(1, 61) * BILLION
    losses = clean(2.0, 3.0, 0.5, tokens)
    losses[:6] = [4.6, 4.4, 4.25, 4.1, 3.95, 3.4]
    count, target, excess = count_warm_up(tokens, losses[None])
    assert (count, target) == (6, 0)
    assert 0.05 < excess < 0.5


def test_one_odd_checkpoint_in_the_middle_is_no_warm_up():
    losses = clean(2.0, 1.2, 0.4, np.arange(1, 41) * BILLION)
    losses[8] *= 1.1
    assert count_warm_up(np.arange(1, 41) * BILLION, losses[None])[0] == 0


def test_a_curve_that_turns_up_is_no_warm_up():
    losses = np.array([3.0, 2.5, 2.45, 2.5, 2.6, 2.7, 2.8, 2.9])
    assert count_warm_up(np.arange(1, 9) * BILLION, losses[None])[0] == 0


@given(
    beta=st.floats(0.01, 1),
    share=st.floats(0.02, 0.98),
    tokens=st.lists(st.floats(1, 1000), min_size=2, max_size=40, unique=True),
    n_targets=st.integers(1, 3),
)
@examples(300)
def test_a_law_is_never_taken_for_warm_up(beta, share, tokens, n_targets):
    """Any floor, any decay up to beta = 1, any checkpoints."""
    grid = np.sort(np.array(tokens)) * BILLION
    curves = np.stack([clean(3 * (1 - share), 3 * share, beta / (1 + i), grid) for i in range(n_targets)])
    assert count_warm_up(grid, curves)[0] == 0
    table = table_of(list(grid), list(curves[0]))
    assert not any("warm-up" in note for note in prepare(table).notes)


@pytest.mark.parametrize("beta", [0.2, slow(0.4), slow(0.7), 1.0])
@pytest.mark.parametrize("grid", [np.arange(1, 11.0), np.geomspace(1, 100, 8), np.arange(1, 31.0)], ids=len)
def test_scatter_of_one_percent_is_seldom_taken_for_warm_up(beta, grid):
    rng = np.random.default_rng(0)
    curves = [
        clean(2.0, 1.5 * rng.uniform(0.2, 1), beta, grid) * (1 + 0.01 * rng.normal(size=len(grid))) for _ in range(200)
    ]
    assert sum(count_warm_up(grid, curve[None])[0] > 0 for curve in curves) <= 4


def test_empty_losses_and_few_checkpoints_say_nothing():
    losses = warmed(GRID)
    losses[5] = np.nan
    assert count_warm_up(GRID, losses[None]) == (0, 0, 0.0)
    assert count_warm_up(GRID[:5], warmed(GRID)[None, :5]) == (0, 0, 0.0)
    assert prepare(table_of(list(GRID), [np.nan] * 10)).notes == [
        "mine rows 1-10: loss_x is empty; these cells are left out"
    ]


def test_zeros_are_counted_per_domain():
    table = mixed()
    table.frame.loc[:2, "weight_code"] = 0.0
    table.frame.loc[5, "weight_web"] = 0.0
    assert prepare(table).notes == [
        "weights of exactly 0, which laws see as 0.0001: weight_code in 3 rows, weight_web in 1 row"
    ]


def test_zeros_of_many_domains_are_one_line():
    weights = {f"weight_{i}": [float(i == j) for j in range(30)] for i in range(30)}
    frame = pd.DataFrame({"n_params": 1e7, "n_tokens": 1e9, "loss_x": 3.0} | weights)
    notes = prepare(check_frame(frame, "mine")).notes
    assert len(notes) == 1
    assert notes[0].startswith("weights of exactly 0, which laws see as 0.0001: weight_0 in 29 rows, weight_1 in 29")
    assert notes[0].endswith("weight_19 in 29 rows, and 10 more")


def test_a_loss_that_rises_is_said_and_kept():
    ready = prepare(table_of([1e9, 2e9, 4e9, 8e9], [4.0, 3.0, 3.05, 3.15], loss_y=[3.0, 2.0, 2.0, 2.02]))
    assert len(ready.frame) == 4
    assert ready.notes == ["mine row 4: loss_x ends 5.0 % above the lowest of run a, row 2; kept"]


def test_what_is_forgotten_in_finetuning_may_rise():
    assert prepare(table_of([1e9, 2e9, 4e9], [2.0, 2.2, 2.5], before_x=1.9)).notes == []


def test_units_that_look_wrong_are_said_and_kept():
    frame = pd.DataFrame({"n_params": [70.0, 160], "n_tokens": [10_000, 20_000], "loss_x": [3, 2.5]})
    assert prepare(check_frame(frame, "mine")).notes == [
        "n_params is at most 160 in all rows: millions? It should be a plain number; kept",
        "n_tokens is at most 20000 in all rows: steps, or billions? It should be a plain number; kept",
    ]


def test_run_directories_state_their_units(tmp_path):
    write_run(tmp_path, "aaa", n_params={"total": 5, "non_embedding": 4})
    assert prepare(read_table([tmp_path])).notes == []


@pytest.mark.parametrize("words", ["410M", "410m", " 0.41 B", "410000K"])
def test_a_size_in_words_that_is_not_n_is_said(words):
    ready = prepare(table_of([1e9, 2e9], [3.0, 2.5], n_params=302_311_424, size=[words, "302M"]))
    assert ready.notes == [
        f"mine row 1: size says {words}, n_params 302M: N without embeddings? The law's N is n_params; kept"
    ]


def test_other_words_are_not_taken_for_sizes():
    more = {"size": ["410M", "400M"], "budget_tokens": "20B", "name": "model 70M", "tag": None, "empty": "0M"}
    assert prepare(table_of([1e9, 2e9], [3.0, 2.5], n_params=4.05e8, **more)).notes[:-1] == []


def test_rows_of_several_files_are_named_by_their_file(tmp_path):
    paths = [tmp_path / "one.csv", tmp_path / "two.csv"]
    for path in paths:
        table_of([1e9, 2e9, 2e9], [4.0, 3.5, 3.5]).frame.drop(columns="row").replace("a", path.stem).to_csv(
            path, index=False
        )
    ready = prepare(read_table(paths))
    rows = " and ".join(f"{path} row 3" for path in paths)
    assert ready.notes == [f"{rows}: the same run and tokens as an earlier row; left out"]
    assert ready.frame["row"].tolist() == [1, 2, 4, 5]


def test_a_table_to_predict_is_prepared_too():
    frame = pd.DataFrame({"n_params": [1e7] * 2, "n_tokens": [1e9] * 2, "weight_a": 1.0})
    assert len(prepare(check_frame(frame, "mine", need_losses=False)).frame) == 1


@given(st.data())
@examples(60)
def test_whatever_is_left_out_or_kept_every_row_that_goes_is_named(data):
    """The number of rows that notes call left out is the number of rows that are gone."""
    n = data.draw(st.integers(1, 25))
    runs = data.draw(st.lists(st.sampled_from("ab"), min_size=n, max_size=n))
    tokens = data.draw(st.lists(st.sampled_from([1e9, 1.005e9, 2e9, 5e9, 9e9]), min_size=n, max_size=n))
    losses = data.draw(st.lists(st.floats(1, 5), min_size=n, max_size=n))
    table = table_of(tokens, losses, run_id=runs)
    ready = prepare(table)
    gone = set(table.frame["row"]) - set(ready.frame["row"])
    named: set[int] = set()
    more = 0
    for note in ready.notes:
        if "left out" in note:
            rows, _, cut = note.split(":")[0].removesuffix(" more").partition(" and ")
            more += int(cut or 0)
            for part in rows.removeprefix("mine row").removeprefix("s").split(","):
                first, _, last = part.strip().partition("-")
                named |= set(range(int(first), int(last or first) + 1))
    assert named <= gone
    assert len(named) + more == len(gone) == sum(ready.left_out.values())
    assert len(ready.frame) == len(table.frame) - len(gone)


def test_the_table_itself_is_left_as_it_was():
    table = table_of([1e9, 2e9, 2e9], [4.0, 3.5, np.nan])
    before, notes = table.frame.copy(), list(table.notes)
    prepare(table)
    pd.testing.assert_frame_equal(table.frame, before)
    assert table.notes == notes


def rising(name: str, values: list[float], **more: list[float]) -> pd.DataFrame:
    """Return 4 runs of 2 sizes and 4 checkpoints, whose column takes these values in each run."""
    runs = np.repeat(np.arange(4), 4)
    columns = {"run_id": runs, "n_params": np.where(runs % 2, 2e7, 1e7), "n_tokens": np.tile([1e9, 2e9, 4e9, 8e9], 4)}
    return pd.DataFrame(columns | {f"loss_{name}": np.tile(values, 4) + 0.01 * (runs % 2)} | more)


@pytest.mark.parametrize(
    "name", ["acc", "arc_acc_norm", "Accuracy", "f1", "squad-f1", "bleu", "em", "pass@1", "pass_10", "score", "roc_auc"]
)
def test_a_metric_whose_name_says_higher_is_better_is_refused(name):
    with pytest.raises(RunLogError, match=rf"loss_{name}: its name says so.*--higher-is-better {name}"):
        check_frame(rising(name, [0.9, 0.8, 0.7, 0.6]), "mine")


@pytest.mark.parametrize(
    "name", ["accounting", "web", "val_acc_loss", "hemp", "brier_score", "scores_of_music", "passage"]
)
def test_a_loss_with_an_innocent_name_is_not(name):
    assert check_frame(rising(name, [0.9, 0.8, 0.7, 0.6]), "mine").targets == [name]


def test_what_rises_with_tokens_and_size_is_refused():
    with pytest.raises(RunLogError, match=r"loss_x: it rises in 12 of 12 steps within runs.*--higher-is-better x"):
        check_frame(rising("x", [0.3, 0.5, 0.6, 0.7]), "mine")
    web = np.repeat([0.1, 0.2, 0.3, 0.4], 4)
    mixed = rising("x", [0.3, 0.5, 0.6, 0.7], weight_web=web, weight_code=1 - web)
    with pytest.raises(RunLogError, match=r"loss_x: it rises in 12 of 12 steps from shorter to longer runs"):
        check_frame(mixed, "mine", rows_are_runs=True)
    few = rising("x", [0.3, 0.5, 0.6, 0.7])[:8]
    assert check_frame(few, "mine").targets == ["x"]  # too few steps to say
    falls_with_size = rising("x", [0.3, 0.5, 0.6, 0.7]).assign(loss_x=lambda f: f["loss_x"] - f["n_params"] / 1e8)
    assert check_frame(falls_with_size, "mine").targets == ["x"]
    forgotten = rising("x", [0.3, 0.5, 0.6, 0.7], before_x=[0.2] * 16)
    assert check_frame(forgotten, "mine").targets == ["x"]


def test_declared_shares_and_percentages_become_error_rates():
    share = check_frame(rising("acc", [0.3, 0.5, 0.6, 0.7]), "mine", higher_is_better=["acc"])
    assert share.frame["loss_acc"].tolist()[:4] == pytest.approx([0.7, 0.5, 0.4, 0.3])
    assert share.notes == ["mine: loss_acc is now the error rate 1 - acc"]
    frame = rising("acc", [30, 50, 60, 70]).assign(loss_se_acc=2.0)
    percent = check_frame(frame, "mine", higher_is_better=["acc"])
    assert percent.frame["loss_acc"].tolist()[:4] == pytest.approx([0.7, 0.5, 0.4, 0.3])
    assert percent.frame["loss_se_acc"].tolist() == [0.02] * 16
    assert percent.notes == ["mine: loss_acc is now the error rate (100 - acc) / 100"]


def test_a_perfect_score_is_left_out_for_it_has_no_logarithm():
    table = check_frame(rising("acc", [0.3, 0.5, 0.6, 1.0])[:4], "mine", higher_is_better=["acc"])
    assert (
        table.notes[1] == "mine row 4: the error rate of acc is 0, and laws need losses above 0; this cell is left out"
    )
    assert table.frame["loss_acc"].isna().tolist() == [False, False, False, True]


@pytest.mark.parametrize("values", [[-1.0, 0, 1, 2], [100, 200, 300, 400]])
def test_a_declared_metric_that_is_no_share_is_refused(values):
    with pytest.raises(RunLogError, match=r"loss_elo goes from .* only accuracies in \[0, 1\] or in \[0, 100\] %"):
        check_frame(rising("elo", values), "mine", higher_is_better=["elo"])


@pytest.mark.parametrize(
    ("patterns", "declared"),
    [(["*"], ["mmlu_a", "mmlu_B", "arc"]), (["mmlu_*"], ["mmlu_a", "mmlu_B"]), (["arc", "mmlu_?"], ["arc", "mmlu_a"])],
)
def test_globs_declare_targets_where_higher_is_better(patterns, declared):
    values = [0.3, 0.5, 0.6, 0.7]
    frame = rising("mmlu_a", values)
    frame = frame.assign(loss_mmlu_B=frame["loss_mmlu_a"] / 2, loss_arc=frame["loss_mmlu_a"] / 4)
    named = [*patterns, "*_B"] if "mmlu_?" in patterns else patterns
    expected = {f"loss_{t}" for t in (*declared, *(["mmlu_B"] if named is not patterns else []))}
    undeclared = [c for c in ("loss_mmlu_a", "loss_mmlu_B", "loss_arc") if c not in expected]
    table = check_frame(frame.drop(columns=undeclared), "mine", higher_is_better=named)
    for column in expected:
        assert table.frame[column].tolist() == pytest.approx((1 - frame[column]).tolist())


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("acx", "--higher-is-better acx: mine: unknown target 'acx'; did you mean 'acc'"),
        ("mmlu_*", r"--higher-is-better mmlu_\*: mine: unknown pattern of targets 'mmlu_\*'; known: acc"),
        ("ACC", "unknown target 'ACC'"),
    ],
)
def test_a_name_or_glob_that_matches_no_target_is_a_wrong_option(pattern, sentence):
    with pytest.raises(ConfigError, match=sentence) as error:
        check_frame(rising("acc", [0.1, 0.2, 0.3, 0.4]), "mine", higher_is_better=[pattern])
    assert error.value.exit_code == 2
