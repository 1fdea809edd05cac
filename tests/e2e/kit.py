"""Small image sets in every input form, and a function that runs commands as a user does."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

WORDS = "correct horse battery staple"


def run(*arguments: object, status: int = 0, program: str = "he_infer", cwd: Path | None = None, **env: str) -> str:
    """Run a command. Returns its standard output, or its one error line if a status other than 0 is expected."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HE_INFER_")}
    main = (
        "from experiments.cli import main; main()"
        if program == "experiments"
        else "from he_infer.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", main, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        stdin=subprocess.DEVNULL,
        cwd=cwd,
        env={**clean, "OMP_NUM_THREADS": "1", **env},
    )
    assert done.returncode == status, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    if status in (0, 3):
        return done.stdout
    (line,) = done.stderr.strip().splitlines()
    return line


def images(label: int, count: int, seed: int, *, side: int = 28) -> NDArray[np.uint8]:
    """Make (count, side, side) discs, bars or rings with noise, which even a small network can classify."""
    random = np.random.default_rng(1000 * seed + label)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    made = []
    for _ in range(count):
        dy, dx = random.uniform(-3, 3, 2)
        radius = np.hypot(y - dy, x - dx)
        shape = [radius < side / 4, np.abs(x - dx) < side / 10, np.abs(radius - side / 3) < 2][label]
        made.append(np.clip(200.0 * shape + random.normal(30, 15, (side, side)), 0, 255))
    return np.array(made).astype(np.uint8)


def write_npz(path: Path, *, classes: int = 3, colour: bool = False) -> Path:
    """Write a data set in MedMNIST's layout."""
    arrays: dict[str, NDArray[np.uint8]] = {}
    for seed, (split, count) in enumerate((("train", 40), ("val", 12), ("test", 8))):
        pixels = np.concatenate([images(label, count, seed) for label in range(classes)])
        arrays[f"{split}_images"] = np.stack([pixels, pixels // 2, 255 - pixels], axis=-1) if colour else pixels
        arrays[f"{split}_labels"] = np.repeat(np.arange(classes, dtype=np.uint8), count)[:, None]
    np.savez(path, **arrays)
    return path


def write_folder(folder: Path, *, count: int = 60) -> Path:
    """Write PNG files, a subfolder for each class."""
    for label, name in enumerate(("disc", "bar")):
        below = folder / name
        below.mkdir(parents=True)
        for index, pixels in enumerate(images(label, count, 5)):
            Image.fromarray(pixels).save(below / f"{index:03d}.png")
    return folder


def write_dicom(path: Path, pixels: NDArray[np.uint8], patient: str) -> Path:
    """Write a CT slice of 16 bits."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.PatientID = dataset.PatientName = patient
    dataset.Modality = "CT"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelData = (pixels.astype("<u2") * 16).tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_dicom_table(folder: Path, *, patients: int = 30) -> Path:
    """Write DICOM files of two classes, two for each patient, and a table of labels and patients."""
    folder.mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "label", "patient"])
        for label, name in enumerate(("disc", "bar")):
            for index, pixels in enumerate(images(label, 2 * patients, 9)):
                patient = f"Case-{label}{index // 2:03d}"
                path = write_dicom(folder / f"{name}{index:03d}.dcm", pixels, patient)
                table.writerow([path.name, name, patient])
    return folder
