"""What is shown of a prepared folder and of tar shards is what is in them."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from webdataset import TarWriter

from data.display import COLUMNS, LINE, TILE, shortened
from data.prepare import compose_config, prepare
from data.preview import main
from data.store.tokens import open_manifest
from data.stream.items import Layout
from data.stream.loader import WeightedStream
from tests.commands import call
from tests.data.tiny import sentences, write_jsonl

Outcome = tuple[int, str, str]
Command = Callable[..., Outcome]


@pytest.fixture
def inspect(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Return the command line: arguments -> exit code, stdout, stderr."""
    monkeypatch.setenv("MIXLAW_CACHE", str(tmp_path / "cache"))

    def run(*args: object) -> Outcome:
        capsys.readouterr()
        code = main([str(a) for a in args])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the overrides of a prepared folder of two domains and a target."""
    root = tmp_path_factory.mktemp("prepared")
    found = ["data=own_files", f"data.root={root}", "data.tokenizer={kind:bytes,vocab_size:256}"]
    words = {"domains.web": "tree", "domains.books": "stone", "targets.wiki": "river"}
    for where, word in words.items():
        source = write_jsonl(root / f"{word}.jsonl", sentences(word, 80 if word == "stone" else 200))
        found.append(f"data.{where}={{reader:jsonl,path:'{source.path}'}}")
    prepare(compose_config(found), lambda line: None)
    return found


def table(out: str, first_cell: str) -> dict[str, list[str]]:
    """Return the rows below the line that begins with a cell, by their first cell."""
    lines = out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(first_cell))
    rows = [line.split() for line in lines[start + 1 : lines.index("", start)]]
    return {row[0]: row[1:] for row in rows}


def test_a_prepared_folder_is_shown_as_its_manifest_states_it(inspect: Command, settings: list[str]) -> None:
    code, out, err = inspect(*settings, "--seq-len", 100)
    manifest = open_manifest(compose_config(settings).folder)
    assert (code, err) == (0, "")
    rows = table(out, "domain  role")
    assert list(rows) == ["web", "books", "wiki"]
    for name, (role, documents, *tokens, n_sequences) in rows.items():
        assert role == ("target" if name == "wiki" else "train")
        assert documents == str(sum(split["n_documents"] for split in manifest.entry(name)["splits"].values()))
        assert tokens == [f"{manifest.n_tokens(name, split):,}" for split in ("train", "eval", "test")]
        assert n_sequences == f"{max(manifest.n_tokens(name, 'train') - 1, 0) // 100:,}"
    assert [rows[name][1] for name in ("web", "books")] == ["200", "80"]
    for word in ("tree", "stone", "river"):
        assert f"  The {word} number " in out
    assert out.endswith(f"in {manifest.folder}\n")


def test_the_realised_mixture_is_that_of_the_stream(inspect: Command, settings: list[str]) -> None:
    _, out, _ = inspect(*settings, "--mixture", "web=0.37, books=0.63", "--first", 60, "--seq-len", 16)
    stream = WeightedStream(
        open_manifest(compose_config(settings).folder), {"web": 0.37, "books": 0.63}, Layout(16), 20, 0
    )
    counts = [sum(int((batch["domain"] == i).sum()) for batch in stream.batches(0, 3)) for i in range(2)]
    rows = table(out, "domain  requested")
    assert [rows[name][2] for name in ("web", "books")] == [f"{16 * n:,}" for n in counts]
    assert rows["web"][:2] == ["0.3700", f"{counts[0] / 60:.4f}"]
    assert abs(counts[0] - 0.37 * 60) <= 2


def test_the_mixture_of_every_phase_is_shown(inspect: Command, settings: list[str]) -> None:
    phases = ["--mixture", "web=1", "--until", 0.75, "--mixture", "web=0.2,books=0.8"]
    code, out, _ = inspect(*settings, *phases, "--first", 80, "--seq-len", 16)
    assert code == 0
    first, second, whole = (table(part + "\n\n", "domain  requested") for part in out.split(" of 16 tokens:")[1:])
    assert "sequences 1 to 60 of 16" in out
    assert "sequences 61 to 80 of 16" in out
    assert (first["web"][:3], first["books"][:3]) == (["1.0000", "1.0000", "960"], ["0.0000", "0.0000", "0"])
    assert second["books"][:3] == ["0.8000", "0.8000", "256"]
    assert whole["books"][:3] == ["0.2000", "0.2000", "256"]


def test_pools_and_their_epochs_are_shown(inspect: Command, settings: list[str]) -> None:
    more = ["--mixture", "web=0.75,books=0.25", "--first", 40, "--seq-len", 16]
    _, out, _ = inspect(*settings, *more, "--unique-tokens", "books=70")
    rows = table(out, "domain  requested")
    assert rows["books"][2:] == ["160", "64", "2.5000"]
    web = max(open_manifest(compose_config(settings).folder).n_tokens("web", "train") - 1, 0) // 16 * 16
    assert rows["web"][3] == f"{web:,}"
    code, _, err = inspect(*settings, *more, "--unique-tokens", "book=70")
    assert (code, err) == (
        2,
        "error: --unique-tokens: unknown domain 'book'; did you mean 'books'? known: books, web\n",
    )


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--mixture", "web=1", "--until", 0.5], "--until is given 1 times and --mixture 1 times"),
        (["--mixture", "web=1", "--until", 1, "--mixture", "books=1"], "--until 1.0: shares must increase"),
        (["--mixture", "web=1", "--until", "nan", "--mixture", "books=1"], "--until nan: shares must"),
    ],
)
def test_wrong_phases_are_one_sentence(
    inspect: Command, settings: list[str], more: list[object], sentence: str
) -> None:
    code, _, err = inspect(*settings, *more)
    assert code == 2
    assert sentence in err
    assert err.count("\n") == 1


def test_without_a_mixture_the_natural_one_is_realised(inspect: Command, settings: list[str]) -> None:
    _, out, _ = inspect(*settings)
    manifest = open_manifest(compose_config(settings).folder)
    web, books = (manifest.n_tokens(name, "train") for name in ("web", "books"))
    assert table(out, "domain  requested")["web"][0] == f"{web / (web + books):.4f}"


def test_nothing_is_prepared_by_looking(inspect: Command, tmp_path: Path) -> None:
    code, out, err = inspect(f"data.root={tmp_path}")
    assert (code, out) == (3, "")
    assert "holds no prepared data: run `python -m data.prepare data=quickstart`" in err
    assert list(tmp_path.iterdir()) == []


def picture(kind: str, size: tuple[int, int] = (320, 160), colour: str = "red") -> bytes:
    stream = BytesIO()
    Image.new("RGB", size, colour).save(stream, kind)
    return stream.getvalue()


def write_shards(folder: Path, samples: list[dict[str, object]]) -> Path:
    """Write samples to two shards and return the glob that means them."""
    folder.mkdir()
    half = len(samples) // 2
    for shard, part in enumerate((samples[:half], samples[half:])):
        with TarWriter(str(folder / f"a-{shard}.tar")) as writer:
            for i, sample in enumerate(part):
                writer.write({"__key__": f"s{shard}k{i}"} | sample)
    return folder / "*.tar"


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    kinds = [("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")]
    samples: list[dict[str, object]] = []
    for i in range(8):
        suffix, kind = kinds[i % 3]
        text: dict[str, object] = {"txt": f"caption {i}\nон 円"} if i % 2 else {"json": {"caption": f"number {i}"}}
        samples.append({suffix: picture(kind)} | text)
    return write_shards(tmp_path / "shards", samples)


def test_shards_are_counted_and_their_first_captions_shown(inspect: Command, shards: Path) -> None:
    code, out, _ = inspect("--shards", shards)
    assert code == 0
    assert out.splitlines() == [
        "2 shards, 8 samples: 4 .json, 4 .txt, 3 .jpg, 3 .png, 2 .webp",
        "",
        "s0k0  number 0",
        "s0k1  caption 1 он 円",
        "s0k2  number 2",
        "s0k3  caption 3 он 円",
        "s1k0  number 4",
    ]


def test_the_sheet_shows_every_image_in_its_place(inspect: Command, shards: Path, tmp_path: Path) -> None:
    code, out, _ = inspect("--shards", shards.parent, "--out", tmp_path / "sheet.png")
    assert code == 0
    assert f"8 images in {tmp_path / 'sheet.png'}; 0 could not be decoded" in out
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (COLUMNS * (TILE + 8), 2 * (TILE + LINE + 8))
        for i in range(12):
            at = (i % COLUMNS * (TILE + 8) + TILE // 2, i // COLUMNS * (TILE + LINE + 8) + TILE // 2)
            red, green, blue = sheet.getpixel(at)  # type: ignore[misc]
            assert (red > 240, green > 240, blue > 240) == ((True, False, False) if i < 8 else (True, True, True))


def damaged(kind: str) -> bytes:
    raw = picture(kind)
    return raw[: len(raw) // 2]


@pytest.mark.parametrize("raw", [damaged("JPEG"), damaged("PNG"), damaged("WEBP"), b"", b"GIF89a", bytes(500)])
def test_an_image_that_cannot_be_decoded_is_named_or_counted(inspect: Command, tmp_path: Path, raw: bytes) -> None:
    samples: list[dict[str, object]] = [{"jpg": picture("JPEG")}, {"x.jpg": raw}, {"png": picture("PNG")}]
    path, out = write_shards(tmp_path / "shards", samples), tmp_path / "sheet.png"
    code, _, err = inspect("--shards", path, "--out", out)
    assert code == 3
    assert "a-1.tar: s1k0.x.jpg: cannot be decoded" in err
    assert not out.exists()
    code, text, _ = inspect("--shards", path, "--out", out, "--bad-budget", 1)
    assert code == 0
    assert "2 images" in text
    assert "1 could not be decoded" in text


def test_a_caption_that_is_not_there_is_explained_in_its_place(inspect: Command, tmp_path: Path) -> None:
    samples: list[dict[str, object]] = [{"jpg": b""}, {"json": {"n": 1}}, {"txt": b"caf\xe9"}, {"json": {"alt": "a"}}]
    path = write_shards(tmp_path / "shards", samples)
    lines = inspect("--shards", path, "--text-key", "alt")[1].splitlines()[2:]
    assert lines[0].startswith("s0k0  (no .json with 'alt' (it has .jpg)")
    assert lines[1].startswith("s0k1  (.json: no text under 'alt' (it has .json, and in .json n")
    assert lines[2].startswith("s1k0  (no .json with 'alt' (it has .txt)")
    assert lines[3] == "s1k1  a"
    lines = inspect("--shards", path)[1].splitlines()[2:]
    assert lines[0].startswith("s0k0  (no .txt or .json with its text (it has .jpg)")
    assert lines[1].startswith("s0k1  (.json: no text under 'text' or 'caption'")
    assert lines[2].startswith("s1k0  (.txt: not UTF-8 (byte 3 is 0xe9)")


@pytest.mark.parametrize(
    ("args", "code", "sentence"),
    [
        (["--mixture", "web=0.5"], 2, "--mixture: weights sum to 0.5, not 1"),
        (["--mixture", "web=0.5,boks=0.5"], 2, "unknown domain 'boks'; did you mean 'books'"),
        (["--mixture", "web"], 2, "--mixture: 'web': write NAME=NUMBER"),
        (["--mixture", "web=0.5,web=0.5"], 2, "--mixture: 'web=0.5,web=0.5' names something twice"),
        (["--mixture", "web=nan,books=1"], 2, "weights must lie in [0, 1]"),
        (["--seq-len", "1000000", "--first", "10"], 3, "has too few tokens for a sequence of 1000000"),
        (["--shards", "x.tar"], 2, "remove the settings"),
        (["data.tokenizer.knd=bpe"], 2, "did you mean 'kind'"),
    ],
)
def test_a_mistake_is_one_sentence(
    inspect: Command, settings: list[str], args: list[str], code: int, sentence: str
) -> None:
    found, out, err = inspect(*settings, *args)
    assert (found, out) == (code, "")
    assert sentence in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("out", "sentence"), [("sheet.jpg", "must end in .png"), ("none/sheet.png", "cannot be written: No such file")]
)
def test_a_sheet_that_cannot_be_written_is_one_sentence(
    inspect: Command, shards: Path, tmp_path: Path, out: str, sentence: str
) -> None:
    code, text, err = inspect("--shards", shards, "--out", tmp_path / out)
    assert (code, text) == (2, "")
    assert sentence in err


def test_shards_without_images_make_no_sheet(inspect: Command, tmp_path: Path) -> None:
    path = write_shards(tmp_path / "shards", [{"txt": "a"}, {"txt": "b"}])
    code, _, err = inspect("--shards", path, "--out", tmp_path / "sheet.png")
    assert code == 3
    assert "no image for" in err


def test_shards_that_are_not_there_are_one_sentence(inspect: Command, tmp_path: Path) -> None:
    code, _, err = inspect("--shards", tmp_path / "*.tar")
    assert code == 3
    assert err.startswith("error: --shards.path: ")


@pytest.mark.parametrize("args", [["--first", "0"], ["--seq-len", "-1"], ["--first", "x"]])
def test_counts_are_at_least_one(args: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(args)


def test_texts_are_shortened_to_one_line() -> None:
    assert shortened(" a\n b ", 3) == "a b"
    assert shortened("abcdef", 4) == "abc…"


def test_the_module_prints_its_usage() -> None:
    code, out, _ = call("-m", "data.preview", "--help")
    assert code == 0
    assert "--mixture 'code=0.7,docs=0.3'" in out
