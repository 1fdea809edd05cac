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
    exchange_halves,
    exclusive_or,
    load,
    load_repeated,
    multiply_halves,
    multiply_low,
    raise_halves,
    ramp,
    repeat,
    store,
)
from cipher.algorithm.weights import LEAST_DISTANCE, PROBES, SHEET_INPUTS

_RUN = 8 * SHEET_INPUTS
"""Bytes of a node's outputs at the inputs of a sheet."""


@kernel
def add_stream(
    weights: NDArray[np.uint64],
    biases: NDArray[np.uint64],
    seeds: NDArray[np.uint64],
    first: np.uint64,
    words: NDArray[np.uint64],
    room: NDArray[np.uint64],
) -> None:
    """Xor the key stream into `words`, from input number `first` on; `room` is of `room_for` the nodes."""
    nodes = seeds.size
    # Node after node, the outputs at the inputs of a sheet; where a line of the processor's cache begins.
    a = (room.ctypes.data + 63) // 64 * 64
    b = a + nodes * _RUN
    for start in range(0, words.size, nodes * SHEET_INPUTS):
        begin = first + np.uint64(start // nodes) + seeds[0]
        for node in range(nodes):
            # To the first layer all inputs but the first are the same.
            total = biases[0, node] + weights[0, node, 0] * begin
            for source in range(1, nodes):
                total += weights[0, node, source] * seeds[source]
            _run_first(total, weights[0, node, 0], a + node * _RUN)
        for layer in range(1, weights.shape[0]):
            for node in range(nodes):
                row = weights.ctypes.data + 8 * nodes * (layer * nodes + node)
                _run_node(row, nodes, biases[layer, node], a, b + node * _RUN)
            a, b = b, a
        for node in range(nodes):
            left = start + node * SHEET_INPUTS
            size = max(0, min(SHEET_INPUTS, words.size - left))
            # The network's input is added back.
            seed, step = (seeds[node], np.uint64(0)) if node else (begin, np.uint64(1))
            _add_run(a + node * _RUN, seed, step, words.ctypes.data + 8 * left, size // LANES)
            line = (a - room.ctypes.data) // 8 + node * SHEET_INPUTS
            for i in range(size // LANES * LANES, size):
                words[left + i] ^= room[line + i] + seed + step * np.uint64(i)


def room_for(nodes: int) -> int:
    """Words that `add_stream` needs to work in."""
    return 2 * nodes * SHEET_INPUTS + 8


@inner
def _run_first(total: np.uint64, step: np.uint64, out: int) -> None:
    """Write a first layer's node, whose sum is `total` and a step more for each further input, to the address `out`."""
    x, further = ramp(total, step), repeat(step * np.uint64(LANES))
    for at in range(out, out + _RUN, 8 * LANES):
        store(at, activate(x))
        x = add(x, further)


@inner
def _run_node(weights: int, nodes: int, bias: np.uint64, a: int, out: int) -> None:
    """Compute the outputs of one node of a layer from the outputs `a` of the layer before; all are addresses.

    Where vector units multiply 32 bits by 32, a product mod 2^64 is the product of the low halves, plus both mixed
    products of a low and a high half, mod 2^32 and shifted by 32 bits. One multiplication by the weight with its halves
    exchanged gives both mixed products; they are shifted after they are summed.
    """
    last = nodes - 1
    w0, w1, w2 = load_repeated(weights), load_repeated(weights + 8), load_repeated(weights + 16)
    w3, w4, w5 = (
        load_repeated(weights + 24),
        load_repeated(weights + 8 * min(4, last)),
        load_repeated(weights + 8 * last),
    )
    m0, m1, m2 = exchange_halves(w0), exchange_halves(w1), exchange_halves(w2)
    m3, m4, m5 = exchange_halves(w3), exchange_halves(w4), exchange_halves(w5)
    start = repeat(bias)
    for at in range(0, _RUN, 8 * LANES):
        x0, x1, x2, x3 = load(a + at), load(a + _RUN + at), load(a + 2 * _RUN + at), load(a + 3 * _RUN + at)
        low = add(add(multiply_low(x0, w0), multiply_low(x1, w1)), add(multiply_low(x2, w2), multiply_low(x3, w3)))
        mixed = add_halves(
            add_halves(multiply_halves(x0, m0), multiply_halves(x1, m1)),
            add_halves(multiply_halves(x2, m2), multiply_halves(x3, m3)),
        )
        if nodes == 6:
            x4 = load(a + 4 * _RUN + at)
            low, mixed = add(low, multiply_low(x4, w4)), add_halves(mixed, multiply_halves(x4, m4))
        if nodes > 4:
            x5 = load(a + last * _RUN + at)
            low, mixed = add(low, multiply_low(x5, w5)), add_halves(mixed, multiply_halves(x5, m5))
        store(out + at, activate(add(add(low, start), raise_halves(mixed))))


@inner
def _add_run(a: int, seed: np.uint64, step: np.uint64, words: int, count: int) -> None:
    """Xor `count` lanes of a node's outputs, a ramp added, into words; `a` and `words` are addresses."""
    x, further = ramp(seed, step), repeat(step * np.uint64(LANES))
    for at in range(0, 8 * LANES * count, 8 * LANES):
        store(words + at, exclusive_or(load(words + at), add(load(a + at), x)))
        x = add(x, further)


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
def least_influence(
    weights: NDArray[np.uint64], biases: NDArray[np.uint64], seeds: NDArray[np.uint64]
) -> tuple[int, int]:
    """Least number of output bits that a parameter or node changes: before the last layer, and in it."""
    layers, nodes = biases.shape
    changed = np.zeros((layers, nodes, nodes + 2), np.int64)
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
    return changed[:-1].min(), changed[-1, :, :-1].min()
