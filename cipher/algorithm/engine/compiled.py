"""The loops compiled by numba (the extra `fast`). Loops over columns are written so that they become vector code.

numba computes in 64 bits where C would promote to int, and mixes of signed and unsigned words become floating point; so
every constant below has the type of the words that it meets, and results are cut to the word when they are stored.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipher.algorithm.engine.kernel import inner, kernel
from cipher.algorithm.tiles import Division
from cipher.algorithm.weights import LEAST_DISTANCE, PROBES, ROTATION, SHEET_INPUTS, Network
from cipher.algorithm.words import Words


class CompiledEngine:
    """Needs numba."""

    name = "numba"

    def add_stream(self, network: Network, first_sheet: int, words: NDArray[np.uint64]) -> None:
        """As `Engine.add_stream`."""
        first = np.uint64(first_sheet * SHEET_INPUTS)
        _add_stream(network.weights, network.biases, network.seeds, first, words)

    def effective(self, candidates: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """As `Engine.effective`."""
        good = np.empty(len(candidates), np.bool_)
        _effective(np.ascontiguousarray(candidates), good)
        return good

    def influence(self, network: Network) -> NDArray[np.int64]:
        """As `Engine.influence`."""
        changed = np.zeros((network.layers, network.nodes, network.nodes + 2), np.int64)
        _influence(network.weights, network.biases, network.seeds, changed)
        return changed

    def measure(self, copy: NDArray[np.int64], cuts: tuple[list[int], list[int]]) -> NDArray[np.int64]:
        """As `Engine.measure`."""
        down, across = (np.array(places, np.int64) for places in cuts)
        measured = np.zeros(((down.size - 1) * (across.size - 1), 4), np.int64)
        _measure(copy, down, across, measured)
        return measured

    def shuffle(self, draws: NDArray[np.uint32]) -> NDArray[np.int64]:
        """As `Engine.shuffle`."""
        order = np.empty(draws.size, np.int64)
        _shuffle(draws, order)
        return order

    def gather(self, half: Words, division: Division, vector: Words) -> None:
        """As `Engine.gather`."""
        for strip in division.strips:
            _move_strip(
                half.reshape(-1), vector, half.shape[1], division.bands, strip.column, strip.width, strip.first_word,
                strip.places, strip.draws, strip.turns, division.bit_turns, True,
            )  # fmt: skip

    def scatter(self, vector: Words, division: Division, half: Words) -> None:
        """As `Engine.scatter`."""
        bits = 8 * half.itemsize
        for strip in division.strips:
            _move_strip(
                vector, half.reshape(-1), half.shape[1], division.bands, strip.column, strip.width, strip.first_word,
                strip.places, strip.draws, (strip.width - strip.turns) % strip.width,
                (bits - division.bit_turns) % bits, False,
            )  # fmt: skip


@kernel
def _add_stream(
    weights: NDArray[np.uint64],
    biases: NDArray[np.uint64],
    seeds: NDArray[np.uint64],
    first: np.uint64,
    words: NDArray[np.uint64],
) -> None:
    nodes = seeds.size
    a = np.empty((nodes, SHEET_INPUTS), np.uint64)
    b = np.empty((nodes, SHEET_INPUTS), np.uint64)
    sheet_words = nodes * SHEET_INPUTS
    for start in range(0, words.size, sheet_words):
        begin = first + np.uint64(start // nodes) + seeds[0]
        for i in range(SHEET_INPUTS):
            a[0, i] = begin + np.uint64(i)
        for node in range(1, nodes):
            a[node, :] = seeds[node]
        for layer in range(weights.shape[0]):
            for node in range(nodes):
                _run_node(weights[layer, node], biases[layer, node], a, b[node])
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
def _run_node(weights: NDArray[np.uint64], bias: np.uint64, a: NDArray[np.uint64], out: NDArray[np.uint64]) -> None:
    one = np.uint64(1)
    left, right, top = np.uint64(ROTATION), np.uint64(64 - ROTATION), np.uint64(63)
    w0, w1, w2, w3 = weights[0], weights[1], weights[2], weights[3]
    if weights.size == 4:
        for i in range(SHEET_INPUTS):
            x = w0 * a[0, i] + w1 * a[1, i] + w2 * a[2, i] + w3 * a[3, i] + bias
            x = x * (x << one | one)
            x = x << left | x >> right
            out[i] = x << one ^ (np.uint64(0) - (x >> top))
        return
    w4 = weights[4]
    w5 = weights[5] if weights.size == 6 else np.uint64(0)
    last = weights.size - 1
    for i in range(SHEET_INPUTS):
        x = w0 * a[0, i] + w1 * a[1, i] + w2 * a[2, i] + w3 * a[3, i] + w4 * a[4, i] + w5 * a[last, i] + bias
        x = x * (x << one | one)
        x = x << left | x >> right
        out[i] = x << one ^ (np.uint64(0) - (x >> top))


@inner
def _activate(x: np.uint64) -> np.uint64:
    one = np.uint64(1)
    x = x * (x << one | one)
    x = x << np.uint64(ROTATION) | x >> np.uint64(64 - ROTATION)
    return x << one ^ (np.uint64(0) - (x >> np.uint64(63)))


@inner
def _count_bits(x: np.uint64) -> np.int64:
    x = x - (x >> np.uint64(1) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + (x >> np.uint64(2) & np.uint64(0x3333333333333333))
    x = x + (x >> np.uint64(4)) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64(x * np.uint64(0x0101010101010101) >> np.uint64(56))


@kernel
def _effective(candidates: NDArray[np.uint64], good: NDArray[np.bool_]) -> None:
    nodes = candidates.shape[1]
    rows = np.empty(nodes, np.int64)
    for index in range(candidates.shape[0]):
        flat = candidates[index].reshape(nodes * nodes)
        for i in range(nodes):
            rows[i] = 0
            for j in range(nodes):
                rows[i] |= np.int64(candidates[index, i, j] & np.uint64(1)) << j
        fine = True
        for column in range(nodes):
            pivot = column
            while pivot < nodes and not rows[pivot] >> column & 1:
                pivot += 1
            if pivot == nodes:
                fine = False
                break
            rows[column], rows[pivot] = rows[pivot], rows[column]
            for i in range(column + 1, nodes):
                if rows[i] >> column & 1:
                    rows[i] ^= rows[column]
        if fine:
            for i in range(flat.size):
                for j in range(i):
                    if _count_bits(flat[i] ^ flat[j]) < LEAST_DISTANCE:
                        fine = False
        good[index] = fine


@kernel
def _influence(
    weights: NDArray[np.uint64], biases: NDArray[np.uint64], seeds: NDArray[np.uint64], changed: NDArray[np.int64]
) -> None:
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
                    now[:] = states[layer + 1]
                    if what == nodes + 1:
                        now[node] = np.uint64(0)
                    else:
                        parameter = biases[layer, node] if what == nodes else weights[layer, node, what]
                        step = np.uint64(1) if what == nodes else states[layer, what]
                        if parameter & np.uint64(1):
                            step = np.uint64(0) - step
                        now[node] = _activate(sums[layer, node] + step)
                    for later in range(layer + 1, layers):
                        for target in range(nodes):
                            total = biases[later, target]
                            for source in range(nodes):
                                total += weights[later, target, source] * now[source]
                            then[target] = _activate(total)
                        now[:] = then
                    for target in range(nodes):
                        changed[layer, node, what] += _count_bits(now[target] ^ states[layers, target])


@kernel
def _measure(
    copy: NDArray[np.int64], down: NDArray[np.int64], across: NDArray[np.int64], out: NDArray[np.int64]
) -> None:
    counts = np.empty(256, np.int64)
    block = 0
    for i in range(down.size - 1):
        for j in range(across.size - 1):
            top, bottom, left, right = down[i], down[i + 1], across[j], across[j + 1]
            size = (bottom - top) * (right - left)
            counts[:] = 0
            total = squares = steps = collisions = np.int64(0)
            for row in range(top, bottom):
                for column in range(left, right):
                    value = copy[row, column]
                    total += value
                    squares += value * value
                    counts[value] += 1
                    if row > top:
                        steps += abs(value - copy[row - 1, column])
                    if column > left:
                        steps += abs(value - copy[row, column - 1])
            if size:
                for count in counts:
                    collisions += count * count
                out[block, 0] = total // size
                out[block, 1] = (size * squares - total * total) // (size * size)
                out[block, 2] = steps // size
                out[block, 3] = size * size // collisions
            block += 1


@kernel
def _shuffle(draws: NDArray[np.uint32], order: NDArray[np.int64]) -> None:
    for i in range(order.size):
        order[i] = i
    for i in range(order.size - 1, 0, -1):
        other = np.int64(np.uint64(draws[i]) * np.uint64(i + 1) >> np.uint64(32))
        order[i], order[other] = order[other], order[i]


@kernel
def _move_strip(
    source: Words, target: Words, columns: int, bands: NDArray[np.int64], column: int, width: int, first_word: int,
    places: NDArray[np.int64], draws: NDArray[np.uint32], turns: NDArray[np.int64], bit_turns: NDArray[np.int64],
    onward: bool,
) -> int:  # fmt: skip
    """Move the rows of a strip's tiles from the half into the vector (`onward`) or back, words and bits turned.

    Gives a number without meaning, so that the compiler keeps the loads that only bring memory closer.
    """
    across = places.shape[1]
    order = np.empty((across, bands[-1]), np.int64)
    doubled = np.empty(2 * width, target.dtype)
    vector = target if onward else source
    line_of_cache = 64 // target.itemsize
    touched = 0
    for band in range(places.shape[0]):
        top, height = bands[band], bands[band + 1] - bands[band]
        for tile in range(across):
            _order_rows(order[tile], top, height, tile, draws)
        # Row after row of the half, so that it is read or written in the order of memory; the vector is not, and each
        # of its rows is touched one row ahead, or the processor waits for most of them.
        for i in range(height):
            if i + 1 < height:
                for tile in range(across):
                    ahead = first_word + (places[band, tile] + order[tile, i + 1]) * width
                    for word in range(ahead, ahead + width, line_of_cache):
                        touched ^= vector[word]
            for tile in range(across):
                manner = draws[top + i, tile] >> np.uint32(28)
                in_half = (top + i) * columns + column + tile * width
                in_vector = first_word + (places[band, tile] + order[tile, i]) * width
                begin, end = (in_half, in_vector) if onward else (in_vector, in_half)
                row, moved = source[begin : begin + width], target[end : end + width]
                _copy_turned(moved, row, doubled, turns[manner], bit_turns[manner])
    return touched


@inner
def _order_rows(order: NDArray[np.int64], top: int, height: int, tile: int, draws: NDArray[np.uint32]) -> None:
    """Fill `order` with the place of each of a tile's rows."""
    for i in range(height):
        order[i] = i
    for i in range(height - 1, 0, -1):
        other = np.int64(draws[top + i, tile] & np.uint32(0xFFFF)) * (i + 1) >> 16
        order[i], order[other] = order[other], order[i]


@inner
def _copy_turned(target: Words, source: Words, doubled: Words, turn: int, bit: int) -> None:
    """Copy a row, turned by `turn` words and each word to the left by `bit` bits."""
    # The row is written twice, side by side, and copied from where it begins: two plain runs over whole rows instead
    # of two pieces with odd ends. The shifts are bounded by the word's size, a constant to the compiler, or it would
    # compute in 64 bits.
    word: Any = target.dtype.type
    most = 8 * target.itemsize - 1
    up, down = word(bit & most), word(-bit & most)
    size = source.size
    again = doubled[size:]
    for j in range(size):
        turned = word(source[j] << up) | word(source[j] >> down)
        doubled[j] = turned
        again[j] = turned
    begun = doubled[turn : turn + size]
    for j in range(size):
        target[j] = begun[j]
