"""Files made to harm: each is refused with one sentence, at once, and runs nothing."""

import hashlib
import json
import pickle
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data.config import SourceConfig
from data.own_files import find_files
from data.shards import open_manifest, write_manifest
from data.yaml_files import check_yaml_files
from mixlaw.errors import CheckpointError, ConfigError, DataError, MixlawError
from tests.train.test_resume import folder_of, stop_at
from tests.train.tiny import call, write_corpus
from train.checkpoint import newest_checkpoint
from train.compose import compose_config
from train.config import Plan
from train.loop import run

Plans = Callable[..., Plan]


class Bomb:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.canary,)


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
    with pytest.raises(CheckpointError, match="step-00000003 does not fit this model") as refused:
        run(stopped)
    assert "\n" not in str(refused.value)


def test_a_pickle_bomb_is_refused_and_does_not_go_off(stopped: Plan, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    bomb = pickle.dumps(Bomb(canary))
    plant(newest(stopped), "model.safetensors", bomb)
    with pytest.raises(CheckpointError, match="does not fit this model"):
        run(stopped)
    assert not canary.exists()
    pickle.loads(bomb)
    assert canary.exists()  # it was a live one


@pytest.mark.parametrize(
    "raw",
    [b'{"log_bytes": ' + b"9" * 100_000 + b', "step": 3}', b"[" * 100_000, b'{"step": 7}', b'{"step": NaN}', b"null"],
    ids=["an endless number", "endless nesting", "another step", "no number", "null"],
)
def test_a_hostile_state_is_passed_over(raw: bytes, stopped: Plan, caplog: pytest.LogCaptureFixture) -> None:
    plant(newest(stopped), "state.json", raw)
    assert run(stopped) == "finished"  # from the start
    assert "step-00000003 is passed over" in caplog.text


@pytest.mark.parametrize("name", ["../../run.json", "/etc/hostname"])
def test_a_manifest_that_points_out_of_its_folder_is_passed_over(
    name: str, stopped: Plan, caplog: pytest.LogCaptureFixture
) -> None:
    path = newest(stopped) / "manifest.json"
    facts = json.loads(path.read_text())
    facts[name] = {"n_bytes": 1, "sha256": hashlib.sha256((path.parent / name).read_bytes()).hexdigest()}
    path.write_text(json.dumps(facts))
    assert run(stopped) == "finished"
    assert "names a file outside of its folder" in caplog.text


@pytest.mark.crash
@pytest.mark.timeout(3000)
def test_mutated_headers_are_refused_or_harmless(stopped: Plan) -> None:
    """A header with a changed byte may still be one of these tensors; then the run goes on."""
    import shutil

    checkpoint, kept = newest(stopped), folder_of(stopped).with_name("kept")
    shutil.copytree(folder_of(stopped), kept)
    raw = (checkpoint / "model.safetensors").read_bytes()
    length = 8 + struct.unpack("<Q", raw[:8])[0]
    rng, outcomes = random.Random(0), dict.fromkeys(("refused", "went on"), 0)
    for _ in range(2000):
        changed = bytearray(raw)
        for _ in range(rng.randint(1, 3)):
            changed[rng.randrange(length)] = rng.randrange(256)
        plant(checkpoint, "model.safetensors", bytes(changed))
        try:
            assert run(stopped) in ("finished", "diverged")
            outcomes["went on"] += 1
        except MixlawError:
            outcomes["refused"] += 1
        shutil.rmtree(folder_of(stopped))
        shutil.copytree(kept, folder_of(stopped))
    assert outcomes["refused"] > 1000
    print(outcomes)


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
    "code as a target": ("model:\n  _target_: os.system\n", "holds _target_, which names code to run"),
    "a file without end": ("x: " + "y" * (1 << 21), "is larger than 1,048,576 bytes"),
}


@pytest.mark.parametrize("name", YAML)
def test_hostile_configurations_are_refused(name: str, tmp_path: Path) -> None:
    text, sentence = YAML[name]
    (tmp_path / "evil.yaml").write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        check_yaml_files([tmp_path])
    code, out, err = call("-m", "train", "--config-dir", str(tmp_path), "+evil@model=evil")
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("text", ["# &a\nx: 1 # *", "path: /data/*.parquet", "x: R&D", "x: 'a & b'", "my_target_: 1"])
def test_ordinary_text_is_no_anchor_and_no_target(text: str, tmp_path: Path) -> None:
    (tmp_path / "fine.yaml").write_text(text)
    check_yaml_files([tmp_path])


@pytest.mark.parametrize(
    "override", ["+model._target_=os.system", "model._target_=os.system", "hydra.launcher._target_=os.system"]
)
def test_an_override_that_names_code_is_refused(override: str) -> None:
    code, out, err = call("-m", "train", "-m", override)
    assert (code, out) == (2, "")
    assert "names code to run" in err
    assert err.count("\n") == 1
