"""What the README files say: their fenced blocks, the commands in them, and what they name in backticks."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
MORE = ("CONTRIBUTING.md", "SECURITY.md", "sweeps/measured/RESULTS.md")  # beside every README.md
PROGRAMS = ("mixlaw ", "python -m ", "make ", "pip ", "sbatch ", "torchrun ", "docker ", "scripts/", ".ci/")
LANGUAGES = ("sh", "python", "yaml", "text")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes
    ----------
    file : relative to the checkout
    line : of its first line, from 1
    language : what stands behind the fence
    """

    file: str
    line: int
    language: str
    text: str


@dataclass(frozen=True)
class Command:
    """One command of a shell block, which is complete, or in backticks, where it may only be mentioned."""

    file: str
    line: int
    words: tuple[str, ...]
    complete: bool = True

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {' '.join(self.words)}"


@cache
def documents() -> dict[str, list[Token]]:
    """Return the parsed Markdown of all README files and their like."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.md"], cwd=ROOT, text=True, capture_output=True, check=True
    ).stdout.splitlines()
    wanted = [name for name in listed if name.endswith("README.md") or name in MORE]
    parser = MarkdownIt("commonmark").enable("table")
    return {name: parser.parse((ROOT / name).read_text()) for name in wanted if (ROOT / name).exists()}


def blocks(*languages: str) -> list[Block]:
    """Return the fenced blocks in some languages; all without any."""
    found = [
        Block(name, token.map[0] + 2 if token.map else 0, token.info.strip(), token.content)
        for name, tokens in documents().items()
        for token in tokens
        if token.type == "fence"
    ]
    return [block for block in found if not languages or block.language in languages]


def inline(kind: str) -> Iterator[tuple[str, int, Token]]:
    """Yield (file, line, token) of everything of a kind that stands within text: code_inline, link_open, image."""
    for name, tokens in documents().items():
        for parent in tokens:
            for token in parent.children or []:
                if token.type == kind:
                    yield name, parent.map[0] + 1 if parent.map else 0, token


def commands() -> list[Command]:
    """Return all commands, those of shell blocks first; a command that stands in two places of a file comes once."""
    found = []
    for block in blocks("sh"):
        text = re.sub(r"\\\n", " ", block.text)
        for offset, line in enumerate(text.splitlines()):
            found += split(block.file, block.line + offset, line)
    for name, number, token in inline("code_inline"):
        if token.content.startswith(PROGRAMS) and " " in token.content.strip():
            found += split(name, number, token.content, complete=False)
    return list({(command.file, command.words): command for command in reversed(found)}.values())[::-1]


def split(file: str, line: int, text: str, complete: bool = True) -> list[Command]:
    """Return the commands of one line: words as a shell splits them, without comments and variables before them."""
    lexer = shlex.shlex(re.sub(r"\$\([^)]*\)", "OUTPUT", text), posix=True, punctuation_chars="&;|")
    lexer.whitespace_split = True
    parts: list[list[str]] = [[]]
    for word in lexer:
        if word in ("&&", ";", "||", "|"):
            parts.append([])
        else:
            parts[-1].append(word)
    found = []
    for words in parts:
        first = next((i for i, word in enumerate(words) if not re.match(r"[A-Z_]+=", word)), len(words))
        if words[first:]:
            found.append(Command(file, line, tuple(words[first:]), complete))
    return found
