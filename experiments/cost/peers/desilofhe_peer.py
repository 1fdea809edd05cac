"""A head under desilofhe: `PYTHON -m peers.desilofhe_peer DATA.npz`. Its licence allows non-commercial use alone.

This work uses the DESILO FHE library developed by DESILO Inc. (https://desilo.ai)
"""

from collections.abc import Iterable, Sequence
from typing import Any

import desilofhe

from .head_circuit import HeadCircuit, Vector
from .serving import serve

_LEVELS = {1: 1, 2: 3}
_TURNS = {1: 1, 2: 4}


class DesiloScheme:
    """desilofhe, whose parameters follow from the number of levels, and which rescales within each product."""

    def __init__(self, layers: int) -> None:
        self._engine = desilofhe.Engine(max_level=_LEVELS[layers], thread_count=1)
        self.slots = self._engine.slot_count
        self.babies = _TURNS[layers]
        self.parameters = f"N = {2 * self.slots}, {_LEVELS[layers]} levels"

    def make_keys(self, steps: Sequence[int]) -> None:
        self._secret = self._engine.create_secret_key()
        self._square_key = self._engine.create_relinearization_key(self._secret)
        self._turns = {step: self._engine.create_fixed_rotation_key(self._secret, step) for step in steps}

    def encrypt(self, values: Vector) -> Any:
        return self._engine.encrypt(values, self._secret)

    def decrypt(self, value: Any) -> Vector:
        slots: Vector = self._engine.decrypt(value, self._secret)
        return slots

    def encode_weights(self, values: Vector, beside: Any) -> Any:
        return self._engine.encode(values, beside.level)

    encode_biases = encode_weights

    def rotate(self, value: Any, step: int) -> Any:
        return self._engine.rotate(value, self._turns[step])

    def rotate_many(self, value: Any, steps: Iterable[int]) -> list[Any]:
        keys = [self._turns[step] for step in steps]
        return self._engine.rotate_many(value, keys) if keys else []

    def multiply(self, value: Any, weights: Any) -> Any:
        return self._engine.multiply(value, weights)

    def add(self, value: Any, other: Any) -> Any:
        return self._engine.add(value, other)

    add_biases = add

    def square(self, value: Any) -> Any:
        return self._engine.square(value, self._square_key)

    def rescale(self, value: Any) -> Any:
        """Done within the product."""
        return value


if __name__ == "__main__":
    serve("desilofhe", lambda layers: HeadCircuit(layers, DesiloScheme(len(layers))))
