"""The network's loops compiled by numba: its key stream, the choice of its layers, and their influence.

See `cipher.algorithm.engine.compiled` about the types of constants.
"""

import numpy as np
from numpy.typing import NDArray

from cipher.algorithm.engine.kernel import inner, kernel
from cipher.algorithm.weights import LEAST_DISTANCE, PROBES, ROTATION, SHEET_INPUTS


@kernel
def add_stream(
    weights: NDArray[np.uint64],
    biases: NDArray[np.uint64],
    seeds: NDArray[np.uint64],
    first: np.uint64,
    words: NDArray[np.uint64],
) -> None:
    """Xor the key stream into `words`, from input number `first` on."""
    nodes = seeds.size
    a = np.empty((nodes, SHEET_INPUTS), np.uint64)
    b = np.empty((nodes, SHEET_INPUTS), np.uint64)
    sheet_words = nodes * SHEET_INPUTS
    for start in range(0, words.size, sheet_words):
        begin = first + np.uint64(start // nodes) + seeds[0]
        _run_first_layer(weights[0], biases[0], seeds, begin, a)
        for layer in range(1, weights.shape[0]):
            # Two nodes at a time share the loads of their inputs; of five nodes, the fourth is run twice.
            for pair in range(0, nodes, 2):
                node = min(pair, nodes - 2)
                _run_nodes(weights[layer], biases[layer], node, a, b[node], b[node + 1])
            a, b = b, a
        for node in range(nodes):
            left = start + node * SHEET_INPUTS
            run = words[left : min(left + SHEET_INPUTS, words.size)]
            if node == 0:
                for i in range(run.size):
                    run[i] ^= a[0, i] + begin + np.uint64(i)
            else:
                seed = seeds[node]
                line = a[node]
                for i in range(run.size):
                    run[i] ^= line[i] + seed


@inner
def _run_first_layer(
    weights: NDArray[np.uint64],
    biases: NDArray[np.uint64],
    seeds: NDArray[np.uint64],
    begin: np.uint64,
    out: NDArray[np.uint64],
) -> None:
    """The first layer at inputs (begin + i, seeds[1], ...): all but the first are the same for the whole sheet."""
    for node in range(seeds.size):
        step = weights[node, 0]
        total = biases[node] + step * begin
        for source in range(1, seeds.size):
            total += weights[node, source] * seeds[source]
        line = out[node]
        for i in range(SHEET_INPUTS):
            line[i] = _activate(total + step * np.uint64(i))


@inner
def _run_nodes(
    weights: NDArray[np.uint64],
    biases: NDArray[np.uint64],
    node: int,
    a: NDArray[np.uint64],
    out: NDArray[np.uint64],
    next_out: NDArray[np.uint64],
) -> None:
    """Two neighbouring nodes of a layer.

    Vector units multiply 32 bits by 32: a product mod 2^64 is low x low, and the two mixed products moved up by 32. The
    mixed ones of a node are summed before they are moved, and both nodes share the halves of the inputs.
    """
    low, up = np.uint64(0xFFFFFFFF), np.uint64(32)
    w, v = weights[node], weights[node + 1]
    bias, next_bias = biases[node], biases[node + 1]
    wl0, wl1, wl2, wl3 = w[0] & low, w[1] & low, w[2] & low, w[3] & low
    wh0, wh1, wh2, wh3 = w[0] >> up, w[1] >> up, w[2] >> up, w[3] >> up
    vl0, vl1, vl2, vl3 = v[0] & low, v[1] & low, v[2] & low, v[3] & low
    vh0, vh1, vh2, vh3 = v[0] >> up, v[1] >> up, v[2] >> up, v[3] >> up
    if w.size == 4:
        for i in range(SHEET_INPUTS):
            l0, l1, l2, l3 = a[0, i] & low, a[1, i] & low, a[2, i] & low, a[3, i] & low
            h0, h1, h2, h3 = a[0, i] >> up, a[1, i] >> up, a[2, i] >> up, a[3, i] >> up
            mixed = l0 * wh0 + h0 * wl0 + l1 * wh1 + h1 * wl1 + l2 * wh2 + h2 * wl2 + l3 * wh3 + h3 * wl3
            out[i] = _activate(l0 * wl0 + l1 * wl1 + l2 * wl2 + l3 * wl3 + bias + (mixed << up))
            mixed = l0 * vh0 + h0 * vl0 + l1 * vh1 + h1 * vl1 + l2 * vh2 + h2 * vl2 + l3 * vh3 + h3 * vl3
            next_out[i] = _activate(l0 * vl0 + l1 * vl1 + l2 * vl2 + l3 * vl3 + next_bias + (mixed << up))
        return
    last = w.size - 1
    w5 = w[5] if w.size == 6 else np.uint64(0)
    v5 = v[5] if w.size == 6 else np.uint64(0)
    wl4, wl5, wh4, wh5 = w[4] & low, w5 & low, w[4] >> up, w5 >> up
    vl4, vl5, vh4, vh5 = v[4] & low, v5 & low, v[4] >> up, v5 >> up
    for i in range(SHEET_INPUTS):
        l0, l1, l2, l3, l4, l5 = (
            a[0, i] & low, a[1, i] & low, a[2, i] & low, a[3, i] & low, a[4, i] & low, a[last, i] & low,
        )  # fmt: skip
        h0, h1, h2, h3, h4, h5 = (
            a[0, i] >> up, a[1, i] >> up, a[2, i] >> up, a[3, i] >> up, a[4, i] >> up, a[last, i] >> up,
        )  # fmt: skip
        mixed = l0 * wh0 + h0 * wl0 + l1 * wh1 + h1 * wl1 + l2 * wh2 + h2 * wl2
        mixed += l3 * wh3 + h3 * wl3 + l4 * wh4 + h4 * wl4 + l5 * wh5 + h5 * wl5
        total = l0 * wl0 + l1 * wl1 + l2 * wl2 + l3 * wl3 + l4 * wl4 + l5 * wl5
        out[i] = _activate(total + bias + (mixed << up))
        mixed = l0 * vh0 + h0 * vl0 + l1 * vh1 + h1 * vl1 + l2 * vh2 + h2 * vl2
        mixed += l3 * vh3 + h3 * vl3 + l4 * vh4 + h4 * vl4 + l5 * vh5 + h5 * vl5
        total = l0 * vl0 + l1 * vl1 + l2 * vl2 + l3 * vl3 + l4 * vl4 + l5 * vl5
        next_out[i] = _activate(total + next_bias + (mixed << up))


@inner
def _activate(x: np.uint64) -> np.uint64:
    one = np.uint64(1)
    low, high = x & np.uint64(0xFFFFFFFF), x >> np.uint64(32)
    x = (low * low << one) + (low * high << np.uint64(34)) + x  # x (2 x + 1)
    x = x << np.uint64(ROTATION) | x >> np.uint64(64 - ROTATION)
    return x << one ^ (np.uint64(0) - (x >> np.uint64(63)))


@inner
def _count_bits(x: np.uint64) -> np.int64:
    x = x - (x >> np.uint64(1) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + (x >> np.uint64(2) & np.uint64(0x3333333333333333))
    x = x + (x >> np.uint64(4)) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64(x * np.uint64(0x0101010101010101) >> np.uint64(56))


@kernel
def choose(candidates: NDArray[np.uint64], chosen: NDArray[np.uint64], filled: int) -> int:
    """Copy effective layers (C, N, N + 1) into `chosen` from place `filled` on; gives the places that are full."""
    for index in range(candidates.shape[0]):
        if filled == chosen.shape[0]:
            break
        if _is_invertible(candidates[index]) and _are_apart(candidates[index]):
            chosen[filled] = candidates[index]
            filled += 1
    return filled


@inner
def _is_invertible(layer: NDArray[np.uint64]) -> bool:
    """Whether the weights are invertible mod 2."""
    nodes = layer.shape[0]
    rows = np.empty(nodes, np.int64)
    for i in range(nodes):
        rows[i] = 0
        for j in range(nodes):
            rows[i] |= np.int64(layer[i, j] & np.uint64(1)) << j
    for column in range(nodes):
        pivot = column
        while pivot < nodes and not rows[pivot] >> column & 1:
            pivot += 1
        if pivot == nodes:
            return False
        rows[column], rows[pivot] = rows[pivot], rows[column]
        for i in range(column + 1, nodes):
            if rows[i] >> column & 1:
                rows[i] ^= rows[column]
    return True


@inner
def _are_apart(layer: NDArray[np.uint64]) -> bool:
    """Whether any two weights differ in enough bits."""
    nodes = layer.shape[0]
    weights = np.empty(nodes * nodes, np.uint64)
    for i in range(nodes):
        weights[i * nodes : (i + 1) * nodes] = layer[i, :nodes]
    for i in range(weights.size):
        least = np.int64(64)
        for j in range(i):
            least = min(least, _count_bits(weights[i] ^ weights[j]))
        if least < LEAST_DISTANCE:
            return False
    return True


@kernel
def influence(
    weights: NDArray[np.uint64], biases: NDArray[np.uint64], seeds: NDArray[np.uint64], changed: NDArray[np.int64]
) -> None:
    """Add to `changed` (L, N, N + 2) the output bits that each parameter and node changes."""
    layers, nodes = biases.shape
    states = np.empty((layers + 1, nodes), np.uint64)
    sums = np.empty((layers, nodes), np.uint64)
    now, then = np.empty(nodes, np.uint64), np.empty(nodes, np.uint64)
    for probe in range(PROBES):
        states[0] = seeds
        states[0, 0] += np.uint64(probe)
        for layer in range(layers):
            for node in range(nodes):
                total = biases[layer, node]
                for source in range(nodes):
                    total += weights[layer, node, source] * states[layer, source]
                sums[layer, node] = total
                states[layer + 1, node] = _activate(total)
        for layer in range(layers):
            for node in range(nodes):
                for what in range(nodes + 2):
                    value = np.uint64(0)
                    if what <= nodes:
                        parameter = biases[layer, node] if what == nodes else weights[layer, node, what]
                        step = np.uint64(1) if what == nodes else states[layer, what]
                        if parameter & np.uint64(1):
                            step = np.uint64(0) - step
                        value = _activate(sums[layer, node] + step)
                    if layer + 1 == layers:
                        changed[layer, node, what] += _count_bits(value ^ states[layers, node])
                        continue
                    # Of the next layer's inputs one has changed: its sums change by a product each.
                    change = value - states[layer + 1, node]
                    for target in range(nodes):
                        now[target] = _activate(sums[layer + 1, target] + weights[layer + 1, target, node] * change)
                    for later in range(layer + 2, layers):
                        for target in range(nodes):
                            total = biases[later, target]
                            for source in range(nodes):
                                total += weights[later, target, source] * now[source]
                            then[target] = _activate(total)
                        now[:] = then
                    for target in range(nodes):
                        changed[layer, node, what] += _count_bits(now[target] ^ states[layers, target])
