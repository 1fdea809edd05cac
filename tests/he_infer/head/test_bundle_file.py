"""A head that training can write is one that the server reads; all other heads are refused by both."""

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from he_infer.errors import DamagedBundle, HeInferError
from he_infer.head.bundle import HeadBundle
from he_infer.head.bundle_file import HEAD_PREFIX, MEMBER, BundleFile, describe
from he_infer.head.convolution import Convolution
from he_infer.head.layers import Head, Linear, Polynomial

SQUARE = Polynomial((0.0, 0.0, 1.0))


def linear(inputs: int, outputs: int) -> Linear:
    return Linear(np.ones((outputs, inputs)), np.zeros(outputs))


def convolution(padding: int = 1, stride: int = 1, side: int = 8) -> Convolution:
    return Convolution(np.ones((2, 2, 3, 3)), np.zeros(2), (2, side, side), stride, padding)


def file_of(head: Head, **changes: Any) -> BundleFile:
    classes = tuple(f"class {n}" for n in range(head.classes))
    description = {**describe("m", classes, "hidden", 4.0, head), **changes}
    return BundleFile(description, head.to_tensors()[0])


ACCEPTED: dict[str, Sequence[Any]] = {
    "linear": [linear(16, 2)],
    "one feature": [linear(1, 2)],
    "square": [linear(16, 4), SQUARE, linear(4, 2)],
    "measured square": [linear(16, 4), Polynomial((0.0, 0.0, 1.0), (1.0, 0.0, 2.0, 3.0)), linear(4, 2)],
    "degree 4": [linear(16, 4), Polynomial((1.0, 2.0, 0.0, 0.0, 5.0)), linear(4, 3)],
    "two activations": [linear(16, 4), SQUARE, linear(4, 4), SQUARE, linear(4, 2)],
    "convolution": [convolution(), SQUARE, linear(128, 2)],
    "convolution without padding": [convolution(0), SQUARE, linear(72, 2)],
    "convolution of stride 2": [convolution(1, 2), SQUARE, linear(32, 2)],
    "convolution with the widest padding": [convolution(3), SQUARE, linear(288, 2)],
}
REFUSED: dict[str, Sequence[Any] | Any] = {
    "no layer": [],
    "an activation first": [SQUARE, linear(4, 2)],
    "an activation last": [linear(4, 2), SQUARE],
    "two linear layers in a row": [linear(16, 4), linear(4, 2)],
    "two activations in a row": [linear(16, 4), SQUARE, SQUARE, linear(4, 2)],
    "widths that do not chain": [linear(16, 4), SQUARE, linear(5, 2)],
    "sizes of another number": [linear(16, 4), Polynomial((0.0, 0.0, 1.0), (1.0,)), linear(4, 2)],
    "degree 1": lambda: Polynomial((0.0, 1.0)),
    "degree 5": lambda: Polynomial((0.0, 0.0, 0.0, 0.0, 0.0, 1.0)),
    "a leading zero": lambda: Polynomial((0.0, 1.0, 0.0)),
    "a coefficient without end": lambda: Polynomial((0.0, 0.0, float("inf"))),
    "more than 4096 inputs": lambda: linear(4097, 2),
    "weights that are no numbers": lambda: Linear(np.full((2, 3), np.nan), np.zeros(2)),
    "a bias of another length": lambda: Linear(np.ones((2, 3)), np.zeros(3)),
    "padding wider than the kernel": lambda: convolution(4),
    "a kernel larger than the maps": lambda: convolution(0, 1, 2),
    "maps of more than 4096 values": lambda: convolution(1, 1, 64),
}


@pytest.mark.parametrize("layers", ACCEPTED.values(), ids=ACCEPTED)
def test_a_valid_head_is_unchanged_after_writing_and_reading(layers: Sequence[Any], tmp_path: Path) -> None:
    head = Head(tuple(layers))
    path = tmp_path / "m.hebundle"
    file_of(head).save(path)
    served, whole = HeadBundle.load(path), BundleFile.load(path)
    assert served.head.digest == whole.head.digest == head.digest
    x = np.random.default_rng(0).normal(size=(3, head.width))
    np.testing.assert_array_equal(served.head.evaluate(x), head.evaluate(x))
    np.testing.assert_allclose(head.evaluate_layers(x)[-1], head.evaluate(x))
    assert np.abs(head.evaluate(np.clip(x, -1, 1))).max() <= head.bounds(1.0)[-1] * (1 + 1e-9)
    assert whole.to_bytes() == path.read_bytes()


@pytest.mark.parametrize("layers", REFUSED.values(), ids=REFUSED)
def test_a_head_that_cannot_be_served_cannot_be_made(layers: Any) -> None:
    with pytest.raises(HeInferError) as caught:
        Head(tuple(layers)) if isinstance(layers, list) else layers()
    assert "\n" not in str(caught.value)


def rewritten(path: Path, change: Any) -> Path:
    """Write the file with another description, without the writer's checks, as another tool could."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    described = json.loads(header["__metadata__"][MEMBER])
    header["__metadata__"][MEMBER] = json.dumps(change(described))
    packed = json.dumps(header).encode()
    packed += b" " * (-len(packed) % 8)
    path.write_bytes(struct.pack("<Q", len(packed)) + packed + data[8 + length :])
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda d: {**d, "classes": ["a"]},
        lambda d: {**d, "classes": ["a", "b", "c"]},
        lambda d: {**d, "classes": ["a", 1]},
        lambda d: {**d, "policy": "secret"},
        lambda d: {**d, "policy": None},
        lambda d: {**d, "input_bound": 0},
        lambda d: {**d, "input_bound": True},
        lambda d: {**d, "input_bound": 10**400},
        lambda d: {**d, "head": {}},
        lambda d: {**d, "head": [1]},
        lambda d: {**d, "head": [{"kind": "loop"}]},
        lambda d: {**d, "head": [{**d["head"][0], "weight": "head.9.weight"}]},
        lambda d: {**d, "head": [{**d["head"][0], "weight": 3}]},
        lambda d: {**d, "head": [d["head"][0], {"kind": "polynomial", "coefficients": [0, "x", 1]}, d["head"][0]]},
        lambda d: {**d, "version": True},
        lambda d: {**d, "version": 99},
        lambda d: [d],
    ],
)
def test_a_description_that_contradicts_itself_is_refused_by_every_reader(change: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.hebundle"
    file_of(Head((linear(16, 2),))).save(path)
    rewritten(path, change)
    for read in (HeadBundle.load, BundleFile.load, lambda where: BundleFile.load(where, HEAD_PREFIX)):
        with pytest.raises(HeInferError) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_bundle_that_readers_refuse_is_not_written(tmp_path: Path) -> None:
    for wrong in ({"classes": ["a"]}, {"policy": "secret"}, {"input_bound": -1.0}, {"name": 3}):
        with pytest.raises(DamagedBundle):
            file_of(Head((linear(16, 2),)), **wrong)
    with pytest.raises(DamagedBundle, match="characters"):
        file_of(Head((linear(16, 2),)), notes="x" * (1 << 20)).save(tmp_path / "m.hebundle")
    assert not list(tmp_path.iterdir())


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 400))
def test_random_and_cut_files_are_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, cut: int
) -> None:
    path = tmp_path_factory.mktemp("b") / "m.hebundle"
    whole = file_of(Head((linear(16, 2),))).to_bytes()
    for content in (noise, whole[: min(cut, len(whole) - 1)], noise + whole):
        if content == whole:
            continue
        path.write_bytes(content)
        with pytest.raises(HeInferError) as caught:
            HeadBundle.load(path)
        assert "\n" not in str(caught.value)
