"""Folders of images and DICOM tables: files read, splits made, and inputs refused."""

import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from models import datasets
from models.errors import BadContents, BadLayout, DatasetError, InputError
from models.images.load import load_image, to_grey
from tests.models.kit import dicom, png, report, small_extractor, split


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
    assert "splits were made here" in note
    assert "20 of 20 images name no patient" in note


def test_same_seed_gives_the_same_splits(tmp_path: Path) -> None:
    root = _folder(tmp_path / "own")
    assert datasets.load(root, seed=1).digest == datasets.load(root, seed=1).digest
    assert datasets.load(root, seed=1).digest != datasets.load(root, seed=2).digest


def test_given_splits_are_kept(tmp_path: Path) -> None:
    for prefix, count in (("train", 12), ("validation", 6), ("test", 4)):
        _folder(tmp_path / "own", count=count, prefix=prefix)
    dataset = datasets.load(tmp_path / "own")
    assert [len(part) for _, part in dataset.splits()] == [12, 6, 4]
    assert not any("made here" in note or "taken from" in note for note in dataset.notes)


def test_mixed_sizes_become_one_and_a_note_says_so(tmp_path: Path) -> None:
    root = _folder(tmp_path / "own", count=18)
    png(root / "a" / "wide.png", np.random.default_rng(0).integers(0, 255, (40, 90), dtype=np.uint8))
    png(root / "b" / "tall.png", np.random.default_rng(1).integers(0, 255, (70, 50), dtype=np.uint8))
    dataset = datasets.load(root)
    assert dataset.size == (32, 32)
    assert any("of 3 sizes, 32 x 32 to 70 x 50 pixels" in note for note in dataset.notes)


def test_sixteen_bit_pictures_keep_their_depth(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (20, 32, 32)).astype(np.uint16)
    for index, image in enumerate(values):
        png(tmp_path / "own" / "ab"[index % 2] / f"{index}.png", image)
    dataset = datasets.load(tmp_path / "own")
    stored = {image.tobytes() for _, part in dataset.splits() for image in part.images}
    assert stored == {image.tobytes() for image in values}


def test_colour_images_keep_their_colour(tmp_path: Path) -> None:
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
        (lambda root: _folder(root, prefix="test"), "single class"),
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


def test_path_of_a_table_is_taken_as_data_set(tmp_path: Path) -> None:
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


# Files of every name, splits of every name, tables of every kind


def _patients(root: Path, **options: Any) -> Path:
    """Two classes of five patients with four images each."""
    random = np.random.default_rng(0)
    for label in "ab":
        for patient in range(5):
            for image in range(4):
                pixels = random.integers(0, 4096, (32, 32)).astype(np.uint16)
                path = dicom(root / label / f"{label}{patient}_{image}.dcm", pixels, patient=f"{label}{patient}")
                if options.get("bare"):
                    dataset = pydicom.Dataset(pydicom.dcmread(path))
                    dataset.save_as(path, implicit_vr=True, little_endian=True)
                if "name" in options:
                    path.rename(path.with_name(options["name"](label, patient, image)))
    return root


@pytest.mark.parametrize(
    "options",
    [
        {"bare": True},
        {"name": lambda label, patient, image: f"{label}{patient}_{image}.IMA"},
        {"name": lambda label, patient, image: f"{label}{patient}_{image}"},
        {"name": lambda label, patient, image: f"{label}{patient}_1.2.840.{image}.113619"},
        {"bare": True, "name": lambda label, patient, image: f"{label}{patient}_{image}.IMG"},
    ],
    ids=["no preamble", "IMA", "no suffix", "a UID", "no preamble and a foreign suffix"],
)
def test_dicom_is_found_by_content_and_no_patient_is_in_two_splits(options: dict[str, Any], tmp_path: Path) -> None:
    dataset = datasets.load(_patients(tmp_path / "d", **options))
    assert sum(len(part) for _, part in dataset.splits()) == 40
    where: dict[str, set[str]] = {}
    for part, paths in dataset.sources.items():
        for path in paths:
            where.setdefault(path.name.split("_")[0], set()).add(part)
    assert [splits for splits in where.values() if len(splits) > 1] == []
    assert any("among 10 patients" in note for note in dataset.notes)


def test_files_that_are_no_image_are_left_out_and_counted(tmp_path: Path) -> None:
    root = _folder(tmp_path / "own")
    (root / "a" / "README.txt").write_text("notes")
    (root / "b" / "Thumbs.db").write_bytes(b"x" * 200)
    (root / "__MACOSX" / "a").mkdir(parents=True)
    report(root / "a" / "report.dcm")
    dataset = datasets.load(root)
    assert any("2 file(s) that are no image were left out (1 .db, 1 .txt)" in note for note in dataset.notes)
    assert any("1 of 21 files were left out" in note and "without pixels" in note for note in dataset.notes)


@pytest.mark.parametrize("suffix", [".bmp", ".tif", ".tiff", ".jpg", ".png"])
def test_every_usual_format_is_read(suffix: str, tmp_path: Path) -> None:
    part = split(24, 3, side=32)
    for index, (image, label) in enumerate(zip(part.images, part.labels, strict=True)):
        png(tmp_path / "own" / "ab"[label] / f"{index}{suffix}", image)
    dataset = datasets.load(tmp_path / "own")
    assert sum(len(one) for _, one in dataset.splits()) == 24


@pytest.mark.parametrize(
    ("names", "dealt"),
    [(("Training", "Testing"), "validation"), (("train", "val"), "test"), (("TRAIN",), "validation and test")],
)
def test_missing_splits_are_taken_from_training(names: tuple[str, ...], dealt: str, tmp_path: Path) -> None:
    for name in names:
        _folder(tmp_path / "own", count=40 if name.lower().startswith("train") else 12, prefix=name)
    dataset = datasets.load(tmp_path / "own")
    assert all(len(part) > 0 for _, part in dataset.splits())
    assert any(f"There is no {dealt} split" in note for note in dataset.notes)
    for part, paths in dataset.sources.items():
        given = (
            {"train", "training"} if part == "train" or part in dealt or (part == "val" and "valid" in dealt) else None
        )
        assert given is None or {path.parts[-3].lower() for path in paths} <= given


def test_images_are_reduced_to_the_given_side(tmp_path: Path) -> None:
    part = split(24, 3, side=300)
    for index, (image, label) in enumerate(zip(part.images, part.labels, strict=True)):
        png(tmp_path / "own" / "ab"[label] / f"{index}.png", image)
    assert datasets.load(tmp_path / "own", side=224).size == (224, 224)
    small = datasets.load(tmp_path / "own")
    assert small.size == (64, 64)
    assert any("resized to 64 x 64" in note for note in small.notes)
    assert datasets.load(tmp_path / "own", size=320).size == (320, 320)


def test_images_that_were_resized_when_read_are_not_resized_again_for_a_network(tmp_path: Path) -> None:
    from models.importing import import_model
    from models.training.train import Recipe, train

    part = split(24, 3, side=50)
    for index, (image, label) in enumerate(zip(part.images, part.labels, strict=True)):
        png(tmp_path / "own" / "ab"[label] / f"{index}.png", image)
    network = small_extractor(size=32).content
    twice = datasets.load(tmp_path / "own", side=40)
    for refused in (
        lambda: import_model(network, twice),
        lambda: train(twice, recipe=Recipe(largest_side=32)),
    ):
        with pytest.raises(InputError, match=r"resized to 40 x 40 when they were read.*load\(\.\.\., size=32\)"):
            refused()
    datasets.load(tmp_path / "own", size=32).check_size(32)
    whole = datasets.load(tmp_path / "own")
    assert not whole.resized
    whole.check_size(32)


def test_grey_pictures_stored_in_colour_become_luminance_as_at_use(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for index in range(20):
        grey = random.integers(10, 240, (30, 30, 1))
        png(tmp_path / "own" / "ab"[index % 2] / f"{index}.png", (grey + np.arange(3)).astype(np.uint8))
    dataset = datasets.load(tmp_path / "own")
    assert dataset.channels == 1
    for image, path in zip(dataset.test.images, dataset.sources["test"], strict=True):
        np.testing.assert_allclose(image / 65535, to_grey(load_image(path)), atol=2e-5)


def test_memory_does_not_grow_with_the_images_size(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for index in range(24):
        png(tmp_path / "own" / "ab"[index % 2] / f"{index}.png", random.integers(0, 255, (1500, 1500)).astype(np.uint8))
    tracemalloc.start()
    datasets.load(tmp_path / "own", side=64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * 4 * 1500 * 1500  # a few copies of one image as float32; all of them would be 24


def _exported(root: Path, text: str) -> Path:
    for index in range(24):
        dicom(root / f"f{index}.dcm", np.random.default_rng(index).integers(0, 4096, (32, 32)).astype(np.uint16))
    (root / "labels.csv").write_text(text, encoding="utf-8")
    return root


def _rows(line: str) -> str:
    return "".join(line.format(i=i, label=["normal", "viral"][i % 2]) for i in range(24))


@pytest.mark.parametrize(
    "text",
    [
        "file,label,\n" + _rows("f{i}.dcm,{label},\n"),
        "\ufefffile;label\r\n" + _rows("f{i}.dcm;{label}\r\n"),
        "file,label\n" + _rows('f{i}.dcm,"Pneumonia, {label}"\n'),
        "file,label,note\n" + _rows('f{i}.dcm,{label},"two\nlines"\n'),
        "file,label\n\n" + _rows("f{i}.dcm,{label}\n\n"),
    ],
    ids=["a trailing comma", "a mark and semicolons", "quoted commas", "quoted line breaks", "empty lines"],
)
def test_table_exported_by_another_program_is_read(text: str, tmp_path: Path) -> None:
    dataset = datasets.load(_exported(tmp_path / "d", text))
    assert sum(len(part) for _, part in dataset.splits()) == 24


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\n" + _rows("f{i}.dcm,Pneumonia, {label}\n"), "line 2: 3 values, but the header has 2"),
        ("file,label\n" + _rows("f{i}.dcm\n"), "line 2: 1 values"),
        ("file,label,label\n" + _rows("f{i}.dcm,{label},x\n"), "several columns called 'label'"),
        ("file,label\n" + _rows('f{i}.dcm,"{label}\n'), "cannot be read as a table|1 values|3 values"),
        ("", "no rows"),
        ("file,label\n", "no rows"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused_by_its_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=message):
        datasets.load(_exported(tmp_path / "d", text))


# Names, links and rows that contradict each other


def _classes_of(root: Path, *names: str) -> tuple[str, ...]:
    part = split(20, 3, side=32)
    for index, image in enumerate(part.images):
        png(root / names[index % len(names)] / f"{index}.png", image)
    return datasets.load(root).classes


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (("10", "9"), ("9", "10")),
        (("-1", "0"), ("-1", "0")),
        (("²", "³"), ("²", "³")),  # digits to Python, but no numbers
        (("--5", "5"), ("--5", "5")),
        (("1", "01"), ("01", "1")),  # one number: the order must not depend on Python's hash seed
        (("٤", "٣"), ("٣", "٤")),
    ],
)
def test_class_names_that_look_like_numbers_are_ordered(
    names: tuple[str, str], order: tuple[str, str], tmp_path: Path
) -> None:
    assert _classes_of(tmp_path, *names) == order


@pytest.mark.parametrize("name", [" ", "two\nlines", "red\x1b[31m", "\x7f", "\u2028", os.fsdecode(b"\xff\xfe")])
def test_class_name_that_cannot_be_shown_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadContents, match="has a class called") as caught:
        _classes_of(tmp_path, "plain", name)
    assert str(caught.value).isascii()


def test_class_name_with_brackets_accents_and_joiners_is_kept(tmp_path: Path) -> None:
    names = ("[red]", "Pneumonie à vírus", "می\u200cشود")
    assert set(_classes_of(tmp_path, *names)) == set(names)


def test_folder_beside_train_and_test_is_refused_as_a_class(tmp_path: Path) -> None:
    for prefix in ("train", "test"):
        _folder(tmp_path, prefix=prefix)
    png(tmp_path / "docs" / "figure.png", np.zeros((32, 32), np.uint8))
    with pytest.raises(BadLayout, match="docs beside them"):
        datasets.load(tmp_path)


def test_links_pipes_and_names_that_are_not_entered_are_counted(tmp_path: Path) -> None:
    root, elsewhere = _folder(tmp_path / "own"), _folder(tmp_path / "elsewhere")
    (root / "a" / "more").symlink_to(elsewhere, target_is_directory=True)
    (root / "a" / "loop").symlink_to(root, target_is_directory=True)
    (root / "a" / "lost.png").symlink_to("nowhere.png")
    os.mkfifo(root / "b" / "pipe.png")
    dataset = datasets.load(root)
    assert sum(len(part) for _, part in dataset.splits()) == 20
    note = " ".join(dataset.notes)
    assert "4 file(s) that are no image were left out (3 link to a folder or to nothing, 1 pipe" in note


@pytest.mark.parametrize("name", ["x" * 300, "x" * 5000, "x" * 300 + ".csv"])
def test_data_set_with_a_very_long_name_is_missing(name: str) -> None:
    with pytest.raises(DatasetError, match="There is no data set"):
        datasets.load(name)


@pytest.mark.parametrize(
    ("header", "row", "error", "message"),
    [
        ("file,label,split", "0.png,a,test", BadContents, "line 22: 0.png bears two splits, 'train' and 'test'"),
        ("file,label,patient", "0.png,a,p9", BadContents, "line 22: 0.png bears two patients, 'train' and 'p9'"),
        ("file,label,Label", "0.png,a,train", BadLayout, "'label' and 'Label', which mean the same"),
        ("file,label,split", "x" * 5000 + ",a,train", BadContents, "1 of the 21 files"),
    ],
)
def test_rows_that_contradict_each_other_are_refused(
    header: str, row: str, error: type[DatasetError], message: str, tmp_path: Path
) -> None:
    for index, image in enumerate(split(20, 3, side=32).images):
        png(tmp_path / f"{index}.png", image)
    rows = [f"{index}.png,{'ab'[index % 2]},train" for index in range(20)]
    (tmp_path / "labels.csv").write_text("\n".join([header, *rows, row]))
    with pytest.raises(error, match=message):
        datasets.load(tmp_path)
