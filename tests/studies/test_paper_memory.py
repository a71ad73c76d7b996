"""The paper's studies fit on the GPUs that their sbatch lines ask for: whole nodes of 8 GPUs of 80 GB."""

import re
from functools import cache

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from tests.marks import all_slow_but
from tests.studies.test_paper_studies import STUDIES, VOCABULARIES, one_of_each
from train.compose import CONFIGS
from train.footprint import footprint
from train.peaks import memory_of

H100 = memory_of("NVIDIA H100 80GB HBM3") or 0.0


@cache
def gpus_of(study: str) -> int:
    """Return the GPUs of the launcher that the study's file names."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        [launcher] = re.findall(
            r"hydra/launcher=(\w+)", (CONFIGS.parent / "sweeps/study" / f"{study}.yaml").read_text()
        )
        asked = compose("train", [f"hydra/launcher={launcher}"], return_hydra_config=True).hydra.launcher
    return int(asked.nodes * asked.gpus_per_node)


@pytest.mark.parametrize(
    ("study", "name"),
    all_slow_but([("paper_llm", "1.4b")], ((study, name) for study, (sizes, _) in STUDIES.items() for name in sizes)),
)
def test_a_size_fits_on_the_gpus_that_it_asks_for(study: str, name: str) -> None:
    config, n_gpus = one_of_each(study)[name], gpus_of(study)
    needed = footprint(config, VOCABULARIES[study.split("_")[1]], n_gpus)
    assert needed.total < H100
    assert needed.activations > needed.logits / 2 > 0
    if name in ("7b", "8b"):
        assert config.machine.parallel == "fsdp"
        assert needed.tensors < 30e9  # as its file states
