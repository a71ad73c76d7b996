"""Checks whether a server can be reached before a download, which would retry for minutes."""

import queue
import socket
import threading
from collections.abc import Iterable
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

PATIENCE_S = 3.0  # timeout for name resolution and connection
_PORTS = {"http": 80, "https": 443}


def unreachable(urls: Iterable[str], proxy: str = "") -> str:
    """Return why none of the servers can be reached; the empty string if one can, or if there is none to check.

    Parameters
    ----------
    urls : of the servers; schemes other than http and https are ignored
    proxy : is checked instead of the servers; by default the proxies of the environment
    """
    servers = {address: url for url in urls if (address := _address(url, proxy))}
    answers: queue.SimpleQueue[str] = queue.SimpleQueue()
    for address in servers:
        threading.Thread(target=_connect, args=(address, answers), daemon=True).start()
    why = ""
    for _ in servers:
        try:
            why = answers.get(timeout=PATIENCE_S)
        except queue.Empty:  # name resolution can take longer and cannot be interrupted
            why = f"no answer within {PATIENCE_S:g} s"
            break
        if not why:
            return ""
    named = ", ".join(f"{host}:{port}" for host, port in servers)
    return f"{named} cannot be reached ({why})" if servers else ""


def _address(url: str, proxy: str) -> tuple[str, int] | None:
    """Return host and port that a request for a URL connects to: of the server, or of its proxy."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        return None
    if not proxy and not proxy_bypass(parts.hostname):
        proxies = getproxies()
        proxy = proxies.get(parts.scheme) or proxies.get("all") or ""
    if proxy:
        parts = urlsplit(proxy if "//" in proxy else f"http://{proxy}")
    return (parts.hostname, parts.port or _PORTS.get(parts.scheme, 80)) if parts.hostname else None


def _connect(address: tuple[str, int], answers: "queue.SimpleQueue[str]") -> None:
    try:
        socket.create_connection(address, PATIENCE_S).close()
        answers.put("")
    except OSError as error:
        answers.put(error.strerror or str(error) or type(error).__name__)
