"""A sealed DICOM object goes through a real archive: stored by DICOMweb, found, fetched in three ways.

    python -m tests.cipher.dicom.orthanc_scene SEALED.dcm FOLDER

Starts Orthanc (Debian's packages `orthanc` and `orthanc-dicomweb`) with its data in FOLDER, on a free port, with remote
access off and no DICOM listener; writes what it gives back into FOLDER and says as JSON what it found. Best run in a
network namespace of its own (`unshare --net --map-root-user`), where there is nothing to listen to: it brings the
loopback interface up itself.
"""

import fcntl
import json
import re
import secrets
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import pydicom

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
_STARTS_WITHIN = 60
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


def find_orthanc() -> str | None:
    """The program, if it is installed with its DICOMweb plugin."""
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
    return program if program and PLUGIN.exists() else None


def main(sealed: Path, folder: Path) -> int:
    bring_loopback_up()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "Name": "he_infer test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "HttpPort": port,
        "DicomServerEnabled": False,
        "WebDavEnabled": False,
        "OrthancExplorerEnabled": False,
        "Plugins": [str(PLUGIN)],
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    program = find_orthanc()
    assert program is not None
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log)
        try:
            archive = Archive(f"http://127.0.0.1:{port}")
            archive.wait(process)
            print(json.dumps(run(archive, sealed, folder)))
        finally:
            process.terminate()
            process.wait(30)
    return 0


class Archive:
    """Requests to one Orthanc."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def wait(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + _STARTS_WITHIN
        while time.monotonic() < until:
            assert process.poll() is None, "Orthanc stopped; see orthanc.log"
            with suppress(urllib.error.URLError, ConnectionError):
                self.get("/system")
                return
            time.sleep(0.1)
        raise TimeoutError("Orthanc does not answer")

    def get(self, path: str, accept: str = "application/json") -> bytes:
        return self._ask(urllib.request.Request(self._base + path, headers={"Accept": accept}))

    def post(self, path: str, body: bytes, content_type: str) -> bytes:
        headers = {"Content-Type": content_type, "Accept": "application/dicom+json"}
        return self._ask(urllib.request.Request(self._base + path, data=body, headers=headers))

    def _ask(self, request: urllib.request.Request) -> bytes:
        with self._opener.open(request, timeout=60) as answer:
            body: bytes = answer.read()
        return body


def run(archive: Archive, sealed: Path, folder: Path) -> dict[str, Any]:
    data = sealed.read_bytes()
    boundary = secrets.token_hex(16)
    body = (
        f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + data + f"\r\n--{boundary}--\r\n".encode()
    )
    stored = json.loads(
        archive.post("/dicom-web/studies", body, f'multipart/related; type="application/dicom"; boundary={boundary}')
    )
    dataset = pydicom.dcmread(sealed, stop_before_pixels=True)
    study, series, instance = dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID

    by_study = json.loads(archive.get(f"/dicom-web/studies?StudyInstanceUID={study}"))
    by_patient = json.loads(archive.get(f"/dicom-web/instances?PatientID={dataset.PatientID}"))
    wado = archive.get(
        f"/dicom-web/studies/{study}/series/{series}/instances/{instance}",
        'multipart/related; type="application/dicom"; transfer-syntax=*',
    )
    (folder / "wado.dcm").write_bytes(only_part(wado))
    (number,) = json.loads(archive.get("/instances"))
    (folder / "rest.dcm").write_bytes(archive.get(f"/instances/{number}/file", "application/dicom"))
    preview = archive.get(f"/instances/{number}/preview", "image/png")
    (folder / "preview.png").write_bytes(preview)
    return {
        "version": json.loads(archive.get("/system"))["Version"],
        "stored": len(stored["00081199"]["Value"]),
        "failed": len(stored.get("00081198", {}).get("Value", [])),
        "studies_found": len(by_study),
        "instances_of_patient_found": len(by_patient),
        "preview_is_png": preview[:8] == b"\x89PNG\r\n\x1a\n",
    }


def only_part(multipart: bytes) -> bytes:
    """The body of a multipart answer that has one part."""
    boundary = re.match(rb"\s*(--[^\r\n]+)\r\n", multipart)
    assert boundary is not None
    head_end = multipart.index(b"\r\n\r\n") + 4
    return multipart[head_end : multipart.rindex(b"\r\n" + boundary[1])]


def bring_loopback_up() -> None:
    """In a fresh network namespace the loopback interface is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        answer = fcntl.ioctl(handle, _SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
        flags = struct.unpack("16sH14x", answer)[1]
        if not flags & _IFF_UP:
            fcntl.ioctl(handle, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
