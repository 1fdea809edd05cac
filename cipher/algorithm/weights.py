"""The weights of a network, and the constants of its computation. `cipher.algorithm.network` draws them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROTATION = 29
"""Bits by which the second activation turns a word."""
SHEET_INPUTS = 256
PROBES = 2
"""Inputs at which the influence of a weight is measured."""
LEAST_DISTANCE = 12
"""Bits in which any two weights of a layer must differ: of 64, 5 standard deviations below a fair draw's 32."""


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """Weights of one stage of one image. All arrays are uint64."""

    weights: NDArray[np.uint64]
    """(L, N, N): layer, node, input."""
    biases: NDArray[np.uint64]
    """(L, N)"""
    seeds: NDArray[np.uint64]
    """(N,): the input for i = 0."""

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.weights)

    @property
    def nodes(self) -> int:
        """Nodes in each layer."""
        return len(self.seeds)

    @property
    def sheet_bytes(self) -> int:
        """Bytes in a sheet of its stream."""
        return 8 * self.nodes * SHEET_INPUTS
