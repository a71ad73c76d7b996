"""python -m scripts.bench_trainer [--json FILE]: tokens/s of our trainer and transformers.Trainer on one CPU thread.

Both train the same Llama architecture (about one million parameters) on the same token windows in batches of the same
size, fp32, fused AdamW, gradients clipped, without evaluation, logging and saving; ours is `train.loop.run`. Sides take
turns; the first steps of each turn are not counted. Seconds are CPU time of one thread, so that other load on the
machine matters less. "compiled": both use torch.compile; "passes of 512": both accumulate a batch over micro-batches of
512 tokens, which stay in a core's cache.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch

from data.store.tokens import SPLITS, Manifest, open_manifest, token_dtype, write_manifest, write_split
from data.stream.items import Layout
from train.compose import compose_config
from train.loop import run
from train.models.build import build_model
from train.models.count import count_parameters
from train.models.layers import ffn_width
from train.plan import Plan, make_plan

VOCAB = 256


@dataclass(frozen=True)
class Case:
    """The model and batch that both sides train."""

    width: int = 128
    depth: int = 5
    head_dim: int = 32
    seq_len: int = 128
    batch_size: int = 16
    n_steps: int = 40
    n_skipped: int = 8  # at the beginning of each turn

    @property
    def tokens_per_step(self) -> int:
        return self.seq_len * self.batch_size


@dataclass(frozen=True)
class Setting:
    """Compilation and accumulation, the same on both sides."""

    name: str
    compile: bool = False
    micro_batch: int = 0

    def passes(self, case: Case) -> int:
        """Return how many forward passes a step takes."""
        return case.batch_size // (self.micro_batch or case.batch_size)


def write_tokens(folder: Path, case: Case, seed: int = 0) -> Manifest:
    """Write a prepared folder with one domain of random tokens, enough for one epoch."""
    n_tokens = case.n_steps * case.tokens_per_step * 2
    tokens = np.random.default_rng(seed).integers(0, VOCAB, n_tokens)
    splits = {s: write_split(folder / "noise", s, [tokens], token_dtype(VOCAB)) for s in SPLITS}
    tokenizer = {"kind": "bytes", "vocab_size": VOCAB, "end_id": 0, "sha256": "0" * 64}
    write_manifest(
        folder, {"format": 1, "tokenizer": tokenizer, "domains": {"noise": {"role": "train", "splits": splits}}}
    )
    return open_manifest(folder)


def our_plan(manifest: Manifest, case: Case, setting: Setting, runs: Path) -> Plan:
    """Return the run of a case; its only evaluation, of one sequence, is after the measured steps."""
    config = compose_config(
        [
            f"model.width={case.width}",
            f"model.depth={case.depth}",
            f"model.head_dim={case.head_dim}",
            "model.qk_norm=false",
            f"stream.seq_len={case.seq_len}",
            f"stream.batch_size={case.batch_size}",
            f"schedule.n_tokens={case.n_steps * case.tokens_per_step}",
            "schedule.warmup_tokens=0",
            "evaluation.n_points=1",
            "evaluation.n_sequences=1",
            "checkpoint.every_steps=1000000",
            "logging.every_steps=1000000",
            "machine.device=cpu",
            f"machine.runs={runs}",
            "mixture.weights={noise:1}",
            f"machine.compile={str(setting.compile).lower()}",
            f"machine.micro_batch={setting.micro_batch}",
        ]
    )
    return make_plan(config, manifest)


def ours(manifest: Manifest, case: Case, setting: Setting) -> float:
    """Return tokens/s of a run of ours."""
    times: list[float] = []
    with tempfile.TemporaryDirectory() as runs:
        plan = our_plan(manifest, case, setting, Path(runs))
        run(plan, lambda n_tokens, loss: times.append(time.process_time()))
    return rate(times, case)


def rate(times: list[float], case: Case) -> float:
    """Return tokens/s from the CPU times at which steps ended."""
    counted = times[case.n_skipped :]
    return case.tokens_per_step * (len(counted) - 1) / (counted[-1] - counted[0])


class Windows(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """The windows of the prepared folder, in the format of transformers.Trainer."""

    def __init__(self, manifest: Manifest, case: Case) -> None:
        file = manifest.folder / "noise" / "train-00000.tokens"
        self._tokens = np.memmap(file, dtype=token_dtype(VOCAB), mode="r")
        self._seq_len, self._n = case.seq_len, case.n_steps * case.batch_size

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, item: int) -> dict[str, torch.Tensor]:
        start = item * self._seq_len
        window = torch.from_numpy(self._tokens[start : start + self._seq_len].astype(np.int64))
        return {"input_ids": window, "labels": window}


def theirs(manifest: Manifest, case: Case, setting: Setting) -> float:
    """Return tokens/s of transformers.Trainer."""
    from transformers import LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments
    from transformers.trainer_callback import PrinterCallback

    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *ignored: Any, **more: Any) -> None:
            times.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=case.batch_size // setting.passes(case),
            gradient_accumulation_steps=setting.passes(case),
            max_steps=case.n_steps,
            learning_rate=1e-3,
            lr_scheduler_type="constant",
            optim="adamw_torch_fused",
            torch_compile=setting.compile,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            save_strategy="no",
            logging_strategy="no",
        )
        model = LlamaForCausalLM(llama_config(case))
        trainer = Trainer(model, arguments, train_dataset=Windows(manifest, case), callbacks=[Clock()])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return rate(times, case)


def llama_config(case: Case) -> Any:
    """Return the same architecture as a configuration of transformers."""
    from transformers import LlamaConfig

    heads = case.width // case.head_dim
    model = compose_config([f"model.width={case.width}"]).model
    return LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=case.width,
        intermediate_size=ffn_width(model),
        num_hidden_layers=case.depth,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=case.seq_len,
        tie_word_embeddings=False,
        attn_implementation="sdpa",
    )


def compare(manifest: Manifest, case: Case, setting: Setting, n_turns: int) -> dict[str, Any]:
    """Return the median tokens/s of both sides over some turns."""
    sides: dict[str, Callable[..., float]] = {"ours": ours, "theirs": theirs}
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(n_turns):
        for name, side in sides.items():
            rates[name].append(side(manifest, case, setting))
            sys.stderr.write(f"{setting.name}, turn {turn + 1}: {name} {rates[name][-1]:,.0f} tokens/s\n")
    medians = {name: statistics.median(found) for name, found in rates.items()}
    return {"setting": setting.name, **medians, "ratio": medians["ours"] / medians["theirs"]}


def main(argv: list[str] | None = None) -> int:
    """Compare, print a table, and write it to --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="also with torch.compile (needs a C++ compiler)")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--seq-len", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    import transformers

    transformers.utils.logging.set_verbosity_error()
    case = Case(width=options.width, seq_len=options.seq_len, batch_size=options.batch_size)
    settings = [
        Setting("as they are"),
        Setting("passes of 512", micro_batch=min(max(512 // case.seq_len, 1), case.batch_size)),
    ]
    settings += [Setting("compiled", compile=True)] if options.compile else []
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_tokens(Path(folder) / "tokens", case)
        rows = [compare(manifest, case, setting, options.turns) for setting in settings]
    size = count_parameters(build_model(our_model(case), VOCAB, Layout(case.seq_len), 0))["total"]
    print(f"{size:,} parameters, batches of {case.batch_size} x {case.seq_len} tokens, fp32, one CPU thread")
    print(f"{'':<16}{'ours':>10}{'transformers':>14}{'ratio':>8}   tokens/CPU s, median of {options.turns} turns")
    for row in rows:
        print(f"{row['setting']:<16}{row['ours']:>10,.0f}{row['theirs']:>14,.0f}{row['ratio']:>8.2f}")
    if options.json:
        facts = {"date": str(date.today()), "torch": torch.__version__, "transformers": transformers.__version__}
        options.json.write_text(json.dumps(facts | {"n_params": size, "rows": rows}, indent=1) + "\n")
    return 0


def our_model(case: Case) -> Any:
    """Return our model's configuration of a case."""
    shape = [f"model.width={case.width}", f"model.depth={case.depth}", f"model.head_dim={case.head_dim}"]
    return compose_config([*shape, "model.qk_norm=false"]).model


if __name__ == "__main__":
    sys.exit(main())
