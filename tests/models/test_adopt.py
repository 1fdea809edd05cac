"""A user's own torch module as the extractor, with its weights from a file, as docs/models.md shows it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.adopt import adopt
from models.bundle import Bundle
from models.errors import HeadError, InputError
from models.metrics import figures
from tests.models.kit import toy


class TinyResNet(nn.Module):
    """In the style of torchvision: stem, blocks with shortcuts, average pool to (N, width, 1, 1), and a last `fc`."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 24, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.layer1 = nn.Sequential(nn.Conv2d(24, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc: nn.Module = nn.Linear(24, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(x + self.layer1(x))
        return self.fc(self.avgpool(x).flatten(1))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file as a user has one, of a network that saw other images."""
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = TinyResNet()
        network.train()
        network(torch.randn(16, 3, 16, 16))
        torch.save(network.state_dict(), path)
    return path


def _module(weights: Path) -> nn.Module:
    network = TinyResNet()
    network.load_state_dict(torch.load(weights, weights_only=True))
    network.fc = nn.Identity()
    return network


def test_adopted_network_is_read_back_from_its_bundle(weights: Path, tmp_path: Path) -> None:
    dataset = toy()
    bundle = adopt(
        _module(weights), dataset, size=16, channels=3, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    features = bundle.features(dataset.test.images)
    assert features.shape == (64, 24)
    assert np.abs(features).max() < bundle.input_bound
    assert figures(dataset.test.labels, bundle.scores(features)).auc > 0.6
    bundle.save(tmp_path / "own.hebundle")
    again = Bundle.load(tmp_path / "own.hebundle")
    np.testing.assert_array_equal(again.features(dataset.test.images), features)
    assert again.guard is not None
    prepared = again.preprocessing.apply(dataset.test.images[:4])
    with torch.inference_mode():
        raw = _module(weights).eval()(torch.from_numpy(prepared)).numpy()
    # Standardised and bounded, the order of images along each feature is the module's own.
    np.testing.assert_array_equal(again.features(dataset.test.images[:4]).argsort(axis=0), raw.argsort(axis=0))


def test_adopting_keeps_the_weights_and_the_seed_decides_the_head(weights: Path) -> None:
    module = _module(weights)
    one, two = (adopt(module, toy(), size=16, channels=3, head="linear") for _ in range(2))
    assert one.to_bytes() == two.to_bytes()
    stored = torch.load(weights, weights_only=True)
    assert all(torch.equal(value, stored[name]) for name, value in module.state_dict().items() if name in stored)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Flatten(), None),
        (nn.Sequential(nn.Flatten(), nn.Linear(256, 8)), "gives 8 features"),
        (nn.Sequential(nn.Flatten(), nn.LSTM(256, 16)), "must return one tensor"),
    ],
)
def test_a_module_that_gives_no_feature_vector_is_refused(module: nn.Module, message: str | None) -> None:
    if message is None:
        assert adopt(module, toy(), size=16, head="linear").head.width == 256
        return
    with pytest.raises(InputError, match=message):
        adopt(module, toy(), size=16)


def test_a_head_that_cannot_be_exported_is_refused(weights: Path) -> None:
    with pytest.raises(HeadError, match="cannot be exported"):
        adopt(_module(weights), toy(), size=16, channels=3, head="relu")


def test_features_that_are_not_finite_are_refused() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) / 0

    with pytest.raises(InputError, match="not finite"):
        adopt(Broken(), toy(), size=16)
