"""Tables: anybody's CSV and our run directories become one checked table, or a sentence that names the row."""

import inspect
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.cli.main import build_parser
from mixlaw.errors import ConfigError, MixlawError, RunLogError
from mixlaw.runs.log import RunWriter
from mixlaw.tables.check import check_frame
from mixlaw.tables.clean import prepare
from mixlaw.tables.read import read_table
from mixlaw.tables.table import Table, pick_targets
from tests.marks import examples, slow
from tests.mixlaw.run_logs import TARGETS, eval_row, facts, run_rows, train_row, write_run

HEADER = "run_id,n_params,n_tokens,weight_web,weight_code,loss_web,loss_code"
ROWS = [
    "a,1e7,1e9,0.25,0.75,3.5,2.5",
    "a,1e7,2e9,0.25,0.75,3.25,2.25",
    "b,2e7,1e9,0.5,0.5,3.0,2.125",
    "b,2e7,2e9,0.5,0.5,2.75,2.0",
]
CSV = "\n".join([HEADER, *ROWS]) + "\n"


def read_or_sentence(path: Path) -> Table | str:
    """Return the table, or the error's text; nothing else may come of any file."""
    try:
        return read_table([path])
    except MixlawError as error:
        return str(error)


def write(tmp_path: Path, text: str, name: str = "runs.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_csv_becomes_a_table(tmp_path):
    table = read_table([write(tmp_path, CSV)])
    assert (table.domains, table.targets, table.notes) == (["web", "code"], ["web", "code"], [])
    assert table.frame["run_id"].tolist() == ["a", "a", "b", "b"]
    assert table.frame["n_params"].tolist() == [1e7, 1e7, 2e7, 2e7]
    assert table.mixtures.tolist() == [[0.25, 0.75]] * 2 + [[0.5, 0.5]] * 2
    assert table.runs().tolist() == [0, 0, 1, 1]
    assert table.frame["loss_code"].tolist() == [2.5, 2.25, 2.125, 2.0]
    assert table.frame["row"].tolist() == [1, 2, 3, 4]


def test_tsv_parquet_and_a_byte_order_mark_read_the_same(tmp_path):
    expected = read_table([write(tmp_path, CSV)]).frame
    pd.testing.assert_frame_equal(read_table([write(tmp_path, CSV.replace(",", "\t"), "runs.tsv")]).frame, expected)
    pd.testing.assert_frame_equal(read_table([write(tmp_path, "\ufeff" + CSV)]).frame, expected)
    pytest.importorskip("pyarrow", reason="parquet needs pyarrow")
    expected.to_parquet(tmp_path / "runs.parquet")
    pd.testing.assert_frame_equal(read_table([tmp_path / "runs.parquet"]).frame, expected)


def test_ones_own_column_names_are_mapped(tmp_path):
    path = write(tmp_path, CSV.replace("n_params", "model_size").replace("n_tokens", "D"))
    assert (
        read_table([path], columns={"model_size": "n_params", "D": "n_tokens"}).frame["n_tokens"].tolist()
        == [1e9, 2e9] * 2
    )
    with pytest.raises(RunLogError, match="column 'n_params' appears twice"):
        read_table([path], columns={"model_size": "n_params", "D": "n_params"})


def test_a_table_without_weights_serves_the_base_law(tmp_path):
    table = read_table([write(tmp_path, "n_params,n_tokens,loss_web\n1e7,1e9,3\n2e7,1e9,2\n")])
    assert table.domains == []
    assert table.mixtures.shape == (2, 0)


@pytest.mark.parametrize(
    ("was", "becomes", "sentence"),
    [
        ("n_params", "n_param", "unknown column 'n_params'; did you mean 'n_param'?.*--columns n_params=YOURS"),
        (
            "n_tokens",
            "length",
            "unknown column 'n_tokens'; known: length, loss.*or state it by --constants n_tokens=1e9",
        ),
        ("loss_", "los_", "has no column loss_<target>; its columns: run_id, n_params"),
        ("loss_code", "loss_web", "column 'loss_web' appears twice"),
        ("weight_code", "weight_web", "column 'weight_web' appears twice"),
        ("3.5,2.5", "3.5,2.5,7", "line 2 has 8 cells, the header has 7; decimal commas"),
        ("3.0,2.125", "3.0,2.125,7", "cannot be read as a table.*line 4"),
        (",3.0,", ',"3.0,', "cannot be read as a table"),
    ],
)
def test_a_table_without_its_columns_or_of_other_shape_is_refused(tmp_path, was, becomes, sentence):
    assert was in CSV
    path = write(tmp_path, CSV.replace(was, becomes))
    with pytest.raises(RunLogError, match=f"runs.csv.*({sentence})"):
        read_table([path])


@pytest.mark.parametrize(
    ("was", "becomes", "sentence"),
    [
        ("2e7,1e9,0.5,0.5", "2e7,1e9,1.3,-0.3", "row 3: weight_code is -0.3, which must lie in [0, 1]; left out"),
        ("2e7,1e9,0.5,0.5", "2e7,1e9,0.5,-0.3", "row 3: weight_code is -0.3, which must lie in [0, 1]; left out"),
        ("2e7,1e9,0.5,0.5", "2e7,1e9,1.3,0.5", "row 3: weight_web is 1.3, which must lie in [0, 1]; left out"),
        ("2e7,1e9,0.5,0.5", "2e7,1e9,half,0.5", "row 3: weight_web is not a number; left out"),
        ("2e7,1e9,0.5,0.5", "2e7,1e9,,", "row 3: all weights are empty; left out"),
        ("2e7,1e9,0.5,0.5", "2e7,1e9,,0.5", "row 3: weight_web is empty, and the other weights sum to 0.5, not 1"),
        ("2e7,1e9,0.5,0.5", "2e7,1e9,0.55,0.5", "row 3: the weights sum to 1.05, not 1; left out"),
        ("2e7,1e9,0.5,0.5", "2e7,1e9,0.46,0.5", "row 3: the weights sum to 0.96, not 1; left out"),
        ("b,2e7,1e9", "b,-2e7,1e9", "row 3: n_params is -20000000.0, not a number above 0; left out"),
        ("2e7,1e9", "2e7,0", "row 3: n_tokens is 0.0, not a number above 0; left out"),
        ("2e7,1e9", "inf,1e9", "row 3: n_params is inf, not a number above 0; left out"),
        ("2e7,1e9", ",1e9", "row 3: n_params is empty, not a number above 0; left out"),
        ("2e7,1e9", "9" * 400 + ",1e9", "row 3: n_params is inf, not a number above 0; left out"),
        ("2e7,1e9", "big,1e9", "row 3: n_params is 'big', not a number above 0; left out"),
        ("b,2e7,1e9", ",2e7,1e9", "row 3: run_id is empty; left out"),
        ("b,2e7,1e9,0.5,0.5,3.0,2.125", ",,,,,,", "row 3: blank; left out"),
    ],
)
def test_a_row_with_a_bad_cell_is_left_out_by_name_and_the_others_stay(tmp_path, was, becomes, sentence):
    assert was in CSV
    path = write(tmp_path, CSV.replace(was, becomes))
    table = read_table([path])
    [note] = [note for note in table.notes if "read as numbers" not in note]
    assert note.startswith(f"{path} {sentence}")
    assert table.frame["row"].tolist() == [1, 2, 4]
    whole = read_table([write(tmp_path, CSV, "whole.csv")]).frame
    pd.testing.assert_frame_equal(table.frame, whole[whole["row"] != 3].reset_index(drop=True), check_dtype=False)


@pytest.mark.parametrize(
    ("cell", "shown"), [("inf", "inf"), ("-3.0", "-3.0"), ("0", "0.0"), ("three", "'three'"), ("#DIV/0!", "'#DIV/0!'")]
)
def test_a_loss_that_is_none_costs_its_cell_and_nothing_else(tmp_path, cell, shown):
    path = write(tmp_path, CSV.replace(",3.0,", f",{cell},"))
    table = read_table([path])
    assert table.notes == [f"{path} row 3: loss_web is {shown}, not a number above 0; this cell is left out"]
    assert table.frame["loss_web"].isna().tolist() == [False, False, True, False]
    assert table.frame["loss_code"].tolist() == [2.5, 2.25, 2.125, 2.0]


@pytest.mark.parametrize(
    ("was", "becomes", "sentence"),
    [
        (",1e9,", ",,", "rows 1, 3, 5: n_tokens is empty, not a number above 0"),
        (
            "e7,",
            "e7 or so,",
            r"rows 1-4: n_params is '1e7 or so', '2e7 or so', not a number above 0 \(in 4 of 4 rows\)",
        ),
        (
            "0.25,0.75",
            "0.25,0.55",
            r"row 1: the weights sum to 0.8, not 1 \(3 such rows, sums of 0.8 to 0.8\). A domain",
        ),
        (",3.", ",diverged 3.", r"rows 1-3: loss_web is 'diverged 3.5', 'diverged 3.25', 'diverged 3.0', not a number"),
    ],
)
def test_a_table_of_which_most_rows_are_bad_is_refused_with_what_is_wrong(tmp_path, was, becomes, sentence):
    path = write(tmp_path, (CSV + "b,2e7,,0.25,0.75,2.5,1.5\n" if "1e9" in was else CSV).replace(was, becomes))
    path = write(tmp_path, path.read_text().replace("0.5,0.5,3", "0.5,0.3,3")) if "weights" in sentence else path
    with pytest.raises(RunLogError, match=f"runs.csv {sentence}"):
        read_table([path])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "it is empty"),
        (b"\n\n", "it is empty"),
        (HEADER.encode(), "has no rows"),
        (bytes(range(256)) * 20, "runs.csv"),
        (b"\x89PNG\r\n\x1a\n" + b"\x00" * 300, "runs.csv"),
        (CSV.encode("utf-16")[:-1], "cannot be read as a table"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, content, sentence):
    (tmp_path / "runs.csv").write_bytes(content)
    with pytest.raises(RunLogError, match=sentence):
        read_table([tmp_path / "runs.csv"])


def test_no_file_at_all_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no table given"):
        read_table([])
    with pytest.raises(RunLogError, match=r"absent.csv does not exist"):
        read_table([tmp_path / "absent.csv"])
    with pytest.raises(RunLogError, match="no run directory below"):
        read_table([tmp_path])


@pytest.mark.parametrize("weight", [0.47, 0.497, 0.5005, 0.52, 0.53])
def test_weights_that_were_rounded_are_scaled_with_a_note(tmp_path, weight):
    table = read_table([write(tmp_path, CSV.replace("2e7,1e9,0.5,0.5", f"2e7,1e9,{weight},0.5"))])
    total = weight + 0.5
    np.testing.assert_allclose(table.mixtures.sum(1), 1, rtol=1e-15)
    assert table.mixtures[2].tolist() == pytest.approx([weight / total, 0.5 / total])
    assert table.notes == [f"{tmp_path / 'runs.csv'} row 3: the weights sum to {total:.4f}; they are scaled to 1"]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6).filter(sum), st.floats(0.97, 1.03))
@examples(60)
def test_weights_near_one_keep_their_proportions(parts, total):
    h = np.array(parts) / sum(parts)
    frame = pd.DataFrame({"n_params": [1e7], "n_tokens": [1e9], "loss_x": [3.0]} | weights_of(np.minimum(h * total, 1)))
    table = check_frame(frame, "mine")
    np.testing.assert_allclose(table.mixtures[0], np.minimum(h * total, 1) / np.minimum(h * total, 1).sum(), rtol=1e-12)


def weights_of(h: np.ndarray) -> dict[str, list[float]]:
    return {f"weight_{i}": [float(value)] for i, value in enumerate(h)}


def test_an_empty_or_nan_loss_leaves_out_its_cell_and_nothing_else(tmp_path):
    whole = read_table([write(tmp_path, CSV)]).frame
    table = read_table([write(tmp_path, CSV.replace("3.0,2.125", ",2.125").replace("3.25,", "NaN,"))])
    assert table.notes == [f"{tmp_path / 'runs.csv'} rows 2-3: loss_web is empty; these cells are left out"]
    assert table.frame["loss_web"].isna().tolist() == [False, True, True, False]
    kept = table.frame.notna()
    pd.testing.assert_frame_equal(table.frame[kept], whole[kept])


def test_several_empty_losses_of_a_row_are_one_note(tmp_path):
    table = read_table([write(tmp_path, CSV.replace("3.25,2.25", ",NaN"))])
    assert table.notes == [f"{tmp_path / 'runs.csv'} row 2: loss_web, loss_code are empty; these cells are left out"]


def test_notes_of_one_kind_are_one_line_and_long_lists_of_rows_are_cut(tmp_path):
    rows = "".join(f"a,1e7,{i}e9,0.25,0.75,{'' if i % 2 else 3},2.5\n" for i in range(1, 41))
    path = write(tmp_path, f"{HEADER}\n{rows}")
    assert read_table([path]).notes == [f"{path} rows 1, 3, 5 and 17 more: loss_web is empty; these cells are left out"]
    mixed = CSV.replace("3.5,2.5", ",2.5").replace("3.0,2.125", "3.0,")
    notes = read_table([write(tmp_path, mixed)]).notes
    assert notes == [f"{path} rows 1, 3: some of loss_web, loss_code are empty; these cells are left out"]


def test_rows_without_run_ids_are_one_run_where_size_and_mixture_agree(tmp_path):
    bare = "\n".join(line.partition(",")[2] for line in CSV.splitlines())
    one, other = write(tmp_path, bare, "one.csv"), write(tmp_path, bare.replace("e7,", "e8,"), "other.csv")
    assert read_table([one]).runs().tolist() == [0, 0, 1, 1]
    assert read_table([one, other]).runs().tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_tables_of_the_same_domains_are_put_below_each_other_in_any_order_of_columns(tmp_path):
    one = write(tmp_path, CSV, "one.csv")
    frame = pd.read_csv(one)[["loss_web", "weight_code", "weight_web", "n_tokens", "n_params", "run_id"]]
    frame.to_csv(tmp_path / "other.csv", index=False)
    table = read_table([one, tmp_path / "other.csv"])
    assert table.mixtures[:4].tolist() == table.mixtures[4:].tolist()
    assert table.frame["loss_code"].isna().tolist() == [False] * 4 + [True] * 4
    third = write(tmp_path, CSV.replace("weight_code", "weight_books"), "third.csv")
    with pytest.raises(RunLogError, match=r"train on different domains: \['web', 'code'\] and \['web', 'books'\]"):
        read_table([one, third])


@pytest.mark.parametrize("trials", [40, slow(1000), pytest.param(2500, marks=pytest.mark.crash)])
def test_random_bytes_in_a_csv_end_in_a_table_or_a_sentence(tmp_path, trials):
    """Half of the bytes are ones that CSVs are made of, so that damage often is read as a number."""
    rng, raw, path = np.random.default_rng(0), CSV.encode(), tmp_path / "runs.csv"
    letters = np.frombuffer(b'0123456789.,-e+"\n x', np.uint8)
    refused = 0
    for _ in range(trials):
        damaged = bytearray(raw)
        for place in rng.integers(len(raw), size=rng.integers(1, 4)):
            damaged[place] = rng.choice(letters) if rng.random() < 0.5 else rng.integers(256)
        path.write_bytes(damaged)
        result = read_or_sentence(path)
        if isinstance(result, str):
            assert "runs.csv" in result
            refused += 1
        else:
            assert np.isfinite(result.mixtures).all()
            assert (result.frame[["n_params", "n_tokens"]] > 0).all(axis=None)
            prepare(result)
    assert 0.3 * trials < refused < 0.5 * trials  # headers, or most of the four rows; else a bad cell costs its row


@pytest.mark.slow
def test_a_csv_cut_anywhere_ends_in_a_table_or_a_sentence(tmp_path):
    raw, path = CSV.encode(), tmp_path / "runs.csv"
    for length in range(len(raw)):
        path.write_bytes(raw[:length])
        result = read_or_sentence(path)
        if isinstance(result, str):
            assert "runs.csv" in result
        else:
            gone = sum(result.left_out.values())
            assert result.frame["row"].tolist() == list(range(1, len(result.frame) + 1))
            assert len(result.frame) + gone == raw[:length].rstrip(b"\n").count(b"\n")
            assert gone <= sum("left out" in note for note in result.notes)


def test_random_bytes_in_a_parquet_file_end_in_a_table_or_a_sentence(tmp_path):
    pytest.importorskip("pyarrow", reason="parquet needs pyarrow")
    path, rng = tmp_path / "runs.parquet", np.random.default_rng(0)
    read_table([write(tmp_path, CSV)]).frame.to_parquet(path)
    raw, refused = path.read_bytes(), 0
    for _ in range(200):
        damaged = bytearray(raw)
        damaged[rng.integers(len(raw))] = rng.integers(256)
        path.write_bytes(damaged)
        result = read_or_sentence(path)
        if isinstance(result, str):
            assert "runs.parquet" in result
            refused += 1
    assert refused > 50


def test_cells_that_are_no_csv_cells_are_bad_cells():
    frame = pd.DataFrame({"n_params": [1e7, 2e7], "n_tokens": [1e9, 1e9], "loss_web": [[1, 2], None]})
    with pytest.raises(RunLogError, match=r"mine row 1: loss_web is \[1, 2\], not a number above 0"):
        check_frame(frame, "mine")
    table = check_frame(frame.assign(n_params=[10**400, 1], loss_web=[3, 2]), "mine")
    assert table.notes == [f"mine row 1: n_params is {10**400!r:.40}, not a number above 0; left out"]


def test_the_callers_frame_is_left_as_it_was():
    frame = pd.DataFrame({"n_params": ["1e7"], "n_tokens": [10**9], "weight_a": [0.999], "loss_web": ["2"]})
    before = frame.copy()
    check_frame(frame, "mine")
    pd.testing.assert_frame_equal(frame, before)


def test_run_directories_become_the_same_table_with_realised_weights(tmp_path):
    write_run(tmp_path, "aaa")
    write_run(tmp_path, "bbb", n_params={"total": 5, "non_embedding": 4})
    RunWriter(tmp_path / "s/open", facts("open")).close()
    table = read_table([tmp_path])
    assert (table.domains, sorted(table.targets)) == (["code", "web"], ["code", "held", "web"])
    assert table.frame["run_id"].tolist() == ["aaa", "aaa", "bbb", "bbb"]
    assert table.mixtures.tolist() == [[0.4, 0.6]] * 4
    assert table.frame["loss_web"].tolist() == [3.0, 1.5, 3.0, 1.5]
    assert table.sizes == {"code": 500, "web": 1000}
    assert len(table.notes) == 1
    assert table.notes[0].startswith("left out: ")
    assert read_table([tmp_path], count="n_params_non_embedding").frame["n_params"].tolist()[2:] == [4, 4]


def test_tasks_of_run_directories_are_targets_in_bits_per_byte_beside_their_scores(tmp_path):
    score = {"score": 0.25, "score_se": 0.0625, "n_questions": 48}
    write_run(tmp_path, rows=[*run_rows(1), eval_row(1, "arc", 1.25, **score)], units={"arc": "bits/byte"})
    table = read_table([tmp_path])
    assert table.targets == [*TARGETS, "arc"]
    assert table.units == dict.fromkeys(TARGETS, "nats/token") | {"arc": "bits/byte"}
    scores = table.frame.filter(like="score")
    assert scores.to_dict("list") == {"score_arc": [0.25], "score_se_arc": [0.0625]}


@pytest.mark.parametrize("layout", [None, "olmix", "mixinglaws", "paper"])
def test_scores_in_files_are_never_losses(tmp_path, layout):
    rows = "n_params,n_tokens,run_id,weight_web,weight_code,loss_arc,score_arc,score_se_arc\n"
    rows += "1e6,1e8,a,0.5,0.5,1.5,0.25,0.01\n1e6,2e8,a,0.5,0.5,1.4,0.3,0.01\n"
    table = read_table(write(tmp_path, rows), layout=layout)
    assert (table.domains, table.targets) == (["web", "code"], ["arc"])
    assert table.frame["score_arc"].tolist() == [0.25, 0.3]


def test_runs_that_are_left_out_for_one_reason_are_one_line(tmp_path):
    write_run(tmp_path, "aaa")
    for name in "bcdef":
        RunWriter(tmp_path / f"s/{name}", facts(name)).close()
    [note] = read_table([tmp_path]).notes
    first, *others = [tmp_path / "s" / name for name in "bcdef"]
    assert note.startswith(f"left out: {first} is unfinished")
    assert note.endswith(f"(so are {', '.join(map(str, others[:3]))}, and 1 more)")


def test_names_of_runs_are_those_of_run_directories(tmp_path):
    write_run(tmp_path, "aaa")
    for more in ({"run_id": ["seed"]}, {"rows_are_runs": True}):
        with pytest.raises(ConfigError, match="--run-id and --rows-are-runs are for files: run directories such as"):
            read_table([tmp_path], **more)


def test_tables_whose_names_differ_in_case_only_are_put_below_each_other(tmp_path):
    one, other = write(tmp_path, CSV, "one.csv"), write(tmp_path, CSV.replace("_web", "_Web"), "other.csv")
    table = read_table([one, other])
    assert (table.domains, table.targets) == (["web", "code"], ["web", "code"])
    assert table.frame["loss_web"].tolist() == [3.5, 3.25, 3.0, 2.75] * 2
    assert table.notes == ["names matched although case or punctuation differs: Web is web"]


def test_evaluations_of_averaged_weights_are_never_mixed_with_plain_ones(tmp_path):
    averaged = eval_row(1, "web", 1.0, lr_state="averaged")
    write_run(tmp_path, "aaa", rows=[train_row(1), averaged, eval_row(1, "web", 2.0)])
    table = read_table([tmp_path])
    assert table.frame["loss_web"].tolist() == [2.0]
    [note] = table.notes
    assert note.startswith("left out: 1 evaluations with lr_state 'averaged': those with 'constant' are kept")
    write_run(tmp_path / "only", "bbb", rows=[train_row(1), averaged])
    assert read_table([tmp_path / "only"]).frame["loss_web"].tolist() == [1.0]
    write_run(tmp_path / "cooled", "ccc", rows=[train_row(1), eval_row(1, "web", 1.0, lr_state="cooled")])
    assert read_table([tmp_path / "cooled"]).frame["loss_web"].tolist() == [1.0]
    write_run(tmp_path / "odd", "ddd", rows=[train_row(1), eval_row(1, "web", 1.0, lr_state="warm")])
    with pytest.raises(RunLogError, match="have no evaluations with a known lr_state"):
        read_table([tmp_path / "odd"])


def test_runs_on_different_domains_are_refused(tmp_path):
    write_run(tmp_path, "aaa")
    write_run(tmp_path, "bbb", mixture={"code": 1.0}, data={"code": {"n_tokens": 5}})
    with pytest.raises(RunLogError, match="train on different domains: 'web' is not in all of them"):
        read_table([tmp_path])


def test_rows_are_counted_through_all_inputs_and_named_by_their_own(tmp_path):
    one, other = write(tmp_path, CSV, "one.csv"), write(tmp_path, CSV, "other.csv")
    write_run(tmp_path / "runs", "aaa", mixture={"web": 0.4, "code": 0.6})
    table = read_table([one, other, tmp_path / "runs"])
    assert table.frame["row"].tolist() == list(range(1, 11))
    assert table.place([2]) == f"{one} row 2"
    assert table.place([8, 5, 6]) == f"{other} rows 1-2, 4"
    assert table.place([1, 9]) == f"{one} row 1 and runs in {tmp_path / 'runs'} row 1"
    assert table.rows(table.frame["row"] > 4).place([5]) == f"{other} row 1"
    assert check_frame(pd.read_csv(one)[2:], "mine").frame["row"].tolist() == [1, 2]


def test_further_columns_stay_as_they_are_and_are_said(tmp_path):
    lines = [f"{line},{more}" for line, more in zip(CSV.splitlines(), ["seed,lr,who", *["7,0.5,me"] * 4], strict=True)]
    table = read_table([write(tmp_path, "\n".join(lines))])
    assert table.notes == [f"{tmp_path / 'runs.csv'}: columns that are not used: lr, who"]
    assert table.frame[["seed", "lr"]].to_numpy().tolist() == [[7, 0.5]] * 4


@pytest.mark.parametrize(
    ("column", "cells", "sentence"),
    [
        ("loss_se_web", ["0.1", "", "-1", "0"], "row 3: loss_se_web is -1.0, not a standard error of at least 0;"),
        ("loss_se_web", ["0.1", "x", "1", "0"], "row 2: loss_se_web is 'x', not a standard error of at least 0;"),
        ("loss_se_web", ["0.1", "inf", "1", "0"], "row 2: loss_se_web is inf, not a standard error of at least 0;"),
        ("available_web", ["1e9", "", "0", "1"], "row 3: available_web is 0.0, not a number above 0;"),
        ("before_web", ["3", "", "-2", "3"], "row 3: before_web is -2.0, not a number above 0;"),
        ("sparsity", ["0", "", "0.5", "1"], "row 4: sparsity is 1.0, not a share in [0, 1);"),
    ],
)
def test_optional_columns_are_checked_and_may_have_empty_cells(tmp_path, column, cells, sentence):
    lines = [f"{line},{more}" for line, more in zip(CSV.splitlines(), [column, *cells], strict=True)]
    path = write(tmp_path, "\n".join(lines))
    table = read_table([path])
    assert table.notes == [f"{path} {sentence} this cell is left out"]
    bad = int(sentence[4]) - 1
    assert table.frame[column].isna().tolist() == [cells[i] == "" or i == bad for i in range(4)]


def test_optional_columns_that_are_mostly_bad_or_of_no_domain_are_refused(tmp_path):
    frame = pd.read_csv(write(tmp_path, CSV))
    with pytest.raises(
        RunLogError, match=r"mine rows 1-3: available_web is 0, not a number above 0 \(in 3 of 4 rows\)"
    ):
        check_frame(frame.assign(available_web=[0, 0, 0, 1]), "mine")
    with pytest.raises(RunLogError, match="available_webb: unknown domain 'webb'; did you mean 'web'"):
        check_frame(frame.assign(available_webb=1e9), "mine")


def test_what_domains_have_is_their_size_where_all_rows_agree(tmp_path):
    frame = pd.read_csv(write(tmp_path, CSV)).assign(available_web=[1e9, np.nan, 1e9, 1e9], available_code=range(1, 5))
    assert check_frame(frame, "mine").sizes == {"web": 1e9}


def test_rows_without_run_ids_but_with_seeds_are_a_run_per_seed(tmp_path):
    frame = pd.read_csv(write(tmp_path, CSV)).drop(columns="run_id").assign(seed=[0, 1, 1, 1])
    assert check_frame(frame, "mine").runs().tolist() == [0, 1, 2, 2]


def test_a_table_to_predict_needs_no_losses(tmp_path):
    path = write(tmp_path, "n_params,n_tokens,weight_a,weight_b\n1e7,1e9,0.5,0.5\n")
    assert read_table([path], need_losses=False).targets == []
    with pytest.raises(RunLogError, match="has no column loss_<target>"):
        read_table([path])


def test_columns_that_a_file_lacks_are_set(tmp_path):
    path = write(tmp_path, "weight_a,weight_b,loss_x\n0.5,0.5,3\n1,0,4\n")
    table = read_table([path], constants={"n_params": 1e6, "n_tokens": 1e9})
    assert table.frame[["n_params", "n_tokens"]].to_numpy().tolist() == [[1e6, 1e9]] * 2
    with pytest.raises(ConfigError, match=r"--constants weight_a=1: .*runs.csv has a column weight_a"):
        read_table([path], constants={"weight_a": 1.0})
    write_run(tmp_path / "runs", "aaa")
    with pytest.raises(ConfigError, match=r"--constants n_params: run directories such as .*runs state it themselves"):
        read_table([tmp_path / "runs"], constants={"n_params": 1e6})


def test_targets_are_picked_by_name_or_all_of_them(tmp_path):
    table = read_table([write(tmp_path, CSV)])
    assert pick_targets(table, []) == ["web", "code"]
    assert pick_targets(table, ["code"]) == ["code"]
    with pytest.raises(ConfigError, match=r"unknown target 'cod'; did you mean 'code'\?"):
        pick_targets(table, ["cod"])


def test_the_command_line_and_read_table_use_the_same_option_names():
    options = vars(build_parser().parse_args(["predict", "laws.json", "table.csv"]))
    keywords = set(inspect.signature(read_table).parameters) - {"paths", "need_losses"}
    assert keywords <= set(options)
    short = ["--set", "n_tokens=1e9", "--unit", "x=bits/byte"]
    long = ["--constants", "n_tokens=1e9", "--units", "x=bits/byte"]
    parsed = [build_parser().parse_args(["check", "table.csv", *words]) for words in (short, long)]
    assert parsed[0] == parsed[1]
