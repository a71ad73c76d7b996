"""Small run directories, as the trainer writes them."""

from pathlib import Path
from typing import Any

from mixlaw.runs.log import RunWriter

TARGETS = {"code": 1.5, "web": 3.0, "held": 2.0}


def facts(name: str = "aaa", **changes: Any) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "run_id": name,
        "study": "s",
        "family": "text",
        "config": {"seed": 3},
        "n_params": {"total": 3_000_000_000, "non_embedding": 2_000_000_000},
        "flops_per_token": {"six_n": 1},
        "tokens_per_step": 100,
        "mixture": {"code": 0.5, "web": 0.5},
        "tokenizer": {},
        "data": {"code": {"n_tokens": 500}, "web": {"n_tokens": 1000}, "held": {"n_tokens": 9}},
    } | changes


def train_row(step: int, **changes: Any) -> dict[str, Any]:
    spent = {"code": 40 * step, "web": 60 * step}
    return {
        "kind": "train",
        "step": step,
        "n_tokens": 100 * step,
        "loss": 3.25,
        "grad_norm": 1.0,
        "lr": 0.1,
        "tokens_by_domain": spent,
    } | changes


def eval_row(step: int, domain: str, loss: float, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "eval",
        "step": step,
        "n_tokens": 100 * step,
        "domain": domain,
        "loss": loss,
        "loss_se": 0.01,
        "n_eval_tokens": 64,
        "lr_state": "constant",
    } | changes


def run_rows(steps: int = 2) -> list[dict[str, Any]]:
    return [
        row
        for step in range(1, steps + 1)
        for row in (train_row(step), *(eval_row(step, t, loss / step) for t, loss in TARGETS.items()))
    ]


def write_run(root: Path, name: str = "aaa", rows: list[dict[str, Any]] | None = None, **changes: Any) -> Path:
    """Write a finished run."""
    writer = RunWriter(root / "s" / name, facts(name, **changes))
    for row in run_rows() if rows is None else rows:
        writer.append(row)
    writer.seal("finished")
    return writer.folder
