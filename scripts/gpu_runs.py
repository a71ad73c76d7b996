"""Models and data of scripts.check_gpu: shapes, runs on random tokens, random batches of every family."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.store.tokens import SPLITS, open_manifest, token_dtype, write_manifest, write_split
from train.compose import compose_config
from train.config import TrainConfig
from train.footprint import inputs_like
from train.loop import run
from train.models.build import count_of
from train.models.count import flops_per_token
from train.plan import Plan, make_plan

VOCAB, FEW_SYMBOLS, END_ID = 50_432, 1024, 0


@dataclass(frozen=True)
class Shape:
    """A model, its batch, and the number of counted steps after those that compile."""

    width: int
    depth: int
    head_dim: int
    seq_len: int
    batch_size: int
    micro_batch: int
    n_steps: int = 20
    n_skipped: int = 6
    vocab_size: int = VOCAB

    @property
    def tokens_per_step(self) -> int:
        return self.seq_len * self.batch_size


SHAPES = {
    "1B": Shape(1792, 22, 128, 2048, 32, 8, n_steps=14, n_skipped=4),
    "350M": Shape(1024, 20, 64, 2048, 64, 16, n_steps=16),
    "125M": Shape(640, 12, 64, 2048, 64, 16, n_steps=30),
    "10M": Shape(384, 5, 64, 256, 64, 64, n_steps=200, n_skipped=60, vocab_size=FEW_SYMBOLS),
}
SMOKE = dict.fromkeys(SHAPES, Shape(32, 1, 16, 16, 4, 2, n_steps=12, n_skipped=3, vocab_size=FEW_SYMBOLS))


class Enough(Exception):
    """Raised to stop a run when its measurement is complete."""


@dataclass(frozen=True)
class Bench:
    """The device, and whether shapes are full or tiny."""

    folder: Path
    smoke: bool

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def shape(self, name: str) -> Shape:
        """Return the shape of that name."""
        return (SMOKE if self.smoke else SHAPES)[name]

    def plan(self, shape: Shape, *more: str) -> Plan:
        """Return a run of ours on random tokens, in bf16, compiled on a GPU; `more` are its overrides."""
        on_gpu = torch.cuda.is_available()
        config = compose_config(
            [
                f"model.width={shape.width}",
                f"model.depth={shape.depth}",
                f"model.head_dim={shape.head_dim}",
                "model.qk_norm=false",
                f"stream.seq_len={shape.seq_len}",
                f"stream.batch_size={shape.batch_size}",
                f"schedule.n_tokens={shape.n_steps * shape.tokens_per_step}",
                "schedule.warmup_tokens=0",
                "evaluation.n_points=1",
                "evaluation.n_sequences=1",
                "checkpoint.every_steps=1000000",
                "stream.max_epochs=1e9",
                "mixture.weights={noise:1}",
                "optim.lr=1e-4",
                "machine.workers=2",
                "precision=bf16",
                f"machine.runs={self.folder / 'runs'}",
                f"machine.micro_batch={shape.micro_batch}",
                f"machine.compile={str(on_gpu).lower()}",
                *more,
            ]
        )
        return make_plan(config, open_manifest(self.folder / f"tokens-{shape.vocab_size}"))

    def write_data(self) -> None:
        """Write prepared folders of random tokens."""
        for vocab_size in (VOCAB, FEW_SYMBOLS):
            write_tokens(self.folder / f"tokens-{vocab_size}", vocab_size, 100_000 if self.smoke else 20_000_000)


def write_tokens(folder: Path, vocab_size: int, n_tokens: int) -> None:
    """Write a prepared folder of random tokens."""
    tokens = np.random.default_rng(0).integers(1, vocab_size, n_tokens, dtype=np.uint16)
    parts = {"train": tokens, "eval": tokens[: n_tokens // 20], "test": tokens[:10_000]}
    splits = {s: write_split(folder / "noise", s, [parts[s]], token_dtype(vocab_size)) for s in SPLITS}
    tokenizer = {"kind": "bytes", "vocab_size": vocab_size, "end_id": END_ID, "sha256": "0" * 64}
    domains = {"noise": {"role": "train", "splits": splits}}
    write_manifest(folder, {"format": 1, "tokenizer": tokenizer, "domains": domains})


def run_until(plan: Plan, n_steps: int, see: Callable[[int, float], None]) -> None:
    """Train for some steps without evaluating or saving; `see` is called with each step, from 1, and its loss."""
    seen = iter(range(1, n_steps + 1))

    def progress(n_tokens: int, loss: float) -> None:
        step = next(seen)
        see(step, loss)
        if step == n_steps:
            raise Enough

    try:
        run(plan, progress)
    except Enough:
        pass


def model_facts(plan: Plan) -> dict[str, Any]:
    """Return the parameters and the FLOPs per token of a run's model."""
    config = plan.config
    counts = count_of(config.model, plan.manifest.vocab_size, config.layout())
    return {
        "n_params": counts["total"],
        "palm": flops_per_token(config.model, counts, config.stream.seq_len)["palm"],
    }


FAMILIES = {
    "text": ["model=text_492k", "model.document_mask=true"],
    "multimodal": ["model=multimodal_497k", "model.image_size=64", "model.patch_size=8", "data=multimodal"],
    "vision": [
        "model=vision_723k",
        "model.decoder_depth=1",
        "model.image_size=64",
        "model.patch_size=8",
        "data=vision",
    ],
}


def family_config(family: str, smoke: bool, *more: str) -> TrainConfig:
    """Return a small run of a family, at sizes for which FlexAttention is used on a GPU."""
    width, depth, head_dim, batch = (32, 1, 16, 2) if smoke else (512, 4, 64, 16)
    return compose_config(
        [
            *FAMILIES[family],
            f"model.width={width}",
            f"model.depth={depth}",
            f"model.head_dim={head_dim}",
            f"stream.seq_len={128 if smoke else 256}",
            f"stream.batch_size={batch}",
            "precision=bf16",
            "data.root=/none",
            *more,
        ]
    )


def random_batch(config: TrainConfig, n: int, vocab_size: int, seed: int = 0) -> dict[str, Tensor]:
    """Return a batch as the family reads it: two documents in a sequence, the first begins with an image."""
    generator, layout = torch.Generator().manual_seed(seed), config.layout()
    batch = inputs_like(layout, n)
    for name, zeros in batch.items():
        high = {"images": 256, "prefix": max(layout.n_patches - 1, 2)}.get(name, vocab_size)
        drawn = torch.randint(1, high, zeros.shape, generator=generator)
        batch[name] = drawn.to(zeros.dtype)
    if layout.family == "multimodal":
        places = torch.arange(layout.seq_len)
        batch["document"] = (places >= layout.seq_len // 2).long().repeat(n, 1)
        batch["patch"] = places.where(places < layout.n_patches, -1).repeat(n, 1)
    if layout.family == "text":
        batch["tokens"][:, layout.seq_len // 2] = END_ID
    return batch
