"""What a step tells the host, late: a GPU goes on with the next step while the numbers of this one travel."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

STEPS_LATE = {"cuda": 1, "cpu": 0}  # steps that are started before the numbers of one are read


@dataclass
class Reading:
    """The numbers of a step, on their way from the device since this was made; nothing waits until they are read.

    Attributes
    ----------
    step, n_tokens, lr : which step, the tokens so far, its learning rate
    numbers : (3,) on the device: the loss, whether any rank was told to stop, the gradient's norm
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
        """Wait for the step, not for those that follow it; return loss, whether to stop, and gradient norm."""
        if self._copied:
            self._copied.synchronize()
        loss, stops, grad_norm = self.numbers.tolist()
        return loss, stops > 0, grad_norm
