"""A client's session with a server: HTTP, envelopes, retries, errors. Knows nothing of images or secret keys.

A request is repeated only where the transport failed or the server was busy, never for what an answer holds: a server
must not learn anything of a score from what the client does next.
"""

import hashlib
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2
from pydantic import BaseModel

from he_infer import wire
from he_infer.ckks.plan import Plan
from he_infer.client.receipt import Receipt, verify
from he_infer.client.transport import Transport
from he_infer.errors import (
    NotAuthentic,
    NotThisFormat,
    ProtocolMismatch,
    RequestRefused,
)
from he_infer.refusals import Code

_OCTETS = {"Content-Type": "application/octet-stream"}
_CHUNK = 1 << 20
_MAX_ANSWER = 1 << 30
Result = TypeVar("Result")
_Body = TypeVar("_Body", bound=BaseModel)


class _Protocol(BaseModel):
    min: int
    max: int


class _Info(BaseModel):
    service: str
    version: str
    protocol: _Protocol
    seal: str
    receipt_key: str
    time: int


class _PlanOffer(BaseModel):
    digest: str
    batch: int
    needs_keys: bool
    plan: str


class _ModelOffer(BaseModel):
    id: str
    name: str
    classes: list[str]
    policy: str
    head_digest: str
    input_bound: float
    plans: list[_PlanOffer]


class _ModelOffers(BaseModel):
    models: list[_ModelOffer]


@dataclass(frozen=True)
class ServedModel:
    """A model as the server offers it."""

    id: str
    name: str
    classes: tuple[str, ...]
    policy: str
    head_digest: str
    input_bound: float
    plans: tuple[Plan, ...]
    """One for each batch size, smallest first; parsed and checked here, not taken on trust."""
    needs_keys: bool
    """Must evaluation keys be registered for some plan?"""

    def plan_for(self, images: int) -> Plan:
        """The plan of the largest batch that is filled, or the smallest one."""
        return next((plan for plan in reversed(self.plans) if plan.batch <= images), self.plans[0])


@dataclass(frozen=True)
class StoredKeys:
    """The server's answer to a registration."""

    plan: str
    key_id: str
    size: int
    """Bytes of all parts."""


@dataclass(frozen=True)
class Answer:
    """Encrypted scores, and what can be said of them without a key."""

    parts: tuple[bytes, ...] = field(repr=False)
    receipt: Receipt
    server_seconds: float
    """Time in the worker for parsing, computing and saving, by the server's own account."""
    bytes_up: int
    bytes_down: int


@dataclass(frozen=True)
class StoredObject:
    """A sealed object at the server."""

    id: str
    size: int
    sha256: str
    created: float
    version: int = 1


class Session:
    """Speaks to one server with one token.

    Args:
        url: the server's address, such as `https://cloud.example:8443`.
        token: bearer token (`hei_...`).
        ca_file: PEM file of the authority that signed the server's certificate, where the system does not know it.
        client_cert: PEM file with a certificate and its private key, for a server (or the proxy before it) that asks.
        server_key: the server's Ed25519 public key in hex, where it is known from elsewhere; otherwise the one that
            the server states at first contact is taken and held for the session.
        timeout: seconds for connecting, and for each pause in an answer.
        patience: seconds in which a busy or restarting server is asked again.

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
    ) -> None:
        self._token = token
        self._server_key = server_key
        self._info: _Info | None = None
        self._clock_offset = 0.0
        self._http = Transport(url, token, ca_file=ca_file, client_cert=client_cert, timeout=timeout, patience=patience)
        self.url = self._http.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def healthz(self) -> None:
        """Check that the server's process answers."""
        self._http.request("GET", "/healthz")

    @property
    def server_key(self) -> str:
        """The Ed25519 public key that receipts are checked with, hex."""
        info = self._negotiate()
        return self._server_key or info.receipt_key

    def models(self) -> list[ServedModel]:
        """The models that the server offers.

        Raises:
            ProtocolMismatch: a plan does not have the digest that the server states, or is none of this release.
            ParameterError: a plan's parameters are outside the security budget.
        """
        self._negotiate()
        offers = self._http.parse(_ModelOffers, self._http.get("/v1/models"))
        return [_model(offer) for offer in offers.models]

    def register(self, plan: Plan, parts: Mapping[str, bytes]) -> StoredKeys:
        """Register evaluation keys for a plan, in the place of earlier ones.

        Args:
            plan: the plan that they were made for.
            parts: `galois` and `relin`, as far as the plan needs them.

        Raises:
            RequestRefused: `bad_keys`, `unknown_plan` and others of docs/protocol.md.
            SecretKeyRefused: a part holds a secret key.
        """
        self._negotiate()
        pairs = tuple(sorted(parts.items()))

        def send() -> httpx2.Response:
            envelope = self._seal(wire.Kind.KEYS, {"plan": plan.digest}, pairs)
            return self._http.request("PUT", f"/v1/keys/{plan.digest}", content=envelope, headers=_OCTETS)

        response = self._in_step(send)
        stored = self._http.parse(_StoredKeys, response)
        return StoredKeys(stored.plan, stored.key_id, stored.bytes)

    def registered(self) -> set[str]:
        """The digests of the plans for which usable keys are registered."""
        self._negotiate()
        listing = self._http.parse(_KeysList, self._http.get("/v1/keys"))
        return {keys.plan for keys in listing.keys if keys.usable}

    def forget_keys(self, plan_digest: str) -> None:
        """Have the server delete the evaluation keys for a plan.

        Raises:
            MissingKey: there are none.
        """
        self._negotiate()
        self._http.request("DELETE", f"/v1/keys/{plan_digest}")

    def classify(self, model: ServedModel, plan: Plan, parts: Sequence[bytes]) -> Answer:
        """Have a head evaluated on ciphertexts.

        Args:
            model: one of `models()`.
            plan: one of its plans.
            parts: serialized ciphertexts in the order of the plan's packing.

        Raises:
            MissingKey: no usable evaluation keys are registered for the plan.
            NotAuthentic: the answer's MAC, its binding to this request or the receipt's signature is wrong.
            ServerBusy: the server was busy for longer than the session's patience.
            RequestRefused: another refusal of docs/protocol.md.
        """
        self._negotiate()
        named = tuple((f"ct{index}", data) for index, data in enumerate(parts))
        sent = b""

        def send() -> httpx2.Response:
            nonlocal sent
            sent = self._seal(wire.Kind.REQUEST, {"model": model.id, "plan": plan.digest}, named)
            return self._http.request("POST", f"/v1/models/{model.id}/classify", content=sent, headers=_OCTETS)

        body = self._in_step(send).content
        key = wire.mac_key(self._token, wire.Direction.TO_CLIENT)
        envelope = wire.Envelope.open(body, key, kind=wire.Kind.ANSWER, max_bytes=_MAX_ANSWER)
        receipt = verify(
            envelope,
            server_key=self.server_key,
            request_digest=hashlib.sha256(sent).hexdigest(),
            model=model.id,
            head_digest=model.head_digest,
            plan=plan.digest,
        )
        server_us = envelope.header.get("server_us")
        if not isinstance(server_us, int):
            raise NotThisFormat("The server's answer does not state its time; it speaks another dialect.")
        return Answer(
            parts=tuple(data for _, data in envelope.parts),
            receipt=receipt,
            server_seconds=server_us / 1e6,
            bytes_up=len(sent),
            bytes_down=len(body),
        )

    def put_object(self, data: bytes, object_id: str | None = None, version: int = 1) -> StoredObject:
        """Store a sealed object under a new random id, or under the id given (32 hex digits).

        A `version` above 1 is stored beside the older ones, and has to follow the newest. Sending the same bytes again
        under the same id and version, after an answer was lost, succeeds.

        Raises:
            RequestRefused: `exists` where other bytes are there, `version_gap`, `quota`, `too_large`.
        """
        self._negotiate()
        name = object_id or secrets.token_hex(16)
        digest = hashlib.sha256(data).hexdigest()

        def send() -> httpx2.Response:
            headers = {**_OCTETS, "X-Content-SHA256": digest}
            path = f"/v1/objects/{name}" if version == 1 else f"/v1/objects/{name}/versions/{version}"
            return self._http.request("PUT", path, content=data, headers=headers)

        try:
            stored = self._http.parse(_StoredObject, self._http.patiently(send))
        except RequestRefused as refused:
            there = self._stored_already(name, version) if refused.code == Code.EXISTS.value else None
            if there is None or there.sha256 != digest:
                raise
            return there
        return stored.public()

    def get_object(self, object_id: str, version: int | None = None) -> bytes:
        """Read a whole object, in its newest version or in the one named, and check its SHA-256.

        Raises:
            RequestRefused: `not_found`.
            NotAuthentic: the bytes are not those that were stored.
        """
        self._negotiate()
        response = self._http.get(_object_path(object_id, version))
        if hashlib.sha256(response.content).hexdigest() != response.headers.get("X-Content-SHA256"):
            raise NotAuthentic(f"The server's object {object_id} is not what was stored.")
        return response.content

    def get_range(self, object_id: str, start: int, end: int, version: int | None = None) -> bytes:
        """Read bytes `start` to `end` (exclusive) of an object or of one version of it; fewer where it ends before.

        Raises:
            RequestRefused: `not_found`, or `bad_range` where the object has no byte there.
        """
        self._negotiate()
        headers = {"Range": f"bytes={start}-{end - 1}"}
        return self._http.get(_object_path(object_id, version), headers=headers).content

    def objects(self) -> Iterable[StoredObject]:
        """All objects of this client in the order of their ids, each in its newest version."""
        self._negotiate()
        after: str | None = ""
        while after is not None:
            page = self._http.parse(_ObjectList, self._http.get("/v1/objects", params={"after": after}))
            yield from (entry.public() for entry in page.objects)
            after = page.next

    def versions(self, object_id: str) -> list[StoredObject]:
        """All versions of an object that there are, oldest first.

        Raises:
            RequestRefused: `not_found`.
        """
        self._negotiate()
        listing = self._http.parse(_VersionList, self._http.get(f"/v1/objects/{object_id}/versions"))
        return [entry.public() for entry in listing.versions]

    def delete_object(self, object_id: str, version: int | None = None) -> None:
        """Delete an object with all its versions, or one version that is not the newest.

        Raises:
            RequestRefused: `not_found`, or `invalid` for the newest version.
        """
        self._negotiate()
        self._http.request("DELETE", _object_path(object_id, version))

    def _stored_already(self, object_id: str, version: int) -> StoredObject | None:
        return next((entry for entry in self.versions(object_id) if entry.version == version), None)

    def _negotiate(self) -> _Info:
        """At first contact, check that this is a server of ours, of our protocol and our HE library."""
        if self._info is None:
            info = self._http.parse(_Info, self._http.request("GET", "/v1/info"))
            if info.service != "he-infer":
                raise ProtocolMismatch(f"{self.url} is not a server of he-infer.")
            if not info.protocol.min <= wire.VERSION <= info.protocol.max:
                raise ProtocolMismatch(
                    f"{self.url} speaks versions {info.protocol.min} to {info.protocol.max} of the protocol, this "
                    f"client version {wire.VERSION}. Install the same release on both sides."
                )
            if info.seal != wire.seal_format():
                raise ProtocolMismatch(
                    f"{self.url} computes with {info.seal}, this client with {wire.seal_format()}; their ciphertexts "
                    "differ. Install the same release on both sides."
                )
            if self._server_key is not None and info.receipt_key != self._server_key:
                raise NotAuthentic(f"{self.url} signs with another key than the one expected of it.")
            # The server judges an envelope's freshness by its own clock, so its clock is the one to use.
            self._clock_offset = info.time / 1000 - time.time()
            self._server_key = info.receipt_key
            self._info = info
        return self._info

    def _in_step(self, send: Callable[[], Result]) -> Result:
        """Send with patience; where one of the clocks has jumped, take the server's anew and seal once more."""
        try:
            return self._http.patiently(send)
        except RequestRefused as refused:
            if refused.code != Code.STALE.value:
                raise
        self._info = None
        self._negotiate()
        return self._http.patiently(send)

    def _seal(self, kind: wire.Kind, header: Mapping[str, Any], parts: tuple[tuple[str, bytes], ...]) -> bytes:
        stamp = {"nonce": secrets.token_hex(16), "time": int((time.time() + self._clock_offset) * 1000)}
        key = wire.mac_key(self._token, wire.Direction.TO_SERVER)
        return wire.Envelope(kind, {**header, **stamp}, parts).seal(key)


def _object_path(object_id: str, version: int | None) -> str:
    return f"/v1/objects/{object_id}" if version is None else f"/v1/objects/{object_id}/versions/{version}"


class _StoredKeys(BaseModel):
    plan: str
    key_id: str
    bytes: int


class _KeysInfo(_StoredKeys):
    usable: bool


class _KeysList(BaseModel):
    keys: list[_KeysInfo]


class _StoredObject(BaseModel):
    id: str
    size: int
    sha256: str
    created: float
    version: int

    def public(self) -> StoredObject:
        return StoredObject(self.id, self.size, self.sha256, self.created, self.version)


class _VersionList(BaseModel):
    versions: list[_StoredObject]


class _ObjectList(BaseModel):
    objects: list[_StoredObject]
    next: str | None


def _model(offer: _ModelOffer) -> ServedModel:
    plans = []
    for stated in offer.plans:
        plan = Plan.from_json(stated.plan)
        if plan.digest != stated.digest or plan.batch != stated.batch:
            raise ProtocolMismatch(f"The server's plan for {offer.id} is not the one that its digest names.")
        plans.append(plan)
    if not plans:
        raise ProtocolMismatch(f"The server offers no plan for {offer.id}.")
    return ServedModel(
        id=offer.id,
        name=offer.name,
        classes=tuple(offer.classes),
        policy=offer.policy,
        head_digest=offer.head_digest,
        input_bound=offer.input_bound,
        plans=tuple(sorted(plans, key=lambda plan: plan.batch)),
        needs_keys=any(stated.needs_keys for stated in offer.plans),
    )
