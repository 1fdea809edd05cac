"""The CNN that turns a preprocessed image into a feature vector, while it is trained; clients run its ONNX export."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.errors import InputError
from models.extractors.extractor import WIDTHS


@dataclass(frozen=True)
class CnnConfig:
    """The shape of the network: all that is needed to build it."""

    in_channels: int
    """1 grey, 3 colour."""
    size: int
    """Side of the input in pixels."""
    width: int
    """Length of the feature vector."""
    channels: tuple[int, ...] = (24, 48, 96)
    """Channels of each stage; each stage after the first halves the side."""
    bound: float = 4.0
    """Every feature lies strictly within +-bound, whatever the image: the network ends in bound * tanh(x / bound)."""
    map_side: int = 0
    """Side in pixels of the maps that the features are, channel by channel; the last stage is then part of the head. 0:
    the features are one vector."""

    def __post_init__(self) -> None:
        if not WIDTHS[0] <= self.width <= WIDTHS[1]:
            raise InputError(
                f"A feature width of {self.width} was asked for. {WIDTHS[0]} to {WIDTHS[1]} can be computed on "
                "under encryption; 512 is usual."
            )
        if self.in_channels not in (1, 3) or not 1 <= len(self.channels) <= 6 or not 0 < self.bound <= 64:
            raise InputError(
                "The network's shape is invalid. Expected 1 or 3 input channels, 1 to 6 stages, a bound up to 64."
            )
        if self.map_side and (self.width % self.map_side**2 or len(self.channels) < 2):
            raise InputError(f"A width of {self.width} does not divide into maps of {self.map_side} x {self.map_side}.")
        if not all(1 <= n <= 1024 for n in self.channels) or not 8 <= self.size <= 1024:
            raise InputError(
                "The network's shape is invalid. Expected 1 to 1024 channels a stage and sides of 8 to 1024 pixels."
            )


class Cnn(nn.Module):
    """(N, in_channels, size, size) -> (N, width), each feature within +-bound."""

    def __init__(self, config: CnnConfig) -> None:
        super().__init__()
        self.config = config
        # Larger inputs are halved at once until about 28 to 40 pixels are left, so that time does not grow with them.
        reduce = max(1, 2 ** round(torch.log2(torch.tensor(config.size / 32)).item()))
        layers: list[nn.Module] = []
        before = config.in_channels
        for stage, width in enumerate(config.channels[:-1] if config.map_side else config.channels):
            if stage:
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
            layers.append(_Block(before, width, stride=reduce if stage == 0 else 1))
            before = width
        self.trunk = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(config.map_side or 2)
        self.drop = nn.Dropout(0.0 if config.map_side else 0.2)
        self.project: nn.Module
        self.norm: nn.Module
        if config.map_side:
            maps = config.width // config.map_side**2
            self.project = nn.Conv2d(before, maps, 1, bias=False)
            self.norm = nn.BatchNorm2d(maps)
        else:
            self.project = nn.Linear(4 * before, config.width, bias=False)
            self.norm = nn.BatchNorm1d(config.width)

    def forward(self, images: Tensor) -> Tensor:
        """Features of a batch of preprocessed images."""
        maps = self.pool(self.trunk(images))
        if not self.config.map_side:
            maps = maps.flatten(1)
        features: Tensor = self.norm(self.project(self.drop(maps)))
        return self.config.bound * torch.tanh(features.flatten(1) / self.config.bound)


class _Block(nn.Module):
    """Two 3 x 3 convolutions with a shortcut around the second (He et al. 2016, in the small)."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        side = 3 if stride == 1 else 2 * stride - 1
        self.first = nn.Sequential(
            nn.Conv2d(before, width, side, stride=stride, padding=side // 2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))

    def forward(self, maps: Tensor) -> Tensor:
        maps = self.first(maps)
        return torch.relu(maps + self.second(maps))
