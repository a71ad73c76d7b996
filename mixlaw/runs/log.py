"""Run directories: the contract between the trainer, which writes them, and the fitter, which reads them.

    runs/<study>/<run_id>/
      run.json        fixed at the start: config, parameter counts, mixture, data, hardware; `n_tokens`, the final D;
                      `began`, the UTC time; `init_from`, the weights that it starts from, with their hash and losses;
                      `units`, target -> unit of its losses where that is not nats per token; `evaluation`, the tokens
                      of its evaluations
      metrics.jsonl   append only: "train" rows and "eval" rows
      done.json       the seal: status, number of rows, sha256 of metrics.jsonl and of run.json
      checkpoints/    of the trainer

metrics.jsonl is the only source of losses, in nats per token, or in the unit that run.json states. Eval rows of tasks
also have `score`, the share of `n_questions` that the model answers rightly, and its standard error `score_se`. A run
whose files differ from the seal is refused, and an unsealed run is never fitted. In run.json, `data.<domain>.n_tokens`
counts the unique training tokens that the run may read; if they are limited, `data.<domain>.corpus_tokens` counts all.
run.json of mixlaw before 0.2 lacks `n_tokens` (see `final_tokens`), before 0.3 `began`.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mixlaw.errors import RunLogError
from mixlaw.fileio import canonical_json, file_sha256, read_json, refuse_constant, refuse_duplicates, write_atomically
from mixlaw.runs.phases import check_phases

SCHEMA_VERSION = 1
STATUSES = ("finished", "diverged", "stopped")
MAX_LINE = 1 << 20  # bytes of a row
MAX_NUMBER = 1 << 62  # larger numbers do not fit into int64 columns

_NUMBER = (int, float)
_ROW_KEYS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "train": {
        "kind": str,
        "step": int,
        "n_tokens": int,
        "loss": _NUMBER,
        "grad_norm": _NUMBER,
        "lr": _NUMBER,
        "tokens_by_domain": dict,
    },
    "eval": {
        "kind": str,
        "step": int,
        "n_tokens": int,
        "domain": str,
        "loss": _NUMBER,
        "loss_se": _NUMBER,
        "n_eval_tokens": int,
        "lr_state": str,
    },
}
_OPTIONAL_KEYS: dict[str, dict[str, type | tuple[type, ...]]] = {  # of runs on images, and of tasks
    "train": {"n_image_tokens": int, "n_loss_tokens": int, "n_samples": int},
    "eval": {"score": _NUMBER, "score_se": _NUMBER, "n_questions": int},
}
_RUN_KEYS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("run_id", "study", "family"), str),
    **dict.fromkeys(("schema_version", "tokens_per_step"), int),
    **dict.fromkeys(("config", "n_params", "flops_per_token", "mixture", "tokenizer", "data"), dict),
}


def run_id(science: Mapping[str, Any]) -> str:
    """Return the first 12 hex digits of the sha256 of all settings that affect losses."""
    return digest(science)[:12]


def digest(facts: Mapping[str, Any]) -> str:
    """Return the sha256 of facts in their canonical JSON form."""
    return hashlib.sha256(canonical_json(facts).encode()).hexdigest()


class RunWriter:
    """Writes one run directory.

    Parameters
    ----------
    folder : the run directory; created if absent
    facts : contents of run.json; an existing run.json must be of the same run

    Raises
    ------
    RunLogError
        If the directory belongs to another run, or is sealed.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "done.json").exists():
            raise RunLogError(f"{folder} is sealed: its run is over. Delete the folder to run it again")
        if not (folder / "run.json").exists():
            write_atomically(folder / "run.json", json.dumps(facts, indent=1, sort_keys=True, allow_nan=False))
        elif read_facts(folder)["run_id"] != facts["run_id"]:
            raise RunLogError(f"{folder}/run.json describes another run ({read_facts(folder)['run_id']})")
        self._file = (folder / "metrics.jsonl").open("ab")

    @property
    def offset(self) -> int:
        """Bytes written so far; a checkpoint stores it to truncate the log when the run resumes."""
        return self._file.tell()

    def append(self, row: Mapping[str, Any]) -> None:
        """Append one row; it is durable after the next `sync`."""
        self._file.write(canonical_json(row).encode() + b"\n")

    def sync(self) -> None:
        """Flush all rows to disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def cut(self, offset: int) -> None:
        """Truncate the log at `offset`, because the run resumes from an older checkpoint.

        Raises
        ------
        RunLogError
            If the log is shorter than `offset`.
        """
        self._file.flush()
        size = self._file.seek(0, os.SEEK_END)
        if size < offset:
            raise RunLogError(
                f"{self.folder}/metrics.jsonl has {size} bytes, its checkpoint saw {offset}: rows were lost"
            )
        self._file.truncate(offset)
        self._file.seek(offset)
        self.sync()

    def seal(self, status: str, **facts: Any) -> None:
        """Close the log and write done.json, which ends the run.

        Parameters
        ----------
        status : finished, diverged or stopped
        facts : further contents of done.json
        """
        self.close()
        raw = (self.folder / "metrics.jsonl").read_bytes()
        seal = {
            "status": status,
            "rows": raw.count(b"\n"),
            "sha256": hashlib.sha256(raw).hexdigest(),
            "run_sha256": file_sha256(self.folder / "run.json"),
            **facts,
        }
        write_atomically(self.folder / "done.json", json.dumps(seal, indent=1, sort_keys=True, allow_nan=False))

    def close(self) -> None:
        """Close the log without a seal; the run can be resumed."""
        if not self._file.closed:
            self.sync()
            self._file.close()


def read_facts(folder: Path) -> dict[str, Any]:
    """Return run.json.

    Raises
    ------
    RunLogError
        Naming a key that is missing or has a wrong type.
    """
    path = folder / "run.json"
    facts = read_json(path)
    for key, kind in _RUN_KEYS.items():
        if not isinstance(facts.get(key), kind) or isinstance(facts.get(key), bool):
            raise RunLogError(f"{path}: '{key}' is {facts.get(key, 'missing')!r:.60}, which is not what a run states")
    if facts["schema_version"] != SCHEMA_VERSION:
        raise RunLogError(f"{path}: schema_version {facts['schema_version']}; this mixlaw reads {SCHEMA_VERSION}")
    _check_regressors(facts, path)
    check_phases(facts, path)
    _check_origin(facts, path)
    _check_units(facts, path)
    return facts


def final_tokens(facts: Mapping[str, Any]) -> int:
    """Return the final D of a run; 0 if an old run.json does not state it.

    Parameters
    ----------
    facts : contents of run.json
    """
    if "n_tokens" in facts:
        return int(facts["n_tokens"])
    return int(facts.get("n_steps", 0) * facts["tokens_per_step"])


def corpus_tokens(facts: Mapping[str, Any], domain: str) -> int:
    """Return the training tokens of a whole domain, of which the run may have read a part only.

    Parameters
    ----------
    facts : contents of run.json
    """
    entry = facts["data"][domain]
    return int(entry.get("corpus_tokens", entry["n_tokens"]))


def _check_regressors(facts: Mapping[str, Any], path: Path) -> None:
    """Raise RunLogError if N, h or the tokens per domain are missing or wrong."""
    counts = {f"n_params.{key}": facts["n_params"].get(key) for key in ("total", "non_embedding")}
    if "n_tokens" in facts:
        counts["n_tokens"] = facts["n_tokens"]
    for domain, weight in facts["mixture"].items():
        if type(weight) not in _NUMBER or not 0 <= weight <= 1:
            raise RunLogError(f"{path}: the weight of '{domain}' is {weight!r:.60}, expected 0 to 1")
        pool = facts["data"].get(domain)
        counts[f"data.{domain}.n_tokens"] = pool.get("n_tokens") if isinstance(pool, dict) else None
        if isinstance(pool, dict) and "corpus_tokens" in pool:
            counts[f"data.{domain}.corpus_tokens"] = pool["corpus_tokens"]
    for name, count in counts.items():
        if not _is_count(count):
            raise RunLogError(f"{path}: {name} is {count!r:.60}, expected a count")


def _check_origin(facts: Mapping[str, Any], path: Path) -> None:
    """Raise RunLogError if a run that starts from given weights lacks the losses that these had."""
    origin = facts.get("init_from", {"losses": {}})
    losses = origin.get("losses") if isinstance(origin, dict) else None
    if not isinstance(losses, dict) or not all(type(v) in _NUMBER and 0 <= v <= MAX_NUMBER for v in losses.values()):
        raise RunLogError(f"{path}: 'init_from' is {origin!r:.60}, expected the hash of weights and their losses")


def _check_units(facts: Mapping[str, Any], path: Path) -> None:
    """Raise RunLogError unless `units`, if present, names a unit for each of its targets."""
    units = facts.get("units", {})
    if not isinstance(units, dict) or not all(isinstance(unit, str) and unit.strip() for unit in units.values()):
        raise RunLogError(f"{path}: 'units' is {units!r:.60}, expected target -> unit, such as bits/byte")


def read_status(folder: Path) -> str:
    """Return 'planned', 'unfinished', or the status in the seal."""
    if (folder / "done.json").exists():
        return str(read_json(folder / "done.json").get("status"))
    return "unfinished" if (folder / "run.json").exists() else "planned"


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """Return the checked rows of a sealed run.

    Raises
    ------
    RunLogError
        Naming file and line: no seal, contents that differ from the seal, or an invalid row.
    """
    path = folder / "metrics.jsonl"
    seal = read_json(folder / "done.json")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise RunLogError(f"{path}: {error.strerror}") from None
    lines = raw.split(b"\n")
    if lines.pop() != b"":
        raise RunLogError(f"{path} line {len(lines) + 1} is incomplete: copy the run again, or rerun its command")
    rows = [_read_row(line, f"{path} line {i}") for i, line in enumerate(lines, 1)]
    if hashlib.sha256(raw).hexdigest() != seal.get("sha256"):
        raise RunLogError(
            f"{path} was changed after the run: sha256 differs ({len(rows)} rows, sealed {seal.get('rows')}). "
            "Copy the run again, or delete its folder and rerun its command"
        )
    return rows


def _read_row(line: bytes, where: str) -> dict[str, Any]:
    if len(line) > MAX_LINE:
        raise RunLogError(f"{where} has {len(line):,} bytes; a row has fewer than {MAX_LINE:,}")
    try:
        row = json.loads(line, parse_constant=refuse_constant, object_pairs_hook=refuse_duplicates)
    except (ValueError, RecursionError) as error:
        raise RunLogError(f"{where} is not valid JSON: {str(error)[:120]}") from None
    kind = str(row.get("kind")) if isinstance(row, dict) else ""
    keys, optional = _ROW_KEYS.get(kind, {}), _OPTIONAL_KEYS.get(kind, {})
    if not keys or not set(keys) <= set(row) <= {*keys, *optional}:
        raise RunLogError(f"{where} is neither a train row nor an eval row: {line[:80].decode(errors='replace')}")
    for key in (key for key in keys | optional if key in row):
        expected = (keys | optional)[key]
        if not isinstance(row[key], expected) or isinstance(row[key], bool):
            raise RunLogError(f"{where}: '{key}' is {row[key]!r:.60}, expected {expected}")
        if isinstance(row[key], _NUMBER) and not 0 <= row[key] <= MAX_NUMBER:  # also refuses NaN
            raise RunLogError(f"{where}: '{key}' is {row[key]!r:.60}, expected a finite number of at least 0")
    if row.get("score", 0) > 1:
        raise RunLogError(f"{where}: 'score' is {row['score']!r:.60}, expected a share of the questions, 0 to 1")
    if not all(_is_count(v) for v in row.get("tokens_by_domain", {}).values()):
        raise RunLogError(f"{where}: 'tokens_by_domain' holds something other than counts")
    return row


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_NUMBER
