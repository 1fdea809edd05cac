"""Evaluation keys and encrypted classification, independent of HTTP.

Order of checks for every message: size, prefix, header, freshness, replay and limits; then the queue, and only in
a worker process are the parts parsed.
"""

import hashlib
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from he_infer.errors import NotThisFormat, Truncated, UnsupportedVersion
from he_infer.server.authentication import check_again
from he_infer.server.evidence.audit_log import AuditLog
from he_infer.server.evidence.signing import Signer
from he_infer.server.metadata import Caller, KeyPart, KeyRecord, Metadata, Question
from he_infer.server.storage.blobs import Blobs
from he_infer.server.turns import end_turn
from he_infer.server.workers.pool import Crashed, WorkerPool
from he_infer.wire import envelope as wire
from he_infer.wire.bodies import KeysInfo, KeysList, KeysStored, ModelInfo, ModelList, PlanInfo
from he_infer.wire.key_set import is_key_set
from he_infer.wire.refusals import Code, Refused

HIDDEN = "hidden"
"""The policy of models whose weights clients must not learn."""
KEY_PARTS = frozenset({"galois", "relin", "public"})
_NONCE = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Request:
    """The caller, and the request id that the logs show."""

    caller: Caller
    request_id: str


@dataclass(frozen=True)
class Limits:
    """Bounds that the operator set; see `ServerSettings`."""

    max_keys: int
    max_request: int
    clock_window: float
    hidden_daily_queries: int


class InferenceService:
    """Registers evaluation keys and has ciphertexts evaluated.

    Args:
        pool: worker processes that evaluate.
        trials: processes that try evaluation keys, one for each set.
        models: descriptions of the models that the workers serve (`ModelHost.describe`).
        bodies: largest registration and largest request by plan, in bytes (`ModelHost.measure_bodies`).
        seal: name of the HE library and its wire format, stored with every key.
    """

    def __init__(
        self,
        *,
        metadata: Metadata,
        blobs: Blobs,
        pool: WorkerPool,
        trials: WorkerPool,
        signer: Signer,
        audit: AuditLog,
        models: Sequence[ModelInfo],
        bodies: Mapping[str, tuple[int, int]],
        seal: str,
        limits: Limits,
    ) -> None:
        self._metadata = metadata
        self._blobs = blobs
        self._pool = pool
        self._trials = trials
        self._signer = signer
        self._audit = audit
        self._seal = seal
        self._limits = limits
        self._bodies = bodies
        self.models = ModelList(models=tuple(models))
        self._models = {model.id: model for model in models}
        self._plans = {plan.digest: plan for model in models for plan in model.plans}

    def largest_keys(self, plan: str) -> int:
        """Largest registration for a plan, in bytes.

        Raises:
            Refused: `unknown_plan`.
        """
        self._find_plan(plan)
        return min(self._limits.max_keys, self._bodies[plan][0])

    def largest_request(self, model_id: str) -> int:
        """Largest request to a model, in bytes.

        Raises:
            Refused: `unknown_model`.
        """
        plans = self._find_model(model_id).plans
        return min(self._limits.max_request, max(self._bodies[plan.digest][1] for plan in plans))

    def expect_keys(self, caller: Caller, plan: str, size: int) -> int | None:
        """Check, before a registration's body is read, that it could be stored.

        Returns:
            Bytes that the client may store beside what it has, or None where it has no quota.

        Raises:
            Refused: `unknown_plan`, `quota`, `busy`, `rate_limit`.
        """
        self._find_plan(plan)
        self._trials.check_room(caller.client_id)
        room = self._metadata.keys.check_room(caller, size)
        self._metadata.rates.admit_registration(caller)
        return room

    def register_keys(self, request: Request, plan: str, key_set: str, body: bytes | memoryview) -> KeysStored:
        """Check and store a client's key set for a plan; the same bytes again are accepted, others refused.

        Returns:
            What is stored; the keys survive the server's end from here on.

        Raises:
            Refused: see docs/protocol.md.
        """
        with self._audit.watching(
            "keys.register", request.caller.client_id, request.request_id, plan=plan, key_set=key_set
        ):
            envelope = self._open(body, wire.Kind.KEYS, self._limits.max_keys)
            match envelope.header:
                case {"plan": str(named), "key_set": str(called)} if (named, called) == (plan, key_set) and len(
                    envelope.header
                ) == 4:
                    pass
                case _:
                    raise Refused(
                        Code.INVALID, "The header must have nonce, time, and the plan and key set that the route names."
                    )
            expected = self._find_plan(plan)
            parts = envelope.part_map
            if "secret" in parts:
                raise Refused(
                    Code.SECRET_KEY, "A secret key was sent; it was discarded. Never send one: make new keys."
                )
            if not parts.keys() <= KEY_PARTS or expected.needs_keys != bool(parts):
                raise Refused(
                    Code.BAD_KEYS, "Expected the parts 'galois', 'relin' and 'public' as far as the plan needs them."
                )
            self._metadata.queries.use_nonce(
                request.caller.client_id, envelope.header["nonce"], _time_of(envelope), self._nonce_expiry()
            )
            self._try_keys(request.caller, expected, parts)
            check_again(self._metadata, request.caller)
            self._store_keys(request.caller, plan, key_set, secrets.token_hex(16), parts)
            return KeysStored(plan=plan, key_set=key_set, bytes=sum(len(data) for data in parts.values()))

    def list_keys(self, caller: Caller) -> KeysList:
        """The client's registered keys, without their bytes."""
        records = self._metadata.keys.list_all(caller.client_id)
        return KeysList(keys=tuple(self._describe_keys(record) for record in records))

    def delete_keys(self, request: Request, plan: str, key_set: str) -> None:
        """Forget a client's key set for a plan.

        Raises:
            Refused: `missing_keys` where there are none.
        """
        with self._audit.watching(
            "keys.delete", request.caller.client_id, request.request_id, plan=plan, key_set=key_set
        ):
            key_id = self._metadata.keys.delete(request.caller.client_id, plan, key_set)
            if key_id is None:
                raise Refused(Code.MISSING_KEYS, f"This client has no key set {key_set} for this plan.")
            self._drop_key_blobs(request.caller.client_id, key_id)

    def classify(self, request: Request, model_id: str, body: bytes | memoryview) -> bytes:
        """Evaluate a model's head on ciphertexts.

        Returns:
            The sealed answer: encrypted scores, and a signed receipt in its header.

        Raises:
            Refused: see docs/protocol.md.
        """
        caller = request.caller
        with self._audit.watching("classify", caller.client_id, request.request_id, model=model_id) as details:
            model = self._find_model(model_id)
            self._pool.check_room(caller.client_id)
            envelope = self._open(body, wire.Kind.REQUEST, self._limits.max_request)
            match envelope.header:
                case {"model": str(named), "plan": str(digest), "key_set": str(key_set)} if (
                    named == model_id and is_key_set(key_set) and len(envelope.header) == 5
                ):
                    pass
                case _:
                    raise Refused(
                        Code.INVALID,
                        "The header must have nonce, time, plan, key set and the model that the route names.",
                    )
            plan = next((plan for plan in model.plans if plan.digest == digest), None)
            if plan is None:
                raise Refused(Code.UNKNOWN_PLAN, "This model has no plan of this digest; GET /v1/models lists them.")
            question = Question(
                model_id,
                digest,
                plan.batch,
                envelope.header["nonce"],
                _time_of(envelope),
                self._nonce_expiry(),
                key_set if plan.needs_keys else None,
                self._seal,
                self._limits.hidden_daily_queries if model.policy == HIDDEN else None,
                asked=time.time(),
            )
            record = self._check_keys(plan, key_set, self._metadata.questions.admit(caller, question))
            try:
                reply, out = self._evaluate(caller, plan, record, envelope)
            except Refused:
                self._metadata.queries.refund(caller.client_id, model_id, plan.batch, question.asked)
                raise
            check_again(self._metadata, caller)
            answer = self._answer(model, digest, key_set, body, reply, out)
            details["bytes"] = len(answer)
            return answer

    def _evaluate(
        self, caller: Caller, plan: PlanInfo, record: KeyRecord | None, envelope: wire.Envelope
    ) -> tuple[dict[str, Any], list[bytes]]:
        task = {
            "do": "evaluate",
            "plan": plan.digest,
            "key_id": record.key_id if record else None,
            "names": [part.name for part in record.parts] if record else [],
        }
        supply = None if record is None else lambda: self._read_keys(caller, record)
        try:
            parts = [data for _, data in envelope.parts]
            return self._pool.run(caller.client_id, task, parts, supply, accepted=end_turn)
        except Crashed as error:
            if record is not None:
                self._metadata.keys.ban(record.key_id)
            raise Refused(
                Code.WORKER_DIED,
                "This request ended the process that evaluated it. Its key set is refused from now on: delete it, and "
                "make and register new keys.",
            ) from error

    def _try_keys(self, caller: Caller, plan: PlanInfo, parts: Mapping[str, bytes]) -> None:
        names = sorted(parts)
        task = {"plan": plan.plan, "names": names}
        try:
            self._trials.run(caller.client_id, task, [parts[name] for name in names], accepted=end_turn)
        except Crashed as error:
            raise Refused(Code.BAD_KEYS, "The evaluation keys ended the process that tried them.") from error
        except Refused as refused:
            if refused.code is Code.WORKER_LIMIT:
                raise Refused(
                    Code.BAD_KEYS, "Trying the evaluation keys took longer than the server allows for a registration."
                ) from refused
            raise

    def _answer(
        self,
        model: ModelInfo,
        plan: str,
        key_set: str,
        body: bytes | memoryview,
        reply: Mapping[str, Any],
        out: Sequence[bytes],
    ) -> bytes:
        parts = tuple((f"ct{index}", data) for index, data in enumerate(out))
        receipt = {
            "version": 2,
            "model": model.id,
            "head_digest": model.head_digest,
            "plan": plan,
            "key_set": key_set,
            "request": hashlib.sha256(body).hexdigest(),
            "answer": wire.parts_digest(parts),
            "time": int(time.time() * 1000),
        }
        header = {
            "receipt": receipt,
            "signature": self._signer.sign(receipt),
            "server_us": int(float(reply["seconds"]) * 1e6),
        }
        return wire.Envelope(wire.Kind.ANSWER, header, parts).encode()

    def _open(self, body: bytes | memoryview, kind: wire.Kind, max_bytes: int) -> wire.Envelope:
        try:
            envelope = wire.Envelope.decode(body, kind=kind, max_bytes=max_bytes)
        except UnsupportedVersion as error:
            raise Refused(Code.UNSUPPORTED_VERSION, str(error)) from error
        except Truncated as error:
            raise Refused(Code.TRUNCATED, str(error)) from error
        except NotThisFormat as error:
            raise Refused(Code.NOT_AN_ENVELOPE, str(error)) from error
        match envelope.header:
            case {"nonce": str(nonce), "time": int(sent)} if _NONCE.fullmatch(nonce) and not isinstance(sent, bool):
                # Whole milliseconds: a time of 400 digits does not fit into a float.
                if abs(sent - round(time.time() * 1000)) > round(self._limits.clock_window * 1000):
                    raise Refused(
                        Code.STALE,
                        f"The envelope's time is more than {self._limits.clock_window:g} s from the server's; "
                        "set the clock, or take the server's time from GET /v1/info.",
                    )
            case _:
                raise Refused(Code.INVALID, "The header needs a nonce of 32 hex digits and a time in milliseconds.")
        return envelope

    def _nonce_expiry(self) -> float:
        # An envelope is acceptable from one window before its time to one after it.
        return time.time() + 2 * self._limits.clock_window

    def _find_plan(self, digest: str) -> PlanInfo:
        plan = self._plans.get(digest)
        if plan is None:
            raise Refused(Code.UNKNOWN_PLAN, "No model of this server has a plan of this digest; see GET /v1/models.")
        return plan

    def _find_model(self, model_id: str) -> ModelInfo:
        model = self._models.get(model_id)
        if model is None:
            raise Refused(Code.UNKNOWN_MODEL, "No such model is served here; GET /v1/models lists those that are.")
        return model

    def _describe_keys(self, record: KeyRecord) -> KeysInfo:
        return KeysInfo(
            plan=record.plan,
            key_set=record.key_set,
            bytes=sum(part.size for part in record.parts),
            seal=record.seal,
            created=record.created,
            usable=record.plan in self._plans and record.seal == self._seal and not record.banned,
        )

    def _check_keys(self, plan: PlanInfo, key_set: str, record: KeyRecord | None) -> KeyRecord | None:
        """The keys to compute with, or a refusal that names the set."""
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

    def _store_keys(self, caller: Caller, plan: str, key_set: str, key_id: str, parts: Mapping[str, bytes]) -> None:
        listing = []
        for name, data in sorted(parts.items()):
            self._blobs.put_new(_key_path(caller.client_id, key_id, name), data)
            listing.append(KeyPart(name, len(data), hashlib.sha256(data).hexdigest()))
        record = KeyRecord(key_id, plan, self._seal, time.time(), tuple(listing), key_set)
        try:
            kept = self._metadata.keys.add(caller.client_id, record, quota=caller.quotas.storage_quota)
        except Refused as refused:
            if refused.code is not Code.STORAGE:  # after a storage error the row may or may not exist
                self._drop_key_blobs(caller.client_id, key_id)
            raise
        if kept.key_id != key_id:  # the same bytes were registered already
            self._drop_key_blobs(caller.client_id, key_id)

    def _read_keys(self, caller: Caller, record: KeyRecord) -> list[bytes]:
        parts = []
        for part in record.parts:
            try:
                data = self._blobs.get(_key_path(caller.client_id, record.key_id, part.name))
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

    def _drop_key_blobs(self, client_id: str, key_id: str) -> None:
        for path in self._blobs.list(f"keys/{client_id}/{key_id}"):
            self._blobs.delete(path)


def _time_of(envelope: wire.Envelope) -> float:
    """The time of an envelope whose header was checked, Unix seconds."""
    return float(envelope.header["time"]) / 1000


def _key_path(client_id: str, key_id: str, name: str) -> str:
    return f"keys/{client_id}/{key_id}/{name}"
