"""What a conversion into a head gives: the layers, and what was lost on the way."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import HeadError
from models.heads.layers import Head, Layer, Linear, Polynomial
from models.heads.polynomial import Fit, Function, fit
from models.heads.ranges import root_mean_squares

MARGIN = 1.1
"""A polynomial is fitted on the range of the calibration data, widened by this factor."""


@dataclass(frozen=True, eq=False)
class Conversion:
    """A head that stands for a trained classifier."""

    head: Head
    classes: tuple[str, ...]
    """Names of the classes in the order of the scores."""
    fits: tuple[Fit, ...] = ()
    """The polynomials that stand in for activations, with the error of each; empty where the conversion is exact."""
    score_error: float = 0.0
    """Largest difference of a score on the calibration features, against the classifier as it was."""
    label_agreement: float = 1.0
    """Share of the calibration features whose class stays the same."""


class Builder:
    """Collects layers, and carries calibration features along so that activations can be fitted where they are used."""

    def __init__(self, features: NDArray[Any] | None, degree: int) -> None:
        self.layers: list[Layer] = []
        self.fits: list[Fit] = []
        self.degree = degree
        self._values = None if features is None else np.asarray(features, dtype=np.float64)

    def linear(self, weight: NDArray[Any], bias: NDArray[Any]) -> None:
        """Append y = weight x + bias."""
        layer = Linear(np.asarray(weight, dtype=np.float64), np.asarray(bias, dtype=np.float64))
        self.layers.append(layer)
        if self._values is not None:
            self._values = self._values @ layer.weight.T + layer.bias

    def polynomial(self, coefficients: tuple[float, ...]) -> None:
        """Append a polynomial as it is."""
        rms = None if self._values is None else root_mean_squares(self._values)
        self.layers.append(Polynomial(coefficients, rms))
        if self._values is not None:
            self._values = np.polynomial.polynomial.polyval(self._values, np.array(coefficients))

    def activation(self, name: str, function: Function) -> None:
        """Append a polynomial that is fitted to a function on the range which the calibration features reach.

        Raises:
            HeadError: there are no calibration features.
        """
        if self._values is None:
            raise HeadError(
                f"The activation '{name}' is not a polynomial, and cannot be computed under encryption as it is. Give "
                "calibration features (features=...), and a polynomial is fitted in its place; or train with x^2."
            )
        reach = MARGIN * float(np.abs(self._values).max())
        found = fit(function, -reach, reach, self.degree)
        self.fits.append(found)
        self.polynomial(found.coefficients)


def two_scores(weight: NDArray[Any], bias: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One decision value z -> the scores (-z/2, z/2), whose softmax is the logistic function of z."""
    return np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
