"""Every layout computes its layer: packing, slotwise products and rotations in numpy, and unpacking give W x."""

import math
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from he_infer.ckks.layouts.hidden_layer import HiddenLayout, padded
from he_infer.ckks.layouts.last_layer import CHECKS, OutputLayout, Tile, Trace
from he_infer.ckks.layouts.ring import conjugation, galois_element, monomial, to_coefficients, to_slots

SLOTS = 256
RING = 2 * SLOTS


def weights(random: np.random.Generator, outputs: int, inputs: int, keep: float) -> np.ndarray:
    """Draw weights (outputs, inputs): a share `keep` is not zero, and no row is all zero."""
    weight = random.normal(size=(outputs, inputs)) * (random.uniform(size=(outputs, inputs)) < keep)
    weight[np.arange(outputs), random.integers(0, inputs, outputs)] = 1.0
    return weight


def evaluate_hidden(layout: HiddenLayout, weight: np.ndarray, packed: list[np.ndarray]) -> list[np.ndarray]:
    """Run the layout's steps on slots, as an engine does."""
    totals = [np.zeros(layout.slots, dtype=complex) for _ in range(layout.targets)]
    for term in layout.terms(weight):
        moved = np.roll(packed[term.source], -term.baby * layout.images)
        product = moved * layout.vector(weight, term)
        totals[term.target] += np.roll(product, -term.giant * layout.images)
    for target, total in enumerate(totals):
        for fold in layout.folds:
            total = total + np.roll(total, -fold * layout.images)
        totals[target] = total + total.conj() if layout.conjugated else total
    return totals


def step(layout: HiddenLayout, weight: np.ndarray, size: int) -> HiddenLayout:
    """Return the layout with the baby and giant steps that its diagonals need at a size."""
    diagonals = np.unique([diagonal for _, _, diagonal in layout.occupied(weight)])
    baby = tuple(int(each) for each in np.unique(diagonals % size) if each)
    giant = tuple(int(each) for each in np.unique(diagonals - diagonals % size) if each)
    return replace(layout, size=size, baby=baby, giant=giant)


@settings(max_examples=60, deadline=None)
@given(
    inputs=st.integers(1, 150),
    outputs=st.integers(1, 90),
    images=st.sampled_from([1, 2, 8, 64, 256]),
    lanes=st.sampled_from([1, 2, 4]),
    parts=st.sampled_from([1, 2]),
    bits=st.integers(0, 4),
    keep=st.sampled_from([1.0, 0.3, 0.02]),
    seed=st.integers(0, 10_000),
)
def test_first_hidden_layer_packed_and_evaluated_is_the_matrix_product(
    inputs: int, outputs: int, images: int, lanes: int, parts: int, bits: int, keep: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    weight, bias = weights(random, outputs, inputs, keep), random.normal(size=outputs)
    plain = HiddenLayout(inputs, outputs, SLOTS, images, True)
    if lanes * parts * plain.copies <= min(plain.width, plain.height):
        plain = replace(plain, lanes=lanes, parts=parts)
    layout = step(plain, weight, 1 << bits)
    x = random.normal(size=(int(random.integers(1, images + 1)), inputs))
    totals = evaluate_hidden(layout, weight, list(layout.pack(x)))
    assert len(totals) == layout.targets == -(-outputs // layout.height)
    expected = np.zeros((images, layout.targets * layout.height))
    expected[: len(x), :outputs] = x @ weight.T
    expected[:, :outputs] += bias
    for target, total in enumerate(totals):
        found = (total + layout.constant(bias, target)).reshape(layout.places, images)
        assert np.abs(found.imag).max() < 1e-9
        for place in range(layout.places):
            row = target * layout.height + place % layout.height
            np.testing.assert_allclose(found[place].real, expected[:, row], atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    inputs=st.integers(1, 90),
    outputs=st.integers(1, 90),
    images=st.sampled_from([1, 4, 32]),
    bits=st.integers(0, 4),
    keep=st.sampled_from([1.0, 0.1]),
    seed=st.integers(0, 10_000),
)
def test_later_hidden_layer_takes_the_output_of_the_layer_before(
    inputs: int, outputs: int, images: int, bits: int, keep: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    weight, values = weights(random, outputs, inputs, keep), random.normal(size=(images, inputs))
    layout = step(HiddenLayout(inputs, outputs, SLOTS, images, False), weight, 1 << bits)
    before = HiddenLayout(1, inputs, SLOTS, images, True)
    # The layer before leaves its rows in order in every copy.
    packed = []
    for source in range(layout.sources):
        rows = source * before.height + np.arange(before.places) % before.height
        full = np.zeros((before.places, images))
        full[rows < inputs] = values.T[rows[rows < inputs]]
        packed.append(full.reshape(-1).astype(complex))
    totals = evaluate_hidden(layout, weight, packed)
    for target, total in enumerate(totals):
        rows = target * layout.height + np.arange(layout.places) % layout.height
        inside = rows < outputs
        expected = (values @ weight.T).T[rows[inside]]
        np.testing.assert_allclose(total.reshape(layout.places, images)[inside].real, expected, atol=1e-9)


def read(output: OutputLayout, weight: np.ndarray, bias: np.ndarray, packed: list[np.ndarray]) -> np.ndarray:
    """Compute scores of packed inputs by products of slots and the selected numbers; assert that checks are zero."""
    numbers = []
    for target in range(output.targets):
        total = to_slots(output.constant(bias, target))
        for source, value in enumerate(packed):
            vector = output.vector(weight, target, source)
            assert (vector is not None) == output.occupied(weight, target, source)
            if vector is not None:
                total = total + value * vector
        selection = output.selection(target)
        taken = selection.take(to_coefficients(total))
        assert np.abs(taken[selection.scores :]).max(initial=0.0) < 1e-9
        numbers.append(taken[: selection.scores])
    return output.unpack(numbers)


@settings(max_examples=60, deadline=None)
@given(
    inputs=st.integers(1, 200),
    outputs=st.integers(1, 12),
    images=st.integers(1, 40),
    rows=st.integers(1, 12),
    chunk=st.integers(1, 200),
    seed=st.integers(0, 10_000),
)
def test_tile_packed_and_multiplied_is_the_matrix_product(
    inputs: int, outputs: int, images: int, rows: int, chunk: int, seed: int
) -> None:
    rows, chunk = min(rows, outputs), min(chunk, inputs)
    chunk = max(1, min(chunk, (RING - 1) // (rows * images)))
    if rows * images * chunk > RING:
        rows = max(1, RING // (images * chunk))
    random = np.random.default_rng(seed)
    weight, bias = random.normal(size=(outputs, inputs)), random.normal(size=outputs)
    tile = Tile(inputs, outputs, RING, images, chunk, rows)
    x = random.normal(size=(images, inputs))
    np.testing.assert_allclose(read(tile, weight, bias, list(tile.pack(x))), x @ weight.T + bias, atol=1e-8)
    free = RING - (images * rows * chunk + chunk - 1)
    assert tile.selection(0).checks == max(0, min(CHECKS, free))


@settings(max_examples=60, deadline=None)
@given(
    inputs=st.integers(1, 90),
    outputs=st.integers(1, 40),
    used=st.integers(1, 60),
    seed=st.integers(0, 10_000),
)
def test_trace_of_slots_is_the_matrix_product(inputs: int, outputs: int, used: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    images = padded(used)
    trace = Trace(inputs, outputs, RING, images, used)
    weight, bias = random.normal(size=(outputs, inputs)), random.normal(size=outputs)
    values = np.zeros((images, trace.sources * trace.width))
    values[:used, :inputs] = random.normal(size=(used, inputs))
    # Slots of unused images hold the scores of zeros, which must not be sent.
    values[used:, :inputs] = 7.0
    packed = []
    for source in range(trace.sources):
        held = values[:, source * trace.width :][:, : trace.width].T
        packed.append(np.tile(held, (trace.places // trace.width, 1)).reshape(-1).astype(complex))
    expected = values[:used, :inputs] @ weight.T + bias
    np.testing.assert_allclose(read(trace, weight, bias, packed), expected, atol=1e-8)


@settings(max_examples=30, deadline=None)
@given(power=st.integers(0, RING - 1), steps=st.integers(0, SLOTS - 1), seed=st.integers(0, 10_000))
def test_ring_maps_match_their_definitions(power: int, steps: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    coefficients = random.normal(size=RING)
    slots = to_slots(coefficients)
    np.testing.assert_allclose(to_coefficients(slots), coefficients, atol=1e-10)
    turned = np.roll(coefficients, power)
    turned[:power] *= -1
    np.testing.assert_allclose(to_coefficients(slots * monomial(power, RING)), turned, atol=1e-9)
    for element, wanted in ((galois_element(steps, RING), np.roll(slots, -steps)), (conjugation(RING), slots.conj())):
        moved = np.zeros(RING)
        for place, value in enumerate(coefficients):
            at = place * element % (2 * RING)
            moved[at % RING] += value if at < RING else -value
        np.testing.assert_allclose(to_slots(moved), wanted, atol=1e-9)
    assert math.gcd(galois_element(steps, RING), 2 * RING) == 1
