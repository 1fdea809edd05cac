"""Bounds of a circuit's values, which decide how large the modulus must be.

There are two bounds. The certain bound is |W| |x| + |b| in every layer: no feature vector within the input bound can
then wrap around. For deep or wide heads no modulus is large enough. There a layer's outputs are bounded by
`LIKELY` * (norm of the row) * (largest feature) + |b|, which is 8 standard deviations for features of typical size, or
by 8 times the measured size of the value if the head states it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.planning.circuit import Circuit

LIKELY = 2.0
_LIKELY_OF_MEASURED = 8.0


@dataclass(frozen=True)
class Reach:
    """Bounds of the values in slots, by layer."""

    before: tuple[float, ...]
    """Bound of each hidden layer's linear outputs."""
    after: tuple[float, ...]
    """Bound of each activation's outputs and intermediate values."""
    scores: float


def bound_values(circuit: Circuit, input_bound: float, *, certain: bool) -> Reach:
    """Bound every layer's values: for all features within `input_bound` if `certain`, otherwise for likely ones."""
    held: NDArray[np.float64] = np.full(circuit.linear[0].inputs, input_bound)
    largest = input_bound
    before, after = [], []
    for layer, activation, known in zip(circuit.linear, circuit.activations, circuit.measured, strict=False):
        sizes = None if known is None else known.inputs
        values = _bound_outputs(layer.weight, held, largest, certain, sizes) + np.abs(layer.bias)
        before.append(float(values.max()))
        held = activation.largest(values)
        largest = float(held.max())
        after.append(max(largest, float((values**2).max()) + abs(activation.e)))
    last = circuit.linear[-1]
    return Reach(tuple(before), tuple(after), float((np.abs(last.weight) @ held + np.abs(last.bias)).max()))


def _bound_outputs(
    weight: NDArray[np.float64],
    held: NDArray[np.float64],
    largest: float,
    certain: bool,
    sizes: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    sure = np.abs(weight) @ held
    if certain:
        return np.asarray(sure)
    likely = LIKELY * np.sqrt(weight**2 @ np.minimum(held, largest) ** 2)
    if sizes is not None:
        likely = np.maximum(likely, _LIKELY_OF_MEASURED * sizes)
    return np.asarray(np.minimum(sure, likely))
