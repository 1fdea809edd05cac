"""The modality set: real DICOM images of installed packages, and no patient in both training and test."""

from collections import Counter

import numpy as np
import pydicom

from models.datasets import Dataset
from models.datasets.modality import SIZE
from models.datasets.patches import Box, fields, split_box
from models.images import dicom


def test_training_and_test_patients_are_disjoint(modality: Dataset) -> None:
    def identities(split: str) -> set[str]:
        found = set()
        for path in set(modality.sources[split]):
            with dicom.quiet():
                header = pydicom.dcmread(path, stop_before_pixels=True)
                found |= {str(header.get("StudyInstanceUID") or path), f"patient {header.get('PatientID') or path}"}
        return found

    assert not identities("train") & identities("test")
    assert set(modality.sources["val"]) <= set(modality.sources["train"])


def test_no_picture_is_in_two_splits(modality: Dataset) -> None:
    digests = [set(part.digests()) for _, part in modality.splits()]
    assert not digests[0] & digests[1]
    assert not digests[0] & digests[2]
    assert not digests[1] & digests[2]


def test_every_patch_names_its_picture_and_patient_and_none_is_on_both_sides(modality: Dataset) -> None:
    for groups in (modality.pictures, modality.people):
        assert all(len(groups[name]) == len(part) for name, part in modality.splits())
        assert not set(groups["train"].tolist()) & set(groups["test"].tolist())
    patients = sum(counts["test"] for counts in modality.patients.values())
    assert len(set(modality.people["test"].tolist())) == patients
    assert len(set(modality.pictures["test"].tolist())) > patients


def test_each_class_has_patients_on_both_sides_and_the_notes_say_how_few(modality: Dataset) -> None:
    assert modality.classes == ("CT", "MR", "ultrasound", "radiograph")
    for kind, counts in modality.patients.items():
        assert counts["train"] >= 1, kind
        assert counts["test"] >= 1, kind
    total = sum(sum(counts.values()) for counts in modality.patients.values())
    text = " ".join(modality.notes)
    assert f"{total} in all, none in both" in text
    assert "does not say how well modalities are told apart in a hospital" in text
    for _, part in modality.splits():
        assert set(Counter(part.labels.tolist())) == {0, 1, 2, 3}


def test_images_are_of_one_size_and_reading_them_again_gives_the_same(modality: Dataset) -> None:
    assert modality.size == (SIZE, SIZE)
    assert modality.train.images.dtype == np.uint16


def test_fields_cover_a_region_to_its_edges_and_leave_out_empty_ones() -> None:
    image = np.random.default_rng(0).random((100, 160)).astype(np.float32)
    found = fields(image, Box(0, 0, 100, 160), sides=[50, 100, 200], size=32)
    # 50: 3 rows x 5 columns (round(2 * 110 / 50) + 1 = 5); 100: 1 x 2; 200 does not fit.
    assert len(found) == 3 * 5 + 1 * 2
    assert all(one.shape == (32, 32) and one.dtype == np.uint16 for one in found)
    assert fields(np.zeros((100, 160), np.float32), Box(0, 0, 100, 160), sides=[50], size=32) == []


def test_a_region_is_split_across_its_longer_side() -> None:
    first, last = split_box(Box(0, 0, 40, 100), 0.3)
    assert (first, last) == (Box(0, 0, 40, 70), Box(0, 70, 40, 100))
    first, last = split_box(Box(10, 0, 110, 50), 0.3)
    assert (first.bottom, last.top) == (80, 80)
