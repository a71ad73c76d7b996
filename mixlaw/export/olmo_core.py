"""OLMo-core: `SourceMixtureList`, the `source_list` of `SourceMixtureDatasetConfig`.

`target_ratio` counts tokens. A source may be repeated `max_repetition_ratio` times; OLMo-core's default is 1.
"""

import math
from typing import Any

import yaml

from mixlaw.export.blend import Blend, Domain
from mixlaw.export.format import Format


def write(blend: Blend) -> str:
    """Return YAML for `SourceMixtureList.from_yaml`."""
    return yaml.safe_dump(
        {"sources": [_source(d) for d in blend.domains]}, sort_keys=False, allow_unicode=True, width=10_000
    )


def _source(domain: Domain) -> dict[str, Any]:
    facts = {"source_name": domain.name, "target_ratio": domain.weight, "paths": [domain.path]}
    if domain.epochs is None:
        return facts
    return facts | {"max_repetition_ratio": max(1.0, math.ceil(domain.epochs * 100) / 100)}


OLMO_CORE = Format("olmo-core", "OLMo-core: SourceMixtureList.from_yaml(FILE), with requested_tokens = D", False, write)
