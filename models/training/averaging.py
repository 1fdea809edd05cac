"""A running average of weights while they are trained: steadier than the weights of any one step."""

import torch
from torch import Tensor, nn


class Average:
    """A running average of a module's weights (Polyak); normalisation statistics are averaged along."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = module
        self.decay = decay
        self.steps = 0
        self.values = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the module's present weights. Early on the average is short, so that the start is forgotten."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, value in self.module.state_dict().items():
            if value.is_floating_point():
                self.values[name].mul_(decay).add_(value, alpha=1 - decay)
            else:
                self.values[name].copy_(value)

    def copy(self) -> dict[str, Tensor]:
        """The average as it is now."""
        return {name: value.clone() for name, value in self.values.items()}

    def in_place(self) -> "_Swapped":
        """A context in which the module has the averaged weights."""
        return _Swapped(self)


class _Swapped:
    def __init__(self, average: Average) -> None:
        self.average = average
        self.kept: dict[str, Tensor] = {}

    def __enter__(self) -> None:
        self.kept = {name: value.detach().clone() for name, value in self.average.module.state_dict().items()}
        self.average.module.load_state_dict(self.average.values)

    def __exit__(self, *_: object) -> None:
        self.average.module.load_state_dict(self.kept)
