"""A user's own torch module as an extractor: its features standardised and bounded."""

import torch
from torch import Tensor, nn

from models.feature_table import BOUND, REACH


class Bounded(nn.Module):
    """Standardises a foreign module's features, and keeps each within +-BOUND by REACH * tanh(x / BOUND)."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, module: nn.Module, width: int) -> None:
        super().__init__()
        self.module = module
        self.width = width
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    def forward(self, images: Tensor) -> Tensor:
        """(N, channels, size, size) -> (N, width)."""
        scaled = (self.module(images).flatten(1) - self.mean) / self.deviation
        return REACH * torch.tanh(scaled / BOUND)
