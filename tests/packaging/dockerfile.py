"""What the Dockerfile and .dockerignore say, read without an engine: dockerfile-parse and pathspec do the parsing."""

import io
import shlex
import subprocess
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from dockerfile_parse import DockerfileParser
from pathspec import GitIgnoreSpec


@dataclass(frozen=True)
class Instruction:
    """One instruction: where it begins (from 1), its word, its flags, and the rest on one line."""

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


def read_stages(text: str) -> list[Stage]:
    """Return the stages of a Dockerfile."""
    stages: list[Stage] = []
    for step in DockerfileParser(fileobj=io.BytesIO(text.encode())).structure:
        words = step["value"].split()
        flags = tuple(takewhile(lambda word: word.startswith("--"), words))
        instruction = Instruction(step["startline"] + 1, step["instruction"], flags, " ".join(words[len(flags) :]))
        if instruction.word == "FROM":
            base, *name = instruction.rest.split()
            stages.append(Stage(name[1] if name else "", base))
        elif instruction.word != "COMMENT" and stages:
            stages[-1].instructions.append(instruction)
    return stages


def steps_of(stages: list[Stage], target: str) -> list[Instruction]:
    """Return all instructions that make a target, those of the stages that it stands on first."""
    by_name = {stage.name: stage for stage in stages}
    if target not in by_name:
        return []
    return steps_of(stages, by_name[target].base) + by_name[target].instructions


def ignored(root: Path) -> GitIgnoreSpec:
    """Return what .dockerignore matches; unlike those of .gitignore its patterns begin at the root."""
    lines = [line.strip() for line in (root / ".dockerignore").read_text().splitlines()]
    patterns = [line for line in lines if line and not line.startswith("#")]
    return GitIgnoreSpec.from_lines([f"!/{p[1:]}" if p.startswith("!") else f"/{p}" for p in patterns])


def context_files(root: Path) -> list[str]:
    """Return the files of the build context: those that git knows and .dockerignore lets through."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
    spec = ignored(root)
    return [path for path in tracked.split("\0") if path and (root / path).exists() and not spec.match_file(path)]


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
