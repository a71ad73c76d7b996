"""python -m scripts.bench_stream [--repeats 5] [--json FILE]: our weighted stream compared with two others.

All run in one process on the same files, which are in the page cache, and take turns; the best time of each counts.

    samples  raw samples/s (13 kB of image, a caption) of 3 domains from tar: the exact order and random access, against
             webdataset's RandomMix over the shards in their order, nothing decoded, which reads forward only
    windows  batches of 256 windows of 256 tokens, 7 domains, as int64 tensors: WeightedStream, against
             datasets.interleave_datasets over the same windows in memory-mapped arrow files, in batches too, as
             datasets ("mapped") and as streams ("streamed")
    error    worst relative error of a domain's weight after 20,000 samples, median over 100 mixtures of 7 domains
             (Dirichlet(1), no weight below 0.02), from the chosen domains
    resume   seconds from start to the first batch at a sequence (step x 256), including the manifest
    step     microseconds for one batch of 256 x 1,024 tokens: the cost per training step without a reading process
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import webdataset as wds
from numpy.typing import NDArray

from data.readers.webdataset import TarShards
from data.store.tokens import SPLITS, Manifest, open_manifest, token_dtype, write_manifest, write_split
from data.stream.items import Layout
from data.stream.loader import WeightedStream
from data.stream.order import GlobalOrder
from mixlaw.fileio import write_atomically

N_SAMPLES, N_DOMAINS_TAR, N_SHARDS, IMAGE_BYTES = 6000, 3, 4, 13_000
N_DOMAINS, TOKENS, SEQ_LEN, BATCH = 7, 4_000_000, 256, 256
N_BATCHES = {"ours": 400, "mapped": 80, "streamed": 8}
N_CHOICES, N_MIXTURES, FLOOR = 20_000, 100, 0.02
VOCAB = 50_000
Floats = NDArray[np.float64]


def best_rates(sides: dict[str, Callable[[], int]], n_repeats: int) -> dict[str, float]:
    """Return the best rate per second of each side; they take turns, so that both meet the same load."""
    rates = dict.fromkeys(sides, 0.0)
    for _ in range(n_repeats):
        for name, run in sides.items():
            begin = time.perf_counter()
            n = run()
            rates[name] = max(rates[name], n / (time.perf_counter() - begin))
    return rates


def write_tars(folder: Path) -> list[list[Path]]:
    """Write the shards of each domain."""
    n_each, rng = N_SAMPLES // N_DOMAINS_TAR // N_SHARDS, np.random.default_rng(0)
    domains = []
    for d in range(N_DOMAINS_TAR):
        paths = [folder / f"domain{d}-{s:05d}.tar" for s in range(N_SHARDS)]
        for s, path in enumerate(paths):
            with wds.TarWriter(str(path)) as writer:
                for i in range(n_each):
                    caption = f"caption {i} of shard {s}, and a few words about it"
                    writer.write({"__key__": f"{s}_{i:06d}", "jpg": rng.bytes(IMAGE_BYTES), "txt": caption})
        domains.append(paths)
    return domains


def bench_samples(folder: Path, n_repeats: int) -> dict[str, Any]:
    """Return samples per second of both sides, and the seconds that our index takes."""
    domains, weights = write_tars(folder), [0.5, 0.3, 0.2]
    opening = [_seconds(lambda: [TarShards(paths, folder / "indices") for paths in domains]) for _ in range(2)]
    shards = [TarShards(paths, folder / "indices") for paths in domains]
    order = GlobalOrder(["a", "b", "c"], weights, [len(s) for s in shards], BATCH, seed=0)

    def ours() -> int:
        n_steps = N_SAMPLES // BATCH
        draws = order.steps(0, n_steps)
        for domain, item in zip(draws.domain.ravel().tolist(), draws.item.ravel().tolist(), strict=True):
            shards[domain].sample(item)
        return n_steps * BATCH

    def theirs() -> int:
        streams = [wds.WebDataset([str(p) for p in paths], shardshuffle=False, resampled=True) for paths in domains]
        return sum(1 for _ in islice(wds.RandomMix(streams, weights), N_SAMPLES))

    rates = best_rates({"ours": ours, "random_mix": theirs}, n_repeats)
    return rates | {"index_s": opening[0], "index_again_s": opening[1]}


def _seconds(run: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def write_tokens(folder: Path) -> Manifest:
    """Write a prepared folder of random tokens, in documents of 1,000."""
    rng, entries = np.random.default_rng(0), {}
    for d in range(N_DOMAINS):
        documents = list(rng.integers(0, VOCAB, (TOKENS // 1000, 1000)))
        splits = {
            s: write_split(folder / f"d{d}", s, documents if s == "train" else documents[:2], token_dtype(VOCAB))
            for s in SPLITS
        }
        entries[f"d{d}"] = {"role": "train", "splits": splits}
    write_manifest(folder, {"tokenizer": {"vocab_size": VOCAB}, "domains": entries})
    return open_manifest(folder)


def interleaved(manifest: Manifest, weights: Floats, folder: Path) -> dict[str, Any]:
    """Return mixtures of Hugging Face datasets over the same windows, from memory-mapped arrow files."""
    feature = datasets.Features({"tokens": datasets.List(datasets.Value("uint16"), length=SEQ_LEN + 1)})
    parts = []
    for name in manifest.domains:
        stream = WeightedStream(manifest, {name: 1.0}, Layout(SEQ_LEN), BATCH, seed=0)
        rows = np.concatenate([b["tokens"].numpy() for b in stream.batches(0, TOKENS // SEQ_LEN // BATCH)])
        datasets.Dataset.from_dict({"tokens": rows.astype(np.uint16)}, features=feature).save_to_disk(folder / name)
        parts.append(datasets.load_from_disk(folder / name))
    streams = [part.to_iterable_dataset() for part in parts]
    kinds = {"mapped": parts, "streamed": streams}
    mix = partial(datasets.interleave_datasets, probabilities=list(weights), seed=0, stopping_strategy="all_exhausted")
    return {kind: mix(sources).with_format("torch") for kind, sources in kinds.items()}


def bench_windows(manifest: Manifest, folder: Path, n_repeats: int) -> dict[str, float]:
    """Return windows per second of all sides."""
    weights = random_mixtures(1)[0]
    stream = WeightedStream(manifest, dict(zip(manifest.domains, weights, strict=True)), Layout(SEQ_LEN), BATCH, seed=0)
    theirs = interleaved(manifest, weights, folder)

    def read(side: str) -> int:
        batches = stream.batches(0, N_BATCHES[side]) if side == "ours" else theirs[side].iter(batch_size=BATCH)
        return sum(len(b["tokens"]) for b in islice(batches, N_BATCHES[side]))

    return best_rates({side: partial(read, side) for side in N_BATCHES}, n_repeats)


def random_mixtures(n: int) -> Floats:
    """Return mixtures (n, 7), no weight below the floor."""
    shares = np.random.default_rng(1).dirichlet(np.ones(N_DOMAINS), n)
    return FLOOR + (1 - N_DOMAINS * FLOOR) * shares


def choices_ours(weights: Floats) -> NDArray[np.int64]:
    """Return the domains of our first samples, in whole steps, because the order within a step is shuffled."""
    batch = N_CHOICES // 100
    order = GlobalOrder([str(i) for i in range(N_DOMAINS)], list(weights), [10**6] * N_DOMAINS, batch, seed=0)
    return order.steps(0, N_CHOICES // batch).domain.ravel()


def choices_random_mix(weights: Floats) -> NDArray[np.int64]:
    """Return the domains that webdataset chooses."""
    mix = wds.RandomMix([repeat(i) for i in range(N_DOMAINS)], list(weights))
    return np.fromiter(islice(mix, N_CHOICES), np.int64)


def choices_interleaved(weights: Floats) -> NDArray[np.int64]:
    """Return the domains that Hugging Face datasets chooses; every mixture has a seed of its own."""
    parts = [datasets.Dataset.from_dict({"domain": np.full(N_CHOICES, i)}) for i in range(N_DOMAINS)]
    seed = int(weights[0] * 2**32)
    mixed = datasets.interleave_datasets(parts, list(weights), seed=seed, stopping_strategy="first_exhausted")
    return np.array(mixed[:N_CHOICES]["domain"])


def bench_errors() -> dict[str, float]:
    """Return the median over mixtures of the worst domain's relative error."""
    sides = {"ours": choices_ours, "random_mix": choices_random_mix, "interleave": choices_interleaved}
    errors: dict[str, list[float]] = {name: [] for name in sides}
    for weights in random_mixtures(N_MIXTURES):
        for name, choose in sides.items():
            realised = np.bincount(choose(weights), minlength=N_DOMAINS) / N_CHOICES
            errors[name].append(float(np.max(np.abs(realised / weights - 1))))
    return {name: float(np.median(found)) for name, found in errors.items()}


def bench_resume(folder: Path, n_repeats: int) -> dict[str, float]:
    """Return the seconds from start to the first batch, by the sequence where the run resumes."""

    def first_batch(sequence: int) -> int:
        manifest = open_manifest(folder)
        weights = dict.fromkeys(manifest.domains, 1 / N_DOMAINS)
        step = sequence // BATCH
        return len(list(WeightedStream(manifest, weights, Layout(SEQ_LEN), BATCH, seed=0).batches(step, step + 1)))

    places = {"0": 0, "1e6": 10**6, "1e9": 10**9}
    sides: dict[str, Callable[[], int]] = {name: partial(first_batch, at) for name, at in places.items()}
    return {name: 1 / rate for name, rate in best_rates(sides, n_repeats).items()}


def bench_step(manifest: Manifest, n_repeats: int) -> float:
    """Return microseconds for a batch of 256 x 1,024 tokens."""
    stream = WeightedStream(manifest, dict.fromkeys(manifest.domains, 1 / N_DOMAINS), Layout(1024), 256, seed=0)

    def batches() -> int:
        return sum(1 for _ in stream.batches(0, 64))

    return 1e6 / best_rates({"ours": batches}, n_repeats)["ours"]


def lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield the table."""
    yield f"{'':<34}{'ours':>12}{'theirs':>12}{'ratio':>8}"
    for what, side in (("samples", "random_mix"), ("windows", "mapped"), ("windows", "streamed")):
        ours, theirs = found[what]["ours"], found[what][side]
        yield f"{what + '/s, ' + side:<34}{ours:>12,.0f}{theirs:>12,.0f}{ours / theirs:>8.1f}"
    for side in ("random_mix", "interleave"):
        ours, theirs = 100 * found["error"]["ours"], 100 * found["error"][side]
        yield f"{'weight error [%], ' + side:<34}{ours:>12.3f}{theirs:>12.3f}{theirs / ours:>8.1f}"
    for place, seconds in found["resume"].items():
        yield f"{f'first batch at {place} [ms]':<34}{1e3 * seconds:>12.1f}"
    yield f"{'batch of 256 x 1,024 tokens [us]':<34}{found['step_us']:>12,.0f}"
    yield f"{'index of the shards [ms]':<34}{1e3 * found['samples']['index_s']:>12.1f}"
    yield f"{'the same, kept [ms]':<34}{1e3 * found['samples']['index_again_s']:>12.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    args = parser.parse_args()
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found: dict[str, Any] = {"samples": bench_samples(folder, args.repeats)}
        manifest = write_tokens(folder / "tokens")
        found["windows"] = bench_windows(manifest, folder / "arrow", args.repeats)
        found["error"] = bench_errors()
        found["resume"] = bench_resume(folder / "tokens", args.repeats)
        found["step_us"] = bench_step(manifest, args.repeats)
    print("\n".join(lines(found)))
    if args.json:
        write_atomically(args.json, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
