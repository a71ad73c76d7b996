"""`python -m train.memory` says what a run needs and what would fit, before there are a GPU and data."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mixlaw.errors import ConfigError
from tests.commands import call
from train.compose import compose_config
from train.memory import GPU, MFU, Size, alternatives, describe_study, largest_that_fits, main, speed_of, vocabulary_of
from train.models.build import count_of
from train.models.count import flops_per_token
from train.peaks import peak_of

Tiny = Callable[..., list[str]]
TEXT = (
    "model.width=64 model.depth=4 model.head_dim=16 stream.seq_len=64 stream.batch_size=24 precision=bf16 "
    "data.root=/none schedule.n_tokens=1_000_000"
).split()


def size(*more: str, n_ranks: int = 1) -> Size:
    return Size("text", compose_config([*TEXT, *more]), 256, n_ranks)


def test_time_is_flops_over_the_share_of_the_peak() -> None:
    run = size(n_ranks=4)
    found = speed_of(run, 1e12, 0.5)
    counts = count_of(run.config.model, 256, run.config.layout())
    per_token = flops_per_token(run.config.model, counts, 64)["palm"]
    assert found.flops == per_token * 1e6
    assert found.tokens_per_s == pytest.approx(0.5 * 4 * 1e12 / per_token)
    assert found.hours * 3600 * found.tokens_per_s == pytest.approx(1e6)


@pytest.mark.slow
def test_the_largest_micro_batch_that_fits_is_found() -> None:
    run = size("model.depth=1")
    fits = {n: run_of(run, n).footprint().total for n in (1, 3, 24)}
    for n, n_bytes in fits.items():
        found = largest_that_fits(run, n_bytes)
        assert found is not None
        assert (found[0], found[1].total) == (n, n_bytes)
    assert largest_that_fits(run, fits[1] - 1) is None


def run_of(run: Size, micro_batch: int) -> Size:
    machine = replace(run.config.machine, micro_batch=micro_batch)
    return replace(run, config=replace(run.config, machine=machine))


@pytest.mark.slow  # the command line shows alternatives too
def test_settings_that_fit_fit_and_checkpoints_and_shards_make_room() -> None:
    run = size("model.depth=2", n_ranks=2)
    found = dict(alternatives(run, 1e12))
    assert len(found) == 4
    by_words = {tuple(re.findall(r"=(\w+)", words)): needed for words, needed in found.items()}
    assert {key[0] for key in by_words} == {"12"}  # the whole share of a rank
    assert by_words["12", "true", "ddp"].activations < by_words["12", "false", "ddp"].activations
    assert by_words["12", "false", "fsdp"].state < by_words["12", "false", "ddp"].state
    assert dict(alternatives(run, 1e9)) == {}  # less than CUDA itself takes


def test_a_vocabulary_is_known_without_data_or_asked_for(tiny: Tiny) -> None:
    assert vocabulary_of(compose_config(tiny()).data) == 256
    assert vocabulary_of(compose_config(["data=paper_llm", "data.root=/none"]).data) == 50_277
    other = compose_config(["data=paper_llm", "data.root=/none", "data.tokenizer.path=some/other"]).data
    assert vocabulary_of(other, 1000) == 1000
    with pytest.raises(ConfigError, match=r"some/other.*say --vocab-size V"):
        vocabulary_of(other)


@pytest.mark.slow  # its alternatives take 3 s
def test_the_command_line_tells_bytes_time_and_what_fits() -> None:
    code, out, err = call("-m", "train.memory", *TEXT, "--ranks", "2", "--mfu", "0.3", "machine.micro_batch=6")
    assert (code, err) == (0, "")
    assert "2 GPUs, ddp; 2 micro-batches of 6 x 64 on each; all activations kept" in out
    parts = {name: float(gb) for name, gb in re.findall(r"^  (\w+) +([\d.]+) GB", out, re.M)}
    tensors = ("weights", "gradients", "optimizer", "gathered", "activations", "logits", "overhead")
    assert parts["total"] == pytest.approx(sum(parts[name] for name in tensors), abs=0.04)
    assert "time at 30% MFU of 990 TFLOP/s" in out
    assert out.count(" GB  machine.micro_batch=12 ") == 4


@pytest.mark.slow
def test_a_study_has_a_line_for_each_size_on_the_gpus_that_it_asks_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    study = ["study=quickstart", "hydra/launcher=slurm_node", f"data.root={tmp_path}", "stream.batch_size=16"]
    assert main(study) == 0
    head, columns, *lines, last = capsys.readouterr().out.splitlines()
    assert head.startswith(f"GB on one {GPU} (80 GB)")
    assert columns.split() == [
        "size",
        "GPUs",
        "batch",
        "weights",
        "gradients",
        "optimizer",
        "gathered",
        "activations",
        "logits",
        "evaluation",
        "total",
        "hours",
    ]
    assert len(lines) == len({line.split()[0] for line in lines}) > 1
    assert {line.split()[1] for line in lines} == {"8"}
    assert f"{MFU:.0%} MFU" in last


def test_what_does_not_fit_is_said_with_what_would() -> None:
    run = size("machine.micro_batch=24")
    just_less = run.footprint().total - 1
    text = describe_study([run], GPU, just_less, MFU)
    assert "DOES NOT FIT" in text
    assert "would fit: machine.micro_batch=12 machine.activation_checkpointing=false" in text
    assert peak_of(GPU)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--gpu", "H999"], "--gpu 'H999': its memory is not known: say --gpu-memory GB, or one of B200, H200"),
        (["--mfu", "0"], "--mfu 0; a share of the peak lies in (0, 1]"),
        (["--gpu-memory", "-1"], "--gpu-memory are numbers above 0"),
        (["--ranks", "7"], "stream.batch_size 24 is not a multiple of the 7 ranks"),
        (["model.widht=1"], "model.widht: unknown setting 'widht'; did you mean 'width'"),
    ],
)
def test_a_mistake_is_a_sentence(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TEXT, *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert words in err
    assert err.count("\n") == 1
