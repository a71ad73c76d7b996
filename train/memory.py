"""python -m train.memory [OVERRIDE...] [--gpu NAME] [--gpu-memory GB] [--ranks N] [--mfu 0.4] [--vocab-size V]

Estimates, without a GPU, what a run needs: memory of weights, gradients, optimizer, activations, logits and evaluation;
FLOPs, tokens/s and hours at a given model FLOPs utilisation; and settings that would fit. Overrides are those of
`python -m train`:

    python -m train.memory experiment=paper_llm/1.4b --ranks 8
    python -m train.memory study=paper_llm hydra/launcher=slurm_node      # one line per size, on the GPUs it asks for

Nothing is trained, and data need not be prepared. Activations are counted for uncompiled kernels; a compiled run needs
less. train/footprint.py has the method. Exit code 1: something does not fit.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from data.config import DataConfig
from mixlaw.console import command, exit_code_of
from mixlaw.errors import ConfigError
from train.config import TrainConfig
from train.footprint import Footprint, footprint
from train.grids import combinations
from train.models.build import count_of
from train.models.count import flops_per_token
from train.parallel import micro_batch_of
from train.peaks import NAMES, memory_of, peak_of

GPU, MFU = "NVIDIA H100 80GB HBM3", 0.4
VOCABULARIES = {"EleutherAI/gpt-neox-20b": 50_277}  # of tokenizers that are downloaded when data are prepared
COLUMNS = ("weights", "gradients", "optimizer", "gathered", "activations", "logits", "evaluation", "total")


@dataclass(frozen=True)
class Size:
    """One distinct size of a study: a configuration, its vocabulary, and its number of GPUs."""

    name: str
    config: TrainConfig
    vocab_size: int
    n_ranks: int

    def footprint(self) -> Footprint:
        """Return the bytes on one of its GPUs."""
        return footprint(self.config, self.vocab_size, self.n_ranks)


@dataclass(frozen=True)
class Speed:
    """The speed of a run at a given model FLOPs utilisation (MFU).

    Attributes
    ----------
    flops : of the whole run, by the convention of MFU
    tokens_per_s : of all GPUs together
    """

    flops: float
    tokens_per_s: float
    hours: float


def speed_of(size: Size, peak: float, mfu: float) -> Speed:
    """Return FLOPs, tokens/s and hours of a run; the share of patches is that of a full sequence where data decide it.

    Parameters
    ----------
    peak : dense bf16 FLOP/s of a GPU
    mfu : share of it that is reached
    """
    config = size.config
    counts = count_of(config.model, size.vocab_size, config.layout())
    image_share = config.layout().n_patches / config.stream.seq_len if config.model.family == "vision" else 0.0
    per_token = flops_per_token(config.model, counts, config.stream.seq_len, image_share)["palm"]
    tokens_per_s = mfu * peak * size.n_ranks / per_token
    flops = per_token * config.schedule.n_tokens
    return Speed(flops, tokens_per_s, config.schedule.n_tokens / tokens_per_s / 3600)


def vocabulary_of(data: DataConfig, given: int = 0) -> int:
    """Return the symbols of the tokenizer: as prepared, as given, or as the configuration says.

    Raises
    ------
    ConfigError
        If none of these says it.
    """
    from data.store.tokens import open_manifest

    if given:
        return given
    if (data.folder / "manifest.json").is_file():
        return open_manifest(data.folder).vocab_size
    if data.tokenizer.kind == "pretrained":
        if data.tokenizer.path not in VOCABULARIES:
            raise ConfigError(
                f"data.tokenizer.path {data.tokenizer.path!r}: its vocabulary is known when data are prepared; until "
                "then say --vocab-size V"
            )
        return VOCABULARIES[data.tokenizer.path]
    return data.tokenizer.vocab_size


def alternatives(size: Size, gpu_bytes: float) -> Iterator[tuple[str, Footprint]]:
    """Yield settings of the machine with the largest micro-batch that fits, and what a GPU then needs."""
    machine = size.config.machine
    for parallel in ("ddp", "fsdp") if size.n_ranks > 1 else (machine.parallel,):
        for checkpointing in (False, True):
            changed = replace(machine, parallel=parallel, activation_checkpointing=checkpointing)
            tried = replace(size, config=replace(size.config, machine=changed))
            if (found := largest_that_fits(tried, gpu_bytes)) is None:
                continue
            micro_batch, needed = found
            words = [f"machine.micro_batch={micro_batch}", f"machine.activation_checkpointing={checkpointing}".lower()]
            yield " ".join([*words, *[f"machine.parallel={parallel}"] * (size.n_ranks > 1)]), needed


def largest_that_fits(size: Size, gpu_bytes: float) -> tuple[int, Footprint] | None:
    """Return the largest micro-batch that divides a rank's share and fits, with its bytes, or None."""
    share = size.config.stream.batch_size // size.n_ranks

    def needed(micro_batch: int) -> Footprint:
        machine = replace(size.config.machine, micro_batch=micro_batch)
        return replace(size, config=replace(size.config, machine=machine)).footprint()

    one, two = needed(1), needed(min(2, share))
    room = gpu_bytes - one.total
    if room < 0:
        return None
    guess = 1 + room / max(two.total - one.total, 1)  # memory is linear in the micro-batch
    for micro_batch in sorted((n for n in range(1, share + 1) if share % n == 0 and n <= guess), reverse=True):
        if (found := needed(micro_batch)).total <= gpu_bytes:
            return micro_batch, found
    return None


def describe_run(size: Size, gpu: str, gpu_bytes: float, mfu: float) -> str:
    """Return a text on the memory and time of a run, and settings that fit."""
    needed, config = size.footprint(), size.config
    micro_batch, share = (
        micro_batch_of(config.stream.batch_size, config.machine, size.n_ranks),
        config.stream.batch_size // size.n_ranks,
    )
    facts = [
        f"{count_of(config.model, size.vocab_size, config.layout())['total']:,} parameters, {config.precision}",
        f"{size.n_ranks} GPU{'s' * (size.n_ranks > 1)}" + f", {config.machine.parallel}" * (size.n_ranks > 1),
        f"{share // micro_batch} micro-batches of {micro_batch} x {config.stream.seq_len} on each",
        _checkpointing_note(config),
    ]
    lines = [f"{size.name}: {'; '.join(facts)}", f"bytes on one {gpu} ({gpu_bytes / 1e9:.0f} GB), estimated:"]
    parts = {name: getattr(needed, name) for name in (*COLUMNS[:-1], "overhead", "total")}
    notes = {"evaluation": "instead of gradients, activations and logits", "overhead": "CUDA, NCCL, fragments"}
    for name, n_bytes in parts.items():
        lines.append(f"  {name:<12}{n_bytes / 1e9:>9.2f} GB  {notes.get(name, '')}".rstrip())
    lines += [f"  {verdict(needed, gpu_bytes)}", *time_lines(size, gpu, mfu), "largest micro-batches that fit:"]
    rows = [f"  {needs.total / 1e9:>6.1f} GB  {words}" for words, needs in alternatives(size, gpu_bytes)]
    return "\n".join([*lines, *(rows or ["  none: take more GPUs with machine.parallel=fsdp, or larger ones"])])


def _checkpointing_note(config: TrainConfig) -> str:
    if not config.machine.activation_checkpointing:
        return "all activations kept"
    selective = config.machine.selective_checkpointing
    return "activations computed twice" + ", but not matrix products and attention" * selective


def time_lines(size: Size, gpu: str, mfu: float) -> list[str]:
    """Return a line on the duration of a run, if the GPU's peak FLOP/s are known."""
    peak = peak_of(gpu)
    if peak is None:
        return [f"time: the peak FLOP/s of '{gpu}' are not known"]
    speed = speed_of(size, peak, mfu)
    rate = f"{speed.flops:.2g} FLOPs, {speed.tokens_per_s:,.0f} tokens/s"
    hours = f"{speed.hours:,.1f} hours ({speed.hours * size.n_ranks:,.0f} GPU hours)"
    return [f"time at {mfu:.0%} MFU of {peak / 1e12:.0f} TFLOP/s: {rate}, {hours}"]


def verdict(needed: Footprint, gpu_bytes: float) -> str:
    """Return a phrase that says whether the run fits, and the free or missing memory."""
    free = gpu_bytes - needed.total
    return f"fits, {free / 1e9:.1f} GB are left" if free >= 0 else f"DOES NOT FIT: {-free / 1e9:.1f} GB too many"


def describe_study(sizes: Sequence[Size], gpu: str, gpu_bytes: float, mfu: float) -> str:
    """Return a table of the sizes of a study, with alternatives for those that do not fit."""
    head = f"{'size':<24}{'GPUs':>5}{'batch':>7}" + "".join(f"{name:>12}" for name in COLUMNS) + f"{'hours':>9}"
    lines, peak = [f"GB on one {gpu} ({gpu_bytes / 1e9:.0f} GB), estimated", head], peak_of(gpu)
    for size in sizes:
        needed = size.footprint()
        cells = "".join(f"{getattr(needed, name) / 1e9:>12.1f}" for name in COLUMNS)
        hours = f"{speed_of(size, peak, mfu).hours:>9,.0f}" if peak else f"{'-':>9}"
        batch = micro_batch_of(size.config.stream.batch_size, size.config.machine, size.n_ranks)
        lines.append(f"{size.name:<24}{size.n_ranks:>5}{batch:>7}{cells}{hours}  {verdict(needed, gpu_bytes)}")
        if needed.total > gpu_bytes:
            lines += [f"    would fit: {words}" for words, _ in alternatives(size, gpu_bytes)]
    return "\n".join([*lines, f"hours: of one run at {mfu:.0%} MFU; batch: sequences of a micro-batch"])


def sizes_of(runs: Sequence[tuple[TrainConfig, Sequence[str]]], vocab_size: int, n_ranks: int) -> list[Size]:
    """Return the distinct sizes among the runs of a study, in the order of their first occurrence.

    Parameters
    ----------
    runs : configuration and overrides of every run
    vocab_size : of the tokenizer; 0: as prepared or configured
    n_ranks : GPUs of one run
    """
    found: dict[str, Size] = {}
    for config, overrides in runs:
        same = repr((config.model, config.machine, config.stream, config.precision, config.evaluation.average))
        if same not in found:
            known = vocabulary_of(config.data, vocab_size)
            chosen = (o.partition("=")[2] for o in overrides if o.startswith(("experiment=", "model=")))
            name = next(chosen, "") or f"{config.model.family} of width {config.model.width}"
            found[same] = Size(name, config, known, n_ranks)
    return list(found.values())


def sizes_asked_for(overrides: Sequence[str], vocab_size: int, n_ranks: int) -> list[Size]:
    """Return the sizes of a command line: one, or those of a study.

    Parameters
    ----------
    n_ranks : GPUs of one run; 0: as hydra/launcher requests, else one

    Raises
    ------
    ConfigError
        For all errors that `python -m train` reports before it opens data.
    """
    from train.compose import compose_hydra, compose_study

    asked = compose_hydra(overrides)
    launcher, sweeper = asked["launcher"], asked["sweeper"]
    ranks = n_ranks or max(int(launcher.get("nodes", 1)) * int(launcher.get("gpus_per_node", 1)), 1)
    own = [o for o in overrides if not o.startswith(("hydra/", "hydra."))]
    jobs = combinations(sweeper.get("params") or {}, sweeper.get("grids") or [], own)
    return sizes_of(list(zip(compose_study(jobs), jobs, strict=True)), vocab_size, ranks)


def memory_lines(runs: Sequence[tuple[TrainConfig, Sequence[str]]], vocab_size: int, n_gpus: int) -> list[str]:
    """Return the estimated memory per GPU of each distinct size; [] for runs without a GPU.

    Parameters
    ----------
    runs : configuration and overrides of every run
    n_gpus : GPUs of one run
    """
    return [_memory_line(size) for size in sizes_of(runs, vocab_size, n_gpus)] if n_gpus else []


def _memory_line(size: Size) -> str:
    try:
        text = f"{size.footprint().total / 1e9:.1f} GB on each of {size.n_ranks} GPUs, estimated"
    except ConfigError as error:
        text = str(error)
    return f"memory of {size.name}: {text}"


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m train.memory", description=__doc__, formatter_class=raw)
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="overrides of `python -m train`")
    parser.add_argument("--gpu", default=GPU, help=f"CUDA's name of the GPU, or a part of it (default: {GPU})")
    parser.add_argument(
        "--gpu-memory", type=float, metavar="GB", help="memory of one GPU in 1e9 bytes (default: by its name)"
    )
    parser.add_argument(
        "--ranks", type=int, default=0, metavar="N", help="GPUs of a run (default: as the launcher requests)"
    )
    parser.add_argument("--mfu", type=float, default=MFU, help=f"model FLOPs utilisation (default: {MFU})")
    parser.add_argument("--vocab-size", type=int, default=0, metavar="V", help="vocabulary of a missing tokenizer")
    return parser


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Print the estimates for a run or a study; return 1 if something does not fit."""
    options = build_parser().parse_intermixed_args(arguments)
    return exit_code_of(lambda: _estimate(options))


def _estimate(options: argparse.Namespace) -> int:
    gpu_bytes = _gpu_bytes(options)
    sizes = sizes_asked_for(options.overrides, options.vocab_size, options.ranks)
    if len(sizes) == 1:
        text = describe_run(sizes[0], options.gpu, gpu_bytes, options.mfu)
    else:
        text = describe_study(sizes, options.gpu, gpu_bytes, options.mfu)
    sys.stdout.write(text + "\n")
    return int(any(size.footprint().total > gpu_bytes for size in sizes))


def _gpu_bytes(options: argparse.Namespace) -> float:
    """Return the memory of the GPU given by the options [bytes].

    Raises
    ------
    ConfigError
        If an option is out of range, or the GPU is unknown.
    """
    if not 0 < options.mfu <= 1:
        raise ConfigError(f"--mfu {options.mfu:g}; a share of the peak lies in (0, 1]")
    if options.ranks < 0 or options.vocab_size < 0 or (options.gpu_memory is not None and options.gpu_memory <= 0):
        raise ConfigError("--ranks, --vocab-size and --gpu-memory are numbers above 0")
    gpu_bytes = 1e9 * options.gpu_memory if options.gpu_memory else memory_of(options.gpu)
    if gpu_bytes is None:
        known = ", ".join(NAMES)
        raise ConfigError(f"--gpu {options.gpu!r}: its memory is not known: say --gpu-memory GB, or one of {known}")
    return gpu_bytes


if __name__ == "__main__":
    sys.exit(main())
