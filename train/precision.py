"""Number formats of a run, the same for one process, DDP and FSDP.

With bf16, weights are rounded to bf16 for computation, and the residual stream is bf16. Norms, rotary positions,
softmax and losses are computed in fp32. The gradient of one micro-batch is bf16. Sums of gradients over micro-batches
and ranks, the gradient norm, the master weights and AdamW's statistics are fp32. The lookup table is read in fp32 and
its rows are rounded, which gives the same values and accumulates its gradient in fp32.
"""

import torch
from torch import Tensor

ARITHMETIC: dict[str, dict[str, str]] = {
    "fp32": {"matrix_products": "fp32", "residual_stream": "fp32"},
    "tf32": {"matrix_products": "tf32 on GPUs that have it", "residual_stream": "fp32"},
    "bf16": {"matrix_products": "bf16, sums in fp32", "residual_stream": "bf16"},
}
_ALWAYS_FP32 = ("weights", "gradient_sums", "norms", "rotary", "losses")
VERSIONS = {"fp32": 1, "tf32": 1, "bf16": 2}  # part of the run id; raised when the arithmetic changes


def arithmetic(precision: str) -> dict[str, str]:
    """Return the number format of each kind of computation, for run.json."""
    return ARITHMETIC[precision] | dict.fromkeys(_ALWAYS_FP32, "fp32")


def set_matrix_products(precision: str) -> None:
    """Use exact fp32 matrix products in this process, or TF32 with precision=tf32."""
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the autocast context for a precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def as_stream(x: Tensor) -> Tensor:
    """Cast to the type of the residual stream: bf16 inside autocast, else unchanged."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x
