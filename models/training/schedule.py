"""The learning rate of a training: up over a fifth of its steps, then down to almost nothing."""

import torch


def schedule_one_cycle(
    optimiser: torch.optim.Optimizer, peak: float, steps: int
) -> torch.optim.lr_scheduler.OneCycleLR:
    """Make a one-cycle schedule (Smith and Topin 2018) of `steps` steps with the rate `peak` at its top.

    With exactly one step before the top, torch divides by the zero steps between it and the first one; the rise then
    takes a quarter.
    """
    rise = 0.25 if steps == 5 else 0.2
    return torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=peak, total_steps=steps, pct_start=rise)
