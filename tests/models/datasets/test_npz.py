"""Sets in MedMNIST's layout: arrays read, arrays refused, and names without a network."""

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import datasets
from models.datasets import medmnist, medmnist_index
from models.errors import BadContents, BadLayout, DatasetError, InputError, NoSuchDataset
from models.images.preprocessing import Preprocessing
from tests.models.kit import arrays, npz, split


def test_a_file_of_the_layout_is_read(tmp_path: Path) -> None:
    dataset = datasets.load(npz(tmp_path / "own.npz"))
    assert (dataset.name, dataset.classes, dataset.size) == ("own", ("class 0", "class 1"), (16, 16))
    assert [len(part) for _, part in dataset.splits()] == [24, 8, 8]
    assert dataset.train.labels.dtype == np.int64


@pytest.mark.parametrize("side", [28, 64, 224])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("classes", [2, 9])
def test_any_size_colour_and_number_of_classes_is_read(tmp_path: Path, side: int, channels: int, classes: int) -> None:
    random = np.random.default_rng(0)
    values = {}
    for name in ("train", "val", "test"):
        shape = (2 * classes, side, side) if channels == 1 else (2 * classes, side, side, 3)
        values[f"{name}_images"] = random.integers(0, 256, shape, dtype=np.uint8)
        values[f"{name}_labels"] = (np.arange(2 * classes) % classes)[:, None]
    dataset = datasets.load(npz(tmp_path / "own.npz", **values))
    assert (dataset.size, dataset.channels, len(dataset.classes)) == ((side, side), channels, classes)


def test_sixteen_bit_and_wider_integers_keep_their_depth(tmp_path: Path) -> None:
    deep = {f"{name}_images": arrays()[f"{name}_images"].astype(np.int32) * 300 for name in ("train", "val", "test")}
    dataset = datasets.load(npz(tmp_path / "deep.npz", **deep))
    assert dataset.train.images.dtype == np.uint16
    assert int(dataset.train.images.max()) > 255


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_labels": np.zeros((24, 1), np.uint8)}, "holds a single class"),
        ({"test_images": np.zeros((0, 16, 16), np.uint8), "test_labels": np.zeros((0, 1))}, "test split .* is empty"),
        ({"val_images": np.full((8, 16, 16), np.nan, np.float32)}, "float32, uint8"),
        ({"test_images": np.zeros((8, 20, 20), np.uint8)}, r"must have one size"),
        ({"train_images": np.zeros((23, 16, 16), np.uint8)}, "23 images but 24 labels"),
        ({"train_labels": np.zeros((24, 14), np.uint8)}, "multi-label"),
        ({"train_labels": np.full((24, 1), 0.5)}, "whole numbers"),
        ({"train_labels": np.full((24, 1), -1)}, "from 0 up"),
        ({"test_labels": np.full((8, 1), 5)}, "classes without a training image"),
        ({"train_images": np.zeros((24, 4, 4), np.uint8)}, "4 x 4 pixels"),
        ({"train_images": np.zeros((24, 16, 16, 16, 1), np.uint8)}, "three-dimensional volumes"),
        ({"train_images": np.full((24, 16, 16), 70000)}, "int64, uint8"),
        ({"train_images": np.full((24, 16, 16), -4, np.int16)}, "int16, uint8"),
        ({"train_images": np.array([np.zeros((16, 16)), np.zeros((8, 8))], dtype=object)}, "no pickled objects"),
        ({"train_images": np.zeros((24, 16, 16), np.complex64)}, "complex64"),
    ],
)  # fmt: skip
def test_unusable_training_data_gives_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        datasets.load(npz(tmp_path / "bad.npz", **changes))
    assert "\n" not in str(caught.value)


def test_nan_and_infinite_pixels_are_counted(tmp_path: Path) -> None:
    images = {
        f"{name}_images": arrays()[f"{name}_images"].astype(np.float32) / 255 for name in ("train", "val", "test")
    }
    images["test_images"][3, 0, 0] = np.nan
    images["test_images"][5, 1, 1] = np.inf
    with pytest.raises(BadContents, match="2 of the 8 images in the test split"):
        datasets.load(npz(tmp_path / "nan.npz", **images))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as an .npz"),
        (b"no archive at all", "cannot be read as an .npz"),
        (b"PK\x03\x04 cut off", "cannot be read as an .npz"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(BadLayout, match=message):
        datasets.load(tmp_path / "bad.npz")


def test_a_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    path = npz(tmp_path / "whole.npz")
    (tmp_path / "cut.npz").write_bytes(path.read_bytes()[:-200])
    with pytest.raises(BadLayout, match=r"cannot be read as an \.npz"):
        datasets.load(tmp_path / "cut.npz")


def test_missing_arrays_and_single_arrays_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "part.npz", train_images=np.zeros(3))
    with pytest.raises(BadLayout, match="lacks train_labels, val_images"):
        datasets.load(tmp_path / "part.npz")
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(BadLayout, match="single array"):
        datasets.load(tmp_path / "one.npy")


def test_an_archive_with_a_pickle_runs_no_code(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "evil.npz", "w") as file:
        for name in arrays():
            file.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00\x0e\x00{'descr':'|O'}\n" + b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(BadLayout):
        datasets.load(tmp_path / "evil.npz")


def test_unknown_names_and_missing_files_list_the_known_names(tmp_path: Path) -> None:
    with pytest.raises(NoSuchDataset, match="Known names: modality, pathmnist"):
        datasets.load("nosuchmnist")
    with pytest.raises(NoSuchDataset, match="There is no data set"):
        datasets.load(tmp_path / "none.npz")


# Notes on usable sets


def _notes(tmp_path: Path, **changes: Any) -> str:
    return " ".join(datasets.load(npz(tmp_path / "own.npz", **changes)).notes)


def test_overlap_of_splits_is_found_by_content(tmp_path: Path) -> None:
    values = arrays()
    values["test_images"][:3] = values["train_images"][[5, 1, 3]]
    values["test_labels"][:3] = values["train_labels"][[5, 1, 3]]
    notes = _notes(tmp_path, **values)
    assert "3 of the 8 test images also lie, pixel for pixel, in the train split." in notes
    assert "different labels" not in notes


def test_equal_images_with_two_labels_are_reported(tmp_path: Path) -> None:
    values = arrays()
    values["train_images"][1] = values["train_images"][0]
    assert "1 image(s) appear more than once with different labels." in _notes(tmp_path, **values)


def test_huge_imbalance_and_rare_classes_are_reported(tmp_path: Path) -> None:
    labels = np.zeros((64, 1), np.uint8)
    labels[:2] = 1
    notes = _notes(tmp_path, train_images=split(64, 7).images, train_labels=labels)
    assert "very uneven: class 1 (2) against 62" in notes
    assert "fewer than 10 images of: class 1 (2)" in notes


def test_a_gap_in_the_labels_is_reported_and_kept(tmp_path: Path) -> None:
    values = {f"{name}_labels": arrays()[f"{name}_labels"] * 2 for name in ("train", "val", "test")}
    dataset = datasets.load(npz(tmp_path / "gap.npz", **values))
    assert dataset.classes == ("class 0", "class 1", "class 2")
    assert any("label gap" in note and "class 1" in note for note in dataset.notes)


def test_a_clean_set_has_few_notes(tmp_path: Path) -> None:
    notes = datasets.load(npz(tmp_path / "own.npz")).notes
    assert all("fewer than 10" in note for note in notes)


# By name


def test_known_set_name_is_read_from_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npz(tmp_path / "breastmnist.npz")
    monkeypatch.setenv(medmnist.DATA_FOLDER_VARIABLE, str(tmp_path))
    dataset = datasets.load("breastmnist")
    assert dataset.classes == ("malignant", "normal or benign")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import pooch

    monkeypatch.delenv(medmnist.DATA_FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda _: tmp_path / "cache")
    return tmp_path / "cache"


def test_failed_download_gives_one_line_with_the_remedy(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(medmnist_index, "url", lambda base, size: "http://127.0.0.1:9/nothing-listens-here")
    with pytest.raises(NoSuchDataset, match="could not be fetched from Zenodo record 10519652") as caught:
        datasets.load("pneumoniamnist")
    assert "no connection" in str(caught.value)
    assert medmnist.DATA_FOLDER_VARIABLE in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_download_whose_sum_differs_is_not_kept(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_server: str
) -> None:
    monkeypatch.setattr(medmnist_index, "url", lambda base, size: f"{file_server}/own.npz")
    npz(tmp_path / "served" / "own.npz")
    with pytest.raises(NoSuchDataset, match="do not match the official MD5"):
        datasets.load("breastmnist_64")
    assert not list(cache.glob("*.npz"))


def test_a_download_with_the_right_sum_is_kept_and_used_again(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_server: str
) -> None:
    path = npz(tmp_path / "served" / "own.npz")
    monkeypatch.setattr(medmnist_index, "url", lambda base, size: f"{file_server}/own.npz")
    digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setattr(medmnist_index, "md5", lambda base, size: digest)
    assert len(datasets.load("breastmnist").test) == 8
    path.unlink()
    assert len(datasets.load("breastmnist").test) == 8


def test_every_published_file_has_a_sum_and_an_address_in_the_record() -> None:
    for base in medmnist_index.ENTRIES:
        for size in medmnist_index.SIZES:
            assert len(bytes.fromhex(medmnist_index.md5(base, size))) == 16
            assert medmnist_index.split_name(medmnist_index.file_name(base, size).removesuffix(".npz")) == (base, size)
            assert f"records/{medmnist_index.RECORD}/" in medmnist_index.url(base, size)


# Ranges of values, one-hot labels, names of classes


@pytest.mark.parametrize(
    ("kind", "black", "white"),
    [
        (np.uint8, 0, 255),
        (np.int64, 0, 255),
        (np.uint16, 0, 255),
        (np.float32, 0, 255),
        (np.float64, 0, 255),
        (np.float16, 0, 255),
        (np.float32, 0, 1),
        (np.float32, -1, 1),
        (np.uint16, 0, 65535),
        (np.int32, 0, 65535),
        (np.bool_, 0, 1),
    ],
)
def test_pixels_of_every_type_are_scaled_alike_and_range_is_reported(
    tmp_path: Path, kind: Any, black: float, white: float
) -> None:
    plain = arrays()
    changes = {}
    for name in ("train", "val", "test"):
        pixels = plain[f"{name}_images"].astype(np.float64) / 255
        scaled = pixels * (white - black) + black
        changes[f"{name}_images"] = (pixels > 0.5) if kind is np.bool_ else scaled.round(6).astype(kind)
        if np.dtype(kind).kind in "iu" and white == 255:
            changes[f"{name}_images"] = plain[f"{name}_images"].astype(kind)
    dataset = datasets.load(npz(tmp_path / "own.npz", **changes))
    shown = Preprocessing.plain(16, 1).apply(dataset.train.images)[:, 0]
    expected = plain["train_images"] / 255
    np.testing.assert_allclose(shown, (expected > 0.5) if kind is np.bool_ else expected, atol=2e-3)
    assert (dataset.values["black"], dataset.values["white"]) == (black, white)
    assert any("(black)" in note for note in dataset.notes) == (kind is not np.uint8)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (lambda x: x.astype(np.float32), lambda x: x.astype(np.float32) / 255, "differ in range"),
        (lambda x: x.astype(np.float32), lambda x: x, "one type"),
        (lambda x: x.astype(np.float32) - 1024, lambda x: x.astype(np.float32), "run from -1024"),
        (lambda x: x.astype(np.float32) * 10, lambda x: x.astype(np.float32), "nothing says which"),
        (lambda x: x.astype(np.int64) - 1, lambda x: x.astype(np.int64), "run from -1"),
        (lambda x: x.astype(np.int64) * 1000, lambda x: x.astype(np.int64), "run from 0 to"),
    ],
)
def test_values_of_unknown_range_are_refused(tmp_path: Path, train: Any, test: Any, message: str) -> None:
    plain = arrays()
    changes = {f"{name}_images": change(plain[f"{name}_images"]) for name, change in (("train", train), ("val", train))}
    with pytest.raises(BadContents, match=message):
        datasets.load(npz(tmp_path / "own.npz", **changes, test_images=test(plain["test_images"])))


@pytest.mark.parametrize("pixels", [np.full((1, 9, 9), 200.0), np.full((1, 9, 9), -0.5), np.full((1, 9, 9), 200, "u2")])
def test_at_use_values_out_of_range_are_refused(pixels: Any) -> None:
    with pytest.raises(InputError, match=r"read as|must lie in"):
        Preprocessing.plain(8, 1).apply(pixels)


def test_one_hot_labels_are_read_and_reported(tmp_path: Path) -> None:
    plain = arrays()
    changes = {f"{n}_labels": np.eye(2, dtype=int)[plain[f"{n}_labels"][:, 0]] for n in ("train", "val", "test")}
    dataset = datasets.load(npz(tmp_path / "own.npz", **changes))
    np.testing.assert_array_equal(dataset.train.labels, plain["train_labels"][:, 0])
    assert any("one-hot" in note for note in dataset.notes)
    changes["val_labels"] = np.eye(3, dtype=int)[plain["val_labels"][:, 0]]
    with pytest.raises(BadContents, match="same classes"):
        datasets.load(npz(tmp_path / "own.npz", **changes))


def test_names_of_classes_in_the_file_are_taken(tmp_path: Path) -> None:
    assert datasets.load(npz(tmp_path / "own.npz", classes=np.array(["sane", "krank"]))).classes == ("sane", "krank")
    for wrong in (["only"], ["a", "a"], [["a", "b"]], ["a", ""], [0.5, 1.5]):
        with pytest.raises(BadContents, match="classes"):
            datasets.load(npz(tmp_path / "own.npz", classes=np.array(wrong)))


ONE_ARRAY = "{'descr': '|u1', 'fortran_order': False, 'shape': (%s), }"


def _write_members(path: Path, header: str, flags: int = 0, method: int | None = None) -> Path:
    """An .npz file whose arrays have this header; `flags` and `method` are set in the archive's directory."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in arrays():
            padded = header.encode() + b" " * (-(len(header) + 11) % 64) + b"\n"
            archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded)
    raw = bytearray(path.read_bytes())
    at = raw.find(b"PK\x01\x02")
    while at >= 0:
        raw[at + 8] |= flags
        raw[at + 10] = raw[at + 10] if method is None else method
        at = raw.find(b"PK\x01\x02", at + 4)
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize(
    ("header", "settings"),
    [
        (ONE_ARRAY % "10**9, 28, 28", {}),
        (ONE_ARRAY % "1000000000, 2800, 28", {}),
        (ONE_ARRAY % "1000000000000000000000, 28, 28", {}),
        (ONE_ARRAY % "-1, 28, 28", {}),
        ("{'descr': ((((((((", {}),
        (ONE_ARRAY % "1, 28, 28", {"flags": 1}),  # encrypted
        (ONE_ARRAY % "1, 28, 28", {"method": 99}),
    ],
)
def test_hostile_archive_gives_one_line(header: str, settings: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(BadLayout, match=r"cannot be read as an \.npz data set"):
        datasets.load(_write_members(tmp_path / "own.npz", header, **settings))


@pytest.mark.parametrize("kind", ["U3", "S3", "c8", "M8[s]"])
def test_pixels_that_are_no_numbers_are_refused(kind: str, tmp_path: Path) -> None:
    changes = {f"{name}_images": arrays()[f"{name}_images"].astype(kind) for name in ("train", "val", "test")}
    with pytest.raises(BadContents, match="Pixels are of type"):
        datasets.load(npz(tmp_path / "own.npz", **changes))
