"""Files made to harm: each is refused with one sentence, at once, and runs nothing."""

import hashlib
import json
import pickle
import random
import shutil
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from data.config import SourceConfig
from data.readers.paths import find_files
from data.store.tokens import open_manifest, write_manifest
from data.store.verified import verify_touched
from data.yaml_files import check_yaml_files
from mixlaw.errors import CheckpointError, ConfigError, DataError, MixlawError
from tests.crash.harness import command
from tests.train.test_resume import folder_of, stop_at
from tests.train.tiny import write_corpus
from train.checkpoint import newest_checkpoint
from train.compose import compose_config
from train.loop import run
from train.plan import Plan

Plans = Callable[..., Plan]


class Bomb:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.canary,)


@contextmanager
def at_once() -> Iterator[None]:
    """A block that may take a second of CPU time and not more."""
    before = time.process_time()
    yield
    assert time.process_time() - before < 1


@pytest.fixture
def stopped(plan: Plans) -> Plan:
    """Return a run that stopped after step 3, and has this one checkpoint."""
    this = plan()
    assert run(this, stop_at(3)) == "again"
    return this


def newest(plan: Plan) -> Path:
    path = newest_checkpoint(folder_of(plan) / "checkpoints")
    assert path is not None
    return path


def plant(checkpoint: Path, name: str, raw: bytes) -> None:
    """Put bytes into a checkpoint as somebody would who also writes its manifest."""
    (checkpoint / name).write_bytes(raw)
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    manifest[name] = {"n_bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))


def tensors(header: bytes, body: bytes = b"\0" * 64) -> bytes:
    return struct.pack("<Q", len(header)) + header + body


def header(**offsets: list[int]) -> bytes:
    return json.dumps({k: {"dtype": "F32", "shape": [4], "data_offsets": o} for k, o in offsets.items()}).encode()


HOSTILE = {
    "no header": b"",
    "a header of 2^63 bytes": struct.pack("<Q", 1 << 63) + b"{}",
    "a header beyond the file": struct.pack("<Q", 10_000) + b"{}",
    "no JSON": tensors(b"}{"),
    "deep JSON": tensors(b"[" * 100_000),
    "offsets beyond the file": tensors(header(a=[0, 1 << 40])),
    "offsets that overlap": tensors(header(a=[0, 16], b=[8, 24])),
    "offsets that go back": tensors(header(a=[16, 0])),
    "a shape that overflows": tensors(b'{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,64]}}'),
    "other names": tensors(header(a=[0, 16]), b"\0" * 16),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_tensors_are_refused_though_their_manifest_vouches_for_them(name: str, stopped: Plan) -> None:
    plant(newest(stopped), "model.safetensors", HOSTILE[name])
    with at_once(), pytest.raises(CheckpointError, match="step-00000003 does not fit this model") as refused:
        run(stopped)
    assert "\n" not in str(refused.value)


def test_a_pickle_bomb_is_refused_and_does_not_go_off(stopped: Plan, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    bomb = pickle.dumps(Bomb(canary))
    plant(newest(stopped), "model.safetensors", bomb)
    with at_once(), pytest.raises(CheckpointError, match="does not fit this model"):
        run(stopped)
    assert not canary.exists()
    pickle.loads(bomb)
    assert canary.exists()  # it was a live one


DEEP = b"[" * 100_000
DIGITS = b"9" * 100_000
STATES = {
    "an endless number": b'{"log_bytes": ' + DIGITS + b', "step": 3}',
    "endless nesting": DEEP,
    "another step": b'{"step": 7}',
    "not a number": b'{"step": NaN}',
    "null": b"null",
}


@pytest.mark.parametrize("name", STATES)
def test_a_hostile_state_is_passed_over(name: str, stopped: Plan, caplog: pytest.LogCaptureFixture) -> None:
    plant(newest(stopped), "state.json", STATES[name])
    with at_once():
        assert run(stopped) == "finished"  # from the start
    assert "step-00000003 is passed over" in caplog.text


@pytest.mark.parametrize(
    "log_bytes", ["null", '"x"', "-5", "1.5", "true", "1e400", pytest.param("9" * 4000, id="9...")]
)
def test_a_state_that_cannot_be_of_this_log_is_passed_over(
    log_bytes: str, stopped: Plan, caplog: pytest.LogCaptureFixture
) -> None:
    plant(newest(stopped), "state.json", f'{{"step": 3, "log_bytes": {log_bytes}}}'.encode())
    with at_once():
        assert run(stopped) == "finished"
    assert "step-00000003 is passed over" in caplog.text


@pytest.mark.parametrize("raw", [DEEP, b'{"a": ' + DIGITS + b"}", b'{"domains": {}}', b"[]", b"\xff\xfe"], ids=range(5))
def test_a_hostile_manifest_of_data_is_refused(raw: bytes, tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path / "prepared")
    (manifest.folder / "manifest.json").write_bytes(raw)
    with at_once(), pytest.raises(DataError, match="is damaged"):
        open_manifest(manifest.folder)


@pytest.mark.parametrize(
    "raw",
    [DEEP, b"[]", b'["code/train-00000.tokens", ' + DIGITS + b"]", b"\0" * 99, b"{}\n[1]\n[null, 2]"],
    ids=range(5),
)
def test_a_hostile_note_of_what_was_verified_counts_for_nothing(raw: bytes, tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path / "prepared")
    (manifest.folder / ".verified.jsonl").write_bytes(raw)
    with at_once():
        verify_touched(manifest)


@pytest.mark.parametrize("name", ["run.json", "done.json"])
@pytest.mark.parametrize("raw", [DEEP, b'{"run_id": ' + DIGITS + b"}", b"[]", b"\xff\xfe", b""], ids=range(5))
def test_a_hostile_run_log_is_refused(name: str, raw: bytes, stopped: Plan) -> None:
    (folder_of(stopped) / name).write_bytes(raw)
    with at_once(), pytest.raises(MixlawError, match=name) as refused:
        run(stopped)
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("name", ["../../run.json", "/etc/hostname"])
def test_a_manifest_that_points_out_of_its_folder_is_passed_over(
    name: str, stopped: Plan, caplog: pytest.LogCaptureFixture
) -> None:
    path = newest(stopped) / "manifest.json"
    facts = json.loads(path.read_text())
    facts[name] = {"n_bytes": 1, "sha256": hashlib.sha256((path.parent / name).read_bytes()).hexdigest()}
    path.write_text(json.dumps(facts))
    with at_once():
        assert run(stopped) == "finished"
    assert "names a file outside of its folder" in caplog.text


def change_bytes(header: bytes, rng: random.Random) -> bytes:
    """Change up to three bytes of a header."""
    changed = bytearray(header)
    for _ in range(rng.randint(1, 3)):
        changed[rng.randrange(len(header))] = rng.randrange(256)
    return bytes(changed)


def change_facts(header: bytes, rng: random.Random) -> bytes:
    """Let a header state something else about one tensor."""
    facts = json.loads(header)
    name = rng.choice(sorted(facts.keys() - {"__metadata__"}))
    key, values = rng.choice(
        [
            ("dtype", ["F16", "F64", "BOOL", "I64", "F8_E4M3", "", None, 3]),
            ("shape", [[], [0], [-1], [1 << 63], [1 << 32, 1 << 32], [4, 4], "x", None, DIGITS[:5000].decode()]),
            ("data_offsets", [[0, 0], [0, 1], [1 << 63, 1 << 64], [16, 0], [0, 1 << 40], [], [0], None]),
        ]
    )
    facts[name][key] = rng.choice(values)
    if rng.random() < 0.1:
        facts[rng.choice(["../x", "a" * 10_000, "\0", name + " "])] = facts.pop(name)
    return json.dumps(facts).encode()


@pytest.mark.crash
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("change", [change_bytes, change_facts])
def test_mutated_headers_are_refused_or_harmless(
    change: Callable[[bytes, random.Random], bytes], plan: Plans, record_property: Callable[[str, object], None]
) -> None:
    """A changed header may still be one of these tensors; then the run goes on."""
    this = plan("schedule.n_tokens=256", "evaluation.n_points=1")
    assert run(this, stop_at(3)) == "again"
    origin = Path(shutil.copytree(folder_of(this), folder_of(this).with_name("origin")))
    raw = (newest(this) / "model.safetensors").read_bytes()
    end = 8 + struct.unpack("<Q", raw[:8])[0]
    rng, counts = random.Random(0), Counter[str]()
    for _ in range(1000):
        plant(newest(this), "model.safetensors", tensors(change(raw[8:end], rng), raw[end:]))
        try:
            with at_once():
                assert run(this) in ("finished", "diverged")
            counts["mutated headers that changed nothing, or the weights"] += 1
        except MixlawError:
            counts["mutated headers refused"] += 1
        shutil.rmtree(folder_of(this))
        shutil.copytree(origin, folder_of(this))
    assert counts["mutated headers refused"] > 300
    for what, n in counts.items():
        record_property(what, n)


@pytest.mark.parametrize("name", ["../x", "/etc", "a/b", "x\ny", "", "X", "a" * 65])
def test_a_domain_name_that_is_a_path_is_refused(name: str, tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path / "prepared")
    domains = manifest.facts["domains"]
    write_manifest(manifest.folder, manifest.facts | {"domains": {name: domains["code"]}})
    with pytest.raises(DataError, match="is not allowed") as refused:
        open_manifest(manifest.folder)
    assert "\n" not in str(refused.value)
    with pytest.raises(ConfigError):
        compose_config([f"+data.domains={{{json.dumps(name)}:{{reader:text,path:x}}}}"])


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a\nb.tokens", ".", ""])
def test_a_file_name_that_is_a_path_is_refused(name: str, tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path / "prepared")
    manifest.facts["domains"]["code"]["splits"]["train"]["files"][0]["name"] = name
    write_manifest(manifest.folder, manifest.facts)
    with pytest.raises(DataError, match="it names a file"):
        open_manifest(manifest.folder)


def test_a_path_with_a_line_break_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a\nerror: all is well.txt").write_text("text")
    with pytest.raises(DataError, match="control characters") as refused:
        find_files(SourceConfig("text", path=str(tmp_path)), "data.domains.x")
    assert "\n" not in str(refused.value)


ALIASES = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9)
)
YAML = {
    "an alias bomb": (ALIASES, "uses a YAML anchor"),
    "code as a target": (
        "model:\n  _target_: os.system\n  _args_: [touch CANARY]\n",
        "holds _target_, which names code to run",
    ),
    "an escaped target": (
        'model: {"\\x5ftarget_": os.system, _args_: [touch CANARY]}\n',
        "holds _target_, which names code",
    ),
    "a tag of Python": (
        "model: !!python/object/apply:os.system [touch CANARY]\n",
        "uses the YAML tag tag:yaml.org,2002:python",
    ),
    "an alias after a comment": ("# a & b\nx: 1\ny: [1, &b 2]\nz: *b\n", "evil.yaml, line 3, uses a YAML anchor"),
    "a file without end": ("x: " + "y" * (1 << 21), "is larger than 1,048,576 bytes"),
}


@pytest.mark.parametrize("name", YAML)
def test_hostile_configurations_are_refused(name: str, tmp_path: Path) -> None:
    text, sentence = YAML[name]
    (tmp_path / "evil.yaml").write_text(text.replace("CANARY", str(tmp_path / "canary")))
    with pytest.raises(ConfigError, match=sentence):
        check_yaml_files([tmp_path])
    end = command(tmp_path, "--config-dir", str(tmp_path), "+evil@model=evil")
    assert end.code == ConfigError.exit_code, end.said
    assert sentence in end.said
    assert end.said.count("\n") == 1
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "text",
    [
        "# &a\nx: 1 # *",
        "path: /data/*.parquet",
        "x: R&D",
        "x: 'a & b'",
        "my_target_: 1",
        "x: !!str 1",
        "x: |\n  a &b *b !c\n",
        "# _target_\nx: 1",
    ],
)
def test_ordinary_text_is_no_anchor_and_no_target(text: str, tmp_path: Path) -> None:
    (tmp_path / "fine.yaml").write_text(text)
    check_yaml_files([tmp_path])


@pytest.mark.parametrize("key", ["+model", "model", "hydra.launcher", "++data.domains.x"])
def test_an_override_that_names_code_is_refused(key: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    end = command(tmp_path, f"{key}._target_=os.system", f"{key}._args_=['touch {canary}']")
    assert end.code == ConfigError.exit_code, end.said
    assert "names code to run" in end.said
    assert end.said.count("\n") == 1
    assert not canary.exists()


@pytest.mark.parametrize("name", ["../x", "/etc", "'../x'", "'x\ny'"])
def test_a_weight_of_a_domain_that_is_a_path_is_refused(
    name: str, tiny: Callable[..., list[str]], tmp_path: Path
) -> None:
    end = command(tmp_path, *tiny(f"mixture.weights={{{name}:1}}"))
    assert end.code == ConfigError.exit_code, end.said
    assert end.said.startswith("error: ")
    assert end.said.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} <= {"runs"}
