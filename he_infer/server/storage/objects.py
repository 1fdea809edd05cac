"""Sealed objects, independent of HTTP. The server sees ids, sizes and digests; the content is the client's.

An object is created under an id of the client's choosing (32 random hex digits) and visible to its own client alone. It
is never overwritten: each change is a new version, numbered from 1, and the older ones stay readable.
"""

import re
import secrets
import time
from collections.abc import Iterator

from he_infer.server.evidence.audit_log import AuditLog
from he_infer.server.metadata import Caller, Metadata, ObjectRecord
from he_infer.server.storage.blobs import Blobs
from he_infer.server.storage.spool import Incoming, Spool
from he_infer.server.turns import end_turn
from he_infer.wire.bodies import ObjectInfo, ObjectList, VersionList
from he_infer.wire.refusals import Code, Refused

_OBJECT_ID = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class ObjectStore:
    """Puts, gets, lists and deletes sealed objects.

    Args:
        spool: folder of the bodies that are being received.
        max_object: largest object in bytes.
    """

    def __init__(self, metadata: Metadata, blobs: Blobs, audit: AuditLog, spool: Spool, max_object: int) -> None:
        self._metadata = metadata
        self._blobs = blobs
        self._audit = audit
        self._spool = spool
        self._max_object = max_object

    def expect(self, caller: Caller, object_id: str, size: int, version: int = 1) -> Incoming:
        """Check that this version of an object, of this announced size, will be accepted; open a place for its body.

        Raises:
            Refused: `invalid`, `too_large`, `exists`, `version_gap`, `quota`, `storage`.
        """
        _check_id(object_id)
        if size > self._max_object:
            raise Refused(Code.TOO_LARGE, f"An object may have at most {self._max_object} bytes; {size} are announced.")
        room = self._metadata.objects.check_room(caller, object_id, size, version)
        return self._spool.open(caller.client_id, limit=size, room=room)

    def put(
        self, caller: Caller, request_id: str, object_id: str, incoming: Incoming, sha256: str, version: int = 1
    ) -> ObjectInfo:
        """Store a body that has arrived, as a version that does not exist yet.

        `sha256` is the body's SHA-256 as the client states it.

        Returns:
            What is stored; the version survives the server's end from here on.

        Raises:
            Refused: `invalid`, `digest_mismatch`, `exists`, `version_gap`, `quota`, `storage`.
        """
        with self._audit.watching(
            "object.put", caller.client_id, request_id, object=object_id, version=version, bytes=incoming.size
        ) as details:
            if not _SHA256.fullmatch(sha256):
                raise Refused(Code.INVALID, "The header X-Content-SHA256 must be the body's SHA-256 in lower-case hex.")
            found = incoming.finish()
            if found != sha256:
                raise Refused(Code.DIGEST_MISMATCH, "The body's SHA-256 is not the announced one; send it again.")
            details["sha256"] = found
            end_turn()
            blob = f"objects/{caller.client_id}/{secrets.token_hex(16)}"
            self._blobs.put_new(blob, incoming.path)
            record = ObjectRecord(object_id, blob, incoming.size, found, time.time(), version)
            try:
                self._metadata.objects.add(caller, record)
            except Refused as refused:
                # Where the database is lost in the middle of a commit, the row may be there: then the blob must be too.
                # If it is not, the blob is an orphan, which housekeeping removes.
                if refused.code is not Code.STORAGE:
                    self._blobs.delete(blob)
                raise
            return _public(record)

    def find(self, caller: Caller, object_id: str, version: int | None = None) -> ObjectRecord:
        """Find a version of the client's object; without `version`, the newest one.

        Raises:
            Refused: `not_found`, also for another client's object.
        """
        known = _OBJECT_ID.fullmatch(object_id) is not None
        record = self._metadata.objects.find(caller.client_id, object_id, version) if known else None
        if record is None:
            raise _not_found()
        return record

    def versions(self, caller: Caller, object_id: str) -> VersionList:
        """All versions of an object that there are, oldest first.

        Raises:
            Refused: `not_found`, also for another client's object.
        """
        records = self._metadata.objects.list_versions(caller.client_id, object_id)
        if not records:
            raise _not_found()
        return VersionList(versions=tuple(_public(record) for record in records))

    def read(self, caller: Caller, request_id: str, record: ObjectRecord, start: int, end: int) -> Iterator[bytes]:
        """Bytes `start` to `end` (exclusive) of an object, in pieces.

        Raises:
            Refused: `not_found` where it was deleted since, `damaged`, `storage`.
        """
        with self._audit.watching(
            "object.get",
            caller.client_id,
            request_id,
            object=record.object_id,
            version=record.version,
            start=start,
            end=end,
        ):
            try:
                return self._blobs.stream(record.blob, start, end)
            except Refused as refused:
                gone = refused.code is Code.DAMAGED and self._metadata.blobs.unnamed([record.blob])
                raise (_not_found() if gone else refused) from None  # its client deleted it since it was found

    def page(self, caller: Caller, after: str, limit: int) -> ObjectList:
        """Return a page of the client's objects in the order of their ids.

        Raises:
            Refused: `invalid`.
        """
        if after:
            _check_id(after)
        records = self._metadata.objects.list_page(caller.client_id, after, limit + 1)
        page = records[:limit]
        following = page[-1].object_id if len(records) > limit else None
        return ObjectList(objects=tuple(_public(record) for record in page), next=following)

    def delete(self, caller: Caller, request_id: str, object_id: str) -> None:
        """Remove an object with all its versions.

        Raises:
            Refused: `not_found`, `storage`.
        """
        with self._audit.watching("object.delete", caller.client_id, request_id, object=object_id):
            blobs = self._metadata.objects.delete(caller.client_id, object_id)
            if not blobs:
                raise _not_found()
            for blob in blobs:
                self._blobs.delete(blob)

    def delete_version(self, caller: Caller, request_id: str, object_id: str, version: int) -> None:
        """Remove one version that is not the newest.

        Raises:
            Refused: `not_found`, `invalid` for the newest version, `storage`.
        """
        with self._audit.watching("object.delete", caller.client_id, request_id, object=object_id, version=version):
            blob = self._metadata.objects.delete_version(caller.client_id, object_id, version)
            if blob is None:
                raise _not_found()
            self._blobs.delete(blob)


def _check_id(object_id: str) -> None:
    if not _OBJECT_ID.fullmatch(object_id):
        raise Refused(Code.INVALID, "An object's id must be 32 lower-case hex digits, chosen at random by the client.")


def _not_found() -> Refused:
    return Refused(Code.NOT_FOUND, "There is no such object.")


def _public(record: ObjectRecord) -> ObjectInfo:
    return ObjectInfo(
        id=record.object_id,
        version=record.version,
        size=record.size,
        sha256=record.sha256,
        created=record.created,
    )
