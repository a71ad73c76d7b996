"""The formats of `mixlaw export --to`."""

from mixlaw.errors import ConfigError, unknown_name
from mixlaw.export.format import Format
from mixlaw.export.hf import HF
from mixlaw.export.hydra import HYDRA
from mixlaw.export.litdata import LITDATA
from mixlaw.export.megatron import MEGATRON
from mixlaw.export.mosaicml import MOSAICML
from mixlaw.export.nemo import NEMO
from mixlaw.export.olmo_core import OLMO_CORE
from mixlaw.export.webdataset import WEBDATASET

FORMATS = {f.name: f for f in (HYDRA, MEGATRON, OLMO_CORE, NEMO, MOSAICML, LITDATA, HF, WEBDATASET)}


def get_format(name: str) -> Format:
    """Return a format by its name.

    Raises
    ------
    ConfigError
        If it is unknown; suggests the nearest name.
    """
    if name not in FORMATS:
        raise ConfigError(f"--to: {unknown_name('format', name, FORMATS)}")
    return FORMATS[name]
