"""The comparison of split points: its counts, on a bundle that was trained for a moment."""

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from experiments.cost import tail
from he_infer.head.convolution import Convolution
from he_infer.head.layers import Head, Linear, Polynomial
from models import datasets
from models.bundle import Bundle


def test_products_of_client_and_server_are_counted_layer_by_layer(small_bundle: Path) -> None:
    bundle = Bundle.load(small_bundle)
    # Three stages of 28, 14 and 7 pixels: a convolution into the stage's channels and one among them, 3 x 3 both.
    pixels, channels = (784, 196, 49), (1, 24, 48, 96)
    trunk = sum(
        area * 9 * after * (before + after) for area, before, after in zip(pixels, channels, channels[1:], strict=False)
    )
    assert tail.count_client_products(bundle) == trunk + 4 * 96 * 32
    assert tail.count_server_products(bundle) == 32 * 8 + 8 + 8 * 2


def test_zero_weights_of_a_convolution_are_not_counted_as_products(small_bundle: Path) -> None:
    bundle = Bundle.load(small_bundle)
    layer = Convolution(np.ones((1, 2, 3, 3)), np.zeros(1), (2, 4, 4), padding=1)
    head = Head((layer, Polynomial((0.0, 0.0, 1.0)), Linear(np.ones((2, 16)), np.zeros(2))))
    # Of 16 pixels 4 have 9 neighbours within the map, 8 have 6 and 4 have 4; in two channels.
    expected = 2 * (4 * 9 + 8 * 6 + 4 * 4)
    assert tail.count_server_products(bundle.with_head(head)) == expected + 16 + 32


def test_tail_row_compares_the_same_images_clear_and_encrypted(small_set: Path, small_bundle: Path) -> None:
    dataset = datasets.load(small_set)
    row = tail.measure_tail(Console(quiet=True), dataset, Bundle.load(small_bundle), 3)
    assert (row.split, row.width, row.n, row.n_clear) == ("mlp", 32, 3, 60)
    assert row.label_agreement == 1.0
    assert row.encrypted_accuracy == row.clear_accuracy_of_n
    assert row.max_abs_error < 1e-2
    assert row.accuracy_low <= row.clear_accuracy <= row.accuracy_high
    assert row.server_ms_low <= row.server_ms <= row.server_ms_high
    assert min(row.bytes_up, row.bytes_down, row.evaluation_key_bytes) > 0


def test_a_bundle_of_another_set_is_refused(small_set: Path, small_bundle: Path) -> None:
    from experiments.bundles import load_or_train
    from experiments.errors import ExperimentError

    dataset = datasets.load(small_set)
    other = type(dataset)(**{**vars(dataset), "classes": ("a", "b")})
    with pytest.raises(ExperimentError):
        load_or_train(Console(quiet=True), other, small_bundle)
