"""A user's own torch module as an extractor: its features standardised and bounded."""

import torch
from torch import Tensor, nn

BOUND = 4.0


class Bounded(nn.Module):
    """Standardises a foreign module's features, and keeps each within +-bound by bound * tanh(x / bound)."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, module: nn.Module, width: int, bound: float = BOUND) -> None:
        super().__init__()
        self.module = module
        self.bound = bound
        self.width = width
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    def forward(self, images: Tensor) -> Tensor:
        """(N, channels, size, size) -> (N, width)."""
        scaled = (self.module(images).flatten(1) - self.mean) / self.deviation
        return self.bound * torch.tanh(scaled / self.bound)
