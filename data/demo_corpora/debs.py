"""Pinned Debian packages: fetched once without root, checked by sha256, read as archives and never installed."""

import lzma
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from data.config import PackageConfig, SourceConfig
from data.demo_corpora.wheels import Echo, check_sha256
from data.network import unreachable
from data.staging import staging_folder
from mixlaw.errors import DataError

_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60  # bytes: name 16, time 12, owner 6, group 6, mode 8, size 10, and two that end it
_AR_END = b"`\n"


def fetch_deb(source: SourceConfig | PackageConfig, downloads: Path, echo: Echo) -> Path:
    """Return the package's path in `downloads`, fetching it first where it is not there yet.

    Raises
    ------
    DataError
        If there is no apt-get, if it cannot get the package, or if the file's sha256 is not the configured one; that
        file is then deleted.
    """
    downloads.mkdir(parents=True, exist_ok=True)
    deb = deb_path(downloads, source)
    if not deb.is_file():
        _download(source, deb)
        echo(f"fetched {source.package} {source.version}, {deb.stat().st_size / 1e6:.1f} MB")
    check_sha256(deb, source.sha256)
    return deb


def deb_path(folder: Path, source: SourceConfig | PackageConfig) -> Path:
    """Return where a folder keeps this version of the package."""
    return folder / f"{source.package}_{quote(source.version, safe='+~')}.deb"


def _download(source: SourceConfig | PackageConfig, final: Path) -> None:
    wanted = f"{source.package}={source.version}"
    if shutil.which("apt-get") is None:
        raise DataError(
            f"the Debian package {wanted} needs apt-get, which is not on this machine: take data=multimodal or "
            "data=vision, which need pip only, or fetch it on a machine with Debian 12 and copy it to "
            f"{final}"
        )
    with staging_folder(final) as staging:
        _apt_download(wanted, staging)
        found = sorted(staging.glob("*.deb"))
        if not found:
            raise DataError(f"apt-get fetched no file of {wanted}")
        check_sha256(found[0], source.sha256)
        os.replace(found[0], final)


def _apt_download(wanted: str, folder: Path) -> None:
    """Fetch into a folder, with lists of packages of its own there, so that neither root nor a lock is needed."""
    for part in ("state/lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True)
    (folder / "state/status").touch()  # of installed packages: none
    if why := _archives_unreachable(folder):
        raise DataError(f"apt-get cannot download {wanted}: {why}")
    update = _apt(folder, "update")
    result = _apt(folder, "download", wanted)
    if result.returncode:  # an update that fails for one of several archives may still be enough
        lines = [line for line in (update.stderr + result.stderr).splitlines() if line.startswith("E:")]
        raise DataError(
            f"apt-get cannot download {wanted}: {(lines or ['no message'])[-1]} (this version is Debian 12's; "
            "data=multimodal and data=vision need pip only)"
        )


def _archives_unreachable(folder: Path) -> str:
    """Return why none of apt's archives can be reached, or the empty string."""
    sites = _apt(folder, "indextargets", "--format", "$(SITE)").stdout.split()
    proxy = ""
    if shutil.which("apt-config"):
        asked = ["apt-config", "shell", "proxy", "Acquire::http::Proxy"]
        answer = subprocess.run(asked, capture_output=True, text=True, errors="replace", check=False)
        proxy = answer.stdout.strip().removeprefix("proxy=").strip("'")
    return unreachable(dict.fromkeys(sites), proxy)


def _apt(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    options = [
        f"Dir::State={folder}/state",
        f"Dir::State::status={folder}/state/status",
        f"Dir::Cache={folder}/cache",
        "APT::Sandbox::User=root",  # as root, do not turn into a user who cannot write here; nothing for others
    ]
    line = ["apt-get", *(part for option in options for part in ("-o", option)), "-qq", *command]
    environment = os.environ | {"LC_ALL": "C"}
    return subprocess.run(
        line, cwd=folder, env=environment, capture_output=True, text=True, errors="replace", check=False
    )


def deb_members(path: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Yield the package's files with one of these suffixes, as (path without a leading slash, content), in its order.

    Links are left out: they are further names of files that are in the package anyway.

    Raises
    ------
    DataError
        Naming the file, if it is no Debian package, is damaged, or is packed in a way that is not known.
    """
    try:
        with path.open("rb") as file:
            packing = _seek_data(file)
            with tarfile.open(fileobj=file, mode=f"r|{packing}") as archive:  # type: ignore[call-overload]
                for member in archive:
                    name = member.name.removeprefix("./")
                    content = archive.extractfile(member) if member.isreg() and name.endswith(suffixes) else None
                    if content is not None:
                        yield name, content.read()
    except (tarfile.TarError, lzma.LZMAError, EOFError, OSError, ValueError) as error:
        cause = str(error).strip().split("\n")[0] or type(error).__name__
        raise DataError(f"{path.name}: the Debian package cannot be read: {cause}") from None


def _seek_data(file: BinaryIO) -> str:
    """Go to where the archive of the package's files starts, and return how it is packed: xz, gz or nothing."""
    if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise ValueError("it does not start as an ar archive does")
    while header := file.read(_AR_HEADER):
        if len(header) < _AR_HEADER or not header.endswith(_AR_END):
            raise ValueError("it is damaged or cut off")
        name = header[:16].decode("ascii", "replace").strip().rstrip("/")
        if name.startswith("data.tar"):
            return _packing(name)
        size = int(header[48:58])
        if size < 0:
            raise ValueError("it is damaged")
        file.seek(size + size % 2, os.SEEK_CUR)
    raise ValueError("it has no data.tar")


def _packing(name: str) -> str:
    packing = name.removeprefix("data.tar").removeprefix(".")
    if packing not in ("", "xz", "gz", "bz2"):
        raise ValueError(f"its files are packed as {name}, which only newer Pythons read; Debian 12 packs them as xz")
    return packing
