"""Divide one corpus into domains, and write a configuration that `python -m data.prepare` takes.

    python -m data.split mine /data/crawl --out /data/mine --by column --column meta.lang
    python -m data.split mine '/data/*.jsonl.zst' --out /data/mine --by site    # bbc.co.uk of news.bbc.co.uk
    python -m data.split mine /data/crawl --out /data/mine --by language
    python -m data.split mine /data/crawl --out /data/mine --by clusters --max-domains 8    # by the words of the texts
    python -m data.split mine /data/crawl --out /data/mine --by clusters --vectors embeddings.npy

Files are JSON lines, CSV, parquet, tar shards (webdataset) or plain texts, as in `data.prepare`. Each domain becomes a
folder of compressed JSON lines below --out. Small domains and documents without a value go to the domain `other`. The
configuration data=mine is written to configs/data/, or to data/ below $MIXLAW_CONFIGS.
"""

import argparse
import sys
from pathlib import Path

import yaml

from data.config_folders import CONFIGS, SHIPPED, config_folders, own_folder
from data.display import aligned, shortened
from data.prepare import SAFE_NAME
from data.splitting.clusters import by_cluster, sample
from data.splitting.divide import Division, divide
from data.splitting.documents import READERS, Corpus, open_corpus
from data.splitting.domains import OTHER, too_small
from data.splitting.labels import Labeller, by_column, by_host, by_language, by_site
from data.splitting.words import typical_words
from mixlaw.console import command, exit_code_of, remark
from mixlaw.errors import ConfigError
from mixlaw.fileio import write_atomically
from mixlaw.paths import path_option
from mixlaw.text import percent

BY: dict[str, Labeller | None] = {
    "column": by_column,
    "host": by_host,
    "site": by_site,
    "language": by_language,
    "clusters": None,  # learned from the corpus
}
URL = "url"  # default column of host and site
N_WORDS, TEXT_CHARS = 8, 90  # typical words of a domain, and length of the texts shown
VOCABULARY = 8192  # of the tokenizer in the configuration


def split(args: argparse.Namespace) -> str:
    """Divide the corpus, write the configuration, and return what is printed.

    Raises
    ------
    ConfigError, DataError
        If options contradict each other, the output exists, or the corpus cannot be read or divided.
    """
    check_options(args)
    if args.out.exists():
        raise ConfigError(f"--out {args.out} exists: remove it, or choose another folder")
    if (corpus_folder := path_option(args.path).resolve()) in args.out.resolve().parents:
        raise ConfigError(f"--out {args.out} is inside the corpus {corpus_folder}: choose a folder outside")
    configuration = configuration_path(args.name)
    corpus = open_corpus(args.path, args.reader, args.text_key, *value_source(args), args.bad_budget)
    division = divide(corpus, labeller(args, corpus), args.out, args.max_domains, args.min_share, args.seed, remark)
    configuration.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(configuration, configuration_text(args, division))
    how = f"python -m data.prepare data={args.name}"
    shown = [table(division), samples(division, args.samples), f"in {args.out}; configuration {configuration}: {how}\n"]
    return "\n".join(filter(None, shown))


def check_options(args: argparse.Namespace) -> None:
    """Refuse options that the chosen --by does not use, and numbers out of range.

    Raises
    ------
    ConfigError
        Naming the option.
    """
    if not SAFE_NAME.fullmatch(args.name):
        raise ConfigError(f"{args.name!r} is part of file names: use A-Z, a-z, 0-9, '_' and '-'")
    if args.by == "column" and not args.column:
        raise ConfigError("--by column needs --column NAME, for example --column meta.lang")
    if args.column and args.by in ("language", "clusters"):
        raise ConfigError(f"--column {args.column}: --by {args.by} does not use it")
    if args.vectors and args.by != "clusters":
        raise ConfigError(f"--vectors {args.vectors}: --by {args.by} does not use it; --by clusters does")
    if args.max_domains < 2:
        raise ConfigError(f"--max-domains {args.max_domains}: a mixture has at least 2")
    if args.samples < 0:
        raise ConfigError(f"--samples {args.samples}: it must be 0 or more")
    if not 0 <= args.min_share < 1:
        raise ConfigError(f"--min-share {args.min_share:g}: it is a share of the text, from 0 to below 1")


def value_source(args: argparse.Namespace) -> tuple[str, Path | None]:
    """Return the column of the value that decides the domain ('': none), and the .npy file of vectors (or None)."""
    if args.vectors.endswith(".npy"):
        return "", path_option(args.vectors)
    return args.vectors or args.column or (URL if args.by in ("host", "site") else ""), None


def labeller(args: argparse.Namespace, corpus: Corpus) -> Labeller:
    """Return the function that labels documents; for clusters, it is learned from a sample of the corpus."""
    return BY[args.by] or by_cluster(sample(corpus, args.seed), args.max_domains, args.seed)


def configuration_path(name: str) -> Path:
    """Return the file to write for `data=<name>`: in configs/data, or in data/ below $MIXLAW_CONFIGS.

    Raises
    ------
    ConfigError
        If there is a configuration of that name already.
    """
    for folder in config_folders():
        if (path := folder / "data" / f"{name}.yaml").exists():
            raise ConfigError(f"{path} exists: choose another name, or remove it")
    own = own_folder()
    return (CONFIGS if own == SHIPPED else own) / "data" / f"{name}.yaml"


def configuration_text(args: argparse.Namespace, division: Division) -> str:
    """Return the configuration of the domains; `other` is commented out if it is too small."""
    small = too_small(division.n_bytes, args.min_share)
    names = [name for name in division.domains if not (small and name == OTHER)]
    domains = {name: {"reader": "jsonl", "path": str(args.out.absolute() / name)} for name in names}
    facts = {"name": args.name, "domains": domains, "tokenizer": {"kind": "bpe", "vocab_size": VOCABULARY}}
    note = f"# {OTHER} is too small to be a domain (--min-share): {args.out.absolute() / OTHER}\n" if small else ""
    return f"# `python -m data.split`, by {args.by}\n{yaml.safe_dump(facts, sort_keys=False, width=1000)}{note}"


def table(division: Division) -> str:
    """Return a table of the domains: documents, size, share of the text, typical words."""
    words, total = typical_words(division.texts, N_WORDS), sum(division.n_bytes.values())
    rows = [["domain", "documents", "MB", "share"]]
    for name in division.domains:
        size = division.n_bytes[name]
        rows.append([name, f"{division.n_documents[name]:,}", f"{size / 1e6:,.1f}", percent(size / total)])
    ends = ["typical words", *(" ".join(words[name]) for name in division.domains)]
    lines = zip(aligned(rows, 1).splitlines(), ends, strict=True)
    return "".join(f"{line}  {end}".rstrip() + "\n" for line, end in lines)


def samples(division: Division, n_samples: int) -> str:
    """Return the beginnings of some texts of each domain."""
    rows = [[name, shortened(t, TEXT_CHARS)] for name in division.domains for t in division.texts[name][:n_samples]]
    return aligned(rows, 2) if rows else ""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    known = argparse.ArgumentParser(
        prog="python -m data.split", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = known.add_argument
    add("name", help="name of the configuration")
    add("path", metavar="PATH", help="the corpus: a file, a folder or a glob")
    add("--out", type=path_option, required=True, metavar="FOLDER", help="new folder, with one folder per domain")
    add("--by", choices=BY, required=True, help="what decides the domain of a document")
    columns = "metadata column, a.b for b inside a; of the URL for host and site (default there: url)"
    add("--column", default="", metavar="NAME", help=columns)
    vectors = "clusters: .npy file with a row per document, or the column of the vectors; default: words of the texts"
    add("--vectors", default="", metavar="NPY|COLUMN", help=vectors)
    add("--max-domains", type=int, default=16, metavar="N", help="most domains, with `other` (%(default)s)")
    add("--min-share", type=float, default=0.01, metavar="SHARE", help="least share of a domain (%(default)s)")
    add("--reader", choices=READERS, default="", help="format of the files; default: by their suffix")
    add("--text-key", default="", metavar="NAME", help="column of the text, as in data.prepare (default: text)")
    add("--samples", type=int, default=2, metavar="N", help="texts of each domain to print (%(default)s)")
    add("--seed", type=int, default=0, help="of the samples and of the clusters (%(default)s)")
    add("--bad-budget", type=int, default=0, metavar="N", help="unreadable documents to skip (%(default)s)")
    return known


@command
def main(argv: list[str] | None = None) -> int:
    """Run `python -m data.split`; return the exit code."""
    args = parser().parse_args(argv)
    return exit_code_of(lambda: _split(args), when_interrupted="interrupted; incomplete files were removed")


def _split(args: argparse.Namespace) -> int:
    sys.stdout.write(split(args))
    return 0


if __name__ == "__main__":
    sys.exit(main())
