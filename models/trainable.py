"""The head while it is trained: torch modules that turn into the linear and polynomial layers of a bundle."""

import torch
from torch import Tensor, nn

from models.errors import HeadError
from models.heads import Head, Linear, Polynomial
from models.polynomial import ACTIVATIONS, fit

KINDS = ("linear", "mlp", "cubic")
"""`linear`: scores = W f + b. `mlp`: one hidden layer and x^2. `cubic`: one hidden layer and a learned cubic."""

HIDDEN = 64
RANGE = 4.0
"""Activation inputs are kept within +-RANGE by a penalty, and checked at export."""


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

    def __init__(self, width: int, classes: int, hidden: int, degree: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, hidden)
        self.norm = nn.BatchNorm1d(hidden)
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
        mean, variance = self.norm.running_mean, self.norm.running_var
        if mean is None or variance is None:
            raise HeadError("The head's normalisation has no running statistics: it was not trained.")
        scale = self.norm.weight.detach().double() / (variance.double() + self.norm.eps).sqrt()
        shift = self.norm.bias.detach().double() - scale * mean.double()
        first = Linear(weight * scale.numpy()[:, None], bias * scale.numpy() + shift.numpy())
        coefficients = tuple(float(c) for c in self.coefficients.detach().double())
        return Head((first, Polynomial(coefficients), _linear(self.out)))


TrainableHead = LinearHead | PolynomialHead


def make(kind: str, width: int, classes: int, hidden: int = HIDDEN) -> TrainableHead:
    """A fresh head.

    Raises:
        HeadError: an unknown kind.
    """
    if kind == "linear":
        return LinearHead(width, classes)
    if kind in ("mlp", "cubic"):
        return PolynomialHead(width, classes, hidden, degree=2 if kind == "mlp" else 3)
    raise HeadError(f"There is no head of the kind '{kind}'. Expected one of {', '.join(KINDS)}.")


def _linear(layer: nn.Linear) -> Linear:
    return Linear(layer.weight.detach().double().numpy().copy(), layer.bias.detach().double().numpy().copy())
