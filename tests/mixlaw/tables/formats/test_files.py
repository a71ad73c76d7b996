"""Files as people have them: every format, separator, decimal mark and encoding reads back as the same table."""

import bz2
import gzip
import io
import json
import lzma
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixlaw.errors import RunLogError
from mixlaw.tables.check import check_frame
from mixlaw.tables.read import read_table
from mixlaw.tables.table import Table
from tests.marks import examples

COLUMNS = ["run_id", "n_params", "n_tokens", "weight_Web", "weight_code", "loss_Web", "loss_code"]


def runs(n: int = 6) -> pd.DataFrame:
    """Return runs of two domains, whose ids begin with 0."""
    rng = np.random.default_rng(0)
    share = rng.uniform(0.1, 0.9, n).round(3)
    cells = [[f"{i:03d}" for i in range(n)], 1e7 * np.arange(1, n + 1), 1e9 + 1e8 * np.arange(n), share]
    cells += [(1 - share).round(3), rng.uniform(2, 4, n).round(4), rng.uniform(2, 4, n).round(4)]
    return pd.DataFrame(dict(zip(COLUMNS, cells, strict=True)))


def same(table: Table, frame: pd.DataFrame) -> None:
    """Check that a table holds what a frame does."""
    expected = check_frame(frame, "mine").frame
    columns = [c for c in expected if c != "run_id" or "run_id" in frame]
    pd.testing.assert_frame_equal(table.frame[columns], expected[columns], check_dtype=False, rtol=1e-12)
    assert table.frame["run_id"].nunique() == expected["run_id"].nunique()


def read_text(folder: Path, text: str, name: str = "runs.csv") -> Table:
    (folder / name).write_text(text, encoding="utf-8")
    return read_table([folder / name])


@given(
    separator=st.sampled_from([",", ";", "\t", "|"]),
    decimal=st.sampled_from(".,"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]),
    ending=st.sampled_from(["\n", "\r\n"]),
    thousands=st.sampled_from(["", ",", ".", " ", "'"]),
    comments=st.lists(st.sampled_from(["# exported, from the wiki", "#", "# 1;2;3"]), max_size=2),
    suffix=st.sampled_from([".csv", ".txt", ".tsv", ""]),
    packed=st.sampled_from(["", ".gz", ".bz2", ".xz", ".zip"]),
    name=st.sampled_from(["Web", "网页", "cc news", "données"]),
)
@examples(120)
def test_text_in_any_dialect_reads_back_equal(
    tmp_path_factory, separator, decimal, encoding, ending, thousands, comments, suffix, packed, name
):
    folder, frame = tmp_path_factory.mktemp("text"), runs().rename(columns=lambda c: c.replace("Web", name))
    written = frame.copy()
    if thousands and thousands != decimal:
        written["n_params"] = [f"{v:,.0f}".replace(",", thousands) for v in frame["n_params"]]
    text = written.to_csv(index=False, sep=separator, decimal=decimal, lineterminator=ending)
    raw = (ending.join([*comments, text])).encode(encoding)
    path = folder / f"runs{suffix}{packed}"
    pack = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
    if packed == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("runs.csv", raw)
    else:
        path.write_bytes(pack[packed](raw))
    same(read_table([path]), frame)


@given(
    shape=st.sampled_from(
        ["records", "lines", "columns", "index", "split", "table", "lists", "wrapped", "nested", "ids"]
    )
)
@settings(max_examples=20, deadline=None)
def test_json_in_any_shape_reads_back_equal(tmp_path_factory, shape):
    frame, path = runs(), tmp_path_factory.mktemp("json") / "runs.json"
    records = frame.to_dict("records")
    nested = [
        {"run_id": r["run_id"], "n_params": r["n_params"], "n_tokens": r["n_tokens"]}
        | {"weights": {"Web": r["weight_Web"], "code": r["weight_code"]}}
        | {"losses": {"Web": r["loss_Web"], "code": r["loss_code"]}}
        for r in records
    ]
    texts = {
        "records": json.dumps(records, indent=1),
        "lines": frame.to_json(orient="records", lines=True, double_precision=15),
        "lists": json.dumps([list(frame), *frame.to_numpy(object).tolist()]),
        "wrapped": json.dumps({"made": "today", "runs": records}),
        "nested": json.dumps(nested),
        "ids": json.dumps({r["run_id"]: {k: v for k, v in r.items() if k != "run_id"} for r in records}),
    }
    path.write_text(texts.get(shape) or frame.to_json(orient=shape, double_precision=15))
    same(read_table([path]), frame)


def test_a_broken_line_of_json_lines_is_left_out_by_its_number(tmp_path):
    lines = runs().to_json(orient="records", lines=True).splitlines()
    lines[2] = lines[2][:30]
    table = read_text(tmp_path, "\n".join(lines), "runs.jsonl")
    assert table.frame["row"].tolist() == [1, 2, 4, 5, 6]
    assert table.notes == [f"{tmp_path / 'runs.jsonl'}: row 3: not a JSON record; left out"]
    assert table.much_left_out() == ["1 of 6 rows (17 %) are left out: no record (1)"]


@pytest.mark.parametrize("text", ["{", "[1, 2]", '{"a": 1}', "[]", '{"runs": 3}', "[[", '["a"]'])
def test_json_that_is_no_table_is_refused(tmp_path, text):
    with pytest.raises(RunLogError, match=r"runs.json "):
        read_text(tmp_path, text, "runs.json")


def test_workbooks_are_read_below_their_titles(tmp_path):
    pytest.importorskip("openpyxl", reason="workbooks need openpyxl")
    frame, path = runs(), tmp_path / "runs.xlsx"
    frame.to_excel(path, index=False)
    same(read_table([path]), frame)
    with pd.ExcelWriter(path) as book:
        text = pd.DataFrame([["about", "this book"], ["2 of 3", "are done"], ["see", "all runs"]])
        text.to_excel(book, sheet_name="readme", index=False, header=False)
        frame.to_excel(book, sheet_name="all runs", index=False, startrow=2)
        frame[:2].to_excel(book, sheet_name="few", index=False)
        book.sheets["all runs"]["A1"] = "Our runs of 2026"
    table = read_table([path])
    same(table, frame)
    assert table.notes == [f"{path}: its sheet 'all runs' is read, not: readme, few"]


def test_a_workbook_without_openpyxl_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    (tmp_path / "runs.xlsx").write_bytes(b"PK\3\4 a workbook")
    with pytest.raises(
        RunLogError, match=r"runs.xlsx cannot be read: workbooks need openpyxl: pip install 'mixlaw\[excel\]'"
    ):
        read_table([tmp_path / "runs.xlsx"])


def test_a_workbook_that_is_none_is_refused(tmp_path):
    pytest.importorskip("openpyxl", reason="workbooks need openpyxl")
    raw = io.BytesIO()
    runs().to_excel(raw, index=False)
    for content in (b"PK\3\4 a workbook", b"", raw.getvalue()[:2000]):
        (tmp_path / "runs.xlsx").write_bytes(content)
        with pytest.raises(RunLogError, match="cannot be read as a table"):
            read_table([tmp_path / "runs.xlsx"])


def test_how_a_file_is_read_is_said_where_its_name_says_otherwise(tmp_path):
    frame, path = runs(), tmp_path / "runs.csv"
    text = "# exported\n" + frame.to_csv(index=False, sep=";", decimal=",")
    path.write_bytes(text.encode("utf-16"))
    note = "read as UTF-16; columns are separated by semicolons; commas are decimal; line 1: comments; skipped"
    assert read_table([path]).notes == [f"{path}: {note}"]
    path.write_bytes(frame.to_csv(index=False).replace("Web", "Café").encode("cp1252"))
    assert read_table([path]).notes == [f"{path}: read as Windows-1252, because it is not UTF-8"]


def test_comments_are_skipped_and_rows_keep_their_numbers(tmp_path):
    lines = runs().to_csv(index=False).splitlines()
    table = read_text(tmp_path, "\n".join(["# all", *lines[:3], "# stopped here", *lines[3:]]))
    same(table, runs())
    assert table.frame["row"].tolist() == [1, 2, 3, 4, 5, 6]


def test_a_header_behind_a_hash_is_a_header_and_ids_with_a_hash_are_ids(tmp_path):
    frame = runs().drop(columns="run_id")
    same(read_text(tmp_path, "# " + frame.to_csv(index=False)), frame)
    same(read_text(tmp_path, "# " + frame.to_csv(index=False, sep=" ")), frame)
    hashed = runs().assign(run_id=[f"#{i}" for i in range(6)])
    same(read_text(tmp_path, hashed.to_csv(index=False)), hashed)


def test_titles_above_the_header_and_excels_own_line_are_skipped(tmp_path):
    text = runs().to_csv(index=False, sep=";")
    same(read_text(tmp_path, "Our runs of 2026\n\n" + text), runs())
    same(read_text(tmp_path, "sep=;\n" + text), runs())


def test_separators_at_the_ends_of_lines_and_blanks_around_cells_are_nothing(tmp_path):
    text = runs().to_csv(index=False)
    same(read_text(tmp_path, text.replace("\n", ",\n")), runs())
    same(read_text(tmp_path, text.replace(",", " , ")), runs())


def test_sizes_in_words_are_read_with_a_note(tmp_path):
    frame = runs()
    words = frame.assign(
        n_params=[f"{n / 1e6:g}M" for n in frame["n_params"]], n_tokens=[f"{d / 1e9:g}B" for d in frame["n_tokens"]]
    )
    path = tmp_path / "runs.csv"
    words.to_csv(path, index=False)
    table = read_table([path])
    same(table, frame)
    assert table.notes == [f"{path}: text read as numbers: n_params '10M' is 10000000, n_tokens '1B' is 1000000000"]
    same(check_frame(words, "mine"), frame)


def test_quoted_thousands_among_numbers_with_points(tmp_path):
    frame = runs()
    words = frame.assign(n_params=frame["n_params"].map("{:,.0f}".format))
    same(read_text(tmp_path, words.to_csv(index=False)), frame)


def long_of(frame: pd.DataFrame, target: str = "target", value: str = "loss", prefix: str = "") -> pd.DataFrame:
    """Return a row per run and target."""
    losses = [c for c in frame if c.startswith("loss_")]
    long = frame.melt([c for c in frame if c not in losses], losses, target, value)
    return long.assign(**{target: prefix + long[target].str.removeprefix("loss_")})


@given(
    target=st.sampled_from(["target", "domain", "metric", "eval_set", "Task", "variable"]),
    value=st.sampled_from(["loss", "val_loss", "nll", "value", "Loss"]),
    prefix=st.sampled_from(["", "loss_"]),
    order=st.permutations(range(12)),
    with_ids=st.booleans(),
)
@examples(60)
def test_a_long_table_reads_back_equal_whatever_its_order(target, value, prefix, order, with_ids):
    frame = runs() if with_ids else runs().drop(columns="run_id")
    long = long_of(frame, target, value, prefix).assign(n_eval_tokens=np.arange(12) // 6 + 5)
    table = check_frame(long.iloc[list(order)].reset_index(drop=True), "mine")
    wide = table.frame.sort_values("n_params", ignore_index=True)
    expected = check_frame(frame, "mine").frame
    columns = [c for c in expected if c not in ("row", "run_id")]
    pd.testing.assert_frame_equal(wide[columns], expected[columns], check_dtype=False)
    assert len(set(wide["run_id"])) == 6
    assert "12 rows are 6 evaluations of 2 targets" in table.notes[0]
    if with_ids:
        assert wide["run_id"].tolist() == expected["run_id"].tolist()


def test_a_long_table_has_errors_and_weights_of_domains_too():
    frame = runs()
    long = long_of(frame.drop(columns=["weight_Web", "weight_code"])).assign(stderr=0.01)
    long["weight"] = np.r_[frame["weight_Web"], frame["weight_code"]]
    table = check_frame(long, "mine")
    same(replace_rows(table), frame)
    assert (table.frame[["loss_se_Web", "loss_se_code"]] == 0.01).all(axis=None)


def replace_rows(table: Table) -> Table:
    table.frame["row"] = np.arange(1, len(table.frame) + 1)
    return table


def test_targets_may_be_named_by_two_columns_together():
    frame = runs()
    loss = long_of(frame, "domain", "value").assign(metric="ce")
    accuracy = loss.assign(metric="bpb", value=loss["value"] / 3)
    table = check_frame(pd.concat([loss, accuracy], ignore_index=True), "mine")
    assert table.targets == ["Web_ce", "code_ce", "Web_bpb", "code_bpb"]
    assert table.frame["loss_code_bpb"].tolist() == (frame["loss_code"] / 3).tolist()
    same_words = check_frame(loss.assign(task=loss["domain"] + "!"), "mine")
    assert same_words.targets == ["Web", "code"]


def test_repeated_rows_of_a_long_table_are_runs_of_their_own():
    frame = pd.concat([runs(), runs().assign(loss_Web=9.0)], ignore_index=True).drop(columns="run_id")
    table = check_frame(long_of(frame), "mine")
    assert len(table.frame) == table.frame["run_id"].nunique() == 12


def test_bad_losses_of_a_long_table_are_named_by_their_own_rows():
    long = long_of(runs()).astype({"loss": object})
    long.loc[8, "loss"] = "diverged"
    table = check_frame(long, "mine")
    assert table.notes[0] == "mine row 9: loss of code is diverged, not a loss; left out"
    assert table.frame["loss_code"].isna().tolist() == [False, False, True, False, False, False]


def test_one_column_of_losses_is_one_target(tmp_path):
    frame = runs()[["run_id", "n_params", "n_tokens", "loss_Web"]].rename(columns={"loss_Web": "val_loss"})
    table = check_frame(frame, "mine")
    assert table.targets == ["val_loss"]
    assert table.notes == ["mine: column val_loss holds the losses of one target, named val_loss"]


def test_settings_and_words_are_no_domains_and_no_targets():
    frame = runs().assign(weight_decay=0.1, loss_fn="cross-entropy")
    table = check_frame(frame, "mine")
    assert (table.domains, table.targets) == (["Web", "code"], ["Web", "code"])
    assert table.notes == ["mine: columns without numbers, not losses: loss_fn"]


def test_capitals_and_short_forms_of_standard_names_are_read_with_a_note(tmp_path):
    frame = runs()
    theirs = frame.rename(columns={"n_params": "N", "n_tokens": "D"})
    theirs.columns = theirs.columns.str.replace("loss_", "LOSS_")
    theirs.to_csv(tmp_path / "runs.csv", index=False)
    table = read_table([tmp_path / "runs.csv"])
    same(table, frame)
    (note,) = [text for text in table.notes if "columns renamed: " in text]
    assert "N as n_params, D as n_tokens" in note
    kept = theirs.assign(n_params=frame["n_params"])  # a column of the name itself wins
    kept.to_csv(tmp_path / "runs.csv", index=False)
    assert read_table([tmp_path / "runs.csv"]).frame["n_params"].tolist() == frame["n_params"].tolist()


def test_a_few_rows_with_more_cells_than_the_header_are_left_out_and_more_are_refused(tmp_path):
    path, rows = tmp_path / "runs.csv", [f"1e6,{i}e9,{3 - i / 100}" for i in range(1, 13)]
    rows[3] += ",7"
    path.write_text("\n".join(["# notes", "n_params,n_tokens,loss_x", *rows[:6], "", *rows[6:]]))
    table = read_table([path])
    assert table.frame["row"].tolist() == [i for i in range(1, 13) if i != 4]
    assert any("the header has 3 cells, row 4 has 4; left out" in note for note in table.notes)
    path.write_text("\n".join(["# notes", "n_params,n_tokens,loss_x", *rows[:5]]))
    with pytest.raises(RunLogError, match=r"line 6 has 4 cells, the header has 3"):
        read_table([path])
    path.write_text(" \n")
    with pytest.raises(RunLogError, match="cannot be read as a table: it is empty"):
        read_table([path])


def test_a_cell_may_be_very_long(tmp_path):
    frame = runs().assign(config="x" * 200_000)
    frame.to_csv(tmp_path / "runs.csv", index=False)
    same(read_table([tmp_path / "runs.csv"]), runs())
