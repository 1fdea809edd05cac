"""The head through TenSEAL's own vectors, as its tutorials write it: the path of every TenSEAL user.

`ckks_vector.mm` with a list of biases, `square_`, `mm` again. The figures show two facts: it needs Galois keys for
every power of two, and the second `mm` after an added bias is off by some hundredths, because the bias is not
replicated over the slots.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tenseal
from numpy.typing import NDArray

from experiments.cost.one_by_one import PathReply, TimedScores, time_one_by_one
from experiments.errors import ExperimentError
from he_infer.head.layers import SQUARE, Head, Linear, Polynomial

CHAINS: dict[int, tuple[list[int], int]] = {1: ([60, 40, 60], 40), 2: ([60, 31, 31, 31, 60], 31)}
"""Linear layers -> bits of the primes at N = 8192, and bits of the scale."""
RING = 8192


@dataclass(frozen=True)
class PeerRun:
    """Decrypted scores of a peer, with times and bytes."""

    timed: TimedScores
    """Times of each image: encrypt, serialize, parse, compute, serialize, parse, decrypt."""
    key_bytes: int
    """Bytes of the public, Galois and relinearisation keys, which the server is sent once."""
    parameters: str


def run_tenseal(head: Head, features: NDArray[np.floating], progress: Callable[[int], None]) -> PeerRun:
    """Evaluate a head of one linear layer, or of two with x^2 between them, image by image.

    Raises:
        ExperimentError: another head.
    """
    layers = _layers(head)
    bits, scale = CHAINS[len(layers)]
    secret = tenseal.context(tenseal.SCHEME_TYPE.CKKS, RING, -1, bits)
    secret.global_scale = 2.0**scale
    secret.generate_galois_keys()
    public = secret.serialize(save_public_key=True, save_secret_key=False, save_galois_keys=True, save_relin_keys=True)
    server = tenseal.context_from(public)
    weights = [(layer.weight.T.tolist(), layer.bias.tolist()) for layer in layers]

    def ask(row: NDArray[np.floating[Any]]) -> PathReply:
        sent = tenseal.ckks_vector(secret, row.tolist()).serialize()
        answer = _evaluate(tenseal.ckks_vector_from(server, sent), weights).serialize()
        return PathReply(tenseal.ckks_vector_from(secret, answer).decrypt(), [sent], [answer])

    timed = time_one_by_one(np.asarray(features, dtype=np.float64), ask, progress)
    chain = ", ".join(map(str, bits))
    return PeerRun(timed, len(public), f"N = {RING}, primes of [{chain}] bits")


def _evaluate(vector: Any, weights: list[tuple[list[list[float]], list[float]]]) -> Any:
    for index, (matrix, bias) in enumerate(weights):
        if index:
            vector = vector.square()
        vector = vector.mm(matrix) + bias
    return vector


def supports_head(head: Head) -> bool:
    """Tell whether this path carries a head: one linear layer, or two with a plain square between them."""
    linear = [layer for layer in head.layers if isinstance(layer, Linear)]
    others = [layer for layer in head.layers if not isinstance(layer, Linear)]
    squares = all(isinstance(layer, Polynomial) and layer.coefficients == SQUARE for layer in others)
    return len(linear) in CHAINS and len(others) == len(linear) - 1 and squares


def _layers(head: Head) -> list[Linear]:
    if not supports_head(head):
        raise ExperimentError(
            "TenSEAL's path is written for one linear layer, or two with x^2 between them. Take a head of kind linear "
            "or mlp."
        )
    return [layer for layer in head.layers if isinstance(layer, Linear)]
