"""The mean of the weights over the last part of the training so far, in one extra copy of the weights.

At a constant learning rate the last step's weights jump around the place that the run has come to; their mean lies
closer to it, and two runs that differ in luck only lie closer together. The part grows with the training, so that every
evaluation on a logarithmic grid of D is the same kind of point of the law.
"""

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


class WeightAverage:
    """A mean in which step s counts as s ** (2 / share - 2), after any number of steps.

    It is as old on average as the plain mean of the last `share` of all steps, and at share 1 it is the plain mean of
    all (polynomial-decay averaging: Shamir & Zhang 2013, arXiv:1212.1824, section 4).

    Parameters
    ----------
    model : that will hold the mean, of the same shape and on the same ranks as the one that is trained; its values are
        forgotten
    share : of the training so far, above 0, at most 1
    """

    def __init__(self, model: nn.Module, share: float) -> None:
        self.model = model.requires_grad_(False)
        for parameter in model.parameters():
            parameter.zero_()  # the first step counts in full; what a new tensor holds may be no number
        self._share = share

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after a step; steps count from 1."""
        weight = newest_weight(self._share, step)
        torch._foreach_lerp_(_local(self.model), _local(model), weight)


def _local(model: nn.Module) -> list[Tensor]:
    """Return this rank's part of every parameter."""
    return [p.to_local() if isinstance(p, DTensor) else p for p in model.parameters()]


def newest_weight(share: float, step: int) -> float:
    """Return how much the newest of `step` weights counts in the mean: a function of the step, so resuming is exact."""
    return (2 - share) / (share * step + 2 - 2 * share)
