"""A real Orthanc on loopback (Debian's packages `orthanc` and `orthanc-dicomweb`) that can be killed and restarted.

The tests that use it run in a network namespace of their own, see `test_archive_scenes.py`.
"""

import json
import signal
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from tests.cipher.dicom.orthanc_scene import PLUGIN, Archive, find_orthanc

CT = "1.2.840.10008.5.1.4.1.1.2"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


class Orthanc:
    def __init__(self, folder: Path, *, stable_age: int = 1, explorer: bool = False) -> None:
        self.folder, self.port, self.dicom_port = folder, free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.settings = {
            "Name": "he_infer test", "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"), "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
            "HttpPort": self.port, "DicomServerEnabled": False, "WebDavEnabled": False,
            "OrthancExplorerEnabled": explorer, "StableAge": stable_age, "Plugins": [str(PLUGIN)],
        }  # fmt: skip

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/dicom-web"

    @property
    def rest(self) -> Archive:
        return Archive(f"http://127.0.0.1:{self.port}")

    def start(self) -> Self:
        self.folder.mkdir(exist_ok=True, parents=True)
        (self.folder / "orthanc.json").write_text(json.dumps(self.settings))
        program = find_orthanc()
        assert program is not None
        with (self.folder / "orthanc.log").open("ab") as log:
            self._process = subprocess.Popen([program, str(self.folder / "orthanc.json")], stdout=log, stderr=log)
        self.rest.wait(self._process)
        return self

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(60)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def send(self, *datasets: Dataset) -> None:
        for dataset in datasets:
            self.rest.post("/instances", file_bytes(dataset), "application/dicom")

    def instances(self, modality: str) -> list[Dataset]:
        """Read all objects of a modality."""
        query = {"Level": "Instance", "Query": {"Modality": modality}}
        found = json.loads(self.rest.post("/tools/find", json.dumps(query).encode(), "application/json"))
        return [
            pydicom.dcmread(pydicom.filebase.DicomBytesIO(self.rest.get(f"/instances/{number}/file", "*/*")))
            for number in found
        ]


def file_bytes(dataset: Dataset) -> bytes:
    from he_infer.client.pacs.reports.structured import to_bytes

    return to_bytes(dataset)


def make_image(
    study: str, series: str, *, brightness: int = 100, sop: str = "", modality: str = "CT", body_part: str = "CHEST"
) -> Dataset:
    """Make a small CT slice with a mean value of about `brightness`."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CT
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = sop or generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
    dataset.PatientID, dataset.PatientName, dataset.PatientBirthDate, dataset.PatientSex = "P1", "Doe^Jane", "", ""
    dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber, dataset.StudyID = "20260101", "120000", "A1", "1"
    dataset.ReferringPhysicianName = ""
    dataset.Modality, dataset.BodyPartExamined = modality, body_part
    dataset.SeriesNumber = dataset.InstanceNumber = 1
    dataset.Rows = dataset.Columns = 16
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelData = np.full((16, 16), brightness, dtype="<u2").tobytes()
    return dataset
