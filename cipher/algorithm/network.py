"""Steps 1.3, 1.4 and 3: the network that makes the key stream, and the analysis of its weights.

A small feed-forward network over unsigned 64-bit words, of L layers with N nodes each:

    x <- A(W x + b) mod 2^64,    A = tent . rotate . logistic,

and the input added back at the end, so that the whole cannot be run backwards. Its activations are bijective integer
forms of the usual chaotic maps. The weights come from the stage's subkey. Floating point appears nowhere: one bit that
rounds differently on another machine would make an image unreadable for ever.

The stream: input number i of the network is (s0 + i, s1, ..., sN-1) with seeds from the subkey; its output is N words.
A *sheet* is the outputs of inputs 256 t to 256 t + 255, written node by node: 2 N KiB. Sheets follow each other.

Nobody has proved or attacked this construction. No security rests on it: its stream is added to AES-CTR under an
independent key. See docs/cipher-reduction.md.
"""

import math

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from cipher.algorithm.engine.protocol import Engine
from cipher.algorithm.weights import PROBES, Network

LEAST_INFLUENCE = (1, 4)
"""Share of the output bits that a weight or node must change: a quarter. A fair draw changes half of them; the last
layer's weights reach 128 bits, of which a quarter is 5.6 standard deviations below."""


def create_network(stage_key: bytes, layers: int, nodes: int, engine: Engine) -> Network:
    """Draw the network of a stage from its subkey; parameters that are not effective are drawn again.

    Draws are consecutive words of AES-256-CTR under the subkey, so that every reader repeats the same redraws: N seeds,
    then candidates for layers of N (N + 1) words, of which the first effective ones are taken. A network whose weights
    or nodes do not all have influence is drawn again from the words after it.

    Args:
        stage_key: 32 bytes from `cipher.algorithm.key_schedule`.
        layers: number of layers, from the features.
        nodes: nodes in a layer, from the features, 4 to 6.
        engine: the loops.
    """
    draws = _Draws(stage_key)
    candidates, chosen = (4 * layers, nodes, nodes + 1), np.empty((layers, nodes, nodes + 1), np.uint64)
    count = math.prod(candidates)
    while True:
        drawn = draws.read(nodes + count)
        seeds = drawn[:nodes]
        filled = engine.choose(drawn[nodes:].reshape(candidates), chosen, 0)
        while filled < layers:
            filled = engine.choose(draws.read(count).reshape(candidates), chosen, filled)
        network = Network(chosen[:, :, :nodes].copy(), chosen[:, :, nodes].copy(), seeds)
        if has_influence(network, engine):
            return network


def has_influence(network: Network, engine: Engine) -> bool:
    """Step 1.4, weight analysis by an avalanche test: every weight, bias and node changes the output.

    The lowest bit of each weight and bias in turn is flipped, and each node's output in turn set to 0; the outputs of
    two inputs are compared. A weight of the last layer reaches its own node's output alone, any other all outputs.
    """
    before, last = engine.least_influence(network)
    share, of = LEAST_INFLUENCE
    reached_by_last = 64 * PROBES
    return before * of >= reached_by_last * network.nodes * share and last * of >= reached_by_last * share


class _Draws:
    """Words of AES-256-CTR from counter 0."""

    def __init__(self, key: bytes) -> None:
        self._encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def read(self, count: int) -> NDArray[np.uint64]:
        return np.frombuffer(self._encryptor.update(bytes(8 * count)), "<u8").astype(np.uint64, copy=False)
