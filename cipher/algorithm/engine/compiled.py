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

_AHEAD = 6
"""Rows between the one that is moved and the one that is fetched from memory."""


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

    def measure(self, half: Words, most: int, blocks: int) -> NDArray[np.int64]:
        """As `Engine.measure`."""
        measured = np.zeros((blocks * blocks, 4), np.int64)
        _measure(half, most, blocks, measured)
        return measured

    def arrange(self, draws: NDArray[np.uint32], bands: NDArray[np.int64]) -> NDArray[np.int64]:
        """As `Engine.arrange`."""
        places = np.empty((bands.size - 1, draws.size // (bands.size - 1)), np.int64)
        _arrange(draws, bands, places)
        return places

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
def _measure(half: Words, most: int, blocks: int, out: NDArray[np.int64]) -> None:
    down, across = -(-half.shape[0] // most), -(-half.shape[1] // most)
    rows, columns = -(-half.shape[0] // down), -(-half.shape[1] // across)
    copy = np.empty((rows, columns), np.int64)
    low = high = np.int64(half[0, 0])
    for row in range(rows):
        for column in range(columns):
            value = np.int64(half[row * down, column * across])
            copy[row, column] = value
            low, high = min(low, value), max(high, value)
    scale = max(1, high - low)
    for row in range(rows):
        for column in range(columns):
            copy[row, column] = (copy[row, column] - low) * 255 // scale
    counts = np.empty(256, np.int64)
    for block in range(blocks * blocks):
        top, bottom = block // blocks * rows // blocks, (block // blocks + 1) * rows // blocks
        left, right = block % blocks * columns // blocks, (block % blocks + 1) * columns // blocks
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


@kernel
def _arrange(draws: NDArray[np.uint32], bands: NDArray[np.int64], places: NDArray[np.int64]) -> None:
    across = places.shape[1]
    order = np.arange(draws.size)
    for i in range(order.size - 1, 0, -1):
        other = np.int64(np.uint64(draws[i]) * np.uint64(i + 1) >> np.uint64(32))
        order[i], order[other] = order[other], order[i]
    place = 0
    for tile in order:
        band = tile // across
        places[band, tile % across] = place
        place += bands[band + 1] - bands[band]


@kernel
def _move_strip(
    source: Words, target: Words, columns: int, bands: NDArray[np.int64], column: int, width: int, first_word: int,
    places: NDArray[np.int64], draws: NDArray[np.uint32], turns: NDArray[np.int64], bit_turns: NDArray[np.int64],
    onward: bool,
) -> int:  # fmt: skip
    """Move the rows of a strip's tiles from the half into the vector (`onward`) or back, words and bits turned.

    Gives a number without meaning, so that the compiler keeps the loads that only bring memory closer.
    """
    across, tallest = places.shape[1], 0
    for band in range(places.shape[0]):
        tallest = max(tallest, bands[band + 1] - bands[band])
    order, rows = np.empty(tallest, np.int64), np.empty(tallest, np.int64)
    doubled = np.empty(2 * width, target.dtype)
    half = source if onward else target
    line_of_cache = 64 // target.itemsize
    touched = 0
    for band in range(places.shape[0]):
        top, height = bands[band], bands[band + 1] - bands[band]
        for tile in range(across):
            _order_rows(order, top, height, tile, draws)
            for i in range(height):
                rows[order[i]] = i
            corner = top * columns + column + tile * width
            # Row after row of the vector, so that it is read or written in the order of memory; the half is not, and
            # each of its rows is touched some rows ahead, or the processor waits for most of them.
            for place in range(-_AHEAD, height):
                if place + _AHEAD < height:
                    ahead = corner + rows[place + _AHEAD] * columns
                    for word in range(ahead, ahead + width, line_of_cache):
                        touched ^= half[word]
                if place < 0:
                    continue
                manner = draws[top + rows[place], tile] >> np.uint32(28)
                in_half = corner + rows[place] * columns
                in_vector = first_word + (places[band, tile] + place) * width
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
