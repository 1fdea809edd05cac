"""Convolutions of a head against torch's, and the trained form against the exported one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from he_infer.head.convolution import Convolution
from he_infer.head.layers import Head, Linear, Polynomial
from models.errors import HeadError
from models.extractors.cnn import Cnn, CnnConfig
from models.heads.ranges import into_range
from models.heads.trainable import ConvolutionHead, make


@st.composite
def convolutions(draw: st.DrawFn) -> Convolution:
    """Random shapes, strides and paddings of which at least one pixel remains."""
    kernel = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    padding, stride = draw(st.integers(0, max(kernel))), draw(st.integers(1, 3))
    sides = [draw(st.integers(max(1, side - 2 * padding), 9)) for side in kernel]
    before, after = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weight = random.normal(size=(after, before, *kernel))
    return Convolution(weight, random.normal(size=after), (before, sides[0], sides[1]), stride, padding)


@settings(max_examples=60, deadline=None)
@given(convolutions())
def test_convolution_equals_torch_convolution(layer: Convolution) -> None:
    values = np.random.default_rng(1).normal(size=(3, layer.inputs))
    weight, bias = torch.tensor(layer.weight), torch.tensor(layer.bias)
    maps = torch.from_numpy(values.reshape(3, *layer.shape))
    expected = torch.nn.functional.conv2d(maps, weight, bias, stride=layer.stride, padding=layer.padding)
    assert tuple(expected.shape[1:]) == layer.output_shape
    np.testing.assert_allclose(layer.evaluate(values), expected.flatten(1).numpy(), atol=1e-10)
    assert np.abs(layer.evaluate(np.sign(values))).max() <= layer.bound(1.0) + 1e-9


@pytest.fixture(scope="module")
def trained() -> ConvolutionHead:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        head = make("conv", 256, 3, 5)
        for _ in range(8):
            head(torch.randn(32, 256))
    assert isinstance(head, ConvolutionHead)
    return head.eval()


def test_the_exported_head_is_the_trained_one(trained: ConvolutionHead) -> None:
    features = torch.from_numpy(np.random.default_rng(2).normal(size=(6, 256)).astype(np.float32))
    with torch.inference_mode():
        scores, _ = trained(features)
    exported = trained.export()
    assert [str(layer) for layer in exported.layers] == ["convolution 4x8x8 to 5x8x8", "x^2", "linear 320 to 3"]
    assert (exported.width, exported.classes) == (256, 3)
    np.testing.assert_allclose(exported.evaluate(features.numpy()), scores.numpy(), atol=1e-5)


def test_rescaling_into_range_changes_no_score_and_keeps_the_convolution(trained: ConvolutionHead) -> None:
    exported = trained.export()
    features = 3 * np.random.default_rng(4).normal(size=(50, 256))
    ranged, (found,) = into_range(exported, features, 1.5)
    assert isinstance(ranged.layers[0], Convolution)
    assert found.reached <= 1.5 + 1e-9
    np.testing.assert_allclose(ranged.evaluate(features), exported.evaluate(features), rtol=1e-9, atol=1e-9)


def test_head_with_convolution_is_rebuilt_from_its_tensors(trained: ConvolutionHead) -> None:
    exported = trained.export()
    tensors, layers = exported.to_tensors()
    again = Head.from_tensors(tensors, layers)
    features = np.random.default_rng(5).normal(size=(2, 256))
    np.testing.assert_array_equal(again.evaluate(features), exported.evaluate(features))
    with pytest.raises(HeadError):
        Head.from_tensors(tensors, [{**layers[0], "input": [4, 8]}, *layers[1:]])
    with pytest.raises(HeadError):
        Head.from_tensors(tensors, [{**layers[0], "input": [5, 8, 8]}, *layers[1:]])


@pytest.mark.parametrize(
    "wrong", [{"shape": (2, 5, 5)}, {"shape": (3, 1, 5)}, {"stride": 0}, {"padding": -1}, {"bias": np.zeros(3)}]
)
def test_shapes_that_do_not_fit_are_refused(wrong: dict[str, object]) -> None:
    right = {"weight": np.ones((2, 3, 3, 3)), "bias": np.zeros(2), "shape": (3, 5, 5), "stride": 1, "padding": 0}
    Convolution(**right)
    with pytest.raises(HeadError):
        Convolution(**{**right, **wrong})


def test_head_with_layers_that_do_not_fit_together_is_refused() -> None:
    layer = Convolution(np.ones((2, 1, 2, 2)), np.zeros(2), (1, 3, 3))
    with pytest.raises(HeadError, match="takes 9"):
        Head((layer, Polynomial((0, 0, 1.0)), Linear(np.ones((2, 9)), np.zeros(2))))


def test_width_that_does_not_divide_into_maps_is_refused() -> None:
    with pytest.raises(HeadError, match="multiple of 64"):
        make("conv", 100, 2)


def test_the_extractor_gives_maps_within_their_bound_in_the_order_that_the_head_reads() -> None:
    network = Cnn(CnnConfig(in_channels=1, size=28, width=256, map_side=8)).eval()
    image = torch.zeros(1, 1, 28, 28)
    image[:, :, :6, :6] = 100.0
    with torch.inference_mode():
        features = network(image)
        plain = network(torch.zeros(1, 1, 28, 28))
    assert features.shape == (1, 256)
    assert features.abs().max() <= 4.0
    changed = (features - plain).reshape(4, 8, 8).abs().amax(dim=0)
    # A change at the upper left changes the maps there, and not at the lower right.
    assert changed[:2, :2].max() > 0.01
    assert changed[5:, 5:].max() < 1e-4
