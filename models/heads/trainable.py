"""The head while it is trained: torch modules that turn into the linear and polynomial layers of a bundle."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from he_infer.head.convolution import Convolution
from he_infer.head.layers import Head, Linear, Polynomial
from models.errors import HeadError
from models.heads.polynomial import ACTIVATIONS, fit

KINDS = ("linear", "mlp", "cubic", "conv")
"""`linear`: scores = W f + b. `mlp`: one hidden layer and x^2. `cubic`: one hidden layer and a learned cubic.
`conv`: the network's last block, which is a convolution, x^2, an average pool and a linear layer."""

MAP_SIDE = 8
"""Pixels of each side of the maps that a `conv` head takes; its width is a multiple of their square."""

CELLS = 2
"""Cells of each side that a `conv` head's pool leaves."""

RELU = "relu"
"""Kind of head with one hidden layer and ReLU. It cannot be exported: it shows the cost of a polynomial."""

HIDDEN = 64
RANGE = 4.0
"""Activation inputs are kept within +-RANGE by a penalty, and checked at export."""


OFFSET = 1.0
"""Initial offset of the inputs of x^2. Around zero x^2 is even: z and -z give the same value. (z + 1)^2 has a linear
part from the first step on. The offset is then learned."""


class LinearHead(nn.Module):
    """(N, width) -> (N, classes)."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Scores, and the penalty for activations out of range: none here."""
        return self.out(features), features.new_zeros(())

    def export(self) -> Head:
        """The layers in float64."""
        return Head((_linear(self.out),))


class PolynomialHead(nn.Module):
    """(N, width) -> hidden -> polynomial -> (N, classes). Batch normalisation is folded into the first layer."""

    def __init__(self, width: int, classes: int, hidden: int, degree: int, offset: float = OFFSET) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        if degree == 2:
            nn.init.constant_(self.norm.bias, offset)
        self.out = nn.Linear(hidden, classes)
        # x^2 needs no coefficients: a factor would only repeat what the next layer's weights can do.
        start = (0.0, 0.0, 1.0) if degree == 2 else fit(ACTIVATIONS["relu"], -RANGE, RANGE, degree).coefficients
        self.coefficients = nn.Parameter(torch.tensor(start), requires_grad=degree != 2)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Scores, and the mean square of how far activations leave +-RANGE (less a margin of a quarter)."""
        inputs = self.norm(self.hidden(features))
        penalty = (torch.relu(inputs.abs() - 0.75 * RANGE) ** 2).mean()
        powers = torch.zeros_like(inputs)
        for coefficient in self.coefficients.flip(0):
            powers = powers * inputs + coefficient
        return self.out(powers), penalty

    def export(self) -> Head:
        """The layers in float64, batch normalisation folded."""
        weight, bias = (v.detach().double().numpy() for v in (self.hidden.weight, self.hidden.bias))
        scale, shift = _fold(self.norm)
        first = Linear(weight * scale[:, None], bias * scale + shift)
        coefficients = tuple(float(c) for c in self.coefficients.detach().double())
        return Head((first, Polynomial(coefficients), _linear(self.out)))


class ConvolutionHead(nn.Module):
    """(N, channels * MAP_SIDE^2) -> 3 x 3 convolution -> x^2 -> average pool -> (N, classes).

    Both batch normalisations are folded at export, and so is the pool, into the linear layer.
    """

    def __init__(self, width: int, classes: int, outputs: int | None) -> None:
        super().__init__()
        self.channels = map_channels(width)
        outputs = outputs or self.channels
        self.conv = nn.Conv2d(self.channels, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.pool = nn.AvgPool2d(MAP_SIDE // CELLS)
        self.pooled = nn.BatchNorm1d(outputs * CELLS**2)
        self.drop = nn.Dropout(0.2)
        self.out = nn.Linear(outputs * CELLS**2, classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Scores, and the mean square of how far activations leave +-RANGE (less a margin of a quarter)."""
        inputs = self.norm(self.conv(features.reshape(-1, self.channels, MAP_SIDE, MAP_SIDE)))
        penalty = (torch.relu(inputs.abs() - 0.75 * RANGE) ** 2).mean()
        scores: Tensor = self.out(self.drop(self.pooled(self.pool(inputs**2).flatten(1))))
        return scores, penalty

    def export(self) -> Head:
        """The layers in float64: a convolution, x^2, and one linear layer that pools."""
        scale, shift = _fold(self.norm)
        kernel = self.conv.weight.detach().double().numpy()
        shape = (self.channels, MAP_SIDE, MAP_SIDE)
        first = Convolution(kernel, np.zeros(len(kernel)), shape, padding=1).scaled(scale)
        first = Convolution(first.weight, shift, shape, padding=1)
        last = _linear(self.out)
        scale, shift = _fold(self.pooled)
        bias = last.bias + last.weight @ shift
        side = MAP_SIDE // CELLS
        cells = (last.weight * scale).reshape(len(bias), -1, CELLS, 1, CELLS, 1) / side**2
        pixels = np.broadcast_to(cells, (*cells.shape[:3], side, CELLS, side)).reshape(len(bias), -1)
        return Head((first, Polynomial((0.0, 0.0, 1.0)), Linear(pixels.copy(), bias)))


class ReluHead(nn.Module):
    """(N, width) -> hidden -> ReLU -> (N, classes): the head that the polynomial heads approximate. In clear only."""

    def __init__(self, width: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.out = nn.Linear(hidden, classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Scores, and no penalty."""
        return self.out(torch.relu(self.norm(self.hidden(features)))), features.new_zeros(())

    def export(self) -> Head:
        """Refuse: ReLU is no polynomial.

        Raises:
            HeadError: always.
        """
        raise HeadError("A head with ReLU cannot be computed under encryption: train it as 'mlp' or 'cubic'.")


TrainableHead = LinearHead | PolynomialHead | ConvolutionHead | ReluHead


def map_channels(width: int) -> int:
    """Channels of the maps of a `conv` head.

    Raises:
        HeadError: a width that does not divide into whole maps.
    """
    if width % MAP_SIDE**2:
        raise HeadError(
            f"A conv head takes maps of {MAP_SIDE} x {MAP_SIDE}, so its width must be a multiple of {MAP_SIDE**2}; "
            f"{width} is not. Use 1024 for 16 channels."
        )
    return width // MAP_SIDE**2


def make(kind: str, width: int, classes: int, hidden: int | None = None, offset: float = OFFSET) -> TrainableHead:
    """A fresh head.

    Args:
        kind: one of KINDS.
        width: number of features.
        classes: number of scores.
        hidden: size of the hidden layer, HIDDEN by default; of `conv`: its channels, as many as come in by default.
        offset: of `mlp`: initial offset of the inputs of x^2.

    Raises:
        HeadError: an unknown kind.
    """
    if kind == "linear":
        return LinearHead(width, classes)
    if kind in ("mlp", "cubic"):
        return PolynomialHead(width, classes, hidden or HIDDEN, 2 if kind == "mlp" else 3, offset)
    if kind == "conv":
        return ConvolutionHead(width, classes, hidden)
    if kind == RELU:
        return ReluHead(width, classes, hidden or HIDDEN)
    raise HeadError(f"There is no head of the kind '{kind}'. Expected one of {', '.join(KINDS)}.")


def _fold(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Factor and shift of each channel that a trained batch normalisation comes to."""
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise HeadError("The head's normalisation has no running statistics: it was not trained.")
    scale = norm.weight.detach().double() / (variance.double() + norm.eps).sqrt()
    shift = norm.bias.detach().double() - scale * mean.double()
    return scale.numpy(), shift.numpy()


def _linear(layer: nn.Linear) -> Linear:
    return Linear(layer.weight.detach().double().numpy().copy(), layer.bias.detach().double().numpy().copy())
