"""The engine's protocol: operations on values that know their level and scale, checked before anything is computed.

`Engine` holds the checks; `seal.SealEngine` and `clear.ClearEngine` only say how an allowed operation is carried out.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.layouts.ring import conjugation, galois_element
from he_infer.ckks.parameters import Parameters
from he_infer.ckks.planning.order import Digits
from he_infer.errors import EngineError

_SCALE_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Value:
    """A ciphertext, or the clear engine's or recorder's substitute for one.

    level: number of rescalings that are left; scale: factor of its slots; data: the engine's own representation.
    """

    level: int
    scale: float
    parameters_id: str
    data: Any


@dataclass(frozen=True)
class PlainValue:
    """A vector of slots encoded at one level and scale, ready to be multiplied or added."""

    level: int
    scale: float
    parameters_id: str
    data: Any


@dataclass(frozen=True)
class EvaluationKeys:
    """A client's evaluation keys: rotations by Galois elements, relinearisation, fresh encryptions of zero."""

    parameters_id: str
    elements: frozenset[int]
    relinearise: bool
    public: bool
    """Whether there is a public key, which fresh encryptions of zero need."""
    data: Mapping[str, Any]
    size: int
    """Size of the serialized keys in bytes."""


class Engine(ABC):
    """Checked operations. Values of other parameters, levels or scales are refused before anything is computed.

    An engine defines `digits` and the methods at the end of this class, whose arguments have passed the checks. For
    `evaluate` it also reads requests and keys (`load`, `load_keys`) and returns an answer's coefficients
    (`read_polynomials`); the clear engine has no serialized form and leaves these out.

    Every method raises EngineError where an operation is not allowed.
    """

    digits = Digits.POSITIVE
    """Range of the digits in its key switches. An engine with positive digits refuses a plan for centred ones."""

    def __init__(self, parameters: Parameters, primes: tuple[int, ...]) -> None:
        self.parameters = parameters
        self.primes = primes
        """The primes of the chain; the one at index `level` is dropped by a rescale at that level."""

    def encode(self, slots: NDArray[np.generic], level: int, scale: float) -> PlainValue:
        """Encode (slots,) numbers at a level and scale."""
        if slots.shape != (self.parameters.slots,):
            raise EngineError(f"{slots.shape} numbers cannot be encoded; expected ({self.parameters.slots},).")
        self._check_there(level)
        return PlainValue(level, scale, self.parameters.id, self._encode(slots, level, scale))

    def encode_constant(self, number: float, level: int, scale: float) -> PlainValue:
        """Encode one real number for all slots: far cheaper than `encode`, so the result need not be kept."""
        self._check_there(level)
        return PlainValue(level, scale, self.parameters.id, self._encode_constant(number, level, scale))

    def dot(self, values: Sequence[Value], plains: Sequence[PlainValue]) -> Value:
        """The sum of slotwise products of values with encoded vectors; the scales multiply.

        All products have one level and one scale.
        """
        if not values or len(values) != len(plains):
            raise EngineError(f"{len(values)} values and {len(plains)} encoded vectors cannot be multiplied in pairs.")
        first, scale = values[0], values[0].scale * plains[0].scale
        for value, plain in zip(values, plains, strict=True):
            self._check(value)
            self._check_level(value, plain)
            self._check_level(value, first)
            if abs(value.scale * plain.scale / scale - 1.0) > _SCALE_TOLERANCE:
                raise EngineError("Products of different scales cannot be summed.")
        self._check_room(first.level, scale)
        data = self._dot([value.data for value in values], [plain.data for plain in plains])
        return Value(first.level, scale, first.parameters_id, data)

    def multiply_plain(self, value: Value, plain: PlainValue) -> Value:
        """Slotwise product with one encoded vector; the scales multiply."""
        return self.dot([value], [plain])

    def add(self, left: Value, right: Value) -> Value:
        """Slotwise sum of two values of one level and scale."""
        self._check(left)
        self._check(right)
        self._check_level(left, right)
        self._check_scale(left, right)
        return Value(left.level, left.scale, left.parameters_id, self._add(left.data, right.data))

    def add_plain(self, value: Value, plain: PlainValue) -> Value:
        """Slotwise sum with an encoded vector of the same level and scale."""
        self._check(value)
        self._check_level(value, plain)
        self._check_scale(value, plain)
        return Value(value.level, value.scale, value.parameters_id, self._add_plain(value.data, plain.data))

    def rotate(self, value: Value, steps: int, keys: EvaluationKeys) -> Value:
        """Rotate the slots to the left, cyclically: slot i of the result is slot i + steps. One key switch."""
        self._check(value)
        self._check_keys(keys)
        element = galois_element(steps, self.parameters.ring_size)
        if element not in keys.elements:
            raise EngineError(f"The evaluation keys have no rotation by {steps}; they were made for another plan.")
        return Value(value.level, value.scale, value.parameters_id, self._rotate(value.data, steps, keys))

    def conjugate(self, value: Value, keys: EvaluationKeys) -> Value:
        """The complex conjugate of every slot. One key switch."""
        self._check(value)
        self._check_keys(keys)
        if conjugation(self.parameters.ring_size) not in keys.elements:
            raise EngineError("The evaluation keys have no conjugation; they were made for another plan.")
        return Value(value.level, value.scale, value.parameters_id, self._conjugate(value.data, keys))

    def multiply(self, left: Value, right: Value, keys: EvaluationKeys) -> Value:
        """Slotwise product of two values of one level, relinearised; the scales multiply. One key switch."""
        self._check(left)
        self._check(right)
        self._check_level(left, right)
        self._check_keys(keys)
        if not keys.relinearise:
            raise EngineError("The evaluation keys hold no relinearisation key; they were made for another plan.")
        scale = left.scale * right.scale
        self._check_room(left.level, scale)
        return Value(left.level, scale, left.parameters_id, self._multiply(left.data, right.data, keys))

    def square(self, value: Value, keys: EvaluationKeys) -> Value:
        """`multiply` of a value with itself, a little faster."""
        return self.multiply(value, value, keys)

    def refresh(self, value: Value, keys: EvaluationKeys) -> Value:
        """Add a fresh encryption of zero under the client's public key.

        The product of a client's ciphertext with weights is a linear function of the weights, and the client, who knows
        its own randomness, can solve it for them. After adding a fresh encryption of zero, the ciphertext's second
        polynomial looks uniform to the client too (ring-LWE with a fresh ternary secret).
        """
        self._check(value)
        self._check_keys(keys)
        if not keys.public:
            raise EngineError("The evaluation keys hold no public key; they were made for another plan.")
        return Value(value.level, value.scale, value.parameters_id, self._refresh(value.data, value.level, keys))

    def read_polynomials(self, value: Value) -> NDArray[np.uint64]:
        """Return the coefficients (2, N) of a value at level 0, not transformed, as residues of 0 .. q - 1."""
        self._check(value)
        if value.level != 0:
            raise EngineError(f"Coefficients are read at level 0; the value is at level {value.level}.")
        return self._read_polynomials(value.data)

    def rescale(self, value: Value) -> Value:
        """Divide by the level's prime and drop it: one level less, the scale divided by the prime."""
        self._check(value)
        if value.level == 0:
            raise EngineError("A value at level 0 cannot be rescaled: the modulus chain is too short for the plan.")
        scale = value.scale / self.primes[value.level]
        return Value(value.level - 1, scale, value.parameters_id, self._rescale(value.data))

    def drop(self, value: Value, level: int) -> Value:
        """Drop primes without dividing, down to a level; the scale stays the same."""
        self._check(value)
        if not 0 <= level <= value.level:
            raise EngineError(f"A value at level {value.level} cannot be dropped to level {level}.")
        return Value(level, value.scale, value.parameters_id, self._drop(value.data, level))

    def _check(self, value: Value) -> None:
        if value.parameters_id != self.parameters.id:
            raise EngineError("The value has other parameters than the engine.")

    def _check_there(self, level: int) -> None:
        if not 0 <= level <= self.parameters.levels:
            raise EngineError(f"There is no level {level}; the chain has levels 0 to {self.parameters.levels}.")

    def _check_room(self, level: int, scale: float) -> None:
        room = math.log2(math.prod(self.primes[: level + 1]))
        if math.log2(scale) >= room:
            raise EngineError(f"A product of scale 2^{math.log2(scale):.1f} does not fit {room:.1f} bits of modulus.")

    def _check_keys(self, keys: EvaluationKeys) -> None:
        if keys.parameters_id != self.parameters.id:
            raise EngineError("The evaluation keys have other parameters than the engine.")

    @staticmethod
    def _check_level(left: Value, right: Value | PlainValue) -> None:
        if left.level != right.level or left.parameters_id != right.parameters_id:
            raise EngineError(f"Values of level {left.level} and {right.level} cannot be combined; drop one first.")

    @staticmethod
    def _check_scale(left: Value, right: Value | PlainValue) -> None:
        if abs(left.scale / right.scale - 1.0) > _SCALE_TOLERANCE:
            raise EngineError(
                f"Values of scale 2^{math.log2(left.scale):.3f} and 2^{math.log2(right.scale):.3f} cannot be added."
            )

    @abstractmethod
    def _encode(self, slots: NDArray[np.generic], level: int, scale: float) -> Any: ...

    @abstractmethod
    def _encode_constant(self, number: float, level: int, scale: float) -> Any: ...

    @abstractmethod
    def _dot(self, values: list[Any], plains: list[Any]) -> Any: ...

    @abstractmethod
    def _add(self, left: Any, right: Any) -> Any: ...

    @abstractmethod
    def _add_plain(self, value: Any, plain: Any) -> Any: ...

    @abstractmethod
    def _rotate(self, value: Any, steps: int, keys: EvaluationKeys) -> Any: ...

    @abstractmethod
    def _conjugate(self, value: Any, keys: EvaluationKeys) -> Any: ...

    @abstractmethod
    def _multiply(self, left: Any, right: Any, keys: EvaluationKeys) -> Any: ...

    @abstractmethod
    def _refresh(self, value: Any, level: int, keys: EvaluationKeys) -> Any: ...

    def _read_polynomials(self, value: Any) -> NDArray[np.uint64]:
        raise EngineError("This engine has no polynomials: it computes in clear.")

    @abstractmethod
    def _rescale(self, value: Any) -> Any: ...

    @abstractmethod
    def _drop(self, value: Any, level: int) -> Any: ...
