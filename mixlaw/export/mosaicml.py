"""MosaicML Streaming: `streams` of a configuration of LLM Foundry, the arguments of one `streaming.Stream` each.

`proportion` counts samples, which are sequences of equal length where LLM Foundry has packed them, else documents.
Its callback `curriculum_learning` resumes a checkpoint with another dataset (LLM Foundry,
`llmfoundry/callbacks/curriculum_learning_callback.py`), which leads from one phase to the next.
"""

import yaml

from mixlaw.export.blend import Blend, Domain
from mixlaw.export.format import Format


def write(blend: Blend) -> str:
    """Return YAML with `streams: {domain: {local or remote, proportion}}`."""
    streams = {d.name: _place(d) | {"proportion": d.share} for d in blend.domains}
    return yaml.safe_dump({"streams": streams}, sort_keys=False, allow_unicode=True, width=10_000)


def _place(domain: Domain) -> dict[str, object]:
    return {"remote" if "://" in domain.path else "local": domain.path}


MOSAICML = Format(
    "mosaicml",
    "MosaicML Streaming: Stream(**arguments), train_loader.dataset of LLM Foundry",
    True,
    write,
    next_phase="stop at the end of a phase, and resume from its checkpoint with the file of the next one and LLM "
    "Foundry's callback curriculum_learning, its dataset_index one higher",
)
