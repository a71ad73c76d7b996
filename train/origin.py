"""The weights that a run starts from (`init_from`): those of a finished run, or of a Hugging Face folder of a Llama.

Only the weights are taken: the optimizer, the learning rate and the data start anew. The run id contains their hash.
"""

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from data.store.tokens import Manifest
from data.tokenizers import FILE_NAME, load_tokenizer
from mixlaw.errors import ConfigError
from mixlaw.fileio import file_sha256, read_json
from mixlaw.runs.log import digest, read_facts, read_status
from train.config import ModelConfig, TrainConfig
from train.llama import check_llama, weight_files

_NO_SHAPE = ("document_mask", "image_loss_weight", "text_loss_weight")  # settings of the model that may change


@dataclass(frozen=True)
class Origin:
    """Weights that a run starts from, which fit its model and its tokenizer.

    Attributes
    ----------
    path : the run directory or the Hugging Face folder
    sha256 : hash of the weights
    run_id : of a run; empty for a Hugging Face folder
    checkpoint, part : where the weights of a run are; None and empty for a Hugging Face folder
    """

    path: Path
    sha256: str
    run_id: str = ""
    checkpoint: Path | None = None
    part: str = ""

    @property
    def facts(self) -> dict[str, str]:
        """What run.json states about the weights."""
        stated = {"path": str(self.path), "sha256": self.sha256}
        return stated | ({"run_id": self.run_id} if self.run_id else {})


def find_origin(config: TrainConfig, manifest: Manifest, trained: Collection[str]) -> Origin | None:
    """Return the weights that `init_from` names, or None if it is empty.

    Parameters
    ----------
    manifest : of the run's data
    trained : the domains that the run trains on

    Raises
    ------
    ConfigError
        If it names no weights, weights of another model or tokenizer, or of a run that measured its losses on data
        that would be trained on.
    """
    if not config.init_from:
        return None
    path = Path(config.init_from)
    if (path / "config.json").is_file():
        return _of_folder(path, config, manifest)
    found = path if (path / "run.json").exists() else _only_run(path, config.model)
    return _of_run(found, config, manifest, trained)


def _only_run(folder: Path, model: ModelConfig) -> Path:
    """Return the run in a folder of runs that has a model of this shape."""
    runs = sorted(path.parent for path in folder.glob("*/run.json"))
    if not runs:
        raise ConfigError(
            f"init_from: {folder} is neither a run directory, nor a folder of runs, nor a Hugging Face folder with a "
            "config.json"
        )
    alike = [run for run in runs if not _differing(read_facts(run), model)]
    if len(alike) != 1:
        raise ConfigError(
            f"init_from: {len(alike)} of {len(runs)} runs in {folder} have this run's model: name the directory of one"
        )
    return alike[0]


def _differing(facts: Mapping[str, Any], model: ModelConfig) -> dict[str, tuple[Any, Any]]:
    """Return setting of the shape -> (value of a run, value here), where they differ."""
    theirs = dataclasses.asdict(ModelConfig()) | facts["config"]["model"]
    ours = dataclasses.asdict(model)
    return {name: (theirs[name], ours[name]) for name in ours if name not in _NO_SHAPE and theirs[name] != ours[name]}


def _of_run(run: Path, config: TrainConfig, manifest: Manifest, trained: Collection[str]) -> Origin:
    facts, status = read_facts(run), read_status(run)
    if status != "finished":
        raise ConfigError(f"init_from: {run} is {status}, and weights are taken from finished runs only")
    for name, (theirs, ours) in _differing(facts, config.model).items():
        raise ConfigError(f"init_from: {run} has model.{name}={theirs}, and this run model.{name}={ours}")
    known, wanted = facts["tokenizer"], manifest.facts["tokenizer"]
    if known != wanted:
        raise ConfigError(
            f"init_from: {run} was trained with another tokenizer ({_words(known)}; of these data: {_words(wanted)}): "
            "prepare the data with the one of that run"
        )
    _check_held_out(run, facts, manifest, trained)
    checkpoint = run / "checkpoints" / f"step-{int(read_json(run / 'done.json')['step']):08d}"
    if not (checkpoint / "manifest.json").exists():
        raise ConfigError(f"init_from: {checkpoint}, the last checkpoint of the run, is missing: copy the run again")
    entries = read_json(checkpoint / "manifest.json")
    part = "average" if facts["config"]["evaluation"].get("average", 0.0) else "model"  # what was evaluated
    hashes = {n: e["sha256"] for n, e in entries.items() if n == f"{part}.safetensors" or n.startswith(f"{part}/")}
    return Origin(run, digest(hashes), facts["run_id"], checkpoint, part)


def _words(tokenizer: Mapping[str, Any]) -> str:
    return f"{tokenizer.get('kind')}, {tokenizer.get('vocab_size')} symbols, sha256 {tokenizer.get('sha256', '')!s:.8}"


def _check_held_out(run: Path, facts: Mapping[str, Any], manifest: Manifest, trained: Collection[str]) -> None:
    """Refuse training on what the first run held out: its losses before and after would not compare."""
    held_out = {name: pool["sha256"] for name, pool in facts["data"].items() if name not in facts["mixture"]}
    for domain in trained:
        if domain in held_out or manifest.domain_sha256(domain) in held_out.values():
            raise ConfigError(
                f"init_from: '{domain}' would be trained on, and {run} measured its losses there, as a target that no "
                "run trains on: take other data, or give it no weight"
            )


def _of_folder(folder: Path, config: TrainConfig, manifest: Manifest) -> Origin:
    if config.model.family != "text":
        raise ConfigError(
            f"init_from: {folder} is a Hugging Face folder, from which models of text start; model.family is "
            f"{config.model.family}: name the run directory instead"
        )
    files = weight_files(folder)
    if not files:
        raise ConfigError(f"init_from: {folder} holds no *.safetensors: save the model in that format")
    check_llama(folder, config.model, manifest.vocab_size)
    _check_tokenizer(folder, manifest)
    return Origin(folder, digest({path.name: _sha256(path, path.stat().st_mtime_ns) for path in files}))


@lru_cache(maxsize=64)
def _sha256(path: Path, changed_ns: int) -> str:
    """Return the hash of a file, read once for all runs of a study."""
    return file_sha256(path)


def _check_tokenizer(folder: Path, manifest: Manifest) -> None:
    """Check that a Hugging Face folder has the tokenizer of the data; that of files of tokens is not known."""
    facts, path = manifest.facts["tokenizer"], folder / FILE_NAME
    if facts["kind"] == "given":
        return
    if not path.is_file():
        raise ConfigError(f"init_from: {path} is missing, so its tokens may be others than those of these data")
    from tokenizers import Tokenizer

    ours = load_tokenizer(manifest.folder, facts).to_transformers().backend_tokenizer
    try:
        theirs = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 the library raises nothing more specific
        raise ConfigError(f"init_from: {path} cannot be read: {error!s:.200}") from None
    if ours.get_vocab(with_added_tokens=True) != theirs.get_vocab(with_added_tokens=True):
        raise ConfigError(
            f"init_from: {path} has other symbols than the tokenizer of these data ({_words(facts)}): prepare the data "
            f"with data.tokenizer.kind=pretrained data.tokenizer.path={folder}"
        )
