"""An archive over DICOMweb (PS3.18): studies and images found by QIDO, fetched by WADO, reports stored by STOW.

Everything an archive answers is checked before it is used: an image must be the one that was asked for.
"""

import re
import secrets
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import pydicom
import requests
from dicomweb_client.web import DICOMwebClient
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import UID

from he_infer.client.pacs.archive.bounded_http import explain, open_session
from he_infer.client.pacs.entries import ImageEntry, StudyEntry
from he_infer.errors import ArchiveError, ArchiveRefused
from he_infer.files import PRIVATE, write_bytes

_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_CONFLICT = 409
_PAGE = 200
_MOST_ENTRIES = 100_000
_DUPLICATE = 0x0111
"""Failure Reason of an archive that refuses what it already holds: for a report that is derived, this is success."""
_LONGEST_UID = 64


class Archive:
    """One DICOMweb service.

    Args:
        url: the service's root, such as `https://pacs.example/dicom-web`.
        session: from `open_session`; made by default.
        options: passed to `open_session`.
    """

    def __init__(self, url: str, session: requests.Session | None = None, **options: Any) -> None:
        self.url = url.rstrip("/")
        self._session = session or open_session(self.url, **options)
        self._web = DICOMwebClient(self.url, session=self._session)
        self._web.set_http_retry_params(retry=False)  # the watcher has its own back-off, which knows of more than HTTP

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def get_json(self, url: str) -> Any:
        """A resource of the archive that is not DICOMweb's, as JSON.

        Raises:
            ArchiveUnreachable, ArchiveRefused: it cannot be had.
        """
        with _explained(f"Reading {url}"):
            answer = self._session.get(url, headers={"Accept": "application/json"})
            answer.raise_for_status()
            return answer.json()

    def studies(self, filters: Mapping[str, str] | None = None) -> list[StudyEntry]:
        """All studies that match query attributes by keyword, such as `{"StudyDate": "20260101-"}`.

        Raises:
            ArchiveUnreachable, ArchiveRefused: they cannot be had.
        """
        with _explained("Searching for studies"):
            found: dict[str, StudyEntry] = {}
            for entry in self._pages(self._web.search_for_studies, ["NumberOfStudyRelatedInstances"], filters or {}):
                study = _uid(entry, "StudyInstanceUID")
                found[study] = StudyEntry(study, _number(entry, "NumberOfStudyRelatedInstances"))
            return list(found.values())

    def count_images(self, study: str) -> int:
        """How many objects the archive holds of a study; 0 where it does not hold the study.

        Raises:
            ArchiveUnreachable, ArchiveRefused: it does not say.
        """
        return sum(entry.instances for entry in self.studies({"StudyInstanceUID": study}) if entry.study == study)

    def images(self, study: str) -> list[ImageEntry]:
        """All images and other objects of a study.

        Raises:
            ArchiveUnreachable, ArchiveRefused: they cannot be had, or are of another study.
        """
        with _explained(f"Searching for the images of study {study}"):
            found: dict[str, ImageEntry] = {}
            fields = ["Modality", "BodyPartExamined", "SeriesDescription", "StudyDescription"]
            for series in self._pages(self._web.search_for_series, fields, {}, study):
                number = _uid(series, "SeriesInstanceUID")
                modality, body_part = _text(series, "Modality"), _text(series, "BodyPartExamined")
                words = f"{_text(series, 'StudyDescription')} {_text(series, 'SeriesDescription')}".strip()
                for entry in self._pages(self._web.search_for_instances, [], {}, study, number):
                    sop = _uid(entry, "SOPInstanceUID")
                    found[sop] = ImageEntry(study, number, sop, modality, body_part, words)
            return list(found.values())

    def fetch(self, image: ImageEntry, path: Path) -> Path:
        """Fetch one image into a file, byte for byte as the archive gives it.

        Raises:
            ArchiveUnreachable, ArchiveRefused: it cannot be had, or another image came.
            OSError: the file cannot be written.
        """
        with _explained(f"Fetching image {image.sop}"):
            answer = self._session.get(
                f"{self.url}/studies/{image.study}/series/{image.series}/instances/{image.sop}",
                headers={"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'},
            )
            answer.raise_for_status()
            data = split_only_part(answer.content, answer.headers.get("Content-Type", ""))
            dataset = pydicom.dcmread(BytesIO(data), stop_before_pixels=True, specific_tags=list(_UIDS))
            got = tuple(str(dataset.get(name, "")) for name in _UIDS)
        if got != (image.study, image.series, image.sop):
            raise ArchiveRefused(
                f"Fetching image {image.sop}: the archive sent another image than was asked for. It was not used."
            )
        write_bytes(path, data, mode=PRIVATE)
        return path

    def store_file(self, path: Path) -> None:
        """Store one DICOM file byte for byte; raises as `store` does.

        Raises:
            OSError: the file cannot be read.
        """
        data = path.read_bytes()
        boundary = secrets.token_hex(16)
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        with _explained("Storing in the archive"):
            answer = self._session.post(
                f"{self.url}/studies",
                data=head + data + f"\r\n--{boundary}--\r\n".encode(),
                headers={
                    "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
                    "Accept": "application/dicom+json",
                },
            )
            if answer.status_code != _CONFLICT:  # whose body says which objects were refused, and why
                answer.raise_for_status()
            said = Dataset.from_json(answer.json())
        _check_stored(said, 1)

    def store(self, datasets: Sequence[Dataset]) -> None:
        """Store objects; one that the archive holds already counts as stored.

        Raises:
            ArchiveUnreachable, ArchiveRefused: not all were stored.
        """
        for dataset in datasets:
            # dicomweb-client writes an object without a preamble as none, and an archive keeps that as it came.
            if not getattr(dataset, "preamble", None):
                dataset.preamble = bytes(128)
        with _explained("Storing in the archive"):
            answer = self._web.store_instances(datasets)
        _check_stored(answer, len(datasets))

    def _pages(
        self, search: Any, fields: Sequence[str], filters: Mapping[str, str], *within: str
    ) -> Iterator[Mapping[str, Any]]:
        """All results of a search, page by page, until a page brings nothing new."""
        seen: set[str] = set()
        while len(seen) < _MOST_ENTRIES:
            page = search(
                *within, search_filters=dict(filters), fields=list(fields) or None, limit=_PAGE, offset=len(seen)
            )
            fresh = [entry for entry in page if str(entry) not in seen]
            yield from fresh
            seen.update(map(str, fresh))
            if len(page) < _PAGE or not fresh:
                return
        raise ArchiveRefused(f"The search finds more than {_MOST_ENTRIES} entries. Narrow it, for instance by --since.")


def split_only_part(body: bytes, content_type: str) -> bytes:
    """The one part of a multipart answer; the body itself where an archive sends it bare.

    Raises:
        ArchiveRefused: it is neither DICOM nor such a multipart message.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/dicom":
        return body
    found = re.search(r'boundary="?([^";,]+)"?', content_type)
    if kind != "multipart/related" or found is None:
        raise ArchiveRefused(f"The archive answered with {kind or 'nothing'}; expected DICOM, as DICOMweb prescribes.")
    mark = b"--" + found[1].strip().encode()
    start, end = body.find(mark), body.rfind(b"\r\n" + mark)
    head = body.find(b"\r\n\r\n", start)
    if start < 0 or head < 0 or end < head + 4:
        raise ArchiveRefused("The archive's multipart answer is cut off or damaged.")
    return body[head + 4 : end]


def _check_stored(said: Dataset, count: int) -> None:
    """Refuse an answer that does not confirm all objects; one that is held already counts as stored."""
    reasons = [int(item.get("FailureReason", 0)) for item in said.get("FailedSOPSequence", [])]
    failed = {reason for reason in reasons if reason != _DUPLICATE}
    if failed or len(said.get("ReferencedSOPSequence", [])) + len(reasons) < count:
        reason = ", ".join(f"{each:04X}h" for each in sorted(failed)) or "it confirms fewer"
        raise ArchiveRefused(f"The archive did not store all of {count} objects (reason: {reason}).")


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            # The archive's breaches of the standard that are harmless are no matter of the user's.
            warnings.simplefilter("ignore")
            yield
    except ArchiveError:
        raise
    except Exception as error:
        raise explain(error, what) from error


def _element(entry: Mapping[str, Any], keyword: str) -> str:
    values = entry.get(f"{tag_for_keyword(keyword):08X}", {}).get("Value", [])
    return str(values[0]) if values and isinstance(values[0], str | int | float) else ""


def _text(entry: Mapping[str, Any], keyword: str) -> str:
    return _element(entry, keyword)[:_LONGEST_UID]


def _number(entry: Mapping[str, Any], keyword: str) -> int:
    text = _element(entry, keyword)
    return int(text) if text.isdecimal() else 0


def _uid(entry: Mapping[str, Any], keyword: str) -> str:
    text = _element(entry, keyword)
    if not (UID(text).is_valid and len(text) <= _LONGEST_UID):
        raise ArchiveRefused(f"The archive's answer lacks a valid {keyword}.")
    return text
