"""Collects the layers of a converted classifier, and compares the head with that classifier."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from he_infer.head.layers import Head, Layer, Linear, Polynomial
from models.errors import HeadError, ProbabilitiesDiffer
from models.heads.polynomial import Fit, Function, fit
from models.heads.ranges import root_mean_squares
from models.metrics import softmax

Matrix = NDArray[np.float64]

MARGIN = 1.1
"""A polynomial is fitted on the range of the calibration data, widened by this factor."""
LEAST_AGREEMENT = 0.8
"""Least share of the calibration features that must keep their class where activations are fitted."""
EXACT = 1e-6
"""Largest relative difference of scores that rounding may explain where nothing was fitted."""
_PROBES = 256
"""Random feature vectors on which a conversion is compared where no features are given."""
SHOWN = 0.0005
"""Half of the last digit of the probabilities that a client shows."""
_LEAST_PROBABILITY = 1e-9
"""Probabilities below it count as equal: 1 - p has lost its digits where p is near one."""
_NEGLIGIBLE = 1e-9
"""A fitted coefficient whose term is below this share of the largest term on its range is a rounding error."""


@dataclass(frozen=True, eq=False)
class Conversion:
    """A head that stands for a trained classifier, and was compared with it."""

    head: Head
    """Its `names` are the classes, by which `Bundle.with_head` puts the scores in order."""
    classes: tuple[str, ...]
    """Names of the classes in the order of the scores."""
    fits: tuple[Fit, ...] = ()
    """The polynomials that stand in for activations, with the error of each; empty where the conversion is exact."""
    score_error: float | None = None
    """Largest difference of a score on the calibration features, against the classifier as it was; None: none given."""
    label_agreement: float | None = None
    """Share of the calibration features whose class stays the same; None: none given."""
    probability_error: float | None = None
    """Largest difference between the softmax of the scores, which is what a client shows, and the classifier's own
    probabilities; on the calibration features, or on random ones if none were given. None: it states none."""


class Builder:
    """Collects layers, and carries calibration features along so that activations can be fitted where they are used.

    Neighbouring linear layers are merged, so that linear and polynomial layers alternate, as a head needs.
    """

    def __init__(self, features: NDArray[Any] | None, degree: int) -> None:
        if not 2 <= degree <= 4:
            raise HeadError(f"Polynomials of degree {degree} were asked for. Expected 2 to 4.")
        self.layers: list[Layer] = []
        self.fits: list[Fit] = []
        self.degree = degree
        self._values = None if features is None else check_features(features)

    def linear(self, weight: NDArray[Any], bias: NDArray[Any]) -> None:
        """Append y = weight x + bias."""
        layer = Linear(np.asarray(weight, dtype=np.float64), np.asarray(bias, dtype=np.float64))
        last = self.layers[-1] if self.layers else None
        width = last.outputs if isinstance(last, Linear) else layer.inputs
        values = self._values
        if layer.inputs != width or (values is not None and values.shape[1] != layer.inputs):
            given = width if values is None else values.shape[1]
            raise HeadError(f"A linear layer takes {layer.inputs} values, but {given} come in.")
        if isinstance(last, Linear):
            self.layers[-1] = Linear(layer.weight @ last.weight, layer.weight @ last.bias + layer.bias)
        else:
            self.layers.append(layer)
        self._values = None if values is None else layer.evaluate(values)

    def affine(self, factor: float, shift: float) -> None:
        """Append y = factor x + shift on each value.

        Raises:
            HeadError: nothing precedes it that tells how many values there are.
        """
        width = self._width()
        self.linear(factor * np.eye(width), np.full(width, shift))

    def polynomial(self, coefficients: Sequence[float]) -> None:
        """Append a polynomial; one of degree 0 or 1 becomes part of a linear layer."""
        trimmed = list(coefficients)
        while len(trimmed) > 1 and trimmed[-1] == 0:
            trimmed.pop()
        if len(trimmed) < 3:
            self.affine(trimmed[1] if len(trimmed) == 2 else 0.0, trimmed[0])
            return
        if not self.layers or isinstance(self.layers[-1], Polynomial):
            self.affine(1.0, 0.0)  # a head begins with a linear layer, and two activations have one between them
        layer = Polynomial(tuple(trimmed), None if self._values is None else root_mean_squares(self._values))
        self.layers.append(layer)
        self._values = None if self._values is None else layer.evaluate(self._values)

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
        terms = np.abs(found.coefficients) * np.maximum(reach, 1e-9) ** np.arange(len(found.coefficients))
        kept = np.where(terms > _NEGLIGIBLE * terms.max(), found.coefficients, 0.0)
        self.fits.append(found)
        self.polynomial(kept.tolist())

    def head(self, classes: Sequence[str]) -> Head:
        """The head of the collected layers; a single score z becomes the two scores -z/2 and z/2.

        Raises:
            HeadError: the layers make no head, or do not give one score a class.
        """
        if not self.layers:
            raise HeadError("The classifier holds no layer.")
        if isinstance(self.layers[-1], Polynomial):
            self.affine(1.0, 0.0)
        last = self.layers[-1]
        if isinstance(last, Linear) and last.outputs == 1:
            self.layers[-1] = Linear(*two_scores(last.weight, last.bias))
        return Head(tuple(self.layers), names=tuple(classes) if classes else None)

    def _width(self) -> int:
        for layer in reversed(self.layers):
            if isinstance(layer, Linear):
                return layer.outputs
        if self._values is not None:
            return int(self._values.shape[1])
        raise HeadError(
            "The classifier does not begin with a linear layer, so its number of features is unknown. Give calibration "
            "features (features=...), or put a linear layer first."
        )


def check_features(features: NDArray[Any]) -> Matrix:
    """Calibration features as float64 (N, width).

    Raises:
        HeadError: another shape, none at all, or numbers that are not finite.
    """
    try:
        values = np.asarray(features, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise HeadError(f"The calibration features are no numbers ({error}).") from error
    if values.ndim != 2 or 0 in values.shape or not np.isfinite(values).all():
        raise HeadError(f"The calibration features have the shape {values.shape}. Expected finite numbers (N, width).")
    return values


def compare(
    head: Head,
    fits: Sequence[Fit],
    features: NDArray[Any] | None,
    original: Callable[[Matrix], Matrix],
    what: str,
    *,
    probabilities: bool = False,
    tolerance: float = EXACT,
    by_label: bool = False,
    stated: Callable[[Matrix], Matrix] | None = None,
) -> Conversion:
    """Compare a head with the classifier that it stands for, and refuse it where they differ.

    Args:
        head: the converted head.
        fits: activations that were replaced by fitted polynomials.
        features: calibration features (N, width); without them random ones are used, which show whether both are the
            same function, but not how often they agree on real features.
        original: the classifier's scores (N, classes), up to a number that is the same for all classes of a row.
        what: the classifier's name for messages.
        probabilities: whether `original` gives probabilities, whose logarithms are then compared.
        tolerance: relative difference of scores that rounding may explain where nothing was fitted.
        by_label: compare the classes alone, for probabilities that are not the softmax of scores.
        stated: the classifier's own probabilities (N, classes), if it states any; a warning says how far the head's are
            from them, if they differ in the digits that a client shows.

    Raises:
        HeadError: exact layers whose scores differ, or fitted ones that change too many classes.

    Warns:
        ProbabilitiesDiffer: see `stated`.
    """
    given = (
        np.random.default_rng(0).normal(size=(_PROBES, head.width)) if features is None else check_features(features)
    )
    if given.shape[1] != head.width:
        raise HeadError(f"{what} takes {head.width} features; the calibration features have {given.shape[1]}.")
    wanted, reached = original(given), head.evaluate(given)
    if probabilities:
        shares = np.exp(reached - reached.max(axis=1, keepdims=True))
        wanted, reached = (
            np.log(np.maximum(values, _LEAST_PROBABILITY))
            for values in (wanted, shares / shares.sum(axis=1, keepdims=True))
        )
    wanted, reached = _centre(wanted), _centre(reached)
    if wanted.shape != reached.shape:
        raise HeadError(f"{what} gives scores of shape {wanted.shape}; the head gives {reached.shape}.")
    error = float(np.abs(wanted - reached).max())
    agreement = float((wanted.argmax(axis=1) == reached.argmax(axis=1)).mean())
    same = agreement == 1.0 if by_label else error <= tolerance * max(1.0, float(np.abs(wanted).max()))
    if not fits and not same:
        raise HeadError(
            f"The head made of {what} is not the same function: scores differ by up to {error:.3g}, and "
            f"{1 - agreement:.1%} of the classes. Some step of it is not understood: take it out, or report it."
        )
    probability_error = None
    if stated is not None:
        probability_error = float(np.abs(softmax(head.evaluate(given)) - stated(given)).max())
    if features is not None and agreement < LEAST_AGREEMENT:
        raise HeadError(
            f"Polynomials in place of the activations of {what} change {1 - agreement:.1%} of the classes on the "
            f"calibration features; at most {1 - LEAST_AGREEMENT:.0%} are taken. Raise the degree (up to 4), or train "
            "with x^2."
        )
    if probability_error is not None and probability_error > SHOWN and not fits:
        warnings.warn(
            f"Classes are those of {what}, but probabilities are not: a client shows the softmax of the scores, which "
            f"differs from the classifier's own probabilities by up to {probability_error:.2g}. See 'Probabilities of "
            "converted heads' in docs/models.md.",
            ProbabilitiesDiffer,
            stacklevel=3,
        )
    if features is None:
        return Conversion(head, head.names or (), tuple(fits), probability_error=probability_error)
    return Conversion(head, head.names or (), tuple(fits), error, agreement, probability_error)


def two_scores(weight: NDArray[Any], bias: NDArray[Any]) -> tuple[Matrix, Matrix]:
    """One decision value z -> the scores (-z/2, z/2), whose softmax is the logistic function of z."""
    return np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2


def _centre(scores: Matrix) -> Matrix:
    """Scores less their mean: log-probabilities and scores before softmax differ by a number a row."""
    return np.asarray(scores - scores.mean(axis=1, keepdims=True))
