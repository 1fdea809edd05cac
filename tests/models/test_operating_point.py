"""The operating point that a model card states, as the client decides by it."""

import pytest

from models.card import OperatingPoint, read_operating_point
from models.errors import DamagedBundle

CLASSES = ("normal", "malignant")


def test_stated_operating_point_is_read_and_missing_one_is_none() -> None:
    card = {"operating_point": {"class": "malignant", "threshold": 0.21}}
    assert read_operating_point(card, CLASSES) == OperatingPoint("malignant", 0.21)
    assert read_operating_point({}, CLASSES) is None
    assert read_operating_point({"operating_point": None}, CLASSES) is None
    assert read_operating_point(card, ("a", "b", "c")) is None


@pytest.mark.parametrize(
    "point",
    [{}, [], "0.5", {"class": "x", "threshold": 0.5}, {"class": "normal", "threshold": 1.5}, {"class": "normal"}],
)
def test_impossible_operating_point_is_refused(point: object) -> None:
    with pytest.raises(DamagedBundle, match="operating point"):
        read_operating_point({"operating_point": point}, CLASSES)
