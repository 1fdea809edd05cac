"""TenSEAL's `CKKSVector.mm` on the same head, done right: biases as weights of a constant input.

`mm` followed by `+ bias` and another `mm` is wrong, because the list is not replicated over the slots as the product
is. Here the input has a one at its end and each hidden layer a unit that hands it on, so that every bias is a weight.
"""

import time

import numpy as np
import tenseal
from numpy.typing import NDArray

from he_infer.head.layers import Head, Linear

_RING = 8192
_CHAINS = {1: ([60, 40, 60], 40), 2: ([60, 31, 31, 31, 60], 31)}


def milliseconds(head: Head, features: NDArray[np.float64], repeats: int) -> tuple[float, float]:
    """Median milliseconds of processor time for one image (parse, evaluate, serialize), and the largest error."""
    bits, scale = _CHAINS[len(head.linear)]
    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, _RING, -1, bits, n_threads=1)
    context.global_scale = 2.0**scale
    context.generate_galois_keys()
    weights = [matrix.T.tolist() for matrix in _augmented(head)]
    spent, errors = [], []
    for row in features[:repeats]:
        sent = tenseal.ckks_vector(context, [*row, 1.0]).serialize()
        started = time.thread_time()
        value = tenseal.ckks_vector_from(context, sent)
        for index, matrix in enumerate(weights):
            value = (value.square() if index else value).mm(matrix)
        value.serialize()
        spent.append(1e3 * (time.thread_time() - started))
        errors.append(np.abs(np.array(value.decrypt()) - head.evaluate(row[None])[0]).max())
    return float(np.median(spent)), float(max(errors))


def _augmented(head: Head) -> list[NDArray[np.float64]]:
    """Each layer's weights and biases (outputs, inputs + 1); hidden layers also hand on the constant one."""
    layers = []
    for index, layer in enumerate(head.linear):
        matrix = np.hstack([layer.weight, layer.bias[:, None]])
        last = index == len(head.linear) - 1
        layers.append(matrix if last else np.vstack([matrix, _constant(layer)]))
    return layers


def _constant(layer: Linear) -> NDArray[np.float64]:
    return np.eye(1, layer.inputs + 1, layer.inputs)
