"""python -m scripts.bench_token_files [--files 100000] [--tokens 1e12] [--reader megatron]: big corpora, read in place

It writes a corpus of sparse files (no disk blocks; every id is 0) whose indices are complete: ten different ones, each
the hard link of a tenth of the files. Each stage runs in a process of its own:

    prepare     python -m data.prepare, the first time: headers and indices, held-out documents, our index
    prepare 2   the same command again: it compares names, sizes and modification times
    open        manifest, index and stream, up to the first batch of 64 x 2,049 tokens: what every run waits for
    steps       100 more batches, whose windows are spread over all files
    evaluation  256 eval sequences, with the documents that they hold
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from data.config import DataConfig, SourceConfig, TokenizerConfig
from data.prepare import prepare
from data.store.tokens import open_manifest
from data.stream.items import Layout
from data.stream.loader import WeightedStream, evaluation_set

SEQ_LEN, BATCH, STEPS, EVALUATED = 2048, 64, 100, 256
ORIGINALS = 10  # different indices; a file has at most 65,000 hard links in ext4
DTYPE = {"megatron": "int32", "datatrove": "uint16"}


def write_corpus(folder: Path, reader: str, n_files: int, n_tokens: int, mean_document: int) -> None:
    """Write sparse files of ids and hard-linked indices, which are those that the format's own library writes."""
    folder.mkdir(parents=True)
    lengths = [_lengths(seed, n_tokens, mean_document) for seed in range(ORIGINALS)]
    suffix, index = {"megatron": (".bin", ".idx"), "datatrove": (".ds", ".ds.index")}[reader]
    for number in range(n_files):
        original = folder / f"part-{number % ORIGINALS:06d}{index}"
        if number < ORIGINALS:
            original.write_bytes(_INDICES[reader](lengths[number]))
        else:
            os.link(original, folder / f"part-{number:06d}{index}")
        with (folder / f"part-{number:06d}{suffix}").open("wb") as file:
            file.truncate(n_tokens * np.dtype(DTYPE[reader]).itemsize)


def _lengths(seed: int, n_tokens: int, mean_document: int) -> np.ndarray:
    """Return lengths of documents that sum to n_tokens, log-normal as web texts are."""
    shares = np.random.default_rng(seed).lognormal(sigma=1.0, size=max(n_tokens // mean_document, 1))
    return np.diff(np.round(np.cumsum(shares) / shares.sum() * n_tokens).astype(np.int64), prepend=0)


def _megatron_index(lengths: np.ndarray) -> bytes:
    n = len(lengths)
    head = b"MMIDIDX\x00\x00" + (1).to_bytes(8, "little") + b"\x04" + n.to_bytes(8, "little")
    pointers = (np.cumsum(lengths) - lengths) * 4
    arrays = (lengths.astype("<i4"), pointers.astype("<i8"), np.arange(n + 1).astype("<i8"))
    return head + (n + 1).to_bytes(8, "little") + b"".join(array.tobytes() for array in arrays)


_INDICES = {"megatron": _megatron_index, "datatrove": lambda lengths: np.cumsum(lengths).astype("<u8").tobytes()}


def config_of(folder: Path, reader: str) -> DataConfig:
    """Return the configuration of the corpus."""
    web = SourceConfig(reader, path=str(folder / "corpus"))
    return DataConfig("big", str(folder / "cache"), {"web": web}, tokenizer=TokenizerConfig("given", 50_000, name="x"))


def stage_prepare(config: DataConfig) -> None:
    """Index the corpus, or compare its files with the index."""
    prepare(config, lambda line: print(f"  {line}", flush=True))


def stage_open(config: DataConfig, n_steps: int = 1) -> None:
    """Open the stream and read batches."""
    stream = WeightedStream(open_manifest(config.folder), {"web": 1.0}, Layout(SEQ_LEN), BATCH, seed=0)
    for step in range(n_steps):
        stream[step]


def stage_steps(config: DataConfig) -> None:
    """Open the stream and read many batches."""
    stage_open(config, STEPS + 1)


def stage_evaluation(config: DataConfig) -> None:
    """Read eval sequences and their documents."""
    evaluation_set(open_manifest(config.folder), "web", "eval", Layout(SEQ_LEN), EVALUATED, BATCH)


def measured(stage: Callable[[DataConfig], None], config: DataConfig) -> tuple[float, float, float]:
    """Return seconds and CPU seconds of a stage, and by how many MB it raised the peak of the process's memory."""
    before, begin, cpu = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter(), time.process_time()
    stage(config)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    return seconds, cpu, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main(argv: list[str] | None = None) -> int:
    """Write the corpus, measure every stage, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench_token_files",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--files", type=int, default=100_000, help="number of files (%(default)s)")
    parser.add_argument("--tokens", type=float, default=1e12, help="of all files together (%(default)s)")
    parser.add_argument("--mean-document", type=int, default=1000, help="tokens of a document (%(default)s)")
    parser.add_argument("--reader", choices=sorted(DTYPE), default="megatron")
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary folder")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder, n_tokens = Path(name), int(args.tokens / args.files)
        write_corpus(folder / "corpus", args.reader, args.files, n_tokens, args.mean_document)
        config = config_of(folder, args.reader)
        stages = {"prepare": stage_prepare, "prepare 2": stage_prepare, "open": stage_open, "steps": stage_steps}
        print(f"{'stage':<12}{'seconds':>9}{'CPU':>9}{'MB':>8}", flush=True)
        for stage, run in (stages | {"evaluation": stage_evaluation}).items():
            with ProcessPoolExecutor(1, get_context("spawn")) as process:  # so that peaks of memory are apart
                seconds, cpu, megabytes = process.submit(measured, run, config).result()
            print(f"{stage:<12}{seconds:>9.2f}{cpu:>9.2f}{megabytes:>8.0f}", flush=True)
        index = sum(path.stat().st_size for path in (config.folder / "web").iterdir())
        print(f"index: {index / 1e6:.1f} MB, manifest: {(config.folder / 'manifest.json').stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
