"""A head on encrypted vectors by rotations and products, in the layout that a library's public interface offers."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Layer = tuple[Vector, Vector]
"""Weights (outputs, inputs) and biases (outputs,)."""


class Scheme(Protocol):
    """Operations on encrypted vectors of `slots` numbers, by one library; ciphertexts have the library's own types."""

    slots: int
    babies: int
    """Number of rotations of the input that the products use, the input itself included. A library that rotates one
    vector by several steps more cheaply than one by one takes more of them."""
    parameters: str

    def make_keys(self, steps: Sequence[int]) -> None:
        """Make all keys; vectors are rotated by these steps alone."""

    def encrypt(self, values: Vector) -> Any: ...
    def decrypt(self, value: Any) -> Vector: ...

    def encode_weights(self, values: Vector, beside: Any) -> Any:
        """Encode factors for a ciphertext like `beside`."""

    def encode_biases(self, values: Vector, beside: Any) -> Any:
        """Encode summands for a ciphertext like `beside`."""

    def rotate(self, value: Any, step: int) -> Any: ...
    def rotate_many(self, value: Any, steps: Iterable[int]) -> list[Any]: ...
    def multiply(self, value: Any, weights: Any) -> Any: ...
    def add(self, value: Any, other: Any) -> Any: ...
    def add_biases(self, value: Any, biases: Any) -> Any: ...
    def square(self, value: Any) -> Any: ...
    def rescale(self, value: Any) -> Any: ...


class HeadCircuit:
    """Evaluates a head of one linear layer, or of two with x^2 between them, on any library.

    The first layer is a product by diagonals: slot s stands for row s mod H, and the client writes the features in
    shifted copies, so that few diagonals are left; folds sum the copies. The second layer is one product: row r takes
    the H slots from r H on, and folds sum them.
    """

    def __init__(self, layers: Sequence[Layer], scheme: Scheme) -> None:
        self._scheme = scheme
        self._layers = layers
        weights = layers[0][0]
        self._rows = _next_power(len(weights))
        width = _next_power(weights.shape[1])
        slots = np.arange(scheme.slots)
        diagonals = max(1, width * self._rows // scheme.slots)
        self._held = (slots % self._rows + diagonals * (slots // self._rows)) % width
        self._babies = min(scheme.babies, diagonals)
        self._diagonals = self._split(np.pad(weights, _room(weights, (self._rows, width))), diagonals)
        self._encoded: dict[object, Any] = {}
        scheme.make_keys(self._list_steps())

    def _list_steps(self) -> list[int]:
        giant = [self._babies] if len(self._diagonals) > self._babies else []
        second = self._second_folds if len(self._layers) > 1 else []
        return sorted({*range(1, self._babies), *giant, *self._first_folds, *second})

    @property
    def _first_folds(self) -> list[int]:
        return [self._rows << i for i in range((self._scheme.slots // self._rows).bit_length() - 1)]

    @property
    def _second_folds(self) -> list[int]:
        return [1 << i for i in range(self._rows.bit_length() - 1)]

    @property
    def parameters(self) -> str:
        """The scheme's."""
        return self._scheme.parameters

    def encrypt(self, features: Vector) -> Any:
        """The client's part: features (width,), in shifted copies."""
        return self._scheme.encrypt(_extend(features, int(self._held.max()) + 1)[self._held])

    def decrypt(self, answer: Any) -> Vector:
        """The client's part: scores (classes,)."""
        count = len(self._layers[-1][0])
        slots = self._scheme.decrypt(answer)
        return slots[np.arange(count) * (self._rows if len(self._layers) > 1 else 1)]

    def evaluate(self, value: Any) -> Any:
        """The server's part. The first call encodes the weights; later ones use them again."""
        scheme = self._scheme
        value = self._fold(scheme.rescale(self._multiply(value)), self._first_folds)
        biases = np.resize(_extend(self._layers[0][1], self._rows), scheme.slots)
        value = scheme.add_biases(value, self._keep("first biases", scheme.encode_biases, biases, value))
        if len(self._layers) == 1:
            return value
        value = scheme.square(value)
        weights, biases = self._layers[1]
        blocks = _extend(np.pad(weights, _room(weights, (len(weights), self._rows))).ravel(), scheme.slots)
        weights = self._keep("second weights", scheme.encode_weights, blocks, value)
        value = self._fold(scheme.rescale(scheme.multiply(value, weights)), self._second_folds)
        repeated = _extend(np.repeat(biases, self._rows), scheme.slots)
        return scheme.add_biases(value, self._keep("second biases", scheme.encode_biases, repeated, value))

    def _multiply(self, value: Any) -> Any:
        """Products by all diagonals: turns of the input within a group, Horner's rule over the groups."""
        scheme = self._scheme
        turned = [value, *scheme.rotate_many(value, range(1, self._babies))]
        total: Any = None
        for giant in reversed(range(0, len(self._diagonals), self._babies)):
            if total is not None:
                total = scheme.rotate(total, self._babies)
            for baby, each in enumerate(turned):
                weights = self._keep(giant + baby, scheme.encode_weights, self._diagonals[giant + baby], each)
                product = scheme.multiply(each, weights)
                total = product if total is None else scheme.add(total, product)
        return total

    def _fold(self, value: Any, steps: Sequence[int]) -> Any:
        for step in steps:
            value = self._scheme.add(value, self._scheme.rotate(value, step))
        return value

    def _keep(self, name: object, encode: Any, values: Vector, beside: Any) -> Any:
        if name not in self._encoded:
            self._encoded[name] = encode(values, beside)
        return self._encoded[name]

    def _split(self, weights: Vector, count: int) -> list[Vector]:
        """Diagonals, each turned back by what its group will be turned.

        Raises:
            ValueError: more rows than this layout has room for.
        """
        slots = np.arange(self._scheme.slots)
        rows = slots % self._rows
        seen = np.zeros(weights.shape, dtype=bool)
        diagonals = []
        for shift in range(count):
            columns = self._held[(slots + shift) % len(slots)]
            fresh = np.zeros(len(slots), dtype=bool)
            fresh[np.unique(rows * weights.shape[1] + columns, return_index=True)[1]] = True
            fresh &= ~seen[rows, columns]
            seen[rows[fresh], columns[fresh]] = True
            diagonal = np.where(fresh, weights[rows, columns], 0.0)
            diagonals.append(np.roll(diagonal, shift - shift % self._babies))
        if not seen.all():
            raise ValueError(f"{weights.shape[1]} features do not fit {count} diagonals of {len(slots)} slots")
        return diagonals


def _next_power(count: int) -> int:
    return 1 << (count - 1).bit_length()


def _room(matrix: Vector, shape: tuple[int, int]) -> list[tuple[int, int]]:
    return [(0, wanted - present) for wanted, present in zip(shape, matrix.shape, strict=True)]


def _extend(values: Vector, length: int) -> Vector:
    return np.pad(values, (0, length - len(values)))
