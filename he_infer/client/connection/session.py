"""A client's session with a server: the models, the evaluation keys, classification, the sealed objects.

It knows nothing of images or secret keys.
"""

import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

from he_infer.ckks.planning.message_sizes import count_part_bytes
from he_infer.ckks.planning.plan import Plan
from he_infer.client.connection.connection import OCTETS, Connection
from he_infer.client.served_model import ServedModel, checked
from he_infer.client.verify.answer import Answer
from he_infer.errors import NotAuthentic, ProtocolMismatch, RequestRefused
from he_infer.wire import envelope as wire
from he_infer.wire.bodies import KeysInfo, KeysList, KeysStored, ModelList, ObjectInfo, ObjectList, VersionList
from he_infer.wire.refusals import Code

MAX_OBJECT = 4 << 30
"""Maximum size of a sealed object that is read, bytes; servers store this much by default."""


class Session:
    """Sends requests to one server with one token.

    Args:
        url: the server's address, such as `https://cloud.example:8443`.
        token: bearer token (`hei_...`).
        ca_file: PEM file of the authority that signed the server's certificate, where the system does not know it.
        client_cert: PEM file with a certificate and its private key, for a server (or its proxy) that asks for one.
        server_key: the server's Ed25519 public key in hex, if known; otherwise the key that the server states at first
            contact is kept for the session.
        timeout: seconds for connecting, and for each pause in an answer.
        patience: seconds for which a request to a busy or restarting server is repeated.
        insecure_http: whether plain http to other hosts is allowed.

    Raises:
        ServerError and its subclasses, by every method: see `he_infer.errors`.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        ca_file: Path | None = None,
        client_cert: Path | None = None,
        server_key: str | None = None,
        timeout: float = 60.0,
        patience: float = 30.0,
        insecure_http: bool = False,
    ) -> None:
        self._connection = Connection(
            url,
            token,
            ca_file=ca_file,
            client_cert=client_cert,
            server_key=server_key,
            timeout=timeout,
            patience=patience,
            insecure_http=insecure_http,
        )
        self.url = self._connection.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def healthz(self) -> None:
        """Check that the server's process answers."""
        self._connection.ping()

    @property
    def server_key(self) -> str:
        """Ed25519 public key, hex, that verifies receipts."""
        return self._connection.server_key

    @property
    def server_time(self) -> float:
        """The server's current time, Unix seconds, estimated from its clock at first contact."""
        return self._connection.server_time

    def models(self) -> list[ServedModel]:
        """The models that the server offers.

        Raises:
            ProtocolMismatch: a plan does not have the digest that the server states, or is none of this release.
            ParameterError: a plan's parameters are outside the security budget.
        """
        return [
            checked(offer) for offer in self._connection.parse(ModelList, self._connection.get("/v1/models")).models
        ]

    def register(self, plan: Plan, key_set: str, parts: Mapping[str, bytes]) -> KeysStored:
        """Register a key set's evaluation keys for a plan. Registering the same bytes again succeeds.

        Args:
            plan: the plan that the keys were made for.
            key_set: id of the key set, from the key file.
            parts: those of `galois`, `relin` and `public` that the plan needs.

        Raises:
            RequestRefused: `keys_exist` where the set is registered for the plan with other bytes; `bad_keys`,
                `unknown_plan` and others of docs/protocol.md.
            SecretKeyRefused: a part holds a secret key.
        """
        pairs = tuple(sorted(parts.items()))
        header = {"plan": plan.digest, "key_set": key_set}
        _, response = self._connection.send("PUT", keys_path(plan.digest, key_set), wire.Kind.KEYS, header, pairs)
        stored = self._connection.parse(KeysStored, response)
        if (stored.plan, stored.key_set) != (plan.digest, key_set):
            raise ProtocolMismatch(
                "The server says that it registered other keys than those that were sent. "
                "Do not use it; ask its operator."
            )
        return stored

    def key_sets(self) -> list[KeysInfo]:
        """All key sets that are registered for this client, with one entry for each key set and plan."""
        return list(self._connection.parse(KeysList, self._connection.get("/v1/keys")).keys)

    def forget_keys(self, plan_digest: str, key_set: str) -> None:
        """Let the server delete a key set's evaluation keys for a plan.

        Raises:
            MissingKey: the server has no such keys.
        """
        self._connection.request("DELETE", keys_path(plan_digest, key_set))

    def classify(self, model: ServedModel, plan: Plan, key_set: str, parts: Sequence[bytes]) -> Answer:
        """Let the server evaluate a head on ciphertexts.

        Args:
            model: one of `models()`.
            plan: one of its plans.
            key_set: id of the key set to evaluate with.
            parts: serialized ciphertexts in the order of the plan's packing.

        Raises:
            MissingKey: this key set is not registered for the plan, or not usable any more.
            NotAuthentic: the receipt's signature, or its binding to this request and key set, is wrong.
            ServerBusy: the server was busy for longer than the session's patience.
            RequestRefused: another refusal of docs/protocol.md.
        """
        named = tuple((f"ct{index}", data) for index, data in enumerate(parts))
        header = {"model": model.id, "plan": plan.digest, "key_set": key_set}
        most = _answer_bytes(plan)
        sent, response = self._connection.send(
            "POST", f"/v1/models/{model.id}/classify", wire.Kind.REQUEST, header, named, most=most
        )
        return Answer.verified(
            wire.Envelope.decode(response.content, kind=wire.Kind.ANSWER, max_bytes=most),
            sent=sent,
            received=len(response.content),
            server_key=self.server_key,
            model=model,
            plan=plan,
            key_set=key_set,
        )

    def put_object(self, data: bytes, object_id: str | None = None, version: int = 1) -> ObjectInfo:
        """Store a sealed object under a new random id, or under the id given (32 hex digits).

        A `version` above 1 is stored beside the older versions, and must be the newest version plus 1. Sending the same
        bytes again
        under the same id and version, after an answer was lost, succeeds.

        Raises:
            RequestRefused: `exists` where other bytes are there, `version_gap`, `quota`, `too_large`.
        """
        name = object_id or secrets.token_hex(16)
        path = object_path(name, None if version == 1 else version)
        digest = hashlib.sha256(data).hexdigest()
        headers = {**OCTETS, "X-Content-SHA256": digest}
        try:
            stored = self._connection.parse(ObjectInfo, self._connection.put(path, content=data, headers=headers))
        except RequestRefused as refused:
            there = self._stored_already(name, version) if refused.code == Code.EXISTS.value else None
            if there is None or there.sha256 != digest:
                raise
            return there
        return stored

    def get_object(self, object_id: str, version: int | None = None) -> bytes:
        """Read a whole object, in its newest version or in the given one, and check its SHA-256.

        Raises:
            RequestRefused: `not_found`.
            NotAuthentic: the bytes are not those that were stored.
        """
        response = self._connection.get(object_path(object_id, version), most=MAX_OBJECT)
        if hashlib.sha256(response.content).hexdigest() != response.headers.get("x-content-sha256"):
            raise NotAuthentic(f"The server's object {object_id} is not what was stored.")
        return response.content

    def get_range(self, object_id: str, start: int, end: int, version: int | None = None) -> bytes:
        """Read bytes `start` to `end` (exclusive) of an object or of one version of it; fewer if it ends earlier.

        Raises:
            RequestRefused: `not_found`, or `bad_range` where the object has no byte there.
        """
        headers = {"Range": f"bytes={start}-{end - 1}"}
        return self._connection.get(object_path(object_id, version), most=end - start, headers=headers).content

    def objects(self) -> Iterable[ObjectInfo]:
        """All objects of this client in the order of their ids, each in its newest version.

        Raises:
            ProtocolMismatch: a page does not follow the one before: such a listing might never end.
        """
        after: str | None = ""
        while after is not None:
            page = self._connection.parse(ObjectList, self._connection.get("/v1/objects", params={"after": after}))
            names = [after, *(entry.id for entry in page.objects)]
            if any(later <= earlier for earlier, later in pairwise(names)) or page.next not in (None, names[-1]):
                raise ProtocolMismatch("The server lists its objects out of order. Do not use it; ask its operator.")
            yield from page.objects
            if page.next is not None and not page.objects:
                raise ProtocolMismatch("The server announces a further page after an empty one; ask its operator.")
            after = page.next

    def versions(self, object_id: str) -> list[ObjectInfo]:
        """All stored versions of an object, oldest first.

        Raises:
            RequestRefused: `not_found`.
        """
        listing = self._connection.parse(VersionList, self._connection.get(f"/v1/objects/{object_id}/versions"))
        return list(listing.versions)

    def delete_object(self, object_id: str, version: int | None = None) -> None:
        """Delete an object with all its versions, or one version that is not the newest.

        Raises:
            RequestRefused: `not_found`, or `invalid` for the newest version.
        """
        self._connection.request("DELETE", object_path(object_id, version))

    def _stored_already(self, object_id: str, version: int) -> ObjectInfo | None:
        return next((entry for entry in self.versions(object_id) if entry.version == version), None)


def keys_path(plan: str, key_set: str) -> str:
    """Route of a key set's evaluation keys for a plan."""
    return f"/v1/keys/{plan}/{key_set}"


def object_path(object_id: str, version: int | None = None) -> str:
    """Route of an object, or of one version of it."""
    return f"/v1/objects/{object_id}" if version is None else f"/v1/objects/{object_id}/versions/{version}"


def _answer_bytes(plan: Plan) -> int:
    """Maximum size of an answer's envelope under a plan, bytes: header limit plus exact part lengths."""
    return wire.PREFIX_BYTES + wire.MAX_HEADER + sum(count_part_bytes(plan, target) for target in range(plan.targets))
