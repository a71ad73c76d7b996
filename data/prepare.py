"""Fetch, clean, split and tokenise the domains of a configuration into a folder for training.

    python -m data.prepare                                                         # the quick start's domains
    python -m data.prepare data.tokenizer.kind=bpe data.tokenizer.vocab_size=1024  # a learned tokenizer
    python -m data.prepare data=own_files                                  # see configs/data/own_files.yaml

The same command again prepares nothing: the folder is named by a hash of all settings that affect the tokens. The
command reports source files that are new, gone or changed since; --again reads all files anew and replaces the folder.
After a kill or Ctrl-C, the same command continues. `hydra/launcher=slurm` runs the work in jobs of a Slurm cluster:

    python -m data.prepare data=mine hydra/launcher=slurm hydra.launcher.partition=cpu hydra.launcher.max_running=32
Prepared files that were copied from elsewhere are verified once (sha256), so that runs need not do it.
"""

import argparse
import errno
import json
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from tqdm import tqdm

from data.chosen_files import check_chosen_files
from data.config import TASK_READERS, DataConfig, to_dataclass
from data.config_folders import CONFIGS, config_folders
from data.demo_corpora.wheels import Echo
from data.misread import quoted_home
from data.preparation.build import build
from data.preparation.cluster import SlurmOptions
from data.preparation.contamination import contamination_note
from data.preparation.inputs import differences
from data.preparation.sizes import SIZES, Sizes
from data.preparation.sources import all_sources, check_source, has_images
from data.preparation.work_folder import work_path
from data.preparation.workers import n_cores
from data.store.formats import FORMATS
from data.store.tokens import Manifest, open_manifest
from data.store.verified import verify_touched
from data.tokenizers import FILE_NAME, check_tokenizer
from data.yaml_files import check_yaml_files
from mixlaw.console import INTERRUPTED, command, exit_code_of, remark
from mixlaw.errors import ConfigError, DataError, unknown_name

SAFE_NAME = re.compile(r"[A-Za-z0-9_-]+")
LEFT_OUT = {  # reasons for which documents are dropped: counts of the manifest -> columns of the table
    "n_empty": "empty",
    "n_short": "short",
    "n_duplicate": "duplicate",
    "n_in_other_domain": "elsewhere",
    "n_bad": "bad",
    "n_contaminated": "contaminated",
    "n_near_duplicate": "near-duplicate",
}
OPTIONAL = ("n_contaminated", "n_near_duplicate")  # columns of the table if some entry has these counts
MIN_PIXELS, MAX_PIXELS = 4, 2048
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def say(line: str) -> None:
    """Write a progress message to stderr; stdout is for the table."""
    tqdm.write(line, sys.stderr)  # above a progress bar


def prepare(
    config: DataConfig,
    echo: Echo = say,
    again: bool = False,
    workers: int | SlurmOptions = 0,
    sizes: Sizes = SIZES,
) -> Manifest:
    """Return the manifest of the prepared folder; prepare it first if it does not exist.

    Parameters
    ----------
    again : prepare it even if it exists, and replace it
    workers : number of processes, 0 for one per core; or resources of jobs on a Slurm cluster
    sizes : of the pieces that the work is divided into

    Raises
    ------
    ConfigError, DataError
        If the configuration or a source cannot be used, prepared files are damaged, or the disk is full.
    """
    check_config(config)
    with _os_errors_as_sentences(config):
        old = _known_hashes(config)
        if old is None or again:
            build(config, echo, old is not None, workers or n_cores(), sizes)
        manifest = open_manifest(config.folder)
        shutil.rmtree(work_path(config.folder, again=False), ignore_errors=True)  # of a process killed when it was done
        verify_touched(manifest, echo)  # once, for all runs that will use it
    if again and old:
        echo(_what_changed(old, _hashes(manifest)))
    elif old is not None:
        for line in (*differences(config, manifest), *_cut_by_the_tokenizer(manifest)):
            echo(line)
    return manifest


def _known_hashes(config: DataConfig) -> dict[str, str] | None:
    """Return the hashes of the existing prepared folder, {} if it is damaged, or None if there is none."""
    if not (config.folder / "manifest.json").exists():
        return None
    try:
        return _hashes(open_manifest(config.folder))
    except DataError:
        return {}


def _hashes(manifest: Manifest) -> dict[str, str]:
    return {name: manifest.domain_sha256(name) for name in (*manifest.domains, *manifest.targets)}


def _what_changed(old: dict[str, str], new: dict[str, str]) -> str:
    changed = [name for name in new if new[name] != old.get(name)]
    if not changed:
        return "prepared again: the tokens are the same as before, so run ids do not change"
    return f"prepared again: the tokens changed in {', '.join(changed)}; runs on these data get new ids and start anew"


def _cut_by_the_tokenizer(manifest: Manifest) -> list[str]:
    """Return a warning if the tokenizer truncated or padded documents, which earlier versions allowed."""
    try:
        facts = json.loads((manifest.folder / FILE_NAME).read_bytes())
        found = [kind for kind in ("truncation", "padding") if facts.get(kind)]
    except (OSError, ValueError, AttributeError, LookupError):
        return []
    fault = f"warning: {manifest.folder} was prepared with the tokenizer's {' and '.join(found)} on"
    return [f"{fault}; the same command with --again tokenises whole documents"] if found else []


def check_config(config: DataConfig) -> None:
    """Check everything that can be checked before data are fetched.

    Raises
    ------
    ConfigError
        Naming the setting.
    """
    if not config.domains:
        raise ConfigError("data.domains is empty: name at least one training domain")
    if not SAFE_NAME.fullmatch(config.name):
        raise ConfigError(f"data.name: {config.name!r} is part of a folder's name: use A-Z, a-z, 0-9, '_' and '-'")
    shares = (config.eval_percent, config.test_percent)
    if min(shares) < 0 or sum(shares) > 99:
        raise ConfigError(f"data: eval_percent {shares[0]} and test_percent {shares[1]} and their sum must be 0 to 99")
    if config.min_chars is not None and config.min_chars < 0:
        raise ConfigError(f"data.min_chars is {config.min_chars}; it must be 0 or more")
    check_tokenizer(config.tokenizer)
    if config.image_size and not MIN_PIXELS <= config.image_size <= MAX_PIXELS:
        raise ConfigError(f"data.image_size is {config.image_size}; it must be {MIN_PIXELS} to {MAX_PIXELS} pixels")
    if config.image_size and config.tokenizer.kind == "given":
        raise ConfigError("data.tokenizer.kind=given: token files hold no images: set data.image_size to 0")
    _check_comparison(config)
    for where, _, source in all_sources(config):
        check_source(source, where, config.tokenizer)
        if source.reader in TASK_READERS and (where.startswith("data.domains") or config.image_size):
            raise ConfigError(f"{where}: tasks are targets of text models: use data.targets, and no data.image_size")
        if source.reader in FORMATS and config.image_size:
            raise ConfigError(f"{where}: token files hold no images: set data.image_size to 0")
        if has_images(source) and not config.image_size:
            raise ConfigError(f"{where} has images: set data.image_size, their side in pixels, for example 32 or 224")


def _check_comparison(config: DataConfig) -> None:
    """Check the settings that drop documents because they are like others."""
    if config.decontaminate_words < 0:
        raise ConfigError(f"data.decontaminate_words is {config.decontaminate_words}; it must be 0 (off) or more")
    if config.decontaminate_words and not config.targets:
        raise ConfigError("data.decontaminate_words compares domains with data.targets: name one, or set it to 0")
    setting = "drop_near_duplicates" if config.drop_near_duplicates else "decontaminate_words"
    for where, _, source in all_sources(config):
        if source.reader in FORMATS and (config.decontaminate_words or config.drop_near_duplicates):
            raise ConfigError(f"{where}: token files that are read in place lose no documents: unset data.{setting}")


@contextmanager
def _os_errors_as_sentences(config: DataConfig) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = error.filename or config.root_folder
        advice = "free some space or choose another data.root" if error.errno in FULL_DISK else "see data.root"
        raise DataError(f"{place}: {error.strerror or error}; {_left(config)}: {advice}") from None


def _left(config: DataConfig) -> str:
    """Return what an interrupted preparation left behind."""
    works = [work_path(config.folder, again) for again in (False, True)]
    return "the work so far is kept" if any(map(Path.exists, works)) else "incomplete files were removed"


def table(manifest: Manifest) -> str:
    """Return a table of the domains in a prepared folder, with notes."""
    entries = manifest.facts["domains"]
    left_out = [key for key in LEFT_OUT if key not in OPTIONAL or any(key in e["counts"] for e in entries.values())]
    titles = [LEFT_OUT[key] for key in left_out]
    rows = [("domain", "role", "documents", "tokens", "bytes", *titles, "licence", "origin")]
    for name, entry in entries.items():
        splits, counts = entry["splits"].values(), entry["counts"]
        documents, *totals = (sum(split[key] for split in splits) for key in ("n_documents", "n_tokens", "n_bytes"))
        documents = entry.get("questions", {}).get("n_questions", documents)  # a choice is stored as a document
        numbers = [documents, *totals, *(counts.get(key, 0) for key in left_out)]
        rows.append((name, entry["role"], *(f"{n:,}" for n in numbers), entry["licence"], entry["origin"]))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(_aligned(row, widths, range(2, 5 + len(titles)))).rstrip() for row in rows]
    notes = [note for name, entry in entries.items() for note in _notes(name, entry)]
    return "\n".join([*lines, *notes, f"in {manifest.folder}", ""])


def _notes(name: str, entry: dict[str, Any]) -> Iterator[str]:
    """Yield notes on a domain: documents below the minimum length, and documents of a target that are not measured."""
    counts = entry["counts"]
    if counts["n_short"] and "least_length" in entry:
        limit = f"{entry['least_length']} {entry['length_unit']}"
        short = f"{counts['n_short']:,} of {counts['n_read']:,} documents"
        yield f"{name}: {short} have fewer than {limit} (data.min_chars)"
    questions = entry.get("questions", {})
    if facts := questions.get("contaminated"):
        yield contamination_note(name, facts, questions["n_questions"])
    unused = 0 if questions else counts["n_documents"] - sum(split["n_documents"] for split in entry["splits"].values())
    if entry["role"] == "target" and unused:
        yield f"{name}: {unused:,} of {counts['n_documents']:,} documents are not measured (data.split_targets)"


def _aligned(row: Sequence[str], widths: Sequence[int], of_numbers: range) -> Iterator[str]:
    for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.rjust(width) if column in of_numbers else cell.ljust(width)


def compose_config(overrides: list[str]) -> DataConfig:
    """Return the data configuration that Hydra composes from `configs/` and the overrides.

    Raises
    ------
    ConfigError
        For an unknown setting, group or value, with the closest known one.
    """
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException, MissingConfigException

    check_yaml_files(folders := config_folders())
    check_chosen_files(folders, "prepare", overrides)
    checked = [_checked(override) for override in overrides]
    try:
        with initialize_config_dir(config_dir=str(CONFIGS), version_base="1.3"):
            cfg = compose("prepare", checked)
    except MissingConfigException as error:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        raise ConfigError(f"{group}={option}: {unknown_name('configuration', option, error.options or [])}") from None
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(str(error).split("\n")[0]) from None
    except ValueError:  # Hydra raises it if YAML reads the name as null or a number
        raise ConfigError(f"{' '.join(overrides)}: the name of a configuration must be text, not a number") from None
    config: DataConfig = to_dataclass(DataConfig, cfg.data, "data")
    return config


def _checked(override: str) -> str:
    """Return an override that may add a key below `data`; the dataclasses refuse unknown keys with a suggestion."""
    key = override.lstrip("+~").partition("=")[0]
    if key.split(".")[0] != "data":
        raise ConfigError(f"'{override}': {unknown_name('setting', key, ['data'])}; write data.<setting>=<value>")
    override = quoted_home(override)
    return f"++{override}" if override.startswith("data.") else override


def slurm_options(overrides: list[str]) -> tuple[SlurmOptions | None, list[str]]:
    """Return what `hydra/launcher=slurm` and `hydra.launcher.*` ask for, if anything, and the other overrides.

    Raises
    ------
    ConfigError
        For another launcher, or a setting that is unknown or out of range.
    """
    launcher = [o for o in overrides if o.startswith(("hydra/launcher=", "hydra.launcher."))]
    if not launcher:
        return None, overrides
    if "hydra/launcher=slurm" not in launcher:
        raise ConfigError(f"'{launcher[0]}': data.prepare knows hydra/launcher=slurm only; without it, it runs here")
    settings = [o.removeprefix("hydra.launcher.") for o in launcher if o.startswith("hydra.launcher.")]
    options: SlurmOptions = to_dataclass(SlurmOptions, OmegaConf.from_dotlist(settings), "hydra.launcher")
    return options, [o for o in overrides if o not in launcher]


@command
def main(argv: list[str] | None = None) -> int:
    """Run `python -m data.prepare`; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m data.prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="setting=value", help="a group or setting of configs/data")
    parser.add_argument("--again", action="store_true", help="read all files anew and replace the prepared folder")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes (default: one per core)")
    args = parser.parse_intermixed_args(argv)
    return exit_code_of(lambda: _prepare(args), when_interrupted="interrupted")


def _prepare(args: argparse.Namespace) -> int:
    if args.workers < 0:
        raise ConfigError(f"--workers is {args.workers}; it must be 1 or more")
    options, overrides = slurm_options(args.overrides)
    config = compose_config(overrides)
    try:
        manifest = prepare(config, again=args.again, workers=options or args.workers)
    except KeyboardInterrupt:
        remark(f"interrupted; {_left(config)}")
        return INTERRUPTED
    sys.stdout.write(table(manifest))
    return 0


if __name__ == "__main__":
    sys.exit(main())
