"""Peak FLOP/s of GPUs, for model FLOPs utilisation (MFU), and their memory."""

import re

import torch
import torch.distributed as dist

# Dense bf16 tensor FLOP/s from NVIDIA's data sheets, which mostly state twice as many, "with sparsity". Keys match the
# names that CUDA reports. Slower variants of a chip are left out, because they throttle below their data sheets.
PEAKS = {
    r"B200": 2250e12,  # HGX B200: 36 PFLOP/s of eight with sparsity
    r"H200(?! NVL)": 989.5e12,  # H200 SXM: 1,979 with sparsity
    r"H100(?! PCIe| NVL)": 989.5e12,  # H100 SXM: 1,979 with sparsity
    r"A100-SXM\d": 312e12,
    r"L40S": 362e12,
    r"V100-SXM\d": 125e12,  # fp16: it has no bf16
    r"RTX 4090$": 165.2e12,  # Ada architecture, appendix A; sums in fp32
}

# Memory of the same GPUs from their names and data sheets [bytes].
MEMORY = {
    r"B200": 180e9,
    r"H200": 141e9,
    r"H100": 80e9,
    r"A100-SXM\d-40GB": 40e9,
    r"A100-SXM\d-80GB": 80e9,
    r"L40S": 48e9,
    r"V100-SXM\d-16GB": 16e9,
    r"V100-SXM\d-32GB": 32e9,
    r"RTX 4090": 24e9,
}
NAMES = ("B200", "H200", "H100", "A100-SXM4-40GB", "A100-SXM4-80GB", "L40S", "V100-SXM2-32GB", "RTX 4090")


def memory_of(gpu: str) -> float | None:
    """Return the memory of a GPU by its name [bytes]; None if unknown, as for MIG slices."""
    if " MIG " in gpu:
        return None
    return next((n_bytes for name, n_bytes in MEMORY.items() if re.search(rf"\b{name}(?!\w)", gpu)), None)


def peak_of(gpu: str) -> float | None:
    """Return the dense bf16 FLOP/s of a GPU by its name; None if unknown, as for MIG slices."""
    if " MIG " in gpu:
        return None
    return next((flops for name, flops in PEAKS.items() if re.search(rf"\b{name}(?!\w)", gpu)), None)


def peak_in_use() -> float | None:
    """Return the peak FLOP/s of all GPUs that train this run; None on CPUs and for unknown GPUs."""
    if not (torch.cuda.is_available() and torch.cuda.memory_allocated()):  # machine.device=cpu ignores a GPU
        return None
    peak = peak_of(torch.cuda.get_device_name())
    return peak and peak * (dist.get_world_size() if dist.is_initialized() else 1)
