"""A tiny prepared corpus, and the settings of runs on it that take a second."""

from pathlib import Path

import numpy as np

from data.store.tokens import SPLITS, Manifest, open_manifest, token_dtype, write_manifest, write_split
from train.compose import compose_config

ROLES = {"code": "train", "docs": "train", "dict": "train", "dialogue": "train", "reviews": "target"}
TINY = (
    "model.width=16 model.depth=1 model.head_dim=8 stream.seq_len=16 stream.batch_size=4 schedule.n_tokens=768 "
    "schedule.warmup_tokens=64 evaluation.n_sequences=8 evaluation.n_points=3 checkpoint.every_steps=5 "
    "logging.every_steps=2 machine.device=cpu"
).split()  # 12 steps; evaluated after 7, 9 and 12


def write_corpus(folder: Path, roles: dict[str, str] = ROLES, seed: int = 0, n_tokens: int = 4000) -> Manifest:
    """Write a prepared folder: each domain has its own alphabet, its own size, and several shards."""
    domains = {}
    for i, (name, role) in enumerate(roles.items()):
        rng = np.random.default_rng([seed, i])
        splits = {}
        for split in SPLITS:
            n = n_tokens * (1 + i) if split == "train" else n_tokens // 4
            text = np.array_split(rng.integers(10 * i, 10 * i + 4 * (i + 1), n), 40)
            documents = text if (role, split) != ("target", "train") else []
            splits[split] = write_split(folder / name, split, documents, token_dtype(256), 3000)
        domains[name] = {"role": role, "splits": splits}
    tokenizer = {"kind": "bytes", "vocab_size": 256, "end_id": 0, "sha256": "0" * 64}
    write_manifest(folder, {"format": 1, "tokenizer": tokenizer, "domains": domains})
    return open_manifest(folder)


def image_run(folder: Path, family: str, *more: str) -> list[str]:
    """Return the overrides of a run of some steps on tiny pictures, which are written below the folder first."""
    from tests.data.pictures import SIZE, write_pictures

    data = [f"data={family}", f"data.root={folder}"]
    prepared = compose_config(data).data.folder
    if not prepared.exists():
        write_pictures(prepared, names=("captions", "loud", "other"))
    return [
        *data,
        f"model={family}_{'72k' if family == 'multimodal' else '100k'}",
        "model.width=16",
        "model.depth=1",
        "model.head_dim=8",
        f"model.image_size={SIZE}",
        "model.patch_size=4",
        f"study_name={family}",
        f"stream.seq_len={32 if family == 'multimodal' else 20}",
        "stream.batch_size=4",
        "schedule.n_tokens=900",
        "schedule.warmup_tokens=64",
        "stream.min_crop=0.5",
        "evaluation.n_sequences=8",
        "evaluation.n_points=3",
        "checkpoint.every_steps=3",
        "logging.every_steps=2",
        "machine.device=cpu",
        f"machine.runs={folder / 'runs'}",
        "mixture.weights={captions:0.7,loud:0.3}",
        *more,
    ]
