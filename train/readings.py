"""Asynchronous transfer of a step's numbers to the host: the GPU continues with the next step meanwhile."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

STEPS_LATE = {"cuda": 1, "cpu": 0}  # steps by which reading the numbers lags behind


@dataclass
class Reading:
    """The numbers of a step; the copy to the host starts at construction, and only `read` waits for it.

    Attributes
    ----------
    step, n_tokens, lr : number of the step, tokens so far, learning rate
    numbers : (3,) on the device: loss, whether any rank should stop, gradient norm
    """

    step: int
    n_tokens: int
    lr: float
    numbers: Tensor
    _copied: "torch.cuda.Event | None" = field(default=None, init=False)

    def __post_init__(self) -> None:
        on_gpu = self.numbers.is_cuda
        self.numbers = self.numbers.to("cpu", non_blocking=True)  # into pinned memory
        if on_gpu:
            self._copied = torch.cuda.Event()
            self._copied.record()

    def read(self) -> tuple[float, bool, float]:
        """Wait for this step, not for later ones; return loss, whether to stop, and gradient norm."""
        if self._copied:
            self._copied.synchronize()
        loss, stops, grad_norm = self.numbers.tolist()
        return loss, stops > 0, grad_norm
