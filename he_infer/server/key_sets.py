"""Clients' evaluation keys: tried in a process of their own, stored, listed, read for a worker, and forgotten."""

import hashlib
import secrets
import time
from collections.abc import Mapping

from he_infer.server.authentication import check_again
from he_infer.server.evidence.audit_log import AuditLog
from he_infer.server.message import Message, Request
from he_infer.server.metadata import Caller, KeyPart, KeyRecord, Metadata
from he_infer.server.offer import Offer
from he_infer.server.storage.blobs import Blobs
from he_infer.server.turns import end_turn
from he_infer.server.workers.pool import Crashed, WorkerPool
from he_infer.wire import envelope as wire
from he_infer.wire.bodies import KeysInfo, KeysList, KeysStored, PlanInfo
from he_infer.wire.refusals import Code, Refused

PARTS = frozenset({"galois", "relin", "public"})


class KeySets:
    """The key sets of all clients.

    Args:
        trials: processes that try evaluation keys, one for each set.
        seal: name of the HE library and its wire format, stored with every key.
        max_bytes: largest registration, in bytes.
        window: seconds that an envelope's time may differ from the server's.
    """

    def __init__(
        self,
        *,
        metadata: Metadata,
        blobs: Blobs,
        trials: WorkerPool,
        audit: AuditLog,
        offer: Offer,
        seal: str,
        max_bytes: int,
        window: float,
    ) -> None:
        self._metadata = metadata
        self._blobs = blobs
        self._trials = trials
        self._audit = audit
        self._offer = offer
        self._seal = seal
        self._max_bytes = max_bytes
        self._window = window

    def expect(self, caller: Caller, plan: str, size: int) -> int | None:
        """Check, before a registration's body is read, that it could be stored.

        Returns:
            Bytes that the client may store beside what it has, or None where it has no quota.

        Raises:
            Refused: `unknown_plan`, `quota`, `busy`, `rate_limit`.
        """
        self._offer.find_plan(plan)
        self._trials.check_room(caller.client_id)
        room = self._metadata.keys.check_room(caller, size)
        self._metadata.rates.admit_registration(caller)
        return room

    def register(self, request: Request, plan: str, key_set: str, body: bytes | memoryview) -> KeysStored:
        """Check and store a client's key set for a plan; the same bytes again are accepted, others refused.

        Returns:
            What is stored; the keys survive the server's end from here on.

        Raises:
            Refused: see docs/protocol.md.
        """
        caller = request.caller
        with self._audit.watching("keys.register", caller.client_id, request.request_id, plan=plan, key_set=key_set):
            message = Message.read(body, wire.Kind.KEYS, self._max_bytes, self._window)
            header = message.envelope.header
            if (header.get("plan"), header.get("key_set"), len(header)) != (plan, key_set, 4):
                raise Refused(
                    Code.INVALID, "The header must have nonce, time, and the plan and key set that the route names."
                )
            expected = self._offer.find_plan(plan)
            parts = message.envelope.part_map
            if "secret" in parts:
                raise Refused(
                    Code.SECRET_KEY, "A secret key was sent; it was discarded. Never send one: make new keys."
                )
            if not parts.keys() <= PARTS or expected.needs_keys != bool(parts):
                raise Refused(
                    Code.BAD_KEYS, "Expected the parts 'galois', 'relin' and 'public' as far as the plan needs them."
                )
            self._metadata.queries.use_nonce(caller.client_id, message.nonce, message.sent, message.expires)
            self._try(caller, expected, parts)
            check_again(self._metadata, caller)
            self._store(caller, plan, key_set, secrets.token_hex(16), parts)
            return KeysStored(plan=plan, key_set=key_set, bytes=sum(len(data) for data in parts.values()))

    def list_all(self, caller: Caller) -> KeysList:
        """The client's registered keys, without their bytes."""
        records = self._metadata.keys.list_all(caller.client_id)
        return KeysList(keys=tuple(self._describe(record) for record in records))

    def delete(self, request: Request, plan: str, key_set: str) -> None:
        """Forget a client's key set for a plan.

        Raises:
            Refused: `missing_keys` where there are none.
        """
        client = request.caller.client_id
        with self._audit.watching("keys.delete", client, request.request_id, plan=plan, key_set=key_set):
            key_id = self._metadata.keys.delete(client, plan, key_set)
            if key_id is None:
                raise Refused(Code.MISSING_KEYS, f"This client has no key set {key_set} for this plan.")
            self._drop_blobs(client, key_id)

    def check(self, plan: PlanInfo, key_set: str, record: KeyRecord | None) -> KeyRecord | None:
        """The keys to compute with; None for a plan that needs none.

        Raises:
            Refused: `missing_keys`, `bad_keys`; the message names the set.
        """
        if not plan.needs_keys:
            return None
        if record is None:
            raise Refused(
                Code.MISSING_KEYS,
                f"This client has no key set {key_set} for this plan: PUT /v1/keys/<plan>/<key set>.",
            )
        if record.banned:
            raise Refused(
                Code.BAD_KEYS,
                f"The key set {key_set} ended a process of the server and is refused since. Delete it, and make and "
                "register new keys.",
            )
        if record.seal != self._seal:
            raise Refused(
                Code.MISSING_KEYS,
                f"The key set {key_set} is for {record.seal}; this server runs {self._seal}. Make a new one.",
            )
        return record

    def read(self, caller: Caller, record: KeyRecord) -> list[bytes]:
        """Read the parts of a key set.

        Raises:
            Refused: `damaged`, `storage`, or `missing_keys` where it was deleted meanwhile.
        """
        parts = []
        for part in record.parts:
            try:
                data = self._blobs.get(_path(caller.client_id, record.key_id, part.name))
            except Refused as refused:
                if refused.code is Code.DAMAGED:
                    now = self._metadata.keys.find(caller.client_id, record.plan, record.key_set)
                    if now is None or now.key_id != record.key_id:
                        raise Refused(
                            Code.MISSING_KEYS, "The key set was deleted while this request waited; register it again."
                        ) from refused
                raise
            if len(data) != part.size or hashlib.sha256(data).hexdigest() != part.sha256:
                raise Refused(Code.DAMAGED, "The stored evaluation keys are damaged; register them again.")
            parts.append(data)
        return parts

    def _try(self, caller: Caller, plan: PlanInfo, parts: Mapping[str, bytes]) -> None:
        names = sorted(parts)
        end_turn()
        try:
            self._trials.run(caller.client_id, {"plan": plan.plan, "names": names}, [parts[name] for name in names])
        except Crashed as error:
            raise Refused(Code.BAD_KEYS, "The evaluation keys ended the process that tried them.") from error
        except Refused as refused:
            if refused.code is Code.WORKER_LIMIT:
                raise Refused(
                    Code.BAD_KEYS, "Trying the evaluation keys took longer than the server allows for a registration."
                ) from refused
            raise

    def _describe(self, record: KeyRecord) -> KeysInfo:
        return KeysInfo(
            plan=record.plan,
            key_set=record.key_set,
            bytes=sum(part.size for part in record.parts),
            seal=record.seal,
            created=record.created,
            usable=record.plan in self._offer and record.seal == self._seal and not record.banned,
        )

    def _store(self, caller: Caller, plan: str, key_set: str, key_id: str, parts: Mapping[str, bytes]) -> None:
        listing = []
        for name, data in sorted(parts.items()):
            self._blobs.put_new(_path(caller.client_id, key_id, name), data)
            listing.append(KeyPart(name, len(data), hashlib.sha256(data).hexdigest()))
        record = KeyRecord(key_id, plan, self._seal, time.time(), tuple(listing), key_set)
        try:
            kept = self._metadata.keys.add(caller.client_id, record, quota=caller.quotas.storage_quota)
        except Refused as refused:
            if refused.code is not Code.STORAGE:  # after a storage error the row may or may not exist
                self._drop_blobs(caller.client_id, key_id)
            raise
        if kept.key_id != key_id:  # the same bytes were registered already
            self._drop_blobs(caller.client_id, key_id)

    def _drop_blobs(self, client_id: str, key_id: str) -> None:
        for path in self._blobs.list(f"keys/{client_id}/{key_id}"):
            self._blobs.delete(path)


def _path(client_id: str, key_id: str, name: str) -> str:
    return f"keys/{client_id}/{key_id}/{name}"
