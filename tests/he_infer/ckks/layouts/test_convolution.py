"""A convolution lowered to a matrix equals torch's, has few diagonals, and is unchanged by a bundle."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from he_infer.errors import HeadError
from he_infer.head.bundle import HeadBundle
from he_infer.head.convolution import Convolution
from he_infer.head.layers import Head, Linear, Polynomial


def convolution(
    channels: int, side: int, outputs: int, kernel: int = 3, stride: int = 1, padding: int = 1
) -> Convolution:
    random = np.random.default_rng(channels * side + outputs)
    weight = random.normal(size=(outputs, channels, kernel, kernel)) / kernel
    return Convolution(weight, random.normal(size=outputs), (channels, side, side), stride, padding)


def diagonals(matrix: np.ndarray, period: int) -> set[int]:
    """Return the offsets (column - row) mod period at which a matrix is not zero."""
    rows, columns = np.nonzero(matrix)
    return set(((columns - rows) % period).tolist())


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_convolution_matrix_equals_torch_convolution(data: st.DataObject) -> None:
    kernel = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    padding, stride = data.draw(st.integers(0, min(kernel))), data.draw(st.integers(1, 3))
    high, wide = (data.draw(st.integers(max(1, side - 2 * padding), 9)) for side in kernel)
    before, after = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    weight, bias = random.normal(size=(after, before, *kernel)), random.normal(size=after)
    layer = Convolution(weight, bias, (before, high, wide), stride, padding)
    x = random.normal(size=(2, layer.inputs))
    maps = torch.from_numpy(x.reshape(2, *layer.shape))
    expected = torch.nn.functional.conv2d(
        maps, torch.from_numpy(weight), torch.from_numpy(bias), stride=stride, padding=padding
    )
    assert tuple(expected.shape[1:]) == layer.output_shape
    np.testing.assert_allclose(x @ layer.matrix.T + layer.biases, expected.flatten(1).numpy(), atol=1e-10)


@pytest.mark.parametrize(("channels", "outputs"), [(16, 16), (16, 8), (16, 32), (4, 16)])
def test_diagonals_are_as_few_as_an_output_has_inputs(channels: int, outputs: int) -> None:
    layer = convolution(channels, 8, outputs)
    assert np.count_nonzero(layer.matrix, axis=1).max() == 9 * channels
    assert len(diagonals(layer.matrix, layer.inputs)) == 9 * channels


@pytest.mark.parametrize(
    ("layer", "natural", "placed"),
    [
        (convolution(16, 8, 16), 144, 144),
        (convolution(16, 8, 32, stride=2), 1024, 256),
        (convolution(16, 8, 64, stride=2), 1024, 256),
        (convolution(16, 8, 16, padding=0), 1024, 144),
    ],
)
def test_outputs_in_their_places_have_few_diagonals(layer: Convolution, natural: int, placed: int) -> None:
    assert len(np.unique(layer.places)) == layer.outputs
    assert layer.places.max() < layer.room
    moved = np.zeros((layer.room, layer.inputs))
    moved[layer.places] = layer.matrix
    assert len(diagonals(layer.matrix, layer.inputs)) == natural
    assert len(diagonals(moved, layer.inputs)) == placed


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_reordered_outputs_change_no_score(data: st.DataObject) -> None:
    kernel, stride = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    padding, channels = data.draw(st.integers(0, kernel)), data.draw(st.integers(1, 5))
    side = data.draw(st.integers(max(1, kernel - 2 * padding), 8))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    weight, bias = random.normal(size=(channels, 2, kernel, kernel)), random.normal(size=channels)
    first = Convolution(weight, bias, (2, side, side), stride, padding)
    square, last = Polynomial((0.5, 1.0, 1.0)), Linear(random.normal(size=(3, first.outputs)), random.normal(size=3))
    x = random.normal(size=(2, first.inputs))
    expected = square(x @ first.matrix.T + first.biases) @ last.weight.T + last.bias
    rms = np.sqrt(((x @ first.matrix.T + first.biases) ** 2).mean(axis=0))
    head = Head((first, Polynomial(square.coefficients, tuple(rms)), last))
    np.testing.assert_allclose(head.evaluate(x), expected, rtol=1e-9, atol=1e-9)
    # Measured sizes are reordered with the outputs.
    laid = x @ head.linear[0].weight.T + head.linear[0].bias
    np.testing.assert_allclose(head.sizes[0], np.sqrt((laid**2).mean(axis=0)), rtol=1e-9, atol=1e-9)


def test_a_head_with_a_convolution_is_the_same_by_sliding_window_and_by_matrix() -> None:
    random = np.random.default_rng(3)
    first = Convolution(random.normal(size=(3, 2, 3, 3)), random.normal(size=3), (2, 8, 8), padding=1)
    last = Linear(random.normal(size=(2, 192)), random.normal(size=2))
    head = Head((first, Polynomial((0.0, 0.0, 1.0)), last))
    features = random.normal(size=(4, 128))
    hidden, outer = head.linear
    lowered = outer.evaluate(hidden.evaluate(features) ** 2)
    np.testing.assert_allclose(head.evaluate(features), lowered, rtol=1e-10, atol=1e-10)
    assert (head.width, head.classes) == (128, 2)
    tensors, layers = head.to_tensors()
    assert Head.from_tensors(tensors, layers).digest == head.digest
    with pytest.raises(HeadError):
        Head.from_tensors(tensors, [{**layers[0], "input": [2, 8]}, *layers[1:]])


def test_a_bundle_with_a_convolution_is_read_without_its_extractor(tmp_path: Path) -> None:

    layer = convolution(2, 8, 2)
    head = Head((layer, Polynomial((0.0, 0.0, 1.0)), Linear(np.ones((2, 128)), np.zeros(2))))
    tensors, layers = head.to_tensors()

    described = {
        "format": "he-infer-bundle",
        "version": 3,
        "part": "whole",
        "name": "c",
        "classes": ["a", "b"],
        "policy": "hidden",
    }
    text = json.dumps({**described, "input_bound": 4.0, "head": layers})
    save_file(tensors, tmp_path / "c.hebundle", metadata={"he_infer_bundle": text})
    assert HeadBundle.load(tmp_path / "c.hebundle").head.digest == head.digest


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": (2, 5, 5)},
        {"shape": (3, 2, 5)},
        {"shape": (3, 5)},
        {"shape": (3, 5, 5.0)},
        {"stride": 0},
        {"stride": True},
        {"padding": -1},
        {"padding": 10**9},
        {"bias": np.zeros(3)},
        {"weight": np.full((2, 3, 3, 3), np.nan)},
        {"shape": (3, 64, 64)},
    ],
)
def test_senseless_convolution_is_refused_before_allocation(wrong: dict[str, object]) -> None:
    right = {"weight": np.ones((2, 3, 3, 3)), "bias": np.zeros(2), "shape": (3, 5, 5), "stride": 1, "padding": 0}
    Convolution(**right)
    with pytest.raises(HeadError):
        Convolution(**{**right, **wrong})
