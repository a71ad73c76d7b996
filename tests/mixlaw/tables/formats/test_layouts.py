"""Other people's layouts: their columns, files and units become the same table, or a sentence says what is missing."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mixlaw.errors import ConfigError, MixlawError, RunLogError
from mixlaw.tables.check import check_frame
from mixlaw.tables.formats.layouts import LAYOUTS, get_layout
from mixlaw.tables.formats.load import load_files
from mixlaw.tables.formats.standardise import FileOptions
from mixlaw.tables.metric_directions import HIGHER
from mixlaw.tables.notes import listed, ranges
from mixlaw.tables.number_parsing import EMPTY
from mixlaw.tables.read import read_table
from mixlaw.tables.table import Table
from tests.marks import examples, slow

SCALE = {"n_params": 1e6, "n_tokens": 1e9}
REGMIX = (
    "index,train_the_pile_arxiv,train_the_pile_pile_cc\n1,0.25,0.75\n2,0.5,0.5\n3,1,0\n",
    "index,metric/the_pile_arxiv_val_loss,metric/the_pile_github_val_loss\n3,3.5,2\n1,5,4\n2,4,3\n",
)
OLMIX = (
    ",run,name,index,adult_content,dclm:Games\n0,a1,r-0000,0,0.7000000000000001,0.3\n1,b2,r-0002,1,0.0,1.0\n",
    ",run,name,index,arc_challenge:rc::olmes,lambada\n0,b2,r-0002,0,1.5,0.6\n1,a1,r-0000,1,1.75,0.4\n",
)
WANDB = (
    '"Name","State","Notes","User","Tags","Created","Runtime","Sweep","run_id","config.seed","n_params.total",'
    '"n_params.non_embedding","mixture.code","mixture.web","data.code.n_tokens","data.web.n_tokens","n_tokens",'
    '"weight/code","weight/web","loss/code","loss/held","loss_se/code","train/loss"\n'
    '"r1","finished","-","me","","2026-01-01T00:00:00.000Z","60","","aaa","3","1000000","800000","0.5","0.5",'
    '"500","900","1000","0.49","0.51","2.5","3.5","0.01","2.4"\n'
    '"r1","crashed","-","me","","2026-01-01T00:00:00.000Z","60","","bbb","3","1000000","800000","0.5","0.5",'
    '"500","900","400","0.48","0.52","2.75","3.75","0.01","2.7"\n'
    '"r1","finished","-","me","","2026-01-01T00:00:00.000Z","60","","ccc","4","1000000","800000","0.25","0.75",'
    '"500","900","1000","0.25","0.75","2.625","","0.01","2.5"\n'
)
MIXINGLAWS = (
    "size,N_nonemb,run,step,w0,w1,Github,Pile-CC\n"
    "160M,85056000,160M_a,10000,0.25,0.75,1.5,3.5\n160M,85056000,160M_a,20000,0.25,0.75,1.25,3.25\n"
)
PAPER = (
    "weight_a,weight_b,model_size,n_tokens,a_loss,openhermes_loss\n"
    "0.5,0.5,122000000.0,2e9,3,4\n1,0,122000000.0,2e9,2,3\n"
)
EXAMPLES = [
    (REGMIX, "regmix"),
    (OLMIX, "olmix"),
    ((WANDB,), "wandb"),
    ((MIXINGLAWS,), "mixinglaws"),
    ((PAPER,), "paper"),
]


@pytest.fixture
def write(tmp_path) -> Callable[..., list[Path]]:
    """Return a function that writes texts to numbered files."""

    def files(*texts: str, name: str = "part") -> list[Path]:
        paths = [tmp_path / f"{name}{i}.csv" for i in range(len(texts))]
        for path, text in zip(paths, texts, strict=True):
            path.write_text(text, encoding="utf-8")
        return paths

    return files


def table_or_sentence(paths: list[Path], layout: str, constants: dict[str, float] | None) -> Table | str:
    """Return the table, or the error's text; nothing else may come of any file."""
    try:
        return read_table(paths, layout=layout, constants=constants)
    except MixlawError as error:
        return str(error)


def cells(table: Table, *columns: str) -> list[list[object]]:
    return table.frame[list(columns)].to_numpy().tolist()


def test_regmix_is_joined_by_index_whatever_the_order(write):
    paths = write(*REGMIX)
    table = read_table(paths, layout="regmix", constants=SCALE)
    assert (table.domains, table.targets) == (["arxiv", "pile_cc"], ["arxiv", "github"])
    assert cells(table, "row", "run_id", "weight_arxiv", "loss_arxiv", "loss_github", "n_tokens") == [
        [1, "1", 0.25, 5.0, 4.0, 1e9],
        [2, "2", 0.5, 4.0, 3.0, 1e9],
        [3, "3", 1.0, 3.5, 2.0, 1e9],
    ]
    assert table.notes == []
    pd.testing.assert_frame_equal(read_table(paths[::-1], layout="regmix", constants=SCALE).frame, table.frame)


def test_the_shipped_olmix_files_have_an_index_and_names_of_any_kind(write):
    paths = write(*OLMIX)
    for order in (paths, paths[::-1]):
        table = read_table(order, layout="olmix", constants=SCALE)
        assert (table.domains, table.targets) == (
            ["adult_content", "dclm:Games"],
            ["arc_challenge:rc::olmes", "lambada"],
        )
        assert cells(table, "run_id", "weight_dclm:Games", "loss_lambada") == [["a1", 0.3, 0.4], ["b2", 1.0, 0.6]]
        notes = "\n".join(table.notes)
        assert "part1.csv: index differs from that in" in notes


def test_olmix_files_may_hold_nothing_but_an_id_and_numbers(write):
    paths = write("run_id,a,b\nx,0.5,0.5\ny,0,1\n", "run_id,m\nx,1\ny,0.5\n")
    table = read_table(paths, layout="olmix", constants=SCALE)
    assert cells(table, "run_id", "weight_b", "loss_m") == [["x", 0.5, 1.0], ["y", 1.0, 0.5]]


def test_a_wandb_export_gives_a_row_per_finished_run(write):
    (path,) = write(WANDB)
    table = read_table([path], layout="wandb")
    assert (table.domains, table.targets) == (["code", "web"], ["code", "held"])
    columns = ("row", "run_id", "seed", "n_params", "n_tokens", "weight_web", "loss_code", "loss_se_code")
    assert cells(table, *columns) == [
        [1, "aaa", 3, 1e6, 1000.0, 0.51, 2.5, 0.01],
        [3, "ccc", 4, 1e6, 1000.0, 0.75, 2.625, 0.01],
    ]
    assert table.sizes == {"code": 500, "web": 900}
    assert table.notes[0] == f"{path} row 2: State is crashed; left out"
    assert table.notes[-1] == f"{path} row 3: loss_held is empty; this cell is left out"
    assert read_table([path], count="n_params_non_embedding", layout="wandb").frame["n_params"].tolist() == [8e5] * 2


def test_wandb_names_are_not_unique_so_without_an_id_every_row_is_a_run(write):
    (path,) = write(WANDB.replace('"run_id"', '"other"').replace("crashed", "finished"))
    assert read_table([path], layout="wandb").frame["run_id"].tolist() == [f"{path} row {i}" for i in (1, 2, 3)]


def test_a_wandb_export_without_weights_of_the_log_has_those_of_the_configuration(write):
    (path,) = write(WANDB.replace("weight/", "share/"))
    assert cells(read_table([path], layout="wandb"), "weight_code") == [[0.5], [0.25]]


def test_a_wandb_export_without_finished_runs_or_without_states_is_said(write):
    with pytest.raises(RunLogError, match=r"part0.csv: State is finished in none of its 3 rows"):
        read_table(write(WANDB.replace("finished", "running")), layout="wandb")
    table = read_table(write(WANDB.replace('"State"', '"Stat"')), layout="wandb")
    assert "has no column State: all runs are assumed to be finished" in table.notes[0]
    assert len(table.frame) == 3


def test_mixinglaws_steps_are_tokens(write):
    (path,) = write(MIXINGLAWS)
    table = read_table([path], layout="mixinglaws")
    assert (table.domains, table.targets) == (["w0", "w1"], ["Github", "Pile-CC"])
    assert cells(table, "n_params", "n_tokens", "run_id", "size") == [
        [85056000.0, 4096 * 256 * 1e4, "160M_a", "160M"],
        [85056000.0, 4096 * 256 * 2e4, "160M_a", "160M"],
    ]
    assert table.notes == [f"{path}: columns that are not used: size"]


def test_the_papers_table_has_its_losses_behind_their_names(write):
    table = read_table(write(PAPER), layout="paper")
    assert (table.domains, table.targets) == (["a", "b"], ["a", "openhermes"])
    assert cells(table, "n_params", "loss_openhermes") == [[1.22e8, 4.0], [1.22e8, 3.0]]


@pytest.mark.parametrize(("texts", "name"), [*EXAMPLES, (REGMIX[1:], "regmix")])
def test_a_layout_is_recognised_and_used_with_a_note(write, texts, name):
    paths = write(*texts)
    constants = SCALE if name in ("regmix", "olmix") else None
    table, named = (read_table(paths, layout=layout, constants=constants) for layout in (None, name))
    pd.testing.assert_frame_equal(table.frame, named.frame)
    shown = " + ".join([str(paths[0]), *(path.name for path in paths[1:])])
    assert table.notes[0] == f"{shown}: read in the layout '{name}', recognised by its columns; --layout names another"
    assert table.notes[1:] == named.notes


@pytest.mark.parametrize("name", ["regmix", "olmix"])
def test_what_a_recognised_layout_lacks_is_asked_for(write, name):
    with pytest.raises(RunLogError, match=r"unknown column 'n_params'.*or state it by --constants n_params=1e6$"):
        read_table(write(*{"regmix": REGMIX, "olmix": OLMIX}[name]))


def test_a_table_with_all_standard_columns_is_in_no_layout(write):
    text = "Name,State,n_params,n_tokens,loss_x\nr,crashed,1e6,1e9,3\n"
    table = read_table(write(text))
    assert len(table.frame) == 1
    assert not any("layout" in note for note in table.notes)


def test_a_frame_in_memory_is_read_in_its_layout_too():
    frame = pd.read_csv(io.StringIO(PAPER))
    table = check_frame(frame, "mine")
    assert (table.domains, table.targets) == (["a", "b"], ["a", "openhermes"])
    assert table.notes == ["mine: read in the layout 'paper', recognised by its columns; --layout names another"]


def test_no_layout_is_recognised_where_none_fits(write):
    with pytest.raises(RunLogError, match=r"--constants n_params=1e6$"):
        read_table(write("width,D,loss_x\n1,2,3\n"))


def test_unknown_layouts_get_the_near_match_and_all_have_a_sentence(write):
    with pytest.raises(ConfigError, match=r"unknown layout 'regmx'; did you mean 'regmix'\?"):
        read_table(write(PAPER), layout="regmx")
    for name in LAYOUTS:
        assert len(get_layout(name).about) > 20
        assert all(c.count("*") == s.count("*") <= 1 for c, s in get_layout(name).columns.items())


def test_patterns_name_domains_and_targets_and_exact_names_win(write):
    text = "N,n_tokens,mix.A B,mix.c,val/A B/ce,val/extra/ce\n1e6,1e9,0.5,0.5,3,4\n"
    columns = {"N": "n_params", "mix.*": "weight_*", "val/*/ce": "loss_*", "val/extra/ce": "loss_held"}
    table = read_table(write(text), columns=columns)
    assert (table.domains, table.targets) == (["A B", "c"], ["A B", "held"])
    assert table.notes == []


def test_patterns_leave_standard_columns_alone(write):
    table = read_table(
        write("n_params,n_tokens,seed,sparsity,loss_x,other\n1e6,1e9,1,0.5,3,4\n"), columns={"*": "loss_*"}
    )
    assert table.targets == ["x", "other"]


def test_a_layouts_columns_may_be_named_otherwise(write):
    text = PAPER.replace("model_size", "params").replace("a_loss", "extra")
    columns = {"params": "n_params", "extra": "loss_mine"}
    assert read_table(write(text), columns=columns, layout="paper").targets == ["mine", "openhermes"]


@pytest.mark.parametrize(
    ("columns", "error", "sentence"),
    [
        ({"a*b*": "loss_*"}, ConfigError, r"--columns loss_\*=a\*b\*: a pattern has exactly one \* on each side"),
        ({"a*": "loss_a"}, ConfigError, "exactly one"),
        ({"loss": "loss_*"}, ConfigError, "exactly one"),
        ({"modl_size": "n_params"}, ConfigError, "--columns n_params=modl_size: unknown column.*mean 'model_size'"),
        ({"los/*": "loss_*"}, ConfigError, r"--columns loss_\*=los/\*: unknown pattern 'los/\*'"),
        ({"a_loss": "loss_x", "openhermes_loss": "loss_x"}, RunLogError, "column 'loss_x' appears twice"),
    ],
)
def test_columns_that_name_nothing_or_one_thing_twice_are_refused(write, columns, error, sentence):
    with pytest.raises(error, match=sentence):
        read_table(write(PAPER), columns=columns)


def test_two_names_that_are_spelt_alike_are_two_names(write):
    table = read_table(write("n_params,n_tokens,v/A B,v/a-b,v/a b\n1,1,1,1,1\n"), columns={"v/*": "loss_*"})
    assert table.targets == ["A B", "a-b", "a b"]


@given(st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="*,\"'"), min_size=1, max_size=12))
@examples(60)
def test_names_are_the_same_by_every_route(tmp_path_factory, name):
    """By standard columns, by a pattern, by a layout, in a long table, and from a frame in memory."""
    assume(name.lower() not in EMPTY and not HIGHER.search(name.lower()))  # what a long table's cell means nothing by
    folder = tmp_path_factory.mktemp("names")
    weights, losses = {"": [0.25, 0.5], "zz": [0.75, 0.5]}, [3.0, 2.5]
    common = pd.DataFrame({"n_params": [1e6, 2e6], "n_tokens": [1e9, 1e9], "run_id": ["r", "s"]})

    def wide(weight: str, loss: str) -> pd.DataFrame:
        named = {weight.replace("*", name + end): cells for end, cells in weights.items()}
        return common.assign(**named, **{loss.replace("*", name): losses})

    wide("weight_*", "loss_*").to_csv(folder / "standard.csv", index=False)
    wide("mix.*", "val/*/ce").to_csv(folder / "pattern.csv", index=False)
    paper = wide("weight_*", "*_loss").rename(columns={"n_params": "model_size"})
    paper.to_csv(folder / "layout.csv", index=False)
    long = wide("weight_*", "loss").assign(target=name)
    long.to_csv(folder / "long.csv", index=False)
    patterns = {"mix.*": "weight_*", "val/*/ce": "loss_*"}
    tables = [read_table([folder / f"{kind}.csv"]) for kind in ("standard", "layout", "long")]
    tables += [read_table([folder / "pattern.csv"], columns=patterns), check_frame(wide("weight_*", "loss_*"), "mine")]
    assert {(*table.domains, "|", *table.targets) for table in tables} == {(name, name + "zz", "|", name)}


@pytest.mark.parametrize("name", ["n_params", "n_tokens"])
def test_a_name_that_is_not_needed_may_be_absent(write, name):
    """The same --columns serve a table of one's own and one with the standard names."""
    assert read_table(write("n_params,n_tokens,loss_x\n1e6,1e9,3\n"), columns={"N": name}).targets == ["x"]


def test_ids_that_one_file_lacks_are_named_by_row_and_left_out(write):
    mixtures = REGMIX[0] + "4,0.5,0.5\n,0.5,0.5\n5,1,0\n"
    losses = "index,metric/the_pile_arxiv_val_loss\n9,3\n5,2\n3,3.5\n"
    one, other = write(mixtures, losses)
    table = read_table([one, other], layout="regmix", constants=SCALE)
    assert cells(table, "row", "run_id", "loss_arxiv") == [[3, "3", 3.5], [6, "5", 2.0]]
    assert table.notes == [
        f"{one} row 5: index is empty; left out",
        f"{one} rows 1-2, 4: their index is not in {other}; left out",
        f"{other} row 1: index 9 is not in {one}; left out",
    ]
    assert table.place([6]) == f"{one} + part1.csv row 6"


def test_many_missing_ids_are_named_together(write):
    losses = "index,metric/the_pile_arxiv_val_loss\n" + "".join(f"{i},3\n" for i in range(3, 23))
    one, other = write(REGMIX[0], losses)
    notes = read_table([one, other], layout="regmix", constants=SCALE).notes
    assert notes[-1] == f"{other} rows 2-20: their index is not in {one}; left out"


def test_checkpoints_of_a_run_are_joined_to_its_mixture(write):
    losses = "run,n_tokens,loss_x\nb,1e9,3\na,1e9,4\na,2e9,3.5\n"
    paths = write("run,weight_u,weight_v\na,0.5,0.5\nb,1,0\n", losses)
    for order in (paths, paths[::-1]):
        table = read_table(order, join="run", constants={"n_params": 1e6})
        expected = [[1, "b", 1.0, 3.0], [2, "a", 0.5, 4.0], [3, "a", 0.5, 3.5]]
        assert cells(table, "row", "run_id", "weight_u", "loss_x") == expected


def test_three_files_are_joined(write):
    sizes = "index,N,n_tokens\n2,2e6,1e9\n1,1e6,1e9\n3,1e6,1e9\n7,1,1\n"
    table = read_table(write(sizes, *REGMIX), columns={"N": "n_params"}, layout="regmix")
    assert cells(table, "run_id", "n_params", "loss_github") == [["1", 1e6, 4.0], ["2", 2e6, 3.0], ["3", 1e6, 2.0]]
    assert "index 7 is not in all of " in table.notes[0]


def test_ids_are_compared_as_what_they_mean(write):
    mixtures = "id,weight_a,weight_b\n1,0.5,0.5\n 002 ,1,0\n10000000000000001,0,1\n"
    losses = "id,loss_x\n1.0,3\n002,4\n10000000000000001,5\n"
    table = read_table(write(mixtures, losses), join="id", constants=SCALE)
    assert cells(table, "run_id", "loss_x") == [["1", 3.0], ["002", 4.0], ["10000000000000001", 5.0]]


def test_a_run_id_beside_the_joined_column_stays(write):
    paths = write("id,run_id,weight_a,weight_b\n1,p,0.5,0.5\n2,q,1,0\n", "id,loss_x\n1,3\n2,4\n")
    assert read_table(paths, join="id", constants=SCALE).frame["run_id"].tolist() == ["p", "q"]


@pytest.mark.parametrize(
    ("mixtures", "losses", "sentence"),
    [
        (
            "id,weight_a\n1,1\n1,1\n2,1\n",
            "id,loss_x\n1,3\n2,3\n",
            "part0.csv: id names a run twice: 1. Which of its rows",
        ),
        ("id,weight_a\n1,1\n", "id,loss_x\nr1,3\nr2,3\n", "no id is in all the files: .*part0.csv has 1; .*has r1, r2"),
        ("id,weight_a,loss_x\n1,1,3\n", "id,loss_x\n1,2\n", "part0.csv row 1: loss_x is 3, but 2 in .*part1.csv"),
        ("id,weight_a\n,1\n", "id,loss_x\n1,2\n", "no id is in all the files"),
    ],
)
def test_files_that_cannot_be_joined_are_refused(write, mixtures, losses, sentence):
    with pytest.raises(RunLogError, match=sentence):
        read_table(write(mixtures, losses), join="id", constants=SCALE)


def test_a_join_by_a_column_that_a_file_lacks_is_a_wrong_setting(write):
    sentence = r"part1.csv cannot be joined by id \(--join\): unknown column 'id'; did you mean"
    with pytest.raises(ConfigError, match=sentence):
        read_table(write("id,weight_a\n1,1\n", "idx,loss_x\n1,3\n"), join="id", constants=SCALE)


def test_two_files_with_several_rows_of_a_run_are_refused(write):
    many = "id,loss_{0}\n1,3\n1,4\n"
    with pytest.raises(RunLogError, match=r"part2.csv: id names a run twice: 1"):
        read_table(write("id,weight_a\n1,1\n", many.format("x"), many.format("y")), join="id", constants=SCALE)


def test_a_column_of_both_files_must_say_the_same(write):
    paths = write("id,n_tokens,weight_a,tag\n1,1e9,1,u\n", "id,n_tokens,loss_x,tag\n1,1000000000,2,v\n")
    table = read_table(paths, join="id", constants={"n_params": 1e6})
    assert table.frame["n_tokens"].tolist() == [1e9]
    assert f"{paths[1]}: tag differs from that in {paths[0]}; it is left out" in table.notes


def test_mixtures_alone_serve_to_predict(write):
    table = read_table(write(REGMIX[0]), layout="regmix", constants=SCALE, need_losses=False)
    assert cells(table, "run_id", "weight_pile_cc") == [["1", 0.75], ["2", 0.5], ["3", 0.0]]
    with pytest.raises(ConfigError, match=r"part0.csv cannot be joined by id \(--join\): unknown column 'id'"):
        read_table(write(REGMIX[0]), join="id", constants=SCALE, need_losses=False)


@given(st.permutations(range(8)), st.permutations(range(8)), st.booleans())
@examples(40)
def test_a_join_is_the_same_for_all_orders_of_rows_and_files(tmp_path_factory, one, other, swapped):
    folder = tmp_path_factory.mktemp("join")
    mixtures = pd.DataFrame({"id": range(8), "weight_a": np.linspace(0, 1, 8)}).assign(
        weight_b=lambda f: 1 - f["weight_a"]
    )
    losses = pd.DataFrame({"id": range(8), "loss_x": np.arange(1.0, 9)})
    mixtures.iloc[list(one)].to_csv(folder / "m.csv", index=False)
    losses.iloc[list(other)].to_csv(folder / "l.csv", index=False)
    paths = [folder / "m.csv", folder / "l.csv"]
    frame = read_table(paths[::-1] if swapped else paths, join="id", constants=SCALE).frame
    assert frame["run_id"].tolist() == [str(i) for i in one]
    assert frame["loss_x"].tolist() == [i + 1.0 for i in one]
    assert frame["weight_a"].tolist() == pytest.approx([i / 7 for i in one])


@given(st.sets(st.integers(1, 400), min_size=1))
def test_ranges_name_the_first_rows_and_count_the_others(rows):
    named, _, more = ranges(list(rows)).removesuffix(" more").partition(" and ")
    spans = [part.split("-") for part in named.split(", ")]
    found = [row for span in spans for row in range(int(span[0]), int(span[-1]) + 1)]
    assert found == sorted(rows)[: len(found)]
    assert len(found) + int(more or 0) == len(rows)
    assert len(spans) == 3 if more else len(spans) <= 6


def test_long_lists_are_cut():
    assert listed(range(3)) == "0, 1, 2"
    assert listed(range(25)).endswith("19, and 5 more")


@pytest.mark.parametrize("trials", [8, slow(200), pytest.param(500, marks=pytest.mark.crash)])
@pytest.mark.parametrize(("texts", "layout"), EXAMPLES)
def test_random_bytes_and_cuts_end_in_a_table_or_a_sentence(write, texts, layout, trials):
    """Half of the bytes are ones that CSVs are made of."""
    rng, letters = np.random.default_rng(1), np.frombuffer(b'0123456789.,-e+"\n x', np.uint8)
    paths = write(*texts)
    constants = SCALE if layout in ("regmix", "olmix") else None
    for trial in range(trials):
        for path, text in zip(paths, texts, strict=True):
            raw = bytearray(text.encode())
            for place in rng.integers(len(raw), size=rng.integers(0, 3)):
                raw[place] = rng.choice(letters) if rng.random() < 0.5 else rng.integers(256)
            path.write_bytes(raw[: rng.integers(len(raw))] if trial % 5 == 0 else raw)
        result = table_or_sentence(paths, layout, constants)
        if isinstance(result, str):
            assert str(paths[0].parent) in result
        else:
            assert np.isfinite(result.mixtures).all()
            assert len(result.frame)


def test_files_are_read_without_a_layout_too(write):
    (raw,) = load_files(write(PAPER), FileOptions())
    assert raw.n_rows == 2
    assert raw.frame.index.tolist() == [1, 2]
