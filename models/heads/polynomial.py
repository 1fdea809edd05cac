"""Polynomials in place of activations: fitted on an interval, with the error that this costs."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

Function = Callable[[NDArray[np.float64]], NDArray[np.float64]]

ACTIVATIONS: dict[str, Function] = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "logistic": lambda x: 1 / (1 + np.exp(-x)),
    "identity": lambda x: x,
}
"""scikit-learn's names of its MLP activations."""


@dataclass(frozen=True)
class Fit:
    """A polynomial that stands for a function on an interval."""

    coefficients: tuple[float, ...]
    """Ascending: c0, c1, ..., cd in powers of x."""
    low: float
    high: float
    largest_error: float
    """The largest difference on the interval, measured on a fine grid."""


def fit(function: Function, low: float, high: float, degree: int) -> Fit:
    """Fit by least squares at Chebyshev nodes, which is within a small factor of the best uniform fit.

    Source: Trefethen, "Approximation Theory and Approximation Practice", chapter 16.
    """
    middle, half = (low + high) / 2, max((high - low) / 2, 1e-9)
    nodes = np.cos((2 * np.arange(2048) + 1) * np.pi / 4096)
    series = chebyshev.chebfit(nodes, function(middle + half * nodes), degree)
    in_unit = np.polynomial.Polynomial(chebyshev.cheb2poly(series))
    in_x = in_unit(np.polynomial.Polynomial([-middle / half, 1 / half]))
    coefficients = np.zeros(degree + 1)
    coefficients[: len(in_x.coef)] = in_x.coef
    grid = np.linspace(low, high, 10001)
    error = np.abs(np.polynomial.polynomial.polyval(grid, coefficients) - function(grid)).max()
    return Fit(tuple(coefficients.tolist()), low, high, float(error))
