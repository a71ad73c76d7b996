"""Parameter groups and learning rate schedule: AdamW under muP, so that one learning rate fits every width."""

import math

import torch
from torch import nn

from train.config import OptimConfig, ScheduleConfig

INPUTS = ("embedding.", "patches.")  # matrices whose fan-in does not grow with width


def build_optimizer(model: nn.Module, config: OptimConfig, width: int) -> torch.optim.AdamW:
    """Return AdamW with two groups: matrices whose fan-in grows with width, and everything else.

    Under muP (Yang et al. 2022, table 3, Adam), the learning rate of matrices is proportional to base_width / width;
    that of lookup table, patches and norms is constant. Weight decay is fully decoupled, as in the paper: a step
    shrinks weights by `weight_decay` for any learning rate, so the setting of each group is divided by its rate.
    """
    scale = config.base_width / width if config.parametrization == "mup" else 1.0
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and not name.startswith(INPUTS)]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    groups = [
        {"params": matrices, "scale": scale, "weight_decay": config.weight_decay / (config.lr * scale)},
        {"params": others, "scale": 1.0, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, config: OptimConfig, factor: float) -> float:
    """Set the learning rate of each group to lr x factor x its width scale; return lr x factor."""
    for group in optimizer.param_groups:
        group["lr"] = config.lr * factor * group["scale"]
    return config.lr * factor


def schedule_factor(
    config: ScheduleConfig, n_before: float, tokens_per_step: float, n_tokens: float | None = None
) -> float:
    """Return the factor on the learning rate for the step after `n_before` tokens.

    Linear over the warm-up, then constant; over a cool-down 1 - sqrt(progress) (Haegele et al. 2024, arXiv:2405.18392).

    Parameters
    ----------
    tokens_per_step : of this step
    n_tokens : of the run; by default those of the configuration, in whole steps
    """
    warm = min((n_before + tokens_per_step + 1) / (config.warmup_tokens + 1), 1.0)
    if not config.cooldown:
        return warm
    end = n_tokens or -(-config.n_tokens // tokens_per_step) * tokens_per_step
    progress = (n_before / end - 1 + config.cooldown) / config.cooldown
    return min(warm, 1 - math.sqrt(max(progress, 0.0)))
