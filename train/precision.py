"""The arithmetic of a run: which numbers are computed in which type, the same on one process, under DDP and FSDP.

Under bf16 every weight enters a computation rounded to bf16, and what blocks hand on (the residual stream) is bf16.
Norms, rotary positions, softmax and losses are computed in fp32 from there. A gradient of one micro-batch is bf16; its
sums over micro-batches and ranks, its norm, the weights that AdamW changes and its statistics are fp32. The lookup
table is read in fp32 and its rows are rounded, which gives the same values and sums its gradient in fp32.
"""

import torch
from torch import Tensor

ARITHMETIC: dict[str, dict[str, str]] = {
    "fp32": {"matrix_products": "fp32", "residual_stream": "fp32"},
    "tf32": {"matrix_products": "tf32 on GPUs that have it", "residual_stream": "fp32"},
    "bf16": {"matrix_products": "bf16, sums in fp32", "residual_stream": "bf16"},
}
_ALWAYS_FP32 = ("weights", "gradient_sums", "norms", "rotary", "losses")
VERSIONS = {"fp32": 1, "tf32": 1, "bf16": 2}  # raised when the arithmetic of a precision changes


def arithmetic(precision: str) -> dict[str, str]:
    """Return what run.json states: the type in which each kind of computation is done."""
    return ARITHMETIC[precision] | dict.fromkeys(_ALWAYS_FP32, "fp32")


def set_matrix_products(precision: str) -> None:
    """Let fp32 matrix products of this process be exact, or TF32 where a run asked for that by name."""
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which matrix products run in the run's precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def as_stream(x: Tensor) -> Tensor:
    """Return what enters the residual stream in its type: bf16 within autocast, as it is elsewhere."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x
