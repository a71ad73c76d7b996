"""What the Dockerfile and .dockerignore say, read without an engine."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class Instruction:
    """One instruction: where it begins, its word, its flags, and the rest on one line."""

    line: int
    word: str
    flags: tuple[str, ...]
    rest: str

    def flag(self, name: str) -> str:
        """Return the value of --name=VALUE, or ''."""
        return next((f.partition("=")[2] for f in self.flags if f.startswith(f"--{name}=")), "")

    def variables(self) -> dict[str, str]:
        """Return what ENV or ARG set."""
        return {name: value for name, _, value in (word.partition("=") for word in shlex.split(self.rest))}


@dataclass
class Stage:
    """What stands between one FROM and the next."""

    name: str
    base: str
    instructions: list[Instruction] = field(default_factory=list)


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield each instruction as one line, with the number of its first; without comments."""
    start, parts = 0, []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        start = start or number
        parts.append(line.strip().removesuffix("\\").strip())
        if not line.rstrip().endswith("\\"):
            yield start, " ".join(parts)
            start, parts = 0, []


def read_stages(text: str) -> list[Stage]:
    """Return the stages of a Dockerfile (no heredocs, no substitution: ours has neither)."""
    stages: list[Stage] = []
    for number, line in logical_lines(text):
        word, *words = line.split(" ")
        flags = tuple(takewhile(lambda w: w.startswith("--"), words))
        step = Instruction(number, word.upper(), flags, " ".join(words[len(flags) :]))
        if step.word == "FROM":
            base, *name = step.rest.split()
            stages.append(Stage(name[1] if name else "", base))
        elif stages:
            stages[-1].instructions.append(step)
    return stages


def steps_of(stages: list[Stage], target: str) -> list[Instruction]:
    """Return all instructions that make a target, those of the stages that it stands on first."""
    by_name = {stage.name: stage for stage in stages}
    if target not in by_name:
        return []
    return steps_of(stages, by_name[target].base) + by_name[target].instructions


def is_ignored(path: str, patterns: list[str]) -> bool:
    """Return what .dockerignore says: the last pattern decides that fits the path or a folder above it."""
    ways = [path, *(str(parent) for parent in PurePosixPath(path).parents if parent.name)]
    verdict = False
    for pattern in patterns:
        if any(re.fullmatch(_regex(pattern.removeprefix("!")), way) for way in ways):
            verdict = not pattern.startswith("!")
    return verdict


def _regex(pattern: str) -> str:
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\*\*/|\*\*|\*|\?)", pattern.strip("/"))
    return "".join(parts.get(piece, re.escape(piece)) for piece in pieces)


def ignore_patterns(root: Path) -> list[str]:
    """Return the lines of .dockerignore that say something."""
    lines = [line.strip() for line in (root / ".dockerignore").read_text().splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def context_files(root: Path) -> list[str]:
    """Return the files of the build context: those that git knows and .dockerignore lets through."""
    patterns = ignore_patterns(root)
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
    return [path for path in tracked.split("\0") if path and (root / path).exists() and not is_ignored(path, patterns)]


def sources(step: Instruction) -> list[str]:
    """Return what a COPY line takes from the context: nothing, where it copies from another stage."""
    return [] if step.flag("from") else shlex.split(step.rest)[:-1]


def below(source: str, files: list[str]) -> list[str]:
    """Return those files that a COPY source is or holds."""
    source = source.removeprefix("./").rstrip("/")
    return [path for path in files if source in (".", "", path) or path.startswith(f"{source}/")]


def copy_problems(stages: list[Stage], root: Path) -> list[str]:
    """Return a sentence for every COPY source that the build context lacks."""
    files = context_files(root)
    copies = (step for stage in stages for step in stage.instructions if step.word in ("COPY", "ADD"))
    return [
        f"line {step.line}: {source} is not in the build context (missing, unknown to git, or in .dockerignore)"
        for step in copies
        for source in sources(step)
        if not below(source, files)
    ]
