"""Weight averaging over the last part of the training so far, in one extra copy of the weights.

At a constant learning rate, the weights fluctuate around a slowly moving mean. The averaged weights have a lower loss,
and runs that differ only in their seed differ less. The averaging window grows in proportion to the training, so
evaluations on a logarithmic grid of D are comparable points of the law.
"""

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


class WeightAverage:
    """Polynomial-decay averaging: step s has the weight s ** (2 / share - 2).

    Its mean age is that of a uniform mean over the last `share` of all steps; with share 1 it is the uniform mean of
    all steps (Shamir & Zhang 2013, arXiv:1212.1824, section 4).

    Parameters
    ----------
    model : receives the mean; same shapes and ranks as the trained model; its values are overwritten
    share : share of the training so far, above 0 and at most 1
    """

    def __init__(self, model: nn.Module, share: float) -> None:
        self.model = model.requires_grad_(False)
        for parameter in model.parameters():
            parameter.zero_()  # the first step has weight 1, but uninitialised memory may contain NaN
        self._share = share

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Update the mean with the weights after a step; steps are numbered from 1."""
        weight = newest_weight(self._share, step)
        torch._foreach_lerp_(_local(self.model), _local(model), weight)


def _local(model: nn.Module) -> list[Tensor]:
    """Return this rank's shard of every parameter."""
    return [p.to_local() if isinstance(p, DTensor) else p for p in model.parameters()]


def newest_weight(share: float, step: int) -> float:
    """Return the weight of the newest of `step` steps in the mean; a function of the step, so resuming is exact."""
    return (2 - share) / (share * step + 2 - 2 * share)
