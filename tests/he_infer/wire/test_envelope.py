"""The envelope: round trips, frozen bytes, and the order of the checks."""

import json
import struct
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from he_infer.errors import FormatError, NotThisFormat, Truncated, UnsupportedVersion
from he_infer.wire import envelope as wire

VECTORS = Path(__file__).parents[2] / "vectors" / "envelope-v2.json"
LIMIT = 1 << 20

names = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)
parts = st.lists(st.tuples(names, st.binary(max_size=200)), max_size=6, unique_by=lambda pair: pair[0]).map(tuple)
values = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20)
headers = st.dictionaries(st.text(max_size=8).filter(lambda name: name != "parts"), values, max_size=5)


def decode(data: bytes, kind: wire.Kind = wire.Kind.REQUEST) -> wire.Envelope:
    return wire.Envelope.decode(data, kind=kind, max_bytes=LIMIT)


def encoded(header: dict[str, object] | None = None) -> bytes:
    return wire.Envelope(wire.Kind.REQUEST, header or {"model": "m"}, (("ct0", b"abc"), ("ct1", b""))).encode()


@given(headers, parts)
def test_an_encoded_envelope_decodes_to_itself(header: dict[str, object], pairs: tuple[tuple[str, bytes], ...]) -> None:
    envelope = wire.Envelope(wire.Kind.REQUEST, header, pairs)
    assert decode(envelope.encode()) == envelope


@given(st.data())
def test_every_changed_byte_is_refused_or_changes_the_content(data: st.DataObject) -> None:
    good = encoded()
    at = data.draw(st.integers(0, len(good) - 1))
    flip = data.draw(st.integers(1, 255))
    bad = good[:at] + bytes([good[at] ^ flip]) + good[at + 1 :]
    try:
        assert decode(bad) != decode(good)
    except FormatError:
        return


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        decode(data)


@given(st.integers(0, 200), st.binary(min_size=1, max_size=40))
def test_cut_and_lengthened_envelopes_are_refused(cut: int, tail: bytes) -> None:
    good = encoded()
    with pytest.raises(FormatError):
        decode(good[: min(cut, len(good) - 1)])
    with pytest.raises(Truncated):
        decode(good + tail)


def test_lengths_are_checked_before_anything_is_copied() -> None:
    with pytest.raises(NotThisFormat, match="at most"):
        decode(b"HEIW" + bytes(LIMIT))
    with pytest.raises(NotThisFormat, match="at most"):
        decode(struct.pack("<4sHHIQ", b"HEIW", wire.VERSION, 2, wire.MAX_HEADER + 1, 0) + bytes(40))


def test_envelope_of_another_version_is_refused_by_name() -> None:
    good = bytearray(encoded())
    good[4] = 1
    with pytest.raises(UnsupportedVersion, match=r"version 1.*same release"):
        decode(bytes(good))


def test_envelope_of_another_kind_is_refused() -> None:
    with pytest.raises(NotThisFormat, match="kind 2"):
        decode(encoded(), kind=wire.Kind.KEYS)


def forged(header: bytes, body: bytes = b"") -> bytes:
    """Write an envelope with any header, as the holder of a token can send it."""
    return struct.pack("<4sHHIQ", b"HEIW", wire.VERSION, 2, len(header), len(body)) + header + body


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b"null",
        b'{"parts":[]} ',
        b'{"parts":[],"parts":[]}',
        b'{"parts": []}',
        b'{"a":NaN,"parts":[]}',
        b'{"b":1,"a":2,"parts":[]}',
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"parts":{}}',
        b'{"parts":[["a"]]}',
        b'{"parts":[["a",-1]]}',
        b'{"parts":[["a",true]]}',
        b'{"parts":[["a",0.0]]}',
        b'{"parts":[["",0]]}',
        b'{"parts":[["a\\u0000",0]]}',
        b'{"parts":[["a",0],["a",0]]}',
        b'{"parts":[["a",1]]}',
        b"{}",
        json.dumps({"parts": [[f"p{i}", 0] for i in range(wire.MAX_PARTS + 1)]}, separators=(",", ":")).encode(),
    ],
)
def test_a_malformed_header_is_refused(header: bytes) -> None:
    with pytest.raises(FormatError):
        decode(forged(header))


def test_a_header_that_json_cannot_carry_is_not_encoded() -> None:
    for bad in ({"a": float("nan")}, {"a": b"bytes"}, {"parts": []}):
        with pytest.raises(NotThisFormat):
            wire.Envelope(wire.Kind.REQUEST, bad, ()).encode()


def test_frozen_envelopes_decode_or_are_refused_by_class() -> None:
    vectors = json.loads(VECTORS.read_text())
    for vector in vectors["good"]:
        pairs = tuple((name, bytes.fromhex(data)) for name, data in vector["parts"])
        envelope = wire.Envelope(wire.Kind(vector["kind"]), vector["header"], pairs)
        assert envelope.encode().hex() == vector["envelope"]
        assert decode(bytes.fromhex(vector["envelope"]), envelope.kind) == envelope
    for vector in vectors["bad"]:
        with pytest.raises(FormatError) as caught:
            decode(bytes.fromhex(vector["envelope"]), wire.Kind(vector["kind"]))
        assert type(caught.value).__name__ == vector["error"]
    for vector in vectors["receipts"]:
        assert wire.receipt_message(vector["receipt"]).hex() == vector["message"]
        pairs = tuple((name, bytes.fromhex(data)) for name, data in vector["parts"])
        assert wire.parts_digest(pairs) == vector["receipt"]["answer"]
        key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(vector["private_key"]))
        assert key.sign(wire.receipt_message(vector["receipt"])).hex() == vector["signature"]
        assert key.public_key().public_bytes_raw().hex() == vector["server_key"]
