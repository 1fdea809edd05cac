"""The network's loops compiled by numba: its key stream, the choice of its layers, and their influence.

See `cipher.algorithm.engine.compiled` about the types of constants.
"""

import numpy as np
from numpy.typing import NDArray

from cipher.algorithm.engine.kernel import inner, kernel
from cipher.algorithm.engine.lanes import (
    LANES,
    activate,
    add,
    add_halves,
    load,
    multiply_halves,
    multiply_low,
    raise_halves,
    repeat,
    store,
)
from cipher.algorithm.weights import LEAST_DISTANCE, PROBES, SHEET_INPUTS


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
    # Node after node, the outputs at the inputs of a sheet.
    a, b = np.empty(nodes * SHEET_INPUTS, np.uint64), np.empty(nodes * SHEET_INPUTS, np.uint64)
    sheet_words = nodes * SHEET_INPUTS
    spread = _spread(weights)
    for start in range(0, words.size, sheet_words):
        begin = first + np.uint64(start // nodes) + seeds[0]
        _run_first_layer(weights[0], biases[0], seeds, begin, a)
        for layer in range(1, weights.shape[0]):
            for node in range(nodes):
                at = 8 * nodes * (layer * nodes + node)
                _run_node(spread, at, nodes, biases[layer, node], a, b, node * SHEET_INPUTS)
            a, b = b, a
        for node in range(nodes):
            left = start + node * SHEET_INPUTS
            run = words[left : min(left + SHEET_INPUTS, words.size)]
            if node == 0:
                for i in range(run.size):
                    run[i] ^= a[i] + begin + np.uint64(i)
            else:
                seed = seeds[node]
                line = a[node * SHEET_INPUTS : (node + 1) * SHEET_INPUTS]
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
        line = out[node * SHEET_INPUTS : (node + 1) * SHEET_INPUTS]
        for i in range(SHEET_INPUTS):
            line[i] = activate(total + step * np.uint64(i))


@inner
def _run_node(
    weights: NDArray[np.uint64], at: int, nodes: int, bias: np.uint64, a: NDArray[np.uint64],
    out: NDArray[np.uint64], begin: int,
) -> None:  # fmt: skip
    """Compute the outputs of one node of a layer, and write them to `out` from place `begin` on.

    Vector units multiply 32 bits by 32. A product mod 2^64 is the product of the low halves, plus both mixed products
    of a low and a high half, mod 2^32 and shifted by 32 bits. One multiplication by the weight with its halves
    exchanged gives both mixed products; they are shifted after they are summed.
    """
    w0, w1, w2, w3 = load(weights, at), load(weights, at + 8), load(weights, at + 16), load(weights, at + 24)
    m0, m1, m2, m3 = load(weights, at + 4), load(weights, at + 12), load(weights, at + 20), load(weights, at + 28)
    last = nodes - 1
    w4, m4 = load(weights, at + 32), load(weights, at + 36)
    w5, m5 = load(weights, at + 8 * last), load(weights, at + 8 * last + 4)
    start, n = repeat(bias), SHEET_INPUTS
    for i in range(0, n, LANES):
        x0, x1, x2, x3 = load(a, i), load(a, n + i), load(a, 2 * n + i), load(a, 3 * n + i)
        low = add(add(multiply_low(x0, w0), multiply_low(x1, w1)), add(multiply_low(x2, w2), multiply_low(x3, w3)))
        mixed = add_halves(
            add_halves(multiply_halves(x0, m0), multiply_halves(x1, m1)),
            add_halves(multiply_halves(x2, m2), multiply_halves(x3, m3)),
        )
        if nodes == 6:
            x4 = load(a, 4 * n + i)
            low, mixed = add(low, multiply_low(x4, w4)), add_halves(mixed, multiply_halves(x4, m4))
        if nodes > 4:
            x5 = load(a, last * n + i)
            low, mixed = add(low, multiply_low(x5, w5)), add_halves(mixed, multiply_halves(x5, m5))
        store(out, begin + i, activate(add(add(low, start), raise_halves(mixed))))


@inner
def _spread(weights: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Each weight four times, and four times with its halves exchanged; and room for one more."""
    flat = weights.reshape(weights.size)
    spread = np.zeros(8 * (flat.size + 1), np.uint64)
    for i in range(flat.size):
        spread[8 * i : 8 * i + 4] = flat[i]
        spread[8 * i + 4 : 8 * i + 8] = flat[i] << np.uint64(32) | flat[i] >> np.uint64(32)
    return spread


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
                states[layer + 1, node] = activate(total)
        for layer in range(layers):
            for node in range(nodes):
                for what in range(nodes + 2):
                    value = np.uint64(0)
                    if what <= nodes:
                        parameter = biases[layer, node] if what == nodes else weights[layer, node, what]
                        step = np.uint64(1) if what == nodes else states[layer, what]
                        if parameter & np.uint64(1):
                            step = np.uint64(0) - step
                        value = activate(sums[layer, node] + step)
                    if layer + 1 == layers:
                        changed[layer, node, what] += _count_bits(value ^ states[layers, node])
                        continue
                    # Of the next layer's inputs one has changed: its sums change by a product each.
                    change = value - states[layer + 1, node]
                    for target in range(nodes):
                        now[target] = activate(sums[layer + 1, target] + weights[layer + 1, target, node] * change)
                    for later in range(layer + 2, layers):
                        for target in range(nodes):
                            total = biases[later, target]
                            for source in range(nodes):
                                total += weights[later, target, source] * now[source]
                            then[target] = activate(total)
                        now[:] = then
                    for target in range(nodes):
                        changed[layer, node, what] += _count_bits(now[target] ^ states[layers, target])
