"""python -m scripts.bench_prepare [--mb 40] [--processes 1 2] [--folder DIR]: preparing text, side by side

The same JSON lines and the same tokenizer (byte-level BPE, learned on them) for all sides; every side removes exact
duplicates and writes token ids:

    mixlaw        python -m data.prepare, with gigatoken where it is installed
    mixlaw-plain  the same without gigatoken: `tokenizers` encodes, as on the other sides
    datatrove     JsonlReader, ExactDedupSignature, ExactFindDedups, ExactDedupFilter, DocumentTokenizer
    datasets      load_dataset, filter by a set of hashes, map(num_proc), save_to_disk

Each side runs in a process of its own: seconds, CPU seconds of it and its children, and MB of text per CPU second.
The texts are those of the quick start, shuffled; every 20th is written twice. Needs the extra `fast`, and
`pip install "datatrove[io,processing]"`.
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from data.config import DataConfig, SourceConfig, TokenizerConfig
from data.preparation.corpus import clean
from data.preparation.sizes import Sizes
from data.preparation.sources import all_sources, documents, locate
from data.prepare import compose_config, prepare
from data.readers.budget import BadDocuments
from data.tokenizers import BPE_END, train_bpe

VOCAB, FILES, TWICE = 32_000, 8, 20
BATCH = 1000  # documents
POLL_S = 0.1


def write_corpus(folder: Path, mb: float) -> int:
    """Write JSON lines and a tokenizer; return the bytes of text."""
    config, texts = compose_config([]), list[str]()
    for where, _, source in all_sources(config):
        files = locate(source, where, config.root_folder / "downloads", print)
        texts += (clean(str(text)) for text in documents(source, files, BadDocuments(1000)))
    random.Random(0).shuffle(texts)
    chosen = list(_until(texts, mb * 1e6))
    written = chosen + chosen[::TWICE]
    (folder / "texts").mkdir(parents=True)
    for i in range(FILES):
        rows = (json.dumps({"text": text, "id": str(n)}) + "\n" for n, text in enumerate(written[i::FILES]))
        (folder / "texts" / f"{i}.jsonl").write_text("".join(rows))
    tokenizer = train_bpe(chosen[:: max(len(chosen) // 20_000, 1)], VOCAB)
    tokenizer.to_transformers().save_pretrained(folder / "tokenizer")
    return sum(len(text.encode()) for text in written)


def _until(texts: list[str], n_bytes: float) -> Iterator[str]:
    for text in texts:
        if n_bytes <= 0:
            return
        n_bytes -= len(text.encode())
        yield text


def mixlaw(folder: Path, out: Path, n: int) -> None:
    """Prepare with data.prepare."""
    texts = {"texts": SourceConfig("jsonl", path=str(folder / "texts"))}
    tokenizer = TokenizerConfig("pretrained", path=str(folder / "tokenizer"))
    config = DataConfig("bench", str(out), texts, tokenizer=tokenizer, min_chars=1)
    prepare(config, workers=n, sizes=Sizes(part=4 << 20, bucket=8 << 20, small=0))


def mixlaw_plain(folder: Path, out: Path, n: int) -> None:
    """Prepare with data.prepare as if gigatoken were not installed."""
    hidden = out / "hidden"
    hidden.mkdir()
    (hidden / "gigatoken.py").write_text("raise ImportError('left out for a comparison')\n")
    sys.path.insert(0, str(hidden))  # worker processes get the same path
    mixlaw(folder, out, n)


def datatrove(folder: Path, out: Path, n: int) -> None:
    """Deduplicate and tokenise with datatrove."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup.exact_dedup import (
        ExactDedupConfig,
        ExactDedupFilter,
        ExactDedupSignature,
        ExactFindDedups,
    )
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer

    config, names = ExactDedupConfig(content_getter=_text), {"s": str(out / "s"), "d": str(out / "d")}
    read = JsonlReader(str(folder / "texts"))
    tokenizer = str(folder / "tokenizer" / "tokenizer.json")
    steps = [
        ([read, ExactDedupSignature(names["s"], config, finder_workers=n)], FILES),
        ([ExactFindDedups(names["s"], names["d"], config)], n),
        (
            [
                read,
                ExactDedupFilter(names["d"], config),
                DocumentTokenizer(str(out / "tokens"), tokenizer, eos_token=BPE_END),
            ],
            FILES,
        ),
    ]
    for i, (pipeline, tasks) in enumerate(steps):
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=n, logging_dir=str(out / f"log{i}")).run()


def _text(document: Any) -> bytes:
    return str(document.text).encode()


def datasets(folder: Path, out: Path, n: int) -> None:
    """Deduplicate and tokenise with datasets."""
    from datasets import load_dataset
    from transformers import AutoTokenizer

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    tokenizer, seen = AutoTokenizer.from_pretrained(folder / "tokenizer"), set[bytes]()

    def is_new(text: str) -> bool:
        before = len(seen)
        seen.add(hashlib.blake2b(text.encode(), digest_size=16).digest())
        return len(seen) > before

    rows = load_dataset("json", data_dir=str(folder / "texts"), split="train", cache_dir=str(out / "cache"))
    unique = rows.filter(is_new, input_columns="text")
    options = {"batched": True, "batch_size": BATCH, "remove_columns": rows.column_names}
    ids = unique.map(
        lambda batch: {"ids": tokenizer(batch["text"], add_special_tokens=False)["input_ids"]},
        num_proc=n if n > 1 else None,
        **options,
    )
    ids.save_to_disk(str(out / "ids"))


SIDES: dict[str, Callable[[Path, Path, int], None]] = {
    "mixlaw": mixlaw,
    "mixlaw-plain": mixlaw_plain,
    "datatrove": datatrove,
    "datasets": datasets,
}


def measured(side: str, folder: Path, n: int) -> tuple[float, float]:
    """Return seconds and CPU seconds of one side in a new session of processes."""
    with tempfile.TemporaryDirectory(dir=folder) as out, (folder / "log").open("ab") as log:
        command = [sys.executable, "-m", "scripts.bench_prepare", "--side", side, "--folder", str(folder)]
        arguments = ["--out", out, "--processes", str(n)]
        start, cpu = time.monotonic(), dict[str, float]()
        process = subprocess.Popen([*command, *arguments], stdout=log, stderr=log, start_new_session=True)
        while process.poll() is None:
            cpu |= _cpu_seconds(process.pid)
            time.sleep(POLL_S)
        if process.returncode:
            raise SystemExit(f"{side} failed: see {folder / 'log'}")
        return time.monotonic() - start, sum(cpu.values())


def _cpu_seconds(session: int) -> dict[str, float]:
    """Return the CPU seconds of each process of a session: not all sides wait for their children, which counts them."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[3]) == session:
            found[str(path)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


def compare(folder: Path, n_bytes: int, processes: list[int], sides: list[str]) -> None:
    """Print one line per side and number of processes."""
    print(f"{n_bytes / 1e6:.1f} MB of text, {os.cpu_count()} cores")
    print(f"{'side':14}{'processes':>10}{'seconds':>10}{'CPU s':>8}{'MB per CPU s':>14}")
    for n in processes:
        for side in sides:
            seconds, cpu = measured(side, folder, n)
            print(f"{side:14}{n:10}{seconds:10.1f}{cpu:8.1f}{n_bytes / 1e6 / cpu:14.2f}", flush=True)


def main() -> None:
    """Run all sides, or one of them for the process that measures it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=float, default=40, help="text [MB]")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--folder", type=Path, help="for the corpus and all outputs (default: a temporary one)")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        SIDES[args.side](args.folder, args.out, args.processes[0])
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        compare(folder, write_corpus(folder, args.mb), args.processes, args.sides)


if __name__ == "__main__":
    main()
