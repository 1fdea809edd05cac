"""Encrypted classification, independent of HTTP.

Order of checks for every message: size, prefix, header, freshness, replay and limits; then the queue, and only in
a worker process are the parts parsed.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from he_infer.server.authentication import check_again
from he_infer.server.evidence.audit_log import AuditLog
from he_infer.server.evidence.signing import Signer
from he_infer.server.key_sets import KeySets
from he_infer.server.message import Message, Request
from he_infer.server.metadata import Caller, KeyRecord, Metadata, Question
from he_infer.server.offer import Offer
from he_infer.server.turns import end_turn
from he_infer.server.workers.pool import Crashed, WorkerPool
from he_infer.wire import envelope as wire
from he_infer.wire.bodies import ModelInfo, PlanInfo
from he_infer.wire.key_set import is_key_set
from he_infer.wire.refusals import Code, Refused

HIDDEN = "hidden"
"""The policy of models whose weights clients must not learn."""


class InferenceService:
    """Has ciphertexts evaluated.

    Args:
        pool: worker processes that evaluate.
        seal: name of the HE library and its wire format.
        max_bytes: largest request, in bytes.
        window: seconds that an envelope's time may differ from the server's.
        hidden_daily_queries: images a day of a client without a limit of its own, for models whose weights are hidden.
    """

    def __init__(
        self,
        *,
        metadata: Metadata,
        pool: WorkerPool,
        signer: Signer,
        audit: AuditLog,
        offer: Offer,
        key_sets: KeySets,
        seal: str,
        max_bytes: int,
        window: float,
        hidden_daily_queries: int,
    ) -> None:
        self._metadata = metadata
        self._pool = pool
        self._signer = signer
        self._audit = audit
        self._offer = offer
        self._key_sets = key_sets
        self._seal = seal
        self._max_bytes = max_bytes
        self._window = window
        self._hidden_daily_queries = hidden_daily_queries

    def classify(self, request: Request, model_id: str, body: bytes | memoryview) -> bytes:
        """Evaluate a model's head on ciphertexts.

        Returns:
            The sealed answer: encrypted scores, and a signed receipt in its header.

        Raises:
            Refused: see docs/protocol.md.
        """
        caller = request.caller
        with self._audit.watching("classify", caller.client_id, request.request_id, model=model_id) as details:
            model = self._offer.find_model(model_id)
            self._pool.check_room(caller.client_id)
            message = Message.read(body, wire.Kind.REQUEST, self._max_bytes, self._window)
            match message.envelope.header:
                case {"model": str(named), "plan": str(digest), "key_set": str(key_set)} if (
                    named == model_id and is_key_set(key_set) and len(message.envelope.header) == 5
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
                message.nonce,
                message.sent,
                message.expires,
                key_set if plan.needs_keys else None,
                self._seal,
                self._hidden_daily_queries if model.policy == HIDDEN else None,
                asked=time.time(),
            )
            record = self._key_sets.check(plan, key_set, self._metadata.questions.admit(caller, question))
            try:
                reply, out = self._evaluate(caller, plan, record, message.envelope)
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
        supply = None if record is None else lambda: self._key_sets.read(caller, record)
        parts = [data for _, data in envelope.parts]
        end_turn()
        try:
            return self._pool.run(caller.client_id, task, parts, supply)
        except Crashed as error:
            if record is not None:
                self._metadata.keys.ban(record.key_id)
            raise Refused(
                Code.WORKER_DIED,
                "This request ended the process that evaluated it. Its key set is refused from now on: delete it, and "
                "make and register new keys.",
            ) from error

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
