"""Whether a server can be reached at all: asked before a download, whose own patience is minutes of retries."""

import queue
import socket
import threading
from collections.abc import Iterable
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

PATIENCE_S = 3.0  # for a name to be resolved and a connection to be opened
_PORTS = {"http": 80, "https": 443}


def unreachable(urls: Iterable[str], proxy: str = "") -> str:
    """Return why none of some servers can be reached, or the empty string where one can, or none is asked.

    Parameters
    ----------
    urls : others than of http and https are not asked
    proxy : a proxy that is asked instead; by default those of the environment, as for any program
    """
    servers = {address: url for url in urls if (address := _address(url, proxy))}
    answers: queue.SimpleQueue[str] = queue.SimpleQueue()
    for address in servers:
        threading.Thread(target=_connect, args=(address, answers), daemon=True).start()
    why = ""
    for _ in servers:
        try:
            why = answers.get(timeout=PATIENCE_S)
        except queue.Empty:  # resolving a name can take longer, and cannot be interrupted
            why = f"no answer within {PATIENCE_S:g} s"
            break
        if not why:
            return ""
    named = ", ".join(f"{host}:{port}" for host, port in servers)
    return f"{named} cannot be reached ({why})" if servers else ""


def _address(url: str, proxy: str) -> tuple[str, int] | None:
    """Return host and port that a request for a URL connects to: the server's, or those of the proxy before it."""
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
