"""Fetch, clean, split and tokenise the domains of a configuration into the folder that training reads.

    python -m data.prepare                                                         # the quick start's domains
    python -m data.prepare data.tokenizer.kind=bpe data.tokenizer.vocab_size=1024  # a learned tokenizer
    python -m data.prepare data=own_files                                  # see configs/data/own_files.yaml

The same command again prepares nothing: the folder's name holds a hash over all that decides the tokens. It verifies
files (sha256) that were written to or brought from elsewhere since they were verified, so that no run has to wait.
"""

import argparse
import errno
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omegaconf.errors import OmegaConfBaseException

from data.build import build, sources
from data.config import DataConfig, to_dataclass
from data.shards import Manifest, open_manifest
from data.sources import check_source, has_images
from data.tokenize import check_tokenizer
from data.verified import verify_touched
from data.wheels import Echo
from data.yaml_files import check_yaml_files
from mixlaw.errors import ConfigError, DataError, MixlawError, unknown_name

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
SAFE_NAME = re.compile(r"[A-Za-z0-9_-]+")
NUMBER_COLUMNS = range(2, 7)  # of the table
MIN_PIXELS, MAX_PIXELS = 4, 2048
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def say(line: str) -> None:
    """Write a line of progress on stderr, so that stdout holds the table only."""
    sys.stderr.write(line + "\n")


def prepare(config: DataConfig, echo: Echo = say) -> Manifest:
    """Return the manifest of the prepared folder, and prepare it first where it is not there yet.

    Raises
    ------
    ConfigError, DataError
        If the configuration or a source cannot be used, prepared files are damaged, or the disk is full; nothing
        half-written stays.
    """
    check_config(config)
    with _os_errors_as_sentences(config.root_folder):
        if not (config.folder / "manifest.json").exists():
            build(config, echo)
        manifest = open_manifest(config.folder)
        verify_touched(manifest, echo)  # once for all runs of all studies on it
    _warn_of_changed_files(manifest, echo)
    return manifest


def check_config(config: DataConfig) -> None:
    """Check all that can be known before anything is fetched.

    Raises
    ------
    ConfigError
        Naming the setting.
    """
    if not config.domains:
        raise ConfigError("data.domains is empty: name at least one domain to train on")
    if not SAFE_NAME.fullmatch(config.name):
        raise ConfigError(f"data.name: {config.name!r} is part of a folder's name: use A-Z, a-z, 0-9, '_' and '-'")
    shares = (config.eval_percent, config.test_percent)
    if min(shares) < 0 or sum(shares) > 99:
        raise ConfigError(f"data: eval_percent {shares[0]} and test_percent {shares[1]} must be 0 to 99, also together")
    check_tokenizer(config.tokenizer)
    if config.image_size and not MIN_PIXELS <= config.image_size <= MAX_PIXELS:
        raise ConfigError(f"data.image_size is {config.image_size}; it must be {MIN_PIXELS} to {MAX_PIXELS} pixels")
    if config.image_size and config.tokenizer.kind == "given":
        raise ConfigError("data.tokenizer.kind=given: files of tokens hold no images: set data.image_size to 0")
    for where, _, source in sources(config):
        check_source(source, where, config.tokenizer)
        if has_images(source) and not config.image_size:
            raise ConfigError(f"{where} has images: set data.image_size, the pixels of their sides, as in 32 or 224")


@contextmanager
def _os_errors_as_sentences(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = error.filename or root
        advice = "free some space or choose another data.root" if error.errno in FULL_DISK else "see data.root"
        cause = error.strerror or str(error)
        raise DataError(f"{place}: {cause}; nothing half-written was kept: {advice}") from None


def _warn_of_changed_files(manifest: Manifest, echo: Echo) -> None:
    """The identity holds the paths of people's own files, not what is in them; say so when that changed."""
    for name, entry in manifest.facts["domains"].items():
        for known in entry.get("inputs", []):
            path = Path(known["path"])
            if not path.exists():  # the prepared folder was carried to another machine
                continue
            if (path.stat().st_size, path.stat().st_mtime_ns) != (known["n_bytes"], known["mtime_ns"]):
                advice = f"it is not read again, unless you delete {manifest.folder}"
                echo(f"warning: {path} of '{name}' changed since it was prepared; {advice}")


def table(manifest: Manifest) -> str:
    """Return what a prepared folder holds, one line per domain."""
    rows = [("domain", "role", "documents", "tokens", "bytes", "dropped", "bad", "licence", "origin")]
    for name, entry in manifest.facts["domains"].items():
        splits, counts = entry["splits"].values(), entry["counts"]
        totals = [sum(split[key] for split in splits) for key in ("n_documents", "n_tokens", "n_bytes")]
        numbers = [*totals, counts["n_duplicate"] + counts["n_in_other_domain"], counts["n_bad"]]
        rows.append((name, entry["role"], *(f"{n:,}" for n in numbers), entry["licence"], entry["origin"]))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(_aligned, row, widths, range(len(row)))).rstrip() for row in rows]
    return "\n".join([*lines, f"in {manifest.folder}", ""])


def _aligned(cell: str, width: int, column: int) -> str:
    return cell.rjust(width) if column in NUMBER_COLUMNS else cell.ljust(width)


def compose_config(overrides: list[str]) -> DataConfig:
    """Return the data configuration that Hydra composes from `configs/` and the overrides.

    Raises
    ------
    ConfigError
        For a setting, group or value that does not exist, with the near match.
    """
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException, MissingConfigException

    check_yaml_files([CONFIGS])
    try:
        with initialize_config_dir(config_dir=str(CONFIGS), version_base="1.3"):
            cfg = compose("prepare", [_checked(override) for override in overrides])
    except MissingConfigException as error:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        raise ConfigError(f"{group}={option}: {unknown_name('configuration', option, error.options or [])}") from None
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(str(error).split("\n")[0]) from None
    config: DataConfig = to_dataclass(DataConfig, cfg.data, "data")
    return config


def _checked(override: str) -> str:
    """Let Hydra add any key below `data`: the dataclasses refuse a wrong one too, and with its near match."""
    key = override.lstrip("+~").partition("=")[0]
    if key.split(".")[0] != "data":
        raise ConfigError(f"'{override}': {unknown_name('setting', key, ['data'])}; write data.<setting>=<value>")
    return f"++{override}" if override.startswith("data.") else override


def main(argv: list[str] | None = None) -> int:
    """Prepare from the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m data.prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="setting=value", help="a group or setting of configs/data")
    try:
        manifest = prepare(compose_config(parser.parse_args(argv).overrides))
    except MixlawError as error:
        say(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        say("interrupted; nothing half-written was kept")
        return 130
    sys.stdout.write(table(manifest))
    return 0


if __name__ == "__main__":
    sys.exit(main())
