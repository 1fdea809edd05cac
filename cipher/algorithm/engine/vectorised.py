"""The loops with numpy alone: as much as possible at a time, and nothing that leaves the processor's cache."""

import functools
import math
from collections.abc import Iterator
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from cipher.algorithm.tiles import Division, Strip
from cipher.algorithm.weights import LEAST_DISTANCE, PROBES, ROTATION, SHEET_INPUTS, Network
from cipher.algorithm.words import Words

_SHEETS_AT_ONCE = 32
_MOVED_AT_ONCE = 1 << 17
"""Bytes of rows that are moved at a time."""


class VectorisedEngine:
    """Needs nothing but numpy."""

    name = "numpy"

    def add_stream(self, network: Network, first_sheet: int, words: NDArray[np.uint64]) -> None:
        """As `Engine.add_stream`."""
        sheet_words = network.nodes * SHEET_INPUTS
        sheets = max(1, min(_SHEETS_AT_ONCE, -(-words.size // sheet_words)))
        counter = np.arange(sheets * SHEET_INPUTS, dtype=np.uint64) + network.seeds[0]
        counter += np.uint64(first_sheet * SHEET_INPUTS)
        room = np.empty((3, network.nodes, counter.size), np.uint64)
        for start in range(0, words.size, sheets * sheet_words):
            piece = words[start : start + sheets * sheet_words]
            state = _run(network, counter, *room)
            stream = state.reshape(network.nodes, sheets, SHEET_INPUTS).transpose(1, 0, 2)
            if piece.size == stream.size:
                whole = piece.reshape(stream.shape)
                np.bitwise_xor(whole, stream, out=whole)
            else:
                piece ^= stream.reshape(-1)[: piece.size]
            counter += np.uint64(counter.size)

    def choose(self, candidates: NDArray[np.uint64], chosen: NDArray[np.uint64], filled: int) -> int:
        """As `Engine.choose`."""
        nodes = candidates.shape[1]
        found = candidates[_full_rank(candidates[:, :, :nodes])]
        flat = found[:, :, :nodes].reshape(-1, nodes * nodes)
        first, second = _pairs(nodes * nodes)
        distances = np.bitwise_count(flat[:, first] ^ flat[:, second])
        found = found[distances.min(axis=1) >= LEAST_DISTANCE][: len(chosen) - filled]
        chosen[filled : filled + len(found)] = found
        return filled + len(found)

    def least_influence(self, network: Network) -> tuple[int, int]:
        """As `Engine.least_influence`."""
        changed = influence(network)
        return int(changed[:-1].min()), int(changed[-1, :, :-1].min())

    def measure(self, half: Words, most: int, blocks: int) -> NDArray[np.int64]:
        """As `Engine.measure`."""
        copy = half[:: -(-half.shape[0] // most), :: -(-half.shape[1] // most)].astype(np.int64)
        low = copy.min()
        copy = (copy - low) * 255 // max(1, copy.max() - low)
        cuts = [[index * side // blocks for index in range(blocks + 1)] for side in copy.shape]
        down, across = (np.repeat(np.arange(blocks), np.diff(cut)) for cut in cuts)
        steps = np.zeros_like(copy)
        steps[1:] += np.abs(np.diff(copy, axis=0)) * (down[1:] == down[:-1])[:, None]
        steps[:, 1:] += np.abs(np.diff(copy, axis=1)) * (across[1:] == across[:-1])
        planes = np.stack([copy, copy * copy, steps])
        bands = np.stack([planes[:, top:bottom].sum(axis=1) for top, bottom in pairwise(cuts[0])], axis=1)
        sums = np.stack([bands[:, :, left:right].sum(axis=2) for left, right in pairwise(cuts[1])], axis=2)
        total, squares, steps = sums.reshape(3, -1)
        values = copy + 256 * (blocks * down[:, None] + across)
        counts = np.bincount(values.reshape(-1), minlength=256 * blocks * blocks).reshape(-1, 256)
        size, collisions = counts.sum(axis=1), (counts * counts).sum(axis=1)
        least = np.maximum(size, 1)  # an empty block's sums are zero
        variances = (size * squares - total * total) // (least * least)
        return np.stack([total // least, variances, steps // least, size * size // np.maximum(collisions, 1)], axis=1)

    def gather(self, half: Words, division: Division, vector: Words) -> None:
        """As `Engine.gather`."""
        bit_turns = division.bit_turns(8 * half.itemsize)
        for strip, places, manners in _places(division):
            tiles, part = _views(half, vector, strip)
            turns = division.turns(strip)
            for rows in _pieces(tiles):
                part[places[rows]] = _turn(tiles[rows], turns[manners[rows]], bit_turns[manners[rows]])

    def scatter(self, vector: Words, division: Division, half: Words) -> None:
        """As `Engine.scatter`."""
        bit_turns = -division.bit_turns(8 * half.itemsize)
        for strip, places, manners in _places(division):
            tiles, part = _views(half, vector, strip)
            turns = (strip.width - division.turns(strip)) % strip.width
            for rows in _pieces(tiles):
                tiles[rows] = _turn(part[places[rows]], turns[manners[rows]], bit_turns[manners[rows]])


def influence(network: Network) -> NDArray[np.int64]:
    """Output bits that change when a parameter does: (L, N, N + 2), over the inputs 0 to `PROBES` - 1.

    For node n of layer l: [l, n, s] for the lowest bit of the weight of its input s, flipped; [l, n, N] for that of its
    bias; [l, n, N + 1] for its output replaced by 0.
    """
    layers, nodes = network.layers, network.nodes
    parameters = np.concatenate([network.weights, network.biases[:, :, None]], axis=2)
    flips = np.uint64(1) - (np.uint64(2) * (parameters & np.uint64(1)))  # +1, or -1 mod 2^64
    # The states of all changed networks and of the unchanged one, side by side: (node, layer, node, change, probe).
    shape = (nodes, layers, nodes, nodes + 2, PROBES)
    state = np.repeat(network.seeds[:, None], math.prod(shape[1:]) + PROBES, axis=1)
    state[0] += np.tile(np.arange(PROBES, dtype=np.uint64), state.shape[1] // PROBES)
    inputs = np.ones((nodes + 1, PROBES), np.uint64)
    spare, every = np.empty_like(state), np.arange(nodes)
    for layer in range(layers):
        inputs[:nodes] = state[:, -PROBES:]
        sums = network.weights[layer] @ state + network.biases[layer, :, None]
        sums[:, :-PROBES].reshape(shape)[every, layer, every, :-1] += flips[layer, :, :, None] * inputs
        logistic(sums, state)
        rotate(state, spare)
        tent(spare, state)
        state[:, :-PROBES].reshape(shape)[every, layer, every, -1] = 0
    differing = np.bitwise_count(state[:, :-PROBES].reshape(shape) ^ state[:, None, None, None, -PROBES:])
    return np.asarray(differing.sum(axis=(0, 4), dtype=np.int64))


def place_tiles(draws: NDArray[np.uint32], bands: NDArray[np.int64]) -> NDArray[np.int64]:
    """Shuffle a strip's tiles.

    Args:
        draws: (bands, across), one a tile.
        bands: as `Division.bands`.

    Returns:
        (bands, across): number of rows before each tile in the strip's part of the vector.
    """
    order = list(range(draws.size))
    numbers = draws.reshape(-1).tolist()
    for place in range(draws.size - 1, 0, -1):
        other = numbers[place] * (place + 1) >> 32
        order[place], order[other] = order[other], order[place]
    heights = np.repeat(np.diff(bands), draws.shape[1])[order]
    places = np.empty(draws.size, np.int64)
    places[order] = heights.cumsum() - heights
    return places.reshape(draws.shape)


def _places(division: Division) -> Iterator[tuple[Strip, NDArray[np.int64], NDArray[np.uint32]]]:
    """For each strip: which of its rows in the vector each row of each tile is, and its manner, both (rows, across)."""
    bands, split = division.bands, division.split_draws()
    heights = np.diff(bands)
    # All tiles of the half are shuffled side by side, the tallest first, so that those that have a row are a run.
    tallest = np.argsort(-heights, kind="stable")
    height, tops = int(heights[tallest[0]]), bands[tallest]
    rows = tops + np.arange(height)[:, None]  # (height, bands)
    inside = np.arange(height)[:, None] < heights[tallest]
    draws = np.concatenate([lines for _, lines in split], axis=1)
    count = heights.size * draws.shape[1]
    drawn = (draws & 0xFFFF)[np.where(inside, rows, 0)].reshape(height, count)
    # Index in `order`, flat, of the row that each place is exchanged with.
    others = (drawn * np.arange(1, height + 1, dtype=np.uint32)[:, None] >> 16) * np.uint32(count)
    others = others + np.arange(count)
    order = np.repeat(np.arange(height), count).reshape(height, count)
    flat = order.reshape(-1)
    for place, run in zip(range(height - 1, 0, -1), (inside.sum(axis=1) * draws.shape[1]).tolist()[:0:-1], strict=True):
        own, other = order[place, :run], others[place, :run]
        there = flat[other]
        flat[other] = own
        own[:] = there
    every = np.empty(draws.shape, np.int64)
    every[rows[inside]] = order.reshape(height, heights.size, -1)[inside]
    column = 0
    for strip, (tiles, lines) in zip(division.strips, split, strict=True):
        before = np.repeat(place_tiles(tiles, bands), heights, axis=0)
        yield strip, every[:, column : column + strip.across] + before, lines >> np.uint32(28)
        column += strip.across


def _views(half: Words, vector: Words, strip: Strip) -> tuple[Words, Words]:
    """The strip's tiles as (rows, across, width), and its part of the vector as (rows * across, width)."""
    rows, words = len(half), len(half) * strip.across * strip.width
    tiles = half[:, strip.column : strip.column + strip.across * strip.width].reshape(rows, strip.across, strip.width)
    return tiles, vector[strip.first_word : strip.first_word + words].reshape(-1, strip.width)


def _pieces(tiles: Words) -> Iterator[slice]:
    """Runs of a strip's rows that stay in the processor's cache."""
    step = max(1, _MOVED_AT_ONCE // (tiles[0].size * tiles.itemsize))
    return (slice(start, start + step) for start in range(0, len(tiles), step))


def _turn(words: Words, turns: NDArray[np.int64], bits: NDArray[np.int64]) -> Words:
    """Rows of words (..., width), turned by so many words, and each word to the left by so many bits."""
    width, most = words.shape[-1], 8 * words.itemsize - 1
    up, down = ((turn & most).astype(words.dtype)[..., None] for turn in (bits, -bits))
    # Each row is written twice, side by side, and read from where it begins.
    doubled = np.empty((*turns.shape, 2 * width), words.dtype)
    np.bitwise_or(words << up, words >> down, out=doubled[..., :width])
    doubled[..., width:] = doubled[..., :width]
    begins = np.arange(0, doubled.size, 2 * width) + turns.reshape(-1)
    runs: Words = np.ndarray((doubled.size - width + 1, width), words.dtype, doubled, strides=2 * (words.itemsize,))
    return runs[begins].reshape(words.shape)


@functools.cache
def _pairs(count: int) -> NDArray[np.int64]:
    """All pairs of `count` indices, (2, pairs)."""
    return np.array(list(combinations(range(count), 2))).T


def _full_rank(matrices: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether each matrix (C, N, N) is invertible mod 2: no sum of its rows' lowest bits is zero."""
    nodes = matrices.shape[1]
    rows = ((matrices & np.uint64(1)) << np.arange(nodes, dtype=np.uint64)).sum(axis=2)
    sums = np.zeros((len(matrices), 1), np.uint64)
    for row in range(nodes):
        sums = np.concatenate([sums, sums ^ rows[:, row, None]], axis=1)
    return np.asarray((sums[:, 1:] != 0).all(axis=1))


def _run(
    network: Network,
    counter: NDArray[np.uint64],
    state: NDArray[np.uint64],
    total: NDArray[np.uint64],
    rest: NDArray[np.uint64],
) -> NDArray[np.uint64]:
    """The network's outputs for inputs (counter, seeds[1], ...), in one of three arrays (N, count)."""
    weights, biases, seeds = network.weights, network.biases, network.seeds
    # To the first layer all inputs but the first are the same.
    constant = (weights[0, :, 1:] * seeds[1:]).sum(axis=1) + biases[0]
    np.multiply(weights[0, :, :1], counter, out=total)
    np.add(total, constant[:, None], out=total)
    for layer in range(network.layers):
        if layer:
            np.multiply(weights[layer, :, :1], state[0], out=total)
            np.add(total, biases[layer, :, None], out=total)
            for source in range(1, network.nodes):
                np.multiply(weights[layer, :, source : source + 1], state[source], out=rest)
                np.add(total, rest, out=total)
        logistic(total, rest)
        rotate(rest, total)
        tent(total, rest)
        state, rest = rest, state
    state[0] += counter
    state[1:] += seeds[1:, None]
    return state


def logistic(x: NDArray[np.uint64], out: NDArray[np.uint64]) -> None:
    """Compute x (2x + 1) mod 2^64: the logistic map's parabola, bijective on words (the map of RC6)."""
    np.left_shift(x, 1, out=out)
    np.bitwise_or(out, 1, out=out)
    np.multiply(out, x, out=out)


def rotate(x: NDArray[np.uint64], out: NDArray[np.uint64]) -> None:
    """Rotate left by 29 bits; `x` is overwritten."""
    np.left_shift(x, ROTATION, out=out)
    np.right_shift(x, 64 - ROTATION, out=x)
    np.bitwise_or(out, x, out=out)


def tent(x: NDArray[np.uint64], out: NDArray[np.uint64]) -> None:
    """2x below 2^63, else 2 (2^64 - 1 - x) + 1: the tent map, bijective on words; `x` is overwritten."""
    np.left_shift(x, 1, out=out)
    signs = x.view(np.int64)
    np.right_shift(signs, 63, out=signs)
    np.bitwise_xor(out, x, out=out)
