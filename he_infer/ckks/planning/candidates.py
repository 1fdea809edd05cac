"""The layouts that the search tries for a head. It knows neither primes nor scales.

A linear head's features are tiled over coefficients; hidden layers lie in slots, where only the first one, whose input
the client packs, has a choice of copies.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.layouts.hidden_layer import HiddenLayout
from he_infer.ckks.layouts.last_layer import Tile
from he_infer.ckks.planning.circuit import Circuit
from he_infer.errors import ParameterError

_LANES = (1, 2, 4, 8)


def list_tiles(circuit: Circuit, ring_size: int, batch: int) -> Iterator[Tile]:
    """List tilings of N coefficients with as many features or as many rows as fit."""
    inputs, outputs = circuit.linear[0].inputs, circuit.linear[0].outputs
    room = ring_size // batch
    seen = set()
    for answers in range(1, min(outputs, 64) + 1):
        rows = -(-outputs // answers)
        if rows > room or rows in seen:
            continue
        seen.add(rows)
        # Two coefficients beyond the last one in use are kept free for the checks, if there is room for them.
        most = min(max((ring_size - 1) // (batch * rows + 1), 1), inputs)
        chunk = -(-inputs // -(-inputs // most))
        yield Tile(inputs, outputs, ring_size, batch, chunk, rows)
    if room and outputs > 64:
        chunk = min(max((ring_size - 1) // (batch + 1), 1), inputs)
        rows = max(1, (ring_size - chunk - 1) // (batch * chunk))
        yield Tile(inputs, outputs, ring_size, batch, chunk, rows)


def list_hidden_layouts(circuit: Circuit, ring_size: int, images: int) -> Iterator[tuple[HiddenLayout, ...]]:
    """List layouts of all hidden layers; only the first one has a choice of lanes and parts."""
    rest = []
    for layer in circuit.linear[1:-1]:
        rest.append(
            _choose_steps(HiddenLayout(layer.inputs, layer.outputs, ring_size // 2, images, False), layer.weight)
        )
    layer = circuit.linear[0]
    seen = set()
    for parts, lanes in product((1, 2), _LANES):
        plain = HiddenLayout(layer.inputs, layer.outputs, ring_size // 2, images, True, lanes, parts)
        # More copies than diagonals gain nothing.
        if lanes * parts > 1 and plain.copies * lanes * parts > min(plain.width, plain.height):
            continue
        # Key switches add the same error to a small scale as to a large one: rotations of the fresh input cost
        # precision, those of products do not. So the layout without baby steps is another choice.
        for first in (_choose_steps(plain, layer.weight), _choose_steps(plain, layer.weight, baby=False)):
            if first not in seen:
                seen.add(first)
                yield (first, *rest)


def _choose_steps(layout: HiddenLayout, weight: NDArray[np.float64], *, baby: bool = True) -> HiddenLayout:
    """Choose the baby and giant steps with the fewest rotations, or giant steps alone."""
    diagonals = np.unique([diagonal for _, _, diagonal in layout.occupied(weight)])
    best: tuple[int, HiddenLayout] | None = None
    limit = layout.diagonals if baby else 1
    for size in sorted({*range(1, min(limit, 64) + 1), *(1 << bit for bit in range(limit.bit_length()))}):
        small = tuple(int(step) for step in np.unique(diagonals % size) if step)
        large = tuple(int(step) for step in np.unique(diagonals - diagonals % size) if step)
        stepped = replace(layout, size=size, baby=small, giant=large)
        if best is None or stepped.key_switches < best[0]:
            best = stepped.key_switches, stepped
    if best is None:
        raise ParameterError("A layer without diagonals cannot be laid out.")
    return best[1]
