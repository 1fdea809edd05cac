"""The bundle file: a frozen vector, a round trip, and everything that is not a bundle."""

import base64
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from he_infer.errors import NotThisFormat, UnsupportedVersion
from he_infer.head.bundle import HeadBundle
from he_infer.head.bundle_file import BundleFile
from he_infer.head.layers import Head, Linear, Polynomial
from models.bundle import Bundle
from models.errors import BundleError, DamagedBundle, HeadError, InputError
from models.feature_model import FeatureModel
from models.guard import Guard
from models.images.preprocessing import Preprocessing
from tests.models.kit import filled, small_extractor

VECTORS = Path(__file__).parents[1] / "vectors"
VECTOR = VECTORS / "bundle-v3.json"
SIZES = (0.5, 1.25, 0.0, 3.0)


def _made(**changes: Any) -> Bundle:
    head = Head(
        (
            Linear(filled((4, 16), 1), filled((4,), 2)),
            Polynomial((0.5, 0.25, 1.0)),
            Linear(filled((3, 4), 3), filled((3,), 4)),
        )
    )
    values: dict[str, Any] = {
        "name": "vector – Größe",
        "classes": ("no finding", "finding", "unclear"),
        "preprocessing": Preprocessing(8, 1, "dataset", (0.25,), (0.5,)),
        "extractor": small_extractor(),
        "head": head,
        "input_bound": 4.0,
        "policy": "open",
        "training": {"seed": 7},
        "versions": {"torch": "0"},
        "guard": Guard(
            filled((16,), 5).astype(np.float32),
            np.eye(2, 16, dtype=np.float32),
            np.array([1.0, 0.5, 0.25], dtype=np.float32),
            2.5,
            0.01,
            100,
        ),
        "card": {"intended_use": "tests"},
    }
    return Bundle(**(values | changes))


def _images() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return ((np.arange(2 * 64) * 37) % 251).reshape(2, 8, 8).astype(np.uint8)


def _measured() -> Head:
    """The vector's head, with sizes of its polynomial's inputs."""
    first, square, last = _made().head.layers
    assert isinstance(square, Polynomial)
    return Head((first, replace(square, rms=SIZES), last))


def test_the_vector_is_read_and_written_byte_for_byte(tmp_path: Path) -> None:
    vector = json.loads(VECTOR.read_text(encoding="utf-8"))
    data = base64.b64decode(vector["bundle"])
    path = tmp_path / "v.hebundle"
    path.write_bytes(data)
    bundle = Bundle.load(path)
    assert bundle.to_bytes() == data
    assert _made(head=_measured()).to_bytes() == data
    assert (bundle.name, bundle.policy) == ("vector – Größe", "open")
    features = bundle.features(_images())
    np.testing.assert_allclose(features, vector["features"], atol=1e-6)
    np.testing.assert_allclose(bundle.scores(features), vector["scores"], atol=1e-4)


def test_client_half_is_read_without_a_head(tmp_path: Path) -> None:
    _made().save(tmp_path / "b.hebundle")
    file = BundleFile.load(tmp_path / "b.hebundle")
    client = FeatureModel.from_file(tmp_path / "b.hebundle", file)
    np.testing.assert_array_equal(client.features(_images()), _made().features(_images()))
    assert client.guard is not None
    assert client.guard.to_json() == _made().guard.to_json()  # type: ignore[union-attr] - it was given above
    assert client.card == {"intended_use": "tests"}


def test_parts_of_frozen_vector_lie_where_specified() -> None:
    data = base64.b64decode(json.loads(VECTOR.read_text(encoding="utf-8"))["bundle"])
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    described = json.loads(header["__metadata__"]["he_infer_bundle"])
    assert (described["format"], described["version"]) == ("he-infer-bundle", 3)
    place = header["head.0.weight"]
    assert (place["dtype"], place["shape"]) == ("F64", [4, 16])
    start, end = place["data_offsets"]
    stored = np.frombuffer(data[8 + length + start : 8 + length + end], dtype="<f8").reshape(4, 16)
    np.testing.assert_array_equal(stored, filled((4, 16), 1))
    assert described["head"][1] == {"kind": "polynomial", "coefficients": [0.5, 0.25, 1.0], "rms": list(SIZES)}


def test_measured_sizes_reach_the_planner_and_change_no_score(tmp_path: Path) -> None:
    plain, measured = _made(), _made(head=_measured())
    measured.save(tmp_path / "b.hebundle")
    plain.save(tmp_path / "a.hebundle")
    served, without = HeadBundle.load(tmp_path / "b.hebundle"), HeadBundle.load(tmp_path / "a.hebundle")
    (sizes,) = served.head.sizes
    assert sizes is not None
    np.testing.assert_array_equal(sizes, SIZES)
    assert without.head.sizes == (None,)
    assert served.head.digest != without.head.digest  # another plan follows, so it is another model
    features = filled((5, 16), 9)
    np.testing.assert_array_equal(served.head.evaluate(features), without.head.evaluate(features))


@pytest.mark.parametrize("sizes", [(1.0,), (1.0, 2.0, -3.0, 1.0), (1.0, 2.0, float("nan"), 1.0)])
def test_sizes_that_make_no_sense_are_refused(sizes: tuple[float, ...]) -> None:
    first, square, last = _made().head.layers
    assert isinstance(square, Polynomial)
    with pytest.raises(HeadError, match="sizes"):
        Head((first, replace(square, rms=sizes), last))
    tensors, layers = _made().head.to_tensors()
    with pytest.raises(HeadError, match="sizes"):
        Head.from_tensors(tensors, [layers[0], {**layers[1], "rms": list(sizes)}, layers[2]])


def test_server_reader_gives_the_same_head(tmp_path: Path) -> None:
    bundle = _made()
    bundle.save(tmp_path / "b.hebundle")
    served = HeadBundle.load(tmp_path / "b.hebundle")
    features = filled((5, 16), 9)
    np.testing.assert_allclose(served.head.evaluate(features), bundle.scores(features), atol=1e-12)
    assert (served.classes, served.policy, served.input_bound) == (bundle.classes, "open", 4.0)


@settings(max_examples=25, deadline=None)
@given(
    name=st.text(st.characters(categories=["L", "M", "N", "P", "S", "Zs"]), max_size=20).filter(str.strip),
    bound=st.floats(1e-3, 1e3),
    coefficients=st.lists(st.floats(-8, 8), min_size=2, max_size=4),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_bundle_is_read_back_equal(
    tmp_path_factory: pytest.TempPathFactory, name: str, bound: float, coefficients: list[float], seed: int
) -> None:
    random = np.random.default_rng(seed)
    layers = (
        Linear(random.normal(size=(5, 16)), random.normal(size=5)),
        Polynomial((*coefficients, 1.0)),
        Linear(random.normal(size=(3, 5)), random.normal(size=3)),
    )
    bundle = _made(name=name, input_bound=bound, head=Head(layers))
    path = tmp_path_factory.mktemp("b") / "b.hebundle"
    bundle.save(path)
    again = Bundle.load(path)
    assert (again.name, again.input_bound, again.head.digest) == (name, bound, bundle.head.digest)
    assert again.to_bytes() == bundle.to_bytes()


# Files that are not a bundle


def _written(path: Path, change: Any) -> Path:
    """The vector's file with another description."""
    data = _made().to_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    described = json.loads(header["__metadata__"]["he_infer_bundle"])
    described = change(described)
    text = described if isinstance(described, str) else json.dumps(described)
    header["__metadata__"]["he_infer_bundle"] = text
    packed = json.dumps(header).encode()
    packed += b" " * (-len(packed) % 8)
    path.write_bytes(struct.pack("<Q", len(packed)) + packed + data[8 + length :])
    return path


def _without(name: str) -> Any:
    return lambda values: {key: value for key, value in values.items() if key != name}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda v: v | {"version": 2}, UnsupportedVersion, "version 2; this release reads version 3"),
        (lambda v: v | {"format": "other"}, NotThisFormat, "does not name the format"),
        (lambda v: "{", DamagedBundle, "not JSON"),
        (lambda v: "[]", NotThisFormat, "not a JSON object"),
        (lambda v: " " * (1 << 20) + "{}", DamagedBundle, "larger than"),
        (_without("classes"), DamagedBundle, "incomplete"),
        (_without("head"), DamagedBundle, "incomplete"),
        (lambda v: v | {"classes": ["a", "b"]}, DamagedBundle, "2 class names for a head of 3 outputs"),
        (lambda v: v | {"policy": "secret"}, DamagedBundle, "no policy 'secret'"),
        (lambda v: v | {"input_bound": -1}, DamagedBundle, "positive number"),
        (lambda v: v | {"head": v["head"][:2]}, HeadError, "end with a linear layer"),
        (lambda v: v | {"head": [{"kind": "loop"}]}, HeadError, "'loop'"),
        (lambda v: v | {"extractor": v["extractor"] | {"kind": "script"}}, DamagedBundle, "'script'"),
        (
            lambda v: v | {"extractor": v["extractor"] | {"width": 32}},
            DamagedBundle,
            "not the network",
        ),
        (lambda v: v | {"extractor": v["extractor"] | {"layout": "CHWN"}}, DamagedBundle, "lacks its layout"),
        (lambda v: v | {"extractor": v["extractor"] | {"layout": "NHWC"}}, DamagedBundle, "1 or 3 channels"),
        (lambda v: v | {"guard": {"version": 1}}, DamagedBundle, "guard is incomplete"),
        (lambda v: v | {"guard": v["guard"] | {"threshold": -1}}, DamagedBundle, "guard's numbers"),
        (lambda v: v | {"guard": 7}, DamagedBundle, "guard"),
        (lambda v: v | {"card": 7}, DamagedBundle, "incomplete"),
        (_without("training"), DamagedBundle, "incomplete"),
        (lambda v: v | {"extractor": v["extractor"] | {"version": 9}}, DamagedBundle, "version 9"),
        (lambda v: v | {"preprocessing": {"version": 1}}, DamagedBundle, "preprocessing has version 1"),
        (lambda v: v | {"preprocessing": v["preprocessing"] | {"std": [0.0]}}, DamagedBundle, "preprocessing"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(
    tmp_path: Path, change: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        Bundle.load(_written(tmp_path / "b.hebundle", change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"text", b"\xff" * 100, _made().to_bytes()[:-10], _made().to_bytes()[:50]])
def test_another_kind_of_file_or_a_cut_one_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.hebundle").write_bytes(content)
    with pytest.raises(NotThisFormat, match="not a bundle, or is cut off"):
        Bundle.load(tmp_path / "x.hebundle")


def test_a_missing_file_and_a_foreign_safetensors_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotThisFormat, match="There is no bundle"):
        Bundle.load(tmp_path / "none.hebundle")
    (tmp_path / "f.safetensors").write_bytes(save({"x": np.zeros(3)}))
    with pytest.raises(NotThisFormat, match="metadata lacks 'he_infer_bundle'"):
        Bundle.load(tmp_path / "f.safetensors")


def test_failed_save_leaves_the_old_file_untouched(tmp_path: Path) -> None:
    path = tmp_path / "b.hebundle"
    _made().save(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        _made(training={"loss": float("nan")}).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_another_head_has_neither_the_operating_point_nor_the_figures_of_the_former() -> None:
    point = {"class": "b", "threshold": 0.9}
    card = {"version": 1, "operating_point": point, "assumed_prevalence": {}, "test": {}, "licence": "CC0"}
    bundle = _made(card=card)
    other = bundle.with_head(Head((Linear(filled((3, 16), 5), filled((3,), 6)),)))
    assert other.card == {"version": 1, "licence": "CC0"}
    assert bundle.card == card


def test_images_and_features_that_do_not_fit_are_refused() -> None:
    bundle = _made()
    with pytest.raises(InputError, match="the head takes"):
        bundle.scores(np.zeros((3, 15)))
    with pytest.raises(InputError, match="not numbers"):
        bundle.features(np.full((1, 8, 8), np.nan))
    with pytest.raises(BundleError, match="takes 3 features"):
        bundle.with_head(Head((Linear(np.ones((3, 3)), np.zeros(3)),)))
    with pytest.raises(BundleError, match="extractor gives 16 features"):
        _made(head=Head((Linear(np.ones((3, 3)), np.zeros(3)),)))
    with pytest.raises(InputError, match="beyond the bundle's bound"):
        _made(input_bound=1e-6).features(_images())
