"""The extractor that the demo uses, by data and options."""

from pathlib import Path

import pytest

from he_infer.demo.options import CNN, PRETRAINED, DemoOptions
from he_infer.errors import UsageError


def options(
    data: str = "modality", *, epochs: int | None = None, head: str = "mlp", extractor: str | None = None
) -> DemoOptions:
    return DemoOptions(data, Path("out"), 0, epochs, None, head, extractor)


def test_packaged_images_have_pretrained_features_and_others_an_own_network() -> None:
    assert options().chosen_extractor == PRETRAINED
    assert options("Modality", head="linear").chosen_extractor == PRETRAINED
    assert options("pneumoniamnist").chosen_extractor == CNN
    assert options("modality.npz").chosen_extractor == CNN


def test_options_that_train_the_extractor_choose_the_network_that_is_trained() -> None:
    assert options(epochs=3).chosen_extractor == CNN
    assert options(head="conv").chosen_extractor == CNN


def test_a_stated_extractor_is_taken_or_refused() -> None:
    assert options(extractor=CNN).chosen_extractor == CNN
    assert options("pneumoniamnist", extractor=PRETRAINED).chosen_extractor == PRETRAINED
    with pytest.raises(UsageError, match="is kept as it is"):
        options(extractor=PRETRAINED, epochs=3)
    with pytest.raises(UsageError, match="is kept as it is"):
        options(extractor=PRETRAINED, head="conv")
