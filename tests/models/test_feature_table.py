"""Features of many images: equal to those computed at once, in memory that does not grow with the number of images."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from he_infer.head.layers import Head, Linear, Polynomial
from models.errors import InputError
from models.extractors.extractor import Extractor
from models.feature_table import BOUND, ROWS, bound_table, evaluate_table, measure_spread, tabulate
from models.guard import Guard
from models.heads.ranges import into_range
from models.images import scratch
from models.importing import bound_features
from tests.models.kit import graph_model

WIDTH = 16


def extract(images: NDArray[Any]) -> NDArray[np.float32]:
    return images.reshape(len(images), -1)[:, :WIDTH].astype(np.float32)


def draw_images(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 4, 4), dtype=np.uint8)


def make_head() -> Head:
    random = np.random.default_rng(1)
    first, last = random.normal(size=(4, WIDTH)), random.normal(size=(2, 4))
    return Head((Linear(first, np.zeros(4)), Polynomial((0.0, 0.0, 1.0)), Linear(last, np.zeros(2))))


def test_table_holds_the_features_computed_at_once() -> None:
    images, seen = draw_images(ROWS + 71), []
    table = tabulate(extract, images, seen.append)
    whole = extract(images)
    np.testing.assert_array_equal(table, whole)
    assert sum(seen) == len(images)
    mean, deviation = measure_spread(table)
    np.testing.assert_allclose(mean, whole.mean(axis=0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(deviation, whole.std(axis=0, dtype=np.float64), rtol=1e-6)
    bound_table(table, mean, deviation)
    np.testing.assert_allclose(table, 4 * np.tanh((whole - mean) / deviation / 4), atol=1e-5)
    np.testing.assert_array_equal(evaluate_table(make_head(), table), make_head().evaluate(table))


def test_saturated_features_stay_within_the_bound() -> None:
    """Onnxruntime's tanh in float32 may exceed 1 by a rounding error."""
    content = graph_model(size=8).SerializeToString()
    zeros = np.zeros(16, dtype=np.float32)
    extractor = Extractor(bound_features(content, zeros, zeros + np.float32(0.02)))
    images = np.random.default_rng(4).normal(size=(200, 1, 8, 8)).astype(np.float32)
    found = np.abs(extractor.run(images))
    assert 3.99 < found.max() <= BOUND
    table = np.full((3, 2), 1e30, dtype=np.float32)
    bound_table(table, np.zeros(2, dtype=np.float32), np.ones(2, dtype=np.float32))
    assert 3.99 < table.max() <= BOUND


def test_guard_of_many_features_is_that_of_their_decomposition() -> None:
    features = np.random.default_rng(2).normal(size=(2 * ROWS, WIDTH)) @ np.random.default_rng(3).normal(size=(16, 16))
    many, few = Guard.fit(features, features[:400]), Guard.fit(features[:ROWS], features[:400])
    assert many is not None
    assert few is not None
    doubled = Guard.fit(np.concatenate([features[:ROWS]] * 2), features[:400])
    assert doubled is not None
    np.testing.assert_allclose(doubled.distances(features), few.distances(features), rtol=1e-3)


def test_features_that_are_not_finite_are_refused() -> None:
    with pytest.raises(InputError, match="not finite"):
        tabulate(lambda images: extract(images) + np.float32(np.inf), np.zeros((3, 4, 4), dtype=np.uint8))


def peak(count: int) -> int:
    """Bytes allocated at most while the features of so many images are worked on."""
    images = draw_images(count)
    tracemalloc.start()
    try:
        table = tabulate(extract, images)
        mean, deviation = measure_spread(table)
        bound_table(table, mean, deviation)
        into_range(make_head(), table, 4.0)
        assert Guard.fit(table, table[:300]) is not None
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "IN_MEMORY", 0)
    peak(2 * ROWS)  # imports
    assert peak(8 * ROWS) < 1.05 * peak(2 * ROWS) + 100_000
