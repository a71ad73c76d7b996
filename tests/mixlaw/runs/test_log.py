"""The run directory: what was written comes back exactly, and what differs by a byte does not come back at all."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.errors import RunLogError
from mixlaw.fileio import canonical_json, read_json, write_atomically
from mixlaw.runs.load import find_runs, load_runs
from mixlaw.runs.log import RunWriter, read_facts, read_rows, read_status, run_id
from tests.mixlaw.run_logs import TARGETS, eval_row, facts, run_rows, train_row, write_run


def reseal(folder: Path, log: bytes, name: str = "aaa") -> None:
    """Replace the log and seal it, as someone would who wrote such rows on purpose."""
    (folder / "done.json").unlink()
    (folder / "metrics.jsonl").write_bytes(log)
    RunWriter(folder, facts(name)).seal("finished")


def test_a_run_comes_back_with_realised_weights_and_epochs(tmp_path):
    write_run(tmp_path)
    runs = load_runs(tmp_path)
    table = runs.table.set_index(["step", "domain"])
    assert list(table.index) == [(s, t) for s in (1, 2) for t in TARGETS]
    assert table["loss"].tolist() == [1.5, 3.0, 2.0, 0.75, 1.5, 1.0]
    assert set(table["weight_code"]) == {0.4}
    assert set(table["requested_code"]) == {0.5}
    assert table.loc[(2, "web"), "epochs_web"] == 120 / 1000
    assert table.loc[(2, "web"), "epochs_code"] == 80 / 500
    assert set(table["seed"]) == {3}
    assert set(table["n_params"]) == {3_000_000_000}
    assert set(table["n_params_non_embedding"]) == {2_000_000_000}
    assert runs.sizes == {"code": 500, "web": 1000}
    assert not runs.excluded


def test_pools_belong_to_runs_and_sizes_to_the_whole_domain(tmp_path):
    pool = {"code": {"n_tokens": 50, "corpus_tokens": 500}, "web": {"n_tokens": 1000}, "held": {"n_tokens": 9}}
    write_run(tmp_path, "aaa", data=pool)
    write_run(tmp_path, "bbb")
    runs = load_runs(tmp_path)
    assert runs.sizes == {"code": 500, "web": 1000}
    last = runs.table.groupby("run_id").last()
    assert last["available_code"].to_dict() == {"aaa": 50, "bbb": 500}
    assert last["epochs_code"].to_dict() == {"aaa": 80 / 50, "bbb": 80 / 500}


QUESTIONS = {"score": 0.25, "score_se": 0.0625, "n_questions": 48}


def test_tasks_come_back_with_their_unit_and_score(tmp_path):
    write_run(tmp_path, rows=[*run_rows(1), eval_row(1, "arc", 1.25, **QUESTIONS)], units={"arc": "bits/byte"})
    runs = load_runs(tmp_path)
    table = runs.table.set_index("domain")
    assert runs.units == {"arc": "bits/byte"}
    assert table.loc["arc", [*QUESTIONS]].to_dict() == QUESTIONS
    assert table.loc[[*TARGETS], [*QUESTIONS]].isna().all(axis=None)


def test_one_target_in_two_units_is_refused(tmp_path):
    write_run(tmp_path, "aaa", units={"held": "bits/byte"})
    write_run(tmp_path, "bbb")
    with pytest.raises(RunLogError, match=r"'held' are in nats per token in .*bbb and in bits/byte in .*aaa"):
        load_runs(tmp_path)


@pytest.mark.parametrize("units", ["bits/byte", {"held": 1}, {"held": ""}])
def test_units_that_are_no_names_are_refused(tmp_path, units):
    folder = write_run(tmp_path, units=units)
    with pytest.raises(RunLogError, match=r"'units' is .*, expected target -> unit"):
        read_facts(folder)


@pytest.mark.parametrize("damage", [{"score": 1.5}, {"score": -0.1}, {"score": "high"}, {"n_questions": 1.5}])
def test_scores_that_are_no_shares_are_refused(tmp_path, damage):
    folder = write_run(tmp_path, rows=[*run_rows(1), eval_row(1, "arc", 1.25, **QUESTIONS | damage)])
    with pytest.raises(RunLogError, match=f"line 5: '{next(iter(damage))}' is"):
        read_rows(folder)


def test_a_corpus_that_is_no_count_is_refused(tmp_path):
    damaged = {"code": {"n_tokens": 50, "corpus_tokens": "all"}, "web": {"n_tokens": 1000}, "held": {"n_tokens": 9}}
    folder = write_run(tmp_path, data=damaged)
    with pytest.raises(RunLogError, match=r"data\.code\.corpus_tokens is 'all', expected a count"):
        read_facts(folder)


def test_compute_beyond_64_bits_is_still_a_column_of_numbers(tmp_path):
    rows = [train_row(1, n_tokens=10**11), eval_row(1, "web", 2.0, n_tokens=10**11)]
    write_run(tmp_path, rows=rows)
    flops = load_runs(tmp_path).table["flops"]
    assert flops.dtype == np.float64
    assert flops.tolist() == [6 * 3e9 * 1e11]


def test_runs_are_found_by_their_study_their_root_or_themselves_and_only_once(tmp_path):
    a, b = write_run(tmp_path, "aaa"), write_run(tmp_path, "bbb")
    assert find_runs([tmp_path]) == find_runs([tmp_path / "s"]) == find_runs([a, b, tmp_path]) == [a, b]
    assert len(load_runs(tmp_path, a).table) == 2 * len(load_runs(a).table)


def test_a_copy_of_a_run_elsewhere_is_not_counted_twice(tmp_path):
    write_run(tmp_path / "one")
    write_run(tmp_path / "two")
    assert len(load_runs(tmp_path / "one", tmp_path / "two").table) == 6


def test_averaged_weights_evaluated_at_the_same_step_do_not_hide_the_plain_ones(tmp_path):
    write_run(tmp_path, rows=[train_row(1), eval_row(1, "web", 1.0, lr_state="averaged"), eval_row(1, "web", 2.0)])
    assert load_runs(tmp_path).table.set_index("lr_state")["loss"].to_dict() == {"averaged": 1.0, "constant": 2.0}


def test_unfinished_diverged_and_damaged_runs_are_left_out_each_with_a_sentence(tmp_path):
    write_run(tmp_path, "good")
    unfinished = RunWriter(tmp_path / "s/unfinished", facts("unfinished"))
    unfinished.close()
    diverged = RunWriter(tmp_path / "s/diverged", facts("diverged"))
    diverged.append(train_row(1))
    diverged.seal("diverged")
    cut = write_run(tmp_path, "cut")
    (cut / "run.json").write_bytes((cut / "run.json").read_bytes()[:-30])
    write_run(tmp_path, "silent", rows=[train_row(1)])
    write_run(tmp_path, "early", rows=[eval_row(1, "web", 2.0), train_row(1)])
    runs = load_runs(tmp_path)
    sentences = {Path(path).name: sentence for path, sentence in runs.excluded.items()}
    assert set(runs.table["run_id"]) == {"good"}
    assert sentences.keys() == {"unfinished", "diverged", "cut", "silent", "early"}
    assert "is unfinished (no done.json): the same command resumes it" in sentences["unfinished"]
    assert "its status is 'diverged'" in sentences["diverged"]
    assert "run.json is not valid JSON" in sentences["cut"]
    assert "holds no evaluation" in sentences["silent"]
    assert "no train row at step 1" in sentences["early"]


def test_the_status_of_a_run_is_known_at_every_stage(tmp_path):
    folder = tmp_path / "s/aaa"
    assert read_status(folder) == "planned"
    writer = RunWriter(folder, facts())
    assert read_status(folder) == "unfinished"
    writer.seal("stopped", wall_s=1.5)
    assert read_status(folder) == "stopped"
    assert read_json(folder / "done.json")["wall_s"] == 1.5


def test_folders_without_a_usable_run_are_errors(tmp_path):
    with pytest.raises(RunLogError, match="nowhere is not a folder of runs"):
        load_runs(tmp_path / "nowhere")
    with pytest.raises(RunLogError, match="no run directory below"):
        load_runs(tmp_path)
    RunWriter(tmp_path / "s/aaa", facts()).close()
    with pytest.raises(RunLogError, match=r"(?s)none of 1 runs can be used.*is unfinished"):
        load_runs(tmp_path)


def test_every_flipped_byte_of_a_sealed_log_is_refused(tmp_path):
    folder = write_run(tmp_path, rows=run_rows(1))
    log = (folder / "metrics.jsonl").read_bytes()
    for place in range(len(log)):
        for bit in (1 << place % 8, 0xFF):
            damaged = bytearray(log)
            damaged[place] ^= bit
            (folder / "metrics.jsonl").write_bytes(damaged)
            with pytest.raises(RunLogError):
                read_rows(folder)
    (folder / "metrics.jsonl").write_bytes(log)
    assert read_rows(folder) == run_rows(1)


def test_every_flipped_byte_of_a_sealed_run_s_facts_is_refused(tmp_path):
    folder = write_run(tmp_path, rows=run_rows(1))
    stated = (folder / "run.json").read_bytes()
    for place in range(len(stated)):
        damaged = bytearray(stated)
        damaged[place] ^= 1 << place % 7
        (folder / "run.json").write_bytes(damaged)
        with pytest.raises(RunLogError):
            load_runs(folder)


def test_every_truncation_of_a_sealed_log_is_refused(tmp_path):
    folder = write_run(tmp_path, rows=run_rows(1))
    log = (folder / "metrics.jsonl").read_bytes()
    for length in range(len(log)):
        (folder / "metrics.jsonl").write_bytes(log[:length])
        with pytest.raises(RunLogError):
            read_rows(folder)


def test_the_error_of_a_cut_log_names_file_line_and_remedy(tmp_path):
    folder = write_run(tmp_path)
    log = (folder / "metrics.jsonl").read_bytes()
    (folder / "metrics.jsonl").write_bytes(log[: log.index(b"\n") + 20])
    with pytest.raises(RunLogError, match=r"metrics.jsonl line 2 is incomplete: copy the run again, or rerun"):
        read_rows(folder)
    (folder / "metrics.jsonl").write_bytes(log[: log.index(b"\n") + 1])
    with pytest.raises(RunLogError, match=r"sha256 differs \(1 rows, sealed 8\). Copy the run again"):
        read_rows(folder)
    (folder / "metrics.jsonl").unlink()
    with pytest.raises(RunLogError, match=r"metrics.jsonl: No such file"):
        read_rows(folder)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"kind":"eval","kind":"eval"}', "a key appears twice"),
        (canonical_json(eval_row(1, "web", 2.0)).replace("0.01", "NaN"), "NaN is not valid in JSON"),
        (canonical_json(eval_row(1, "web", 2.0)).replace("0.01", "-Infinity"), "-Infinity is not valid in JSON"),
        (canonical_json(eval_row(1, "web", 2.0)).replace("0.01", "1e999"), "'loss_se' is inf, expected a finite"),
        (canonical_json(eval_row(1, "web", 10**400)), "'loss' is 1000.*expected a finite number"),
        (canonical_json(eval_row(1, "web", -2.0)), "'loss' is -2.0, expected a finite number of at least 0"),
        (canonical_json(eval_row(1, "web", True)), "'loss' is True"),
        (canonical_json(eval_row(1.0, "web", 2.0)), "'step' is 1.0"),
        (canonical_json(eval_row(1, "web", 2.0, extra=1)), "neither a train row nor an eval row"),
        (canonical_json(eval_row(1, "web", 2.0, kind="train")), "neither a train row nor an eval row"),
        (canonical_json(train_row(1, tokens_by_domain={"web": -1})), "something other than counts"),
        (canonical_json(train_row(1, tokens_by_domain={"web": 10**300})), "something other than counts"),
        (canonical_json(train_row(1, n_image_tokens=1.5)), "'n_image_tokens' is 1.5"),
        (canonical_json(eval_row(1, "web", 2.0, n_samples=1)), "neither a train row nor an eval row"),
        (canonical_json({"kind": "eval"}), "neither a train row nor an eval row"),
        ("[" * 100_000, "is not valid JSON"),
        ('"' + "x" * (1 << 20) + '"', "a row has fewer than"),
        ("1" * 5000, "is not valid JSON"),
        ("", "is not valid JSON"),
        ("[]", "neither a train row nor an eval row"),
        ("\x00", "is not valid JSON"),
    ],
    ids=lambda text: ascii(text[:40]),
)
def test_a_row_that_no_trainer_writes_is_refused_even_under_a_seal(tmp_path, line, sentence):
    folder = write_run(tmp_path)
    reseal(folder, line.encode() + b"\n")
    with pytest.raises(RunLogError, match=f"metrics.jsonl line 1.*{sentence}"):
        read_rows(folder)


@given(st.lists(st.tuples(st.integers(0, 10**4), st.integers(0, 255)), max_size=4))
def test_a_log_damaged_under_its_seal_is_refused_or_still_holds_rows_a_trainer_writes(tmp_path_factory, damage):
    folder = tmp_path_factory.getbasetemp() / "damaged"
    if not folder.exists():
        write_run(folder.parent, "x", rows=run_rows(1)).rename(folder)
    log = bytearray("".join(canonical_json(row) + "\n" for row in run_rows(1)).encode())
    for place, byte in damage:
        log[place % len(log)] = byte
    reseal(folder, bytes(log), "x")
    try:
        rows = read_rows(folder)
    except RunLogError:
        return
    assert all(0 <= row["loss"] < 1e19 and row["step"] >= 0 for row in rows)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"run_id": 5}, "'run_id' is 5"),
        ({"schema_version": 2}, "schema_version 2; this mixlaw reads 1"),
        ({"schema_version": True}, "'schema_version' is True"),
        ({"n_params": {"total": 5}}, "n_params.non_embedding is None, expected a count"),
        ({"n_params": {"total": "5", "non_embedding": 4}}, "n_params.total is '5', expected a count"),
        ({"mixture": {"web": 2}}, "the weight of 'web' is 2, expected 0 to 1"),
        ({"mixture": {"web": "1"}}, "the weight of 'web' is '1', expected 0 to 1"),
        ({"data": {"web": {"n_tokens": 5}}}, "data.code.n_tokens is None, expected a count"),
        ({"data": {"web": 5, "code": 6}}, "data.code.n_tokens is None, expected a count"),
    ],
)
def test_facts_that_no_trainer_states_are_refused(tmp_path, changes, sentence):
    folder = write_run(tmp_path)
    (folder / "run.json").write_text(json.dumps(facts() | changes))
    with pytest.raises(RunLogError, match=rf"run.json: {sentence}"):
        read_facts(folder)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a":1,"a":2}', '{"a":NaN}', "\x80", "[" * 99999])
def test_a_json_file_that_is_not_an_object_is_refused(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(RunLogError, match=r"x.json (is not valid JSON|holds a list)"):
        read_json(path)
    with pytest.raises(RunLogError, match=r"none.json is missing"):
        read_json(tmp_path / "none.json")


def test_rows_after_a_checkpoint_are_cut_and_written_again(tmp_path):
    writer = RunWriter(tmp_path / "s/aaa", facts())
    writer.append(train_row(1))
    writer.sync()
    at = writer.offset
    writer.append(train_row(2, loss=9.0))
    writer.close()
    again = RunWriter(tmp_path / "s/aaa", facts())
    assert again.offset > at
    again.cut(at)
    assert again.offset == at
    again.append(train_row(2))
    again.seal("finished")
    assert read_rows(tmp_path / "s/aaa") == [train_row(1), train_row(2)]


def test_a_log_shorter_than_its_checkpoint_saw_is_refused(tmp_path):
    writer = RunWriter(tmp_path, facts())
    writer.append(train_row(1))
    with pytest.raises(RunLogError, match=r"bytes, its checkpoint saw 100000: rows were lost"):
        writer.cut(100_000)
    writer.close()


def test_a_folder_belongs_to_one_run_and_a_seal_ends_it(tmp_path):
    RunWriter(tmp_path, facts("aaa")).close()
    with pytest.raises(RunLogError, match=r"run.json describes another run \(aaa\)"):
        RunWriter(tmp_path, facts("bbb"))
    RunWriter(tmp_path, facts("aaa")).seal("finished")
    with pytest.raises(RunLogError, match=r"is sealed: its run is over"):
        RunWriter(tmp_path, facts("aaa"))


def test_a_small_file_is_replaced_whole_or_not_at_all(tmp_path):
    write_atomically(tmp_path / "a.json", "old")
    with (tmp_path / "a.json").open() as reader:
        write_atomically(tmp_path / "a.json", "new é")
        assert reader.read() == "old"  # who had begun to read goes on reading the old file
    with pytest.raises(UnicodeEncodeError):
        write_atomically(tmp_path / "a.json", "half\ud800")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_atomically(tmp_path / "folder", "text")
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == "new é"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "folder"]


def test_the_id_of_a_run_never_changes_and_ignores_the_order_of_keys():
    science = {"model": {"width": 64, "depth": 4}, "mixture": {"web": 0.25, "code": 0.75}, "seed": 0}
    turned = {"seed": 0, "mixture": {"code": 0.75, "web": 0.25}, "model": {"depth": 4, "width": 64}}
    assert run_id(science) == run_id(turned) == "fae0883d44f8"
    assert run_id(science | {"seed": 1}) != run_id(science)


def test_an_id_of_something_that_json_cannot_say_is_refused():
    with pytest.raises(ValueError, match="Out of range float values"):
        run_id({"lr": float("nan")})


def test_rows_of_images_may_say_what_they_hold(tmp_path):
    more = {"n_image_tokens": 60, "n_loss_tokens": 40, "n_samples": 3}
    write_run(tmp_path, rows=[train_row(1, **more), eval_row(1, "web", 2.0)])
    assert len(load_runs(tmp_path).table) == 1


def test_weights_of_samples_are_shares_of_samples(tmp_path):
    data = {"code": {"n_tokens": 500, "n_samples": 50}, "web": {"n_tokens": 1000, "n_samples": 200}}
    config = {"seed": 3, "stream": {"unit": "samples"}}
    write_run(tmp_path, rows=[train_row(1), eval_row(1, "web", 2.0)], data=data, config=config)
    row = load_runs(tmp_path).table.iloc[0]
    assert row["weight_code"] == pytest.approx(4 / (4 + 12))  # 40 tokens of 10, and 60 of 5
    assert row["epochs_code"] == pytest.approx(40 / 500)
