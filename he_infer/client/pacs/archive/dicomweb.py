"""An archive over DICOMweb (PS3.18): studies and images found by QIDO, fetched by WADO, reports stored by STOW.

Every answer of an archive is checked before it is used: an image must have the requested UID.
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
"""Failure Reason for an object that the archive already holds. It counts as success, since report UIDs are derived."""
_LONGEST_UID = 64


class Archive:
    """The DICOMweb service of an archive.

    Args:
        url: the service's root, such as `https://pacs.example/dicom-web`.
        session: from `open_session`; opened with `options` by default.
        options: passed to `open_session`.
    """

    def __init__(self, url: str, session: requests.Session | None = None, **options: Any) -> None:
        self.url = url.rstrip("/")
        self._session = session or open_session(self.url, **options)
        self._web = DICOMwebClient(self.url, session=self._session)
        self._web.set_http_retry_params(retry=False)  # the watcher has its own back-off, also for other failures

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._session.close()

    def get_json(self, url: str) -> Any:
        """Read a resource outside of DICOMweb as JSON.

        Raises:
            ArchiveUnreachable, ArchiveRefused: the resource cannot be read.
        """
        with _translate_errors(f"Reading {url}"):
            answer = self._session.get(url, headers={"Accept": "application/json"})
            answer.raise_for_status()
            return answer.json()

    def studies(self, filters: Mapping[str, str] | None = None) -> list[StudyEntry]:
        """Find all studies that match query attributes, given by keyword, such as `{"StudyDate": "20260101-"}`.

        Raises:
            ArchiveUnreachable, ArchiveRefused: the search failed.
        """
        with _translate_errors("Searching for studies"):
            found: dict[str, StudyEntry] = {}
            for entry in self._pages(self._web.search_for_studies, ["NumberOfStudyRelatedInstances"], filters or {}):
                study = _uid(entry, "StudyInstanceUID")
                found[study] = StudyEntry(study, _number(entry, "NumberOfStudyRelatedInstances"))
            return list(found.values())

    def count_images(self, study: str) -> int:
        """Number of objects of a study in the archive; 0 if the archive does not hold the study.

        Raises:
            ArchiveUnreachable, ArchiveRefused: the archive does not state the number.
        """
        return sum(entry.instances for entry in self.studies({"StudyInstanceUID": study}) if entry.study == study)

    def images(self, study: str) -> list[ImageEntry]:
        """List all images and other objects of a study.

        Raises:
            ArchiveUnreachable, ArchiveRefused: the search failed, or its results belong to another study.
        """
        with _translate_errors(f"Searching for the images of study {study}"):
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
        """Fetch one image into a file, without changing a byte.

        Raises:
            ArchiveUnreachable, ArchiveRefused: fetching failed, or the archive sent another image.
            OSError: the file cannot be written.
        """
        with _translate_errors(f"Fetching image {image.sop}"):
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
        """Store one DICOM file without changing a byte. Raises as `store` does.

        Raises:
            OSError: the file cannot be read.
        """
        data = path.read_bytes()
        boundary = secrets.token_hex(16)
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        with _translate_errors("Storing in the archive"):
            answer = self._session.post(
                f"{self.url}/studies",
                data=head + data + f"\r\n--{boundary}--\r\n".encode(),
                headers={
                    "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
                    "Accept": "application/dicom+json",
                },
            )
            if answer.status_code != _CONFLICT:  # the answer's body says which objects were refused, and why
                answer.raise_for_status()
            said = Dataset.from_json(answer.json())
        _check_stored(said, 1)

    def store(self, datasets: Sequence[Dataset]) -> None:
        """Store objects. An object that the archive already holds counts as stored.

        Raises:
            ArchiveUnreachable, ArchiveRefused: not all were stored.
        """
        for dataset in datasets:
            # dicomweb-client writes an object that has no preamble without one, and archives store it like that.
            if not getattr(dataset, "preamble", None):
                dataset.preamble = bytes(128)
        with _translate_errors("Storing in the archive"):
            answer = self._web.store_instances(datasets)
        _check_stored(answer, len(datasets))

    def _pages(
        self, search: Any, fields: Sequence[str], filters: Mapping[str, str], *within: str
    ) -> Iterator[Mapping[str, Any]]:
        """Read all results of a search page by page, until a page holds nothing new."""
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
    """Get the only part of a multipart answer, or the body of an answer that is not multipart.

    Raises:
        ArchiveRefused: the answer is neither DICOM nor a multipart message with one part.
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
    """Refuse an answer that does not confirm all objects. An object that is already held counts as stored."""
    reasons = [int(item.get("FailureReason", 0)) for item in said.get("FailedSOPSequence", [])]
    failed = {reason for reason in reasons if reason != _DUPLICATE}
    if failed or len(said.get("ReferencedSOPSequence", [])) + len(reasons) < count:
        reason = ", ".join(f"{each:04X}h" for each in sorted(failed)) or "it confirms fewer"
        raise ArchiveRefused(f"The archive did not store all of {count} objects (reason: {reason}).")


@contextmanager
def _translate_errors(what: str) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            # Harmless breaches of the standard by the archive need no warning to the user.
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
