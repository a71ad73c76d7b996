"""The real tables of others, with their traps, as they come: no trap stops the reading, each is named by its row."""

import numpy as np
import pandas as pd
import pytest

from mixlaw.errors import RunLogError
from mixlaw.tables.clean import prepare
from mixlaw.tables.read import read_table
from mixlaw.tables.table import Table
from tests.published.real_tables import real_table

pytestmark = pytest.mark.published

ONE_M = {"n_params": 1e6, "n_tokens": 1e9}


def regmix(part: str) -> list[str]:
    return [str(real_table(f"regmix/{part}_{kind}.csv")) for kind in ("mixture_1m", "pile_loss_1m")]


def slimpajama() -> Table:
    return read_table([real_table("slimpajama/slimpajama_llm_small.csv")], layout="paper")


def left_out(table: Table) -> pd.DataFrame:
    """Return the rows that preparing leaves out."""
    return table.frame[~table.frame["row"].isin(prepare(table).frame["row"])]


def test_regmix_is_joined_by_index_in_any_order(tmp_path):
    mixtures, losses = regmix("train")
    table = read_table([mixtures, losses], layout="regmix", constants=ONE_M)
    assert (len(table.frame), len(table.domains), len(table.targets)) == (512, 17, 13)
    raw = pd.read_csv(losses).set_index("index")["metric/the_pile_github_val_loss"]
    assert table.frame["loss_github"].tolist() == raw[table.frame["run_id"].astype(int)].tolist()
    shuffled = tmp_path / "losses.csv"
    pd.read_csv(losses).sample(frac=1, random_state=0).to_csv(shuffled, index=False)
    pd.testing.assert_frame_equal(read_table([shuffled, mixtures], layout="regmix", constants=ONE_M).frame, table.frame)


def test_regmix_has_rounded_sums_and_zeros_and_all_are_said():
    table = read_table(regmix("train"), layout="regmix", constants=ONE_M)
    np.testing.assert_allclose(table.mixtures.sum(1), 1, rtol=1e-12)
    [sums] = [note for note in table.notes if "the weights sum to" in note]
    assert sums.endswith("rows 2, 4-6, 8 and 298 more: the weights sum to 0.9960 to 1.0030; they are scaled to 1")
    ready = prepare(table)
    assert len(ready.frame) == 512
    [zeros] = [note for note in ready.notes if "exactly" in note]
    assert zeros.startswith("weights of exactly 0, which laws see as 0.0001: weight_arxiv in 187 rows, ")
    assert "weight_dm_mathematics in 242 rows, weight_github in 189 rows" in zeros


def test_regmix_without_a_layout_or_without_n_says_what_to_add():
    with pytest.raises(RunLogError, match=r"unknown column 'n_params'.*or state it by --constants n_params=1e6$"):
        read_table(regmix("test"))
    with pytest.raises(RunLogError, match=r"unknown column 'n_params'.*or state it by --constants n_params=1e6$"):
        read_table(regmix("test"), layout="regmix")


def test_regmix_mixtures_alone_can_be_predicted():
    table = read_table(regmix("test")[:1], layout="regmix", constants=ONE_M, need_losses=False)
    assert (len(table.frame), table.targets) == (256, [])


def test_the_papers_first_checkpoints_are_in_warm_up_and_its_last_ones_double():
    """45 + 45 + 31 runs; warm-up ended at 4e9 tokens of 20e9, the two last checkpoints are 2M tokens apart."""
    table = slimpajama()
    assert (len(table.frame), table.frame["run_id"].nunique(), len(table.targets)) == (1322, 121, 8)
    gone = left_out(table)["n_tokens"].value_counts().to_dict()
    assert gone == {1.998e9: 90, 2.59e9: 31, 1.9998e10: 90, 2.5918e10: 31}
    notes = "\n".join(prepare(table).notes)
    assert "rows 562, 875: some of loss_github, loss_stackexchange, loss_wikipedia" in notes
    assert (
        "rows 10, 20, 31 and 118 more: less than 1 % of the tokens before the next row of their run; left out" in notes
    )
    assert "up to 1.998e+09 tokens of 45 runs with 122M parameters" in notes
    assert prepare(table).much_left_out() == [
        "242 of 1322 rows (18 %) are left out: less than 1 % of the tokens before the next row of their run (121), "
        "in warm-up (121)"
    ]
    assert left_out(slimpajama())["row"].iloc[0] == 1
    assert prepare(table, keep_warmup=True).frame["n_tokens"].min() == 1.998e9


@pytest.mark.parametrize(
    ("name", "runs", "domains", "targets", "warm"),
    [("2Mix", 10, 2, 2, 0), ("3Mix", 41, 3, 3, 86), ("5Mix_small", 52, 5, 22, 30)],
)
def test_mixinglaws_steps_become_tokens_and_its_sizes_are_questioned(name, runs, domains, targets, warm):
    path = real_table(f"mixinglaws/tidy_{name}.csv")
    table = read_table([path], layout="mixinglaws")
    assert (table.frame["run_id"].nunique(), len(table.domains), len(table.targets)) == (runs, domains, targets)
    steps = pd.read_csv(path)["step"]
    assert table.frame["n_tokens"].tolist() == (steps * 4096.0 * 256).tolist()
    ready = prepare(table)
    notes = "\n".join(ready.notes)
    assert "size says 160M, n_params 85.1M" in notes
    assert "N without embeddings? The law's N is n_params; kept" in notes
    assert "Github" in table.targets
    last = table.frame.groupby("run_id")["n_tokens"].transform("max")
    gone = left_out(table)
    early = gone[gone["n_tokens"] < 0.25 * last[gone.index]]
    assert len(early) == warm
    assert (early["n_tokens"] < 5.5e9).all()
    assert ("warm-up" in notes) == (warm > 0)


def test_the_empty_losses_of_mixinglaws_cost_their_cells_only():
    table = read_table([real_table("mixinglaws/tidy_3Mix.csv")], layout="mixinglaws")
    assert int(table.frame[["loss_Books3", "loss_Github", "loss_Pile-CC"]].isna().sum().sum()) == 37
    [empty] = [note for note in table.notes if "empty" in note]
    assert "tidy_3Mix.csv rows 378, " in empty
    assert empty.endswith("are empty; these cells are left out")


def test_the_410m_of_mixinglaws_are_302m_without_embeddings():
    notes = prepare(read_table([real_table("mixinglaws/tidy_3Mix.csv")], layout="mixinglaws")).notes
    [sizes] = [note for note in notes if "N without embeddings?" in note]
    assert "size says 410M, n_params 302M" in sizes


@pytest.mark.parametrize("with_ids", [True, False])
def test_chinchilla_is_read_by_its_columns_once_d_is_computed(tmp_path, with_ids):
    raw = pd.read_csv(real_table("chinchilla/svg_extracted_data.csv"))
    raw["D"] = raw["Training FLOP"] / (6 * raw["Model Size"])
    path = tmp_path / "chinchilla.csv"
    raw.rename_axis("run").reset_index().to_csv(path, index=False)
    columns = {"Model Size": "n_params", "D": "n_tokens", "loss": "loss_text"} | ({"run": "run_id"} if with_ids else {})
    table = read_table([path], columns=columns)
    assert (len(table.frame), table.domains, table.targets) == (245, [], ["text"])
    assert any("columns that are not used: Training FLOP, color, hex_color" in note for note in table.notes)
    ready = prepare(table)
    assert len(ready.frame) == ready.frame["run_id"].nunique() == 245  # also of one size within 1 % of tokens
    assert not any("warm-up" in note for note in ready.notes)


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("slimpajama/slimpajama_llm_small.csv", "paper"),
        ("mixinglaws/tidy_2Mix.csv", "mixinglaws"),
        ("mixinglaws/tidy_5Mix_small.csv", "mixinglaws"),
    ],
)
def test_a_real_file_is_read_in_its_layout_without_being_told(name, layout):
    table, named = read_table([real_table(name)]), read_table([real_table(name)], layout=layout)
    assert f"read in the layout '{layout}', recognised by its columns" in table.notes[0]
    pd.testing.assert_frame_equal(table.frame, named.frame)
