"""Numbers, keys and listings in a hostile server's answers that a client must refuse before it computes with them."""

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from he_infer.ckks.planning.plan import Plan
from he_infer.ckks.planning.search import make_plan
from he_infer.client.connection.session import Session
from he_infer.client.served_model import ServedModel
from he_infer.errors import HeInferError, NotThisFormat, ProtocolMismatch, ServerBusy
from he_infer.head.layers import Head, Linear
from he_infer.server.evidence.signing import Signer
from he_infer.wire import envelope as wire
from tests.he_infer.client.connection.test_session import KEY_SET, TOKEN, Impostor, error, info

HUGE = 10**400
NUMBERS: tuple[Any, ...] = (HUGE, -HUGE, -1, 1e308, float("nan"), float("inf"), "x", [1], None)
NAMES = [f"{number:032x}" for number in range(4)]


@pytest.fixture
def impostor() -> Iterator[Impostor]:
    server = Impostor()
    yield server
    server.close()


def session_with(impostor: Impostor) -> Session:
    return Session(impostor.url, TOKEN, patience=0)


@pytest.mark.parametrize("number", NUMBERS, ids=str)
def test_a_clock_that_is_no_time_is_refused(impostor: Impostor, number: object) -> None:
    impostor.answers["/v1/info"] = lambda: (200, {}, info(time=number))
    with session_with(impostor) as session, pytest.raises(ProtocolMismatch):
        _ = session.server_time


@pytest.mark.parametrize("key", ["", "00" * 31, "00" * 33, "zz" * 32, "00" * 32 + "\n", "\u0661" * 64])
def test_a_signing_key_that_is_none_is_not_pinned(impostor: Impostor, key: str) -> None:
    impostor.answers["/v1/info"] = lambda: (200, {}, info(receipt_key=key))
    with session_with(impostor) as session, pytest.raises(ProtocolMismatch):
        _ = session.server_key


@pytest.mark.parametrize("number", NUMBERS, ids=str)
@pytest.mark.parametrize("member", ["created", "bytes"])
def test_a_registration_with_an_impossible_number_is_refused(impostor: Impostor, member: str, number: object) -> None:
    entry = {"plan": "0" * 64, "key_set": KEY_SET, "bytes": 1, "seal": "s", "created": 1.0, "usable": True}
    impostor.answers["/v1/keys"] = lambda: (200, {}, json.dumps({"keys": [{**entry, member: number}]}).encode())
    with session_with(impostor) as session, pytest.raises(ProtocolMismatch):
        session.key_sets()


@pytest.mark.parametrize("wait", [b"\xb2".decode("latin-1"), "9" * 400, "-1", "1e9", "nan", "", "\t"])
def test_a_time_to_wait_that_is_no_number_is_ignored(impostor: Impostor, wait: str) -> None:
    impostor.answers["/v1/models"] = lambda: (429, {"Retry-After": wait}, error("busy"))
    began = time.monotonic()
    with session_with(impostor) as session, pytest.raises(ServerBusy) as caught:
        session.models()
    assert caught.value.retry_after == 1.0
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("number", [*NUMBERS, True, 1.5], ids=str)
def test_an_answer_whose_time_is_no_number_of_microseconds_is_refused(
    impostor: Impostor, tmp_path: Path, number: object
) -> None:
    """The receipt is right in all else: the server signs what it likes."""
    signer = Signer.load_or_create(tmp_path / "signing.key")
    impostor.answers["/v1/info"] = lambda: (200, {}, info(receipt_key=signer.public_key))
    model = ServedModel("m", "m", ("a", "b"), "hidden", "0" * 64, 1.0, (), needs_keys=False)
    plan = _plan()
    requests: list[bytes] = []

    def answer() -> tuple[int, dict[str, str], bytes]:
        receipt = {
            "version": 2, "model": model.id, "head_digest": model.head_digest, "plan": plan.digest, "key_set": KEY_SET,
            "request": hashlib.sha256(requests[-1]).hexdigest(), "answer": wire.parts_digest(()), "time": 1,
        }  # fmt: skip
        header = {"receipt": receipt, "signature": signer.sign(receipt), "server_us": 0}
        body = wire.Envelope(wire.Kind.ANSWER, header, ()).encode()
        changed = body[wire.PREFIX_BYTES :].replace(b'"server_us":0', b'"server_us":' + json.dumps(number).encode())
        prefix = bytearray(body[: wire.PREFIX_BYTES])
        prefix[8:12] = len(changed).to_bytes(4, "little")
        return 200, {}, bytes(prefix) + changed

    impostor.answers["/v1/models/m/classify"] = answer
    with session_with(impostor) as session:
        encode = wire.Envelope.encode

        def keep(self: wire.Envelope) -> bytes:
            encoded = encode(self)
            if self.kind is wire.Kind.REQUEST:
                requests.append(encoded)
            return encoded

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(wire.Envelope, "encode", keep)
            with pytest.raises(HeInferError) as caught:
                session.classify(model, plan, KEY_SET, [])
        assert isinstance(caught.value, NotThisFormat)


def _plan() -> Plan:
    weights = np.random.default_rng(1).normal(0, 0.1, (2, 8))
    return make_plan(Head((Linear(weights, np.zeros(2)),)), input_bound=1.0)


PAGES: dict[str, tuple[list[str], str | None]] = {
    "the same page again": ([NAMES[1]], NAMES[0]),
    "a page backwards": ([NAMES[3], NAMES[2]], None),
    "a name twice": ([NAMES[1], NAMES[1]], None),
    "an empty page with a next one": ([], ""),
    "a next page elsewhere": ([NAMES[1]], NAMES[3]),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_listing_that_might_never_end_is_refused(impostor: Impostor, name: str) -> None:
    names, following = PAGES[name]
    entries = [{"id": each, "version": 1, "size": 1, "sha256": "0" * 64, "created": 1.0} for each in names]
    page = json.dumps({"objects": entries, "next": following}).encode()
    impostor.answers["/v1/objects?after="] = lambda: (200, {}, page)
    with session_with(impostor) as session, pytest.raises(ProtocolMismatch):
        list(session.objects())
