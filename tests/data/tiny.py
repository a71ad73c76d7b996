"""Tiny wheels and data configurations for the tests of the preparation."""

import gzip
import hashlib
import json
import zipfile
from pathlib import Path

from data.config import DataConfig, SourceConfig, TokenizerConfig

METADATA = "Metadata-Version: 2.1\nName: {}\nVersion: 1.0\nLicense: BSD\n\nText.\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def write_wheel(
    root: Path, members: dict[str, bytes | str], reader: str = "python_files", package: str = "tiny"
) -> SourceConfig:
    """Put a wheel where a download would have put it, and return the source that names it."""
    path = root / "downloads" / f"{package.replace('-', '_')}-1.0-py3-none-any.whl"
    path.parent.mkdir(parents=True, exist_ok=True)
    info = f"{package}-1.0.dist-info"
    facts = {f"{info}/METADATA": METADATA.format(package), f"{info}/WHEEL": WHEEL, f"{info}/RECORD": ""}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (facts | members).items():
            archive.writestr(zipfile.ZipInfo(name), content)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return SourceConfig(reader=reader, package=package, version="1.0", sha256=sha256)


def write_jsonl(path: Path, texts: list[str], key: str = "text") -> SourceConfig:
    """Write one record per text."""
    path.write_text("".join(json.dumps({key: text}) + "\n" for text in texts), encoding="utf-8")
    return SourceConfig(reader="jsonl", path=str(path), text_key=key)


def service(texts: list[str]) -> bytes:
    """Return an API description in botocore's form."""
    return gzip.compress(json.dumps({"shapes": {f"s{i}": {"documentation": t} for i, t in enumerate(texts)}}).encode())


def sentences(word: str, n: int) -> list[str]:
    """Return n different documents."""
    return [f"The {word} number {i} stands beside the {word} number {i * i}, as é as ever.\n" for i in range(n)]


def tiny_config(root: Path, n: int = 120, tokenizer: TokenizerConfig | None = None) -> DataConfig:
    """Return a configuration of two training domains from wheels and one target."""
    files = {f"m/{i}.py": text for i, text in enumerate(sentences("tree", n))}
    more = {f"m/{i}.py": text for i, text in enumerate(sentences("stone", n))}
    domains = {
        "trees": write_wheel(root, files, package="trees"),
        "stones": write_wheel(root, more, package="stones"),
    }
    target = {f"m/{i}.py": text for i, text in enumerate(sentences("river", n))}
    targets = {"rivers": write_wheel(root, target, package="rivers")}
    return DataConfig("tiny", str(root), domains, targets, tokenizer or TokenizerConfig())
