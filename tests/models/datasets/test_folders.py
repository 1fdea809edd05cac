"""Folders of images and DICOM tables: what is read, which splits come of it, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from models import datasets
from models.errors import BadContents, BadLayout, DatasetError
from tests.models.kit import dicom, png, report, split


def _folder(root: Path, *, count: int = 20, prefix: str = "") -> Path:
    part = split(count, 3, side=32)
    for index, (image, label) in enumerate(zip(part.images, part.labels, strict=True)):
        png(root / prefix / "ab"[label] / f"{index}.png", image)
    return root


def test_one_subfolder_a_class_is_read_and_split(tmp_path: Path) -> None:
    dataset = datasets.load(_folder(tmp_path / "own"))
    assert (dataset.name, dataset.classes, dataset.size) == ("own", ("a", "b"), (32, 32))
    assert sum(len(part) for _, part in dataset.splits()) == 20
    assert dataset.train.images.dtype == np.uint16
    note = " ".join(dataset.notes)
    assert "dealt out here" in note
    assert "20 of 20 images name no patient" in note


def test_a_seed_deals_the_same_splits(tmp_path: Path) -> None:
    root = _folder(tmp_path / "own")
    assert datasets.load(root, seed=1).digest == datasets.load(root, seed=1).digest
    assert datasets.load(root, seed=1).digest != datasets.load(root, seed=2).digest


def test_given_splits_are_kept(tmp_path: Path) -> None:
    for prefix, count in (("train", 12), ("validation", 6), ("test", 4)):
        _folder(tmp_path / "own", count=count, prefix=prefix)
    dataset = datasets.load(tmp_path / "own")
    assert [len(part) for _, part in dataset.splits()] == [12, 6, 4]
    assert not any("dealt out" in note for note in dataset.notes)


def test_mixed_sizes_become_one_and_a_note_says_so(tmp_path: Path) -> None:
    root = _folder(tmp_path / "own", count=18)
    png(root / "a" / "wide.png", np.random.default_rng(0).integers(0, 255, (40, 90), dtype=np.uint8))
    png(root / "b" / "tall.png", np.random.default_rng(1).integers(0, 255, (70, 50), dtype=np.uint8))
    dataset = datasets.load(root)
    assert dataset.size == (32, 32)
    assert any("3 size(s), 32 x 32 to 70 x 50" in note for note in dataset.notes)


def test_sixteen_bit_pictures_keep_their_depth(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (20, 32, 32)).astype(np.uint16)
    for index, image in enumerate(values):
        png(tmp_path / "own" / "ab"[index % 2] / f"{index}.png", image)
    dataset = datasets.load(tmp_path / "own")
    stored = {image.tobytes() for _, part in dataset.splits() for image in part.images}
    assert stored == {image.tobytes() for image in values}


def test_colour_is_kept_where_there_is_any(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for index in range(20):
        png(tmp_path / "own" / "ab"[index % 2] / f"{index}.png", random.integers(0, 255, (30, 30, 3), dtype=np.uint8))
    assert datasets.load(tmp_path / "own").channels == 3


def test_files_that_cannot_be_read_are_left_out_and_counted(tmp_path: Path) -> None:
    root = _folder(tmp_path / "own")
    (root / "a" / "text.dcm").write_text("this is a text file")
    report(root / "b" / "report.dcm")
    notes = datasets.load(root).notes
    assert any("2 of 22 files were left out" in note and "text.dcm" in note for note in notes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: root.mkdir(), "is empty"),
        (lambda root: png(root / "loose.png", np.zeros((30, 30), np.uint8)), "has no subfolders"),
        (lambda root: [(root / name).mkdir(parents=True) for name in "ab"], "holds no image"),
        (lambda root: png(root / "a" / "1.png", np.zeros((30, 30), np.uint8)), "single class"),
        (lambda root: [(_folder(root)), (root / "c").mkdir()], "class folder .*c holds no image"),
        (lambda root: _folder(root, prefix="train"), r"no image is in \['val', 'test'\]"),
    ],
)
def test_a_folder_that_is_no_data_set_is_refused(tmp_path: Path, make: object, message: str) -> None:
    assert callable(make)
    make(tmp_path / "own")
    with pytest.raises(DatasetError, match=message):
        datasets.load(tmp_path / "own")


def test_a_folder_of_unreadable_files_names_the_first_reason(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / "own" / name).mkdir(parents=True)
        (tmp_path / "own" / name / "x.dcm").write_text("text")
    with pytest.raises(BadContents, match=r"None of the 2 images .* not a DICOM file"):
        datasets.load(tmp_path / "own")


# DICOM folders with a table


def _table(root: Path, header: str = "file,label,patient", *, patients: int = 10) -> Path:
    random = np.random.default_rng(0)
    rows = [header]
    for index in range(20):
        patient = f"p{index % patients}"
        name = f"images/{index}.dcm"
        label = "ill" if index % patients % 2 else "healthy"
        dicom(root / name, random.integers(0, 4000, (40, 40)).astype(np.uint16), patient=f"id-{patient}")
        rows.append({"file,label,patient": f"{name},{label},{patient}", "file;label": f"{name};{label}"}[header])
    (root / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8-sig")
    return root


@pytest.mark.parametrize("header", ["file,label,patient", "file;label"])
def test_a_table_labels_dicom_files_and_no_patient_is_in_two_splits(tmp_path: Path, header: str) -> None:
    dataset = datasets.load(_table(tmp_path / "own", header))
    assert dataset.classes == ("healthy", "ill")
    import pydicom

    patients = {
        name: {str(pydicom.dcmread(path).PatientID) for path in paths} for name, paths in dataset.sources.items()
    }
    assert all(patients.values())
    assert not patients["train"] & patients["test"]
    assert not patients["train"] & patients["val"]
    assert not patients["val"] & patients["test"]
    assert any("among 10 patients (20 images): no patient is in two splits" in note for note in dataset.notes)


def test_the_table_itself_may_be_named(tmp_path: Path) -> None:
    root = _table(tmp_path / "own")
    assert datasets.load(root / "labels.csv").digest == datasets.load(root).digest


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", BadLayout, "holds no rows"),
        ("name,label\n1,a\n", BadLayout, "no column 'file'"),
        ("file,colour\n1,a\n", BadLayout, "no column 'label'"),
        ("file,label\nimages/0.dcm,\n", BadContents, "line 2: no label"),
        ("file,label\nimages/0.dcm,a\nimages/nowhere.dcm,b\n", BadContents, "1 of the 2 files .* are missing"),
        ("file,label\n../secret.dcm,a\nimages/0.dcm,b\n", BadContents, "missing"),
        ("file,label\nimages/0.dcm,a\nimages/0.dcm,b\n", BadContents, "two labels"),
        ("file,label,split\nimages/0.dcm,a,dev\n", BadContents, "Expected train, val or test"),
        ("file,label\nimages/0.dcm,a\nimages/1.dcm,a\n", BadContents, "single class"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(
    tmp_path: Path, text: str, error: type[DatasetError], message: str
) -> None:
    root = _table(tmp_path / "own")
    dicom(tmp_path / "secret.dcm", np.zeros((40, 40), np.uint16))
    (root / "labels.csv").write_text(text)
    with pytest.raises(error, match=message):
        datasets.load(root)


def test_a_table_of_bytes_and_two_tables_are_refused(tmp_path: Path) -> None:
    root = _table(tmp_path / "own")
    (root / "labels.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadLayout, match="UTF-8"):
        datasets.load(root)
    (root / "one.csv").write_text("file,label\n")
    (root / "labels.csv").rename(root / "two.csv")
    with pytest.raises(BadLayout, match="holds 2 tables"):
        datasets.load(root)
