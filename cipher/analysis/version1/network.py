"""Steps 1.3 and 1.4: the network that makes the key stream.

A small feed-forward network over unsigned 64-bit words: four neurons a layer, eight to eleven layers,

    x <- A(W x + b) mod 2^64,    A = tent . rotate . logistic,

and the input added back at the end, so that the whole cannot be run backwards. Its activations are bijective integer
forms of the usual chaotic maps. The weights come from the stage's subkey. Floating point appears nowhere: one bit that
rounds differently on another machine would make an image unreadable for ever.

The stream: input number i of the network is (s0 + i, s1, s2, s3) with seeds from the subkey; its output is four words.
A *sheet* is the 256 outputs of inputs 256 t to 256 t + 255, written neuron by neuron: 8 KiB. Sheets follow each other.

Nobody has proved or attacked this construction by itself; version 1 as a whole was broken (see docs/cipher.md).
"""

import functools
import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEURONS = 4
ROTATION = 29
SHEET_INPUTS = 256
SHEET_WORDS = NEURONS * SHEET_INPUTS
SHEET_BYTES = 8 * SHEET_WORDS

_LAYER_WORDS = NEURONS * NEURONS + NEURONS
_BALANCE_LIMIT = 48
"""Largest distance of the weights' count of one bits from half of 1024: three standard deviations of a fair draw."""


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """Weights of one stage of one image. All arrays are uint64."""

    weights: NDArray[np.uint64]
    """(L, 4, 4): layer, neuron, input."""
    biases: NDArray[np.uint64]
    """(L, 4)"""
    seeds: NDArray[np.uint64]
    """(4,): the input for i = 0."""

    @property
    def layers(self) -> int:
        """Number of hidden layers."""
        return len(self.weights)


@functools.lru_cache(maxsize=16)
def create_network(stage_key: bytes, layers: int) -> Network:
    """The network of a stage: drawn from the subkey, layer by layer, ineffective layers drawn again.

    Draws are consecutive pieces of SHAKE256(stage_key), so that every reader repeats the same redraws.

    Args:
        stage_key: 32 bytes from `cipher.analysis.version1.key_schedule.update_key`.
        layers: number of layers, from `cipher.analysis.version1.features`.
    """
    seeds = np.frombuffer(hashlib.shake_256(b"seeds" + stage_key).digest(8 * NEURONS), "<u8").astype(np.uint64)
    weights = np.empty((layers, NEURONS, NEURONS), np.uint64)
    biases = np.empty((layers, NEURONS), np.uint64)
    found = 0
    batch = 64
    while found < layers:
        found = 0
        stream = hashlib.shake_256(b"weights" + stage_key).digest(batch * _LAYER_WORDS * 8)
        for draw in np.frombuffer(stream, "<u8").reshape(batch, _LAYER_WORDS):
            candidate = draw[: NEURONS * NEURONS].reshape(NEURONS, NEURONS)
            if effective_parameters(candidate):
                weights[found] = candidate
                biases[found] = draw[NEURONS * NEURONS :]
                found += 1
                if found == layers:
                    break
        batch *= 2
    return Network(weights, biases, seeds)


def effective_parameters(weights: NDArray[np.uint64]) -> bool:
    """Step 1.4, weight analysis: a layer invertible mod 2 (hence mod 2^64), of balanced bits."""
    ones = sum(int(weight).bit_count() for weight in weights.flat)
    return abs(ones - 32 * weights.size) <= _BALANCE_LIMIT and _invertible_mod_2(weights)


def _invertible_mod_2(weights: NDArray[np.uint64]) -> bool:
    """Whether the matrix of lowest bits has full rank over GF(2)."""
    rows = [sum((int(weight) & 1) << column for column, weight in enumerate(row)) for row in weights]
    for column in range(len(rows)):
        pivot = next((index for index in range(column, len(rows)) if rows[index] >> column & 1), None)
        if pivot is None:
            return False
        rows[column], rows[pivot] = rows[pivot], rows[column]
        for index in range(column + 1, len(rows)):
            if rows[index] >> column & 1:
                rows[index] ^= rows[column]
    return True
