"""What W&B wrote offline, read back with W&B's own reader; and servers that are none of W&B's."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import train.sinks

Record = dict[str, Any]


def private(folder: Path) -> dict[str, str]:
    """Return the environment of a W&B that has no network and keeps all of its files below a folder."""
    places = {name: str(folder) for name in ("HOME", "WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR")}
    return places | {"WANDB_MODE": "offline"}


def be_patient() -> None:
    """Let the trainer wait for its mirror: on a loaded machine a slow one is not a dead one."""
    train.sinks.DEADLINE_S = 100.0


def inspect(folder: Path) -> list[tuple[str, Record]]:
    """Return the records of an offline run in order, each with its type."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return [(row["type"], row.get(row["type"], {})) for row in rows]


def of_type(records: list[tuple[str, Record]], kind: str) -> Iterator[Record]:
    """Yield the records of one type."""
    return (record for name, record in records if name == kind)


def history(records: list[tuple[str, Record]]) -> list[tuple[int, Record]]:
    """Return the logged rows, each with its step, without what W&B adds."""
    rows = []
    for record in of_type(records, "history"):
        rows.append((record["step"].get("num", 0), {k: v for k, v in record["item"].items() if not k.startswith("_")}))
    return rows


def summary(records: list[tuple[str, Record]]) -> Record:
    """Return the numbers that a page ends with."""
    merged: Record = {}
    for record in of_type(records, "summary"):
        merged |= record.get("update", {})
    return merged


@contextmanager
def server_that_says(status: int) -> Iterator[str]:
    """Run a server with one answer to everything."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
