"""A user's own torch module as an extractor: its features standardised and bounded."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.errors import DamagedBundle

MODULE = "module"
"""The extractor kind of a user's own torch module."""
BOUND = 4.0
VERSION = 1


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

    def describe(self) -> dict[str, Any]:
        """The form that the bundle carries; the module's name is there for people, and never imported."""
        kind = type(self.module)
        return {
            "kind": MODULE,
            "version": VERSION,
            "module": f"{kind.__module__}.{kind.__qualname__}",
            "width": self.width,
            "bound": self.bound,
        }


def rebuild(module: nn.Module, description: Mapping[str, Any]) -> Bounded:
    """The adapted extractor around a fresh module, before its weights are loaded.

    Raises:
        DamagedBundle: the description is incomplete or of another version.
    """
    try:
        if description["version"] != VERSION:
            raise DamagedBundle(f"The bundle's extractor has version {description['version']!r}; expected {VERSION}.")
        return Bounded(module, int(description["width"]), float(description["bound"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedBundle("The bundle's extractor description is incomplete. Export the bundle again.") from error
