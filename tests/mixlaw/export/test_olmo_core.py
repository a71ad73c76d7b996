"""OLMo-core builds the exported mixture."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mixlaw import Mixture, export_mixture

pytest.importorskip("olmo_core", reason="make trainers installs it")
from olmo_core.data.numpy_dataset import NumpyFSLDatasetMixture
from olmo_core.data.source_mixture import SourceMixtureDatasetConfig, SourceMixtureList
from olmo_core.exceptions import OLMoConfigurationError

MIXTURE = Mixture.of({"code": 0.5, "docs": 0.35, "wiki": 0.15})
AVAILABLE = {"code": 64_000, "docs": 64_000, "wiki": 4_800}  # wiki is read 2.5 times
TOKENS, SEQUENCE, BATCH = 80_000, 16, 1600
END = 9
IDS = {name: i + 1 for i, name in enumerate(MIXTURE)}


def write_domains(folder: Path) -> dict[str, str]:
    """Write two files per domain, of documents that repeat its number until their end; return their patterns."""
    for name, tokens in AVAILABLE.items():
        documents = np.full((tokens // 2 // SEQUENCE, SEQUENCE), IDS[name], np.uint16)
        documents[:, -1] = END
        for part in range(2):
            documents.tofile(folder / f"{name}-{part}.npy")
    return {name: str(folder / f"{name}-*.npy") for name in MIXTURE}


def config(folder: Path, **options: object) -> SourceMixtureDatasetConfig:
    """Return the data set of the exported file."""
    export_mixture(MIXTURE, "olmo-core", paths=write_domains(folder), **options).save(folder / "mix.yaml")
    sources = SourceMixtureList.from_yaml(folder / "mix.yaml")
    return SourceMixtureDatasetConfig(sources, TOKENS, BATCH, render_tables=False, quiet=True)


def test_token_shares_are_within_a_sequence_per_file(tmp_path: Path) -> None:
    mixture = config(tmp_path, n_tokens=TOKENS, available=AVAILABLE).build(npdtype=np.uint16, sequence_length=SEQUENCE)
    data = NumpyFSLDatasetMixture(
        *mixture.to_paths(),
        path_offset_index=mixture.to_index(),
        seed=1,
        sequence_length=SEQUENCE,
        pad_token_id=0,
        eos_token_id=END,
        vocab_size=END + 1,
    )
    data.work_dir = tmp_path / "work"
    data.prepare()
    counts = Counter(data[i]["input_ids"][0].item() for i in range(len(data)))
    assert counts.total() * SEQUENCE == TOKENS
    for name, weight in MIXTURE.items():
        files = 2 * np.ceil(weight * TOKENS / AVAILABLE[name])  # each pass over a file is rounded
        assert abs(counts[IDS[name]] - weight * TOKENS / SEQUENCE) <= files


def test_without_known_tokens_a_second_pass_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OLMoConfigurationError, match="Insufficient tokens for source: wiki"):
        config(tmp_path).build(npdtype=np.uint16, sequence_length=SEQUENCE)
