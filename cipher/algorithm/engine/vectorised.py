"""The loops with numpy alone: as much as possible at a time, and nothing that leaves the processor's cache."""

from collections.abc import Iterator
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from cipher.algorithm.tiles import Division, Strip
from cipher.algorithm.weights import LEAST_DISTANCE, PROBES, ROTATION, SHEET_INPUTS, Network
from cipher.algorithm.words import Words

_SHEETS_AT_ONCE = 32


class VectorisedEngine:
    """Needs nothing but numpy."""

    name = "numpy"

    def add_stream(self, network: Network, first_sheet: int, words: NDArray[np.uint64]) -> None:
        """As `Engine.add_stream`."""
        sheet_words = network.nodes * SHEET_INPUTS
        at_once = _SHEETS_AT_ONCE * sheet_words
        for start in range(0, words.size, at_once):
            piece = words[start : start + at_once]
            sheets = -(-piece.size // sheet_words)
            first = (first_sheet + start // sheet_words) * SHEET_INPUTS
            counter = np.arange(first, first + sheets * SHEET_INPUTS, dtype=np.uint64) + network.seeds[0]
            state = _run_first_layer(network, counter)
            state = _evaluate(network.weights[1:], network.biases[1:], state)
            state[0] += counter
            state[1:] += network.seeds[1:, None]
            stream = state.reshape(network.nodes, sheets, SHEET_INPUTS).transpose(1, 0, 2).reshape(-1)
            np.bitwise_xor(piece, stream[: piece.size], out=piece)

    def effective(self, candidates: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """As `Engine.effective`."""
        nodes = candidates.shape[1]
        flat = candidates.reshape(len(candidates), -1)
        first, second = np.array(list(combinations(range(flat.shape[1]), 2))).T
        distances = np.bitwise_count(flat[:, first] ^ flat[:, second])
        bits = ((candidates & np.uint64(1)) << np.arange(nodes, dtype=np.uint64)).sum(axis=2).astype(np.int64)
        return np.asarray((distances.min(axis=1) >= LEAST_DISTANCE) & _full_rank(bits))

    def influence(self, network: Network) -> NDArray[np.int64]:
        """As `Engine.influence`."""
        layers, nodes = network.layers, network.nodes
        entry = np.empty((nodes, PROBES), np.uint64)
        entry[:] = network.seeds[:, None]
        entry[0] += np.arange(PROBES, dtype=np.uint64)
        states = [entry]
        for layer in range(layers):
            states.append(_evaluate(network.weights[layer : layer + 1], network.biases[layer : layer + 1], states[-1]))
        changed = np.zeros((layers, nodes, nodes + 2), np.int64)
        for layer in range(layers):
            before, after = states[layer], states[layer + 1]
            weights, biases = network.weights[layer], network.biases[layer]
            # (node, change, node of the layer, probe): only the changed node's own output differs.
            sums = (weights[:, :, None] * before[None]).sum(axis=1) + biases[:, None]
            deltas = np.concatenate(
                [_flip_effect(weights, before), _flip_effect(biases[:, None], np.ones_like(before))], 1
            )
            fresh = np.broadcast_to(after, (nodes, nodes + 2, nodes, PROBES)).copy()
            for node in range(nodes):
                fresh[node, : nodes + 1, node] = _activate(sums[node] + deltas[node])
                fresh[node, nodes + 1, node] = 0
            state = fresh.transpose(2, 0, 1, 3).reshape(nodes, -1)
            state = _evaluate(network.weights[layer + 1 :], network.biases[layer + 1 :], state)
            ends = state.reshape(nodes, nodes, nodes + 2, PROBES) ^ states[layers][:, None, None, :]
            changed[layer] = np.bitwise_count(ends).sum(axis=(0, 3))
        return changed

    def measure(self, half: Words, most: int, blocks: int) -> NDArray[np.int64]:
        """As `Engine.measure`."""
        copy = half[:: -(-half.shape[0] // most), :: -(-half.shape[1] // most)].astype(np.int64)
        low = copy.min()
        copy = (copy - low) * 255 // max(1, copy.max() - low)
        down, across = ([index * side // blocks for index in range(blocks + 1)] for side in copy.shape)
        parts = [copy[top:bottom, left:right] for top, bottom in pairwise(down) for left, right in pairwise(across)]
        return np.array([_measure(part) for part in parts], np.int64)

    def arrange(self, draws: NDArray[np.uint32], bands: NDArray[np.int64]) -> NDArray[np.int64]:
        """As `Engine.arrange`."""
        order = list(range(draws.size))
        numbers = draws.tolist()
        for place in range(draws.size - 1, 0, -1):
            other = numbers[place] * (place + 1) >> 32
            order[place], order[other] = order[other], order[place]
        across = draws.size // (bands.size - 1)
        heights = np.repeat(np.diff(bands), across)[order]
        places = np.empty(draws.size, np.int64)
        places[order] = heights.cumsum() - heights
        return places.reshape(-1, across)

    def gather(self, half: Words, division: Division, vector: Words) -> None:
        """As `Engine.gather`."""
        bits = 8 * half.itemsize
        for strip in division.strips:
            tiles, part = _views(half, vector, strip)
            for chosen, rows, across, turn, bit in _by_manner(division, strip):
                words = _rotate(tiles[rows, across], bit, bits)
                part[chosen, : strip.width - turn] = words[:, turn:]
                part[chosen, strip.width - turn :] = words[:, :turn]

    def scatter(self, vector: Words, division: Division, half: Words) -> None:
        """As `Engine.scatter`."""
        bits = 8 * half.itemsize
        for strip in division.strips:
            tiles, part = _views(half, vector, strip)
            for chosen, rows, across, turn, bit in _by_manner(division, strip):
                words = _rotate(part[chosen], (bits - bit) % bits, bits)
                tiles[rows, across] = np.concatenate(
                    [words[:, strip.width - turn :], words[:, : strip.width - turn]], axis=1
                )


def _measure(block: NDArray[np.int64]) -> tuple[int, int, int, int]:
    count = block.size
    if not count:
        return 0, 0, 0, 0
    total, squares = int(block.sum()), int((block * block).sum())
    steps = int(np.abs(np.diff(block, axis=0)).sum()) + int(np.abs(np.diff(block, axis=1)).sum())
    counts = np.bincount(block.reshape(-1), minlength=256)
    levels = count * count // int((counts * counts).sum())
    return total // count, (count * squares - total * total) // (count * count), steps // count, levels


def _views(half: Words, vector: Words, strip: Strip) -> tuple[Words, Words]:
    """The strip's tiles as (rows, across, width), and its part of the vector as (rows * across, width)."""
    rows, words = len(half), len(half) * strip.across * strip.width
    tiles = half[:, strip.column : strip.column + strip.across * strip.width].reshape(rows, strip.across, strip.width)
    return tiles, vector[strip.first_word : strip.first_word + words].reshape(-1, strip.width)


def _by_manner(
    division: Division, strip: Strip
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], int, int]]:
    """For each manner: its rows in the vector, the rows and tiles they come from, by how much words and bits turn."""
    source = _sources(division.bands, strip)
    manners = (strip.draws.reshape(-1)[source] >> 28).astype(np.uint8)
    sorted_rows = np.argsort(manners, kind="stable")
    ends = np.cumsum(np.bincount(manners, minlength=len(strip.turns)))
    for manner, (start, end) in enumerate(zip(ends - np.diff(ends, prepend=0), ends, strict=True)):
        chosen = sorted_rows[start:end]
        if chosen.size:
            rows, across = np.divmod(source[chosen], strip.across)
            yield chosen, rows, across, int(strip.turns[manner]), int(division.bit_turns[manner])


def _sources(bands: NDArray[np.int64], strip: Strip) -> NDArray[np.int64]:
    """For each of the strip's rows in the vector the row it comes from: row of the half * across + tile."""
    source = np.empty(strip.draws.size, np.int64)
    heights = np.diff(bands)
    for height in np.unique(heights):
        tops = bands[:-1][heights == height]
        rows = np.arange(height)
        draws = (strip.draws[(tops + rows[:, None]).reshape(-1)] & 0xFFFF).reshape(height, -1)  # (height, tiles)
        tiles = np.arange(draws.shape[1])
        # Place in `order`, flat, of the row that each place is exchanged with.
        others = (draws * (rows[:, None] + 1).astype(np.uint32) >> 16) * np.uint32(tiles.size) + tiles
        order = np.repeat(rows, tiles.size).reshape(height, -1)
        flat = order.reshape(-1)
        for place in range(height - 1, 0, -1):
            there = flat[others[place]]
            flat[others[place]] = order[place]
            order[place] = there
        targets = order + strip.places[heights == height].reshape(-1)
        source[targets] = ((tops + rows[:, None]) * strip.across)[:, :, None].repeat(strip.across, 2).reshape(
            height, -1
        ) + np.tile(np.arange(strip.across), tops.size)
    return source


def _rotate(words: Words, bit: int, bits: int) -> Words:
    if not bit:
        return words
    turned: Words = (words << words.dtype.type(bit)) | (words >> words.dtype.type(bits - bit))
    return turned


def _full_rank(rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each bit matrix, given as rows of bits (C, N), has full rank: no sum of its rows is zero."""
    count = rows.shape[1]
    good = np.ones(len(rows), np.bool_)
    for subset in range(1, 1 << count):
        total = np.zeros(len(rows), np.int64)
        for row in range(count):
            if subset >> row & 1:
                total ^= rows[:, row]
        good &= total != 0
    return good


def _flip_effect(parameters: NDArray[np.uint64], inputs: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Change of a node's sum at inputs (S, P) when the lowest bit of each parameter (N, S) is flipped: (N, S, P)."""
    signs = np.uint64(1) - (np.uint64(2) * (parameters & np.uint64(1)))  # +1, or -1 mod 2^64
    effect: NDArray[np.uint64] = signs[:, :, None] * inputs[None, : parameters.shape[1]]
    return effect


def _run_first_layer(network: Network, counter: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The first layer at inputs (counter, seeds[1], ...): all but the first are the same."""
    weights = network.weights[0]
    constant = (weights[:, 1:] * network.seeds[1:]).sum(axis=1) + network.biases[0]
    total = weights[:, :1] * counter
    total += constant[:, None]
    return _activate(total)


def _evaluate(weights: NDArray[np.uint64], biases: NDArray[np.uint64], entry: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Some layers' outputs for inputs (N, count): (N, count). The input is left as it is."""
    state, total, rest = entry.copy(), np.empty_like(entry), np.empty_like(entry)
    for layer, bias in zip(weights, biases, strict=True):
        np.multiply(layer[:, :1], state[0], out=total)
        np.add(total, bias[:, None], out=total)
        for source in range(1, len(layer)):
            np.multiply(layer[:, source : source + 1], state[source], out=rest)
            np.add(total, rest, out=total)
        logistic(total, rest)
        rotate(rest, total)
        tent(total, rest)
        state, rest = rest, state
    return state


def _activate(total: NDArray[np.uint64]) -> NDArray[np.uint64]:
    rest, spare = np.empty_like(total), np.empty_like(total)
    logistic(total, rest)
    rotate(rest, spare)
    tent(spare, rest)
    return rest


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
