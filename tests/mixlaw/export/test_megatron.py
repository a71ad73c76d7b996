"""Megatron-core blends indexed datasets as the exported files of Megatron-LM and NeMo say."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from mixlaw import Mixture, export_mixture

pytest.importorskip("megatron.core", reason="make trainers installs it")
from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder
from megatron.core.datasets.utils import get_blend_from_list
from megatron.core.tokenizers.text.libraries.null_tokenizer import NullTokenizer

MIXTURE = Mixture.of({"code": 0.554, "docs": 0.298, "wiki": 0.148})
DOCUMENT = {"code": 400, "docs": 90, "wiki": 7}  # tokens of every document
SEQUENCE, SEQUENCES = 32, 2000
IDS = {name: i + 1 for i, name in enumerate(MIXTURE)}


def write_domains(folder: Path) -> dict[str, str]:
    """Write indexed datasets in which every token is the domain's number; return their prefixes."""
    for name, length in DOCUMENT.items():
        builder = IndexedDatasetBuilder(str(folder / f"{name}.bin"), dtype=np.int32)
        for _ in range(20_000 // length):
            builder.add_document(np.full(length, IDS[name], np.int32), [length])
        builder.finalize(str(folder / f"{name}.idx"))
    return {name: str(folder / name) for name in MIXTURE}


def token_counts(blend: tuple[list[str], list[float] | None]) -> Counter[int]:
    """Return the tokens of every domain in the sequences that Megatron reads."""
    config = GPTDatasetConfig(
        random_seed=1,
        sequence_length=SEQUENCE,
        blend=blend,
        split="1,0,0",
        tokenizer=NullTokenizer(len(IDS) + 1),
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
    )
    train, _, _ = BlendedMegatronDatasetBuilder(GPTDataset, [SEQUENCES, 0, 0], lambda: True, config).build()
    return Counter(token for i in range(SEQUENCES) for token in train[i]["tokens"].tolist())


@pytest.mark.parametrize("to", ["megatron", "nemo"])
def test_token_shares_are_within_a_sequence(to: str, tmp_path: Path) -> None:
    made = export_mixture(MIXTURE, to, paths=write_domains(tmp_path))
    made.save(tmp_path / "blend")
    text = (tmp_path / "blend").read_text()
    listed = text.split() if to == "megatron" else yaml.safe_load(text)["paths"]
    counts = token_counts(get_blend_from_list(listed))
    for name, weight in MIXTURE.items():
        assert abs(counts[IDS[name]] - weight * SEQUENCES * SEQUENCE) <= SEQUENCE


@pytest.mark.parametrize("to", ["megatron", "nemo"])
def test_a_single_domain_and_zero_weights_are_blends(to: str) -> None:
    text = str(export_mixture({"a": 1.0, "b": 0.0}, to))
    listed = text.split() if to == "megatron" else yaml.safe_load(text)["paths"]
    assert get_blend_from_list(listed) == (["a"], [1.0])
