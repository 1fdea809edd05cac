"""Images in memory: read like files, and refused with a reason."""

import re
from typing import Any

import numpy as np
import pytest

from he_infer import ArrayImage


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float64"])
def test_array_is_read_in_display_units(kind: str) -> None:
    white = {"uint8": 255, "uint16": 65535, "float64": 1.0}[kind]
    image = ArrayImage("slice 7", np.array([[0, white]], dtype=kind)).read()
    assert image.pixels is not None
    assert (str(image.path), image.pixels.dtype, image.pixels.tolist()) == ("slice 7", np.float32, [[0.0, 1.0]])


@pytest.mark.parametrize("kind", [">u2", "<u2", ">f4"])
def test_array_of_either_byte_order_is_read(kind: str) -> None:
    white = 65535 if kind.endswith("u2") else 1
    image = ArrayImage("slice 7", np.array([[0, white]], dtype=kind)).read()
    assert image.pixels is not None
    assert image.pixels.tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.zeros((2, 2, 4), dtype=np.uint8), r"shape \(2, 2, 4\)"),
        (np.zeros(5), r"shape \(5,\)"),
        (np.zeros((0, 3)), r"shape \(0, 3\)"),
        (np.full((2, 2), np.nan), "not numbers"),
        (np.full((2, 2), 300.0), "must lie in 0"),
        (np.zeros((2, 2), dtype=np.int64), "type int64"),
        (np.array([["a"]]), "type"),
    ],
)
def test_array_that_is_no_image_is_refused_with_its_name(pixels: Any, words: str) -> None:
    image = ArrayImage("slice 7", pixels).read()
    assert image.pixels is None
    assert image.refusal is not None
    assert image.refusal.startswith("slice 7")
    assert re.search(words, image.refusal)
