"""The recipes of docs/models.md, run as they stand there where their packages are installed, with random weights."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models import datasets
from models.bundle import Bundle
from models.importing import import_model
from tests.docs.blocks import ROOT, Block, read_blocks
from tests.models.kit import toy

BLOCKS = [block for block in read_blocks(ROOT / "docs" / "models.md") if str(block.title).endswith("and its weights")]


def _import(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except (ImportError, RuntimeError) as error:  # a torchvision for another torch fails with a RuntimeError
        pytest.skip(f"{package} is no dependency of he_infer, and is not usable here: {error}")


def _write_weights(block: Block) -> None:
    """Random weights in the file that the recipe loads."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if "torchvision" in block.text:
            network = _import("torchvision.models").resnet18()
            torch.save(network.state_dict(), "resnet18.pth")
        elif "timm" in block.text:
            network = _import("timm").create_model("mobilenetv3_small_050", num_classes=0)
            torch.save(network.state_dict(), "mobilenet.pth")
        else:
            nets = _import("monai.networks.nets")
            torch.save(nets.resnet10(spatial_dims=2, n_input_channels=1, num_classes=2).state_dict(), "resnet10.pth")


def test_every_recipe_is_run() -> None:
    assert len(BLOCKS) == 4
    assert all(len(block.text.splitlines()) <= 20 for block in BLOCKS)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # the packages' own
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"line {block.line}")
def test_recipe_makes_a_bundle_of_another_network(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _write_weights(block)
    dataset = toy(train=64)
    monkeypatch.setattr(datasets, "load", lambda name: dataset)
    exec(compile(block.text, block.place, "exec"), {})
    if (tmp_path / "own.hebundle").exists():
        bundle = Bundle.load(tmp_path / "own.hebundle")
    else:
        bundle = import_model((tmp_path / "resnet18.onnx").read_bytes(), dataset, head="linear")
    assert bundle.head.width in (512, 1024)
    assert np.isfinite(bundle.scores(bundle.features(dataset.test.images[:8]))).all()
