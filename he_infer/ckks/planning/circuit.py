"""A head in the form that the encrypted computation takes: linear layers with monic activations between them.

Constants and leading factors of activations are moved into the neighbouring linear layers. The remaining activation
takes the fewest multiplications that its degree allows:

    degree 2   c2 u^2 + c1 u + c0 = c2 (u + c1/2c2)^2 + constant                      -> v^2
    degree 3   with u = v - c2/3c3:  c3 (v^3 + e v) + constant                        -> v (v^2 + e)
    degree 4   with u = v - c3/4c4:  c4 ((v^2 + e)^2 + f v) + constant                -> (v^2 + e)^2 + f v

Hidden values that do not depend on the input are constants. They and values that no score depends on are removed, which
changes no score. numpy only.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from he_infer.errors import HeadError
from he_infer.head.layers import Head, Linear, Polynomial

MOMENT = {2: 3.0 ** (1 / 4), 3: 15.0 ** (1 / 6), 4: 105.0 ** (1 / 8)}
"""By degree d: (root mean square of z^d)^(1/d) for a standard normal z."""


@dataclass(frozen=True)
class Activation:
    """v^2 (degree 2), v (v^2 + e) (degree 3) or (v^2 + e)^2 + f v (degree 4)."""

    degree: int
    e: float = 0.0
    f: float = 0.0

    @property
    def multiplications(self) -> int:
        """Ciphertext products one after another; each takes a level."""
        return 1 if self.degree == 2 else 2

    def scaled(self, factor: float) -> "Activation":
        """Return the activation whose value at `factor` v is factor^degree times this one's value at v."""
        return Activation(self.degree, self.e * factor**2, self.f * factor**3)

    def __call__(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """Evaluate elementwise."""
        if self.degree == 2:
            return v * v
        if self.degree == 3:
            return v * (v * v + self.e)
        return (v * v + self.e) ** 2 + self.f * v

    def slope(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bound the derivative's absolute value from above, for |v| as given."""
        v = np.abs(v)
        if self.degree == 2:
            return 2 * v
        if self.degree == 3:
            return 3 * v * v + abs(self.e)
        return 4 * v * (v * v + abs(self.e)) + abs(self.f)

    def largest(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bound the activation's absolute value, and that of its intermediate steps, from above for |v| as given."""
        v = np.abs(v)
        if self.degree == 2:
            return v * v
        if self.degree == 3:
            return v * (v * v + abs(self.e))
        return (v * v + abs(self.e)) ** 2 + abs(self.f) * v


@dataclass(frozen=True, eq=False)
class Measured:
    """Upper bounds of the sizes of an activation's values on the training images, (values,) each."""

    inputs: NDArray[np.float64]
    """Root mean square."""
    slopes: NDArray[np.float64]
    """Factor by which a small error of the input grows."""
    outputs: NDArray[np.float64]
    """Root mean square."""

    def scaled(self, factor: float, degree: int) -> "Measured":
        """Return the sizes after multiplying the inputs by a factor and the outputs by factor^degree."""
        power = factor**degree
        return Measured(self.inputs * factor, self.slopes * power / factor, self.outputs * power)

    def only(self, kept: NDArray[np.bool_]) -> "Measured":
        """Return the sizes of the values selected by `kept`."""
        return Measured(self.inputs[kept], self.slopes[kept], self.outputs[kept])


@dataclass(frozen=True, eq=False)
class Circuit:
    """Linear layers and the activations between them; there is one more layer than activations."""

    linear: tuple[Linear, ...]
    activations: tuple[Activation, ...]
    measured: tuple["Measured | None", ...]
    """Measured sizes of each activation's values; None: not measured."""
    gain: float = 1.0
    """Factor of the last layer's weights and biases, a power of two."""

    def evaluate(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Features (n, width) -> scores (n, classes), as the head gives them."""
        values = x
        for layer, activation in zip(self.linear, self.activations, strict=False):
            values = activation(values @ layer.weight.T + layer.bias)
        return np.asarray(values @ self.linear[-1].weight.T + self.linear[-1].bias) / self.gain


def build_circuit(head: Head) -> Circuit:
    """Bring a head to the form that the encrypted computation takes.

    Raises:
        HeadError: no score depends on the features.
    """
    layers = list(head.linear)
    activations = []
    measured: list[Measured | None] = []
    for index, polynomial in enumerate(head.activations):
        shift, factor, constant, activation = _monic(polynomial)
        before, after = layers[index], layers[index + 1]
        layers[index] = Linear(before.weight, before.bias + shift)
        moved = after.weight @ np.full(after.inputs, constant)
        layers[index + 1] = Linear(after.weight * factor, after.bias + moved)
        activations.append(activation)
        known = head.sizes[index]
        measured.append(None if known is None else _measure(known, polynomial, shift, factor, constant))
    for index, activation in enumerate(activations):
        kept = _varying(layers[index])
        layers[index], layers[index + 1] = _without_constants(layers[index], activation, layers[index + 1], kept)
        measured[index] = _only(measured[index], kept)
    for index in reversed(range(len(activations))):
        kept = _mark_used(layers[index + 1])
        layers[index], layers[index + 1] = _without_unused(layers[index], layers[index + 1], kept)
        measured[index] = _only(measured[index], kept)
    if not all(layer.weight.any() for layer in layers):
        raise HeadError("The head's scores do not depend on the features: all weights of a layer are zero. Train it.")
    for index, activation in enumerate(activations):
        factor = _power_towards_one(layers[index])
        layers[index] = Linear(layers[index].weight * factor, layers[index].bias * factor)
        activations[index] = activation.scaled(factor)
        layers[index + 1] = Linear(layers[index + 1].weight / factor**activation.degree, layers[index + 1].bias)
        sizes = measured[index]
        measured[index] = None if sizes is None else sizes.scaled(factor, activation.degree)
    gain = max(1.0, _power_towards_one(layers[-1]))
    layers[-1] = Linear(layers[-1].weight * gain, layers[-1].bias * gain)
    return Circuit(tuple(layers), tuple(activations), tuple(measured), gain)


_SMALL, _LARGE = 2.0**-3, 2.0**12
"""Range of a layer's largest row norm in which the layer is not rescaled."""


def _power_towards_one(layer: Linear) -> float:
    """Return the power of two that brings a layer's largest row norm near one; 1 if it is close enough already.

    Small weights would be rounded to zero when they are encoded, and large weights leave too little modulus for the
    scale. The factor taken out of one layer is multiplied into the next, which is exact for powers of two.
    """
    norm = math.sqrt(float(layer.norms.max()))
    return 1.0 if _SMALL <= norm <= _LARGE else 2.0 ** -round(math.log2(norm))


def _measure(
    known: NDArray[np.float64], polynomial: Polynomial, shift: float, factor: float, constant: float
) -> Measured:
    """Derive the sizes of an activation from those of the polynomial's inputs.

    It uses the polynomial's own coefficients: those of v (v^2 + e) alone would not show how its terms cancel.
    """
    reach = known * MOMENT[polynomial.degree]
    slopes = polynomial.steepest(known if polynomial.degree == 2 else reach)
    moved = (polynomial.coefficients[0] - constant, *polynomial.coefficients[1:])
    outputs = np.polynomial.polynomial.polyval(reach, np.abs(moved))
    return Measured(known + abs(shift), slopes / abs(factor), np.asarray(outputs) / abs(factor))


def _monic(polynomial: Polynomial) -> tuple[float, float, float, Activation]:
    """Return the shift s, factor c, constant k and activation with p(u) = c activation(u + s) + k."""
    coefficients = np.array(polynomial.coefficients)
    degree = polynomial.degree
    leading = float(coefficients[-1])
    shift = float(coefficients[-2]) / (degree * leading)
    moved = np.array(
        [
            sum(coefficients[j] * math.comb(j, i) * (-shift) ** (j - i) for j in range(i, degree + 1)) / leading
            for i in range(degree + 1)
        ]
    )
    if degree == 2:
        return shift, leading, leading * float(moved[0]), Activation(2)
    if degree == 3:
        return shift, leading, leading * float(moved[0]), Activation(3, float(moved[1]))
    e = float(moved[2]) / 2
    return shift, leading, leading * (float(moved[0]) - e * e), Activation(4, e, float(moved[1]))


def _varying(layer: Linear) -> NDArray[np.bool_]:
    """Mark the outputs that depend on the features; all if none does, since a layer must not be empty."""
    varies = np.asarray(layer.weight.any(axis=1), dtype=np.bool_)
    return varies if varies.any() else np.ones_like(varies)


def _mark_used(layer: Linear) -> NDArray[np.bool_]:
    """Mark the inputs that an output depends on; all if no output depends on any."""
    used = np.asarray(layer.weight.any(axis=0), dtype=np.bool_)
    return used if used.any() else np.ones_like(used)


def _only(measured: Measured | None, kept: NDArray[np.bool_]) -> Measured | None:
    return None if measured is None else measured.only(kept)


def _without_constants(
    before: Linear, activation: Activation, after: Linear, kept: NDArray[np.bool_]
) -> tuple[Linear, Linear]:
    if kept.all():
        return before, after
    constant = after.weight[:, ~kept] @ activation(before.bias[~kept])
    return Linear(before.weight[kept], before.bias[kept]), Linear(after.weight[:, kept], after.bias + constant)


def _without_unused(before: Linear, after: Linear, kept: NDArray[np.bool_]) -> tuple[Linear, Linear]:
    if kept.all():
        return before, after
    return Linear(before.weight[kept], before.bias[kept]), Linear(after.weight[:, kept], after.bias)
