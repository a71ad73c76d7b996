"""Formats of tokenised corpora that are read in place: Megatron-LM, datatrove, nanotron, OLMo, MosaicML Streaming."""

from data.store.formats.datatrove import DatatroveFile
from data.store.formats.mds import MdsFile
from data.store.formats.megatron import MegatronFile
from data.store.formats.olmo import OlmoFile
from data.store.formats.token_file import FileFacts, FileSettings, TokenFile

FORMATS: dict[str, type[TokenFile]] = {
    "megatron": MegatronFile,
    "datatrove": DatatroveFile,
    "nanotron": DatatroveFile,
    "olmo": OlmoFile,
    "mds": MdsFile,
}

__all__ = ["FORMATS", "FileFacts", "FileSettings", "TokenFile"]
