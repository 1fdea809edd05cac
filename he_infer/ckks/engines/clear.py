"""The engine's protocol in plain numpy: the same checks, no encryption, and on request CKKS's noise, simulated.

A value's data are slots of one request (slots,) or of many at once (requests, slots), so that a whole data set runs
through a plan in seconds.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.engines.protocol import Engine, EvaluationKeys, Value
from he_infer.ckks.layouts.ring import to_coefficients, to_slots
from he_infer.ckks.parameters import Parameters
from he_infer.ckks.planning.noise import SIGMA, ErrorModel
from he_infer.ckks.planning.order import Digits
from he_infer.ckks.planning.plan import Plan
from he_infer.errors import EngineError


@dataclass(frozen=True)
class Held:
    """Slots as numbers, with the level and scale that their noise depends on."""

    slots: NDArray[np.complex128]
    level: int
    scale: float


class ClearEngine(Engine):
    """Computes the same as SEAL, without keys or secrets.

    Args:
        parameters: ring size and chain; the primes are taken as powers of two.
        seed: seed of the simulated noise, see `noise`; None: exact arithmetic.
        digits: range of the digits in simulated key switches.
    """

    def __init__(self, parameters: Parameters, seed: int | None = None, digits: Digits = Digits.POSITIVE) -> None:
        super().__init__(parameters, tuple(1 << bits for bits in parameters.modulus_bits))
        self.digits = digits
        self._model = ErrorModel(parameters, digits)
        self._random = None if seed is None else np.random.default_rng(seed)
        self._keys: dict[str, NDArray[np.complex128]] = {}
        """Errors of each key used so far, drawn once a key: (digits, slots)."""

    def encrypt(self, slots: NDArray[np.generic], scale: float) -> Value:
        """Make a fresh value at the top level, from slots (slots,) or (requests, slots)."""
        if slots.shape[-1] != self.parameters.slots:
            raise EngineError(f"{slots.shape[-1]} slots cannot be encrypted; expected {self.parameters.slots}.")
        level = self.parameters.levels
        held = self._noisy(Held(slots.astype(np.complex128), level, scale), self._model.fresh)
        return Value(level, scale, self.parameters.id, held)

    def decrypt(self, value: Value) -> NDArray[np.complex128]:
        """Return the slots of a value."""
        self._check(value)
        return np.asarray(value.data.slots)

    def keys_for(self, plan: Plan) -> EvaluationKeys:
        """Return the evaluation keys that a client of this plan would register."""
        elements = frozenset(plan.galois_elements)
        return EvaluationKeys(self.parameters.id, elements, plan.relinearise, plan.refreshes, {}, 0)

    def _noisy(self, held: Held, nu: float) -> Held:
        if self._random is None or nu == 0.0:
            return held
        deviation = nu * math.sqrt(self.parameters.ring_size / 2) / held.scale
        drawn = self._random.normal(0.0, deviation, (2, *held.slots.shape))
        return Held(held.slots + drawn[0] + 1j * drawn[1], held.level, held.scale)

    def _switch(self, held: Held, key: str) -> Held:
        if self._random is None:
            return held
        if key not in self._keys:
            shape = (2, len(self.parameters.data_bits), self.parameters.slots)
            errors = self._random.normal(0.0, self._model.in_slot(SIGMA), shape)
            self._keys[key] = errors[0] + 1j * errors[1]
        fixed = self._model.fixed_key_switch(self._keys[key], held.level) / held.scale
        held = Held(held.slots + fixed, held.level, held.scale)
        return self._noisy(held, self._model.drawn_key_switch(held.level))

    def _encode(self, slots: NDArray[np.generic], level: int, scale: float) -> Held:
        if self._random is None:
            return Held(slots.astype(np.complex128), level, scale)
        rounded = np.rint(to_coefficients(slots) * scale) / scale
        return Held(to_slots(rounded), level, scale)

    def _encode_constant(self, number: float, level: int, scale: float) -> Held:
        held = number if self._random is None else round(number * scale) / scale
        return Held(np.full(self.parameters.slots, held, dtype=np.complex128), level, scale)

    def _dot(self, values: list[Any], plains: list[Any]) -> Held:
        total = values[0].slots * plains[0].slots
        for value, plain in zip(values[1:], plains[1:], strict=True):
            total = total + value.slots * plain.slots
        return Held(total, values[0].level, values[0].scale * plains[0].scale)

    def _add(self, left: Any, right: Any) -> Held:
        return Held(left.slots + right.slots, left.level, left.scale)

    def _add_plain(self, value: Any, plain: Any) -> Held:
        return Held(value.slots + plain.slots, value.level, value.scale)

    def _rotate(self, value: Any, steps: int, keys: EvaluationKeys) -> Held:
        return self._switch(Held(np.roll(value.slots, -steps, axis=-1), value.level, value.scale), f"rotate {steps}")

    def _conjugate(self, value: Any, keys: EvaluationKeys) -> Held:
        return self._switch(Held(np.conj(value.slots), value.level, value.scale), "conjugate")

    def _multiply(self, left: Any, right: Any, keys: EvaluationKeys) -> Held:
        return self._switch(Held(left.slots * right.slots, left.level, left.scale * right.scale), "relinearise")

    def _refresh(self, value: Any, level: int, keys: EvaluationKeys) -> Held:
        return self._noisy(value, self._model.zero)

    def _rescale(self, value: Any) -> Held:
        divided = Held(value.slots, value.level - 1, value.scale / self.primes[value.level])
        return self._noisy(divided, self._model.rescaling)

    def _drop(self, value: Any, level: int) -> Held:
        return Held(value.slots, level, value.scale)
