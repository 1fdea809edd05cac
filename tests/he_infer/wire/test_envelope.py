"""The envelope: round trips, frozen bytes, and the order in which a bad one is refused."""

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from he_infer.errors import FormatError, NotAuthentic, NotThisFormat, Truncated, UnsupportedVersion
from he_infer.wire import envelope as wire

VECTORS = Path(__file__).parents[2] / "vectors" / "envelope-v1.json"
TOKEN = "hei_0123456789abcdef_" + "A" * 43
KEY = wire.mac_key(TOKEN, wire.Direction.TO_SERVER)
LIMIT = 1 << 20

names = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)
parts = st.lists(st.tuples(names, st.binary(max_size=200)), max_size=6, unique_by=lambda pair: pair[0]).map(tuple)
values = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20)
headers = st.dictionaries(st.text(max_size=8).filter(lambda name: name != "parts"), values, max_size=5)


def open_(data: bytes, key: bytes = KEY, kind: wire.Kind = wire.Kind.REQUEST) -> wire.Envelope:
    return wire.Envelope.open(data, key, kind=kind, max_bytes=LIMIT)


def sealed(header: dict[str, object] | None = None) -> bytes:
    return wire.Envelope(wire.Kind.REQUEST, header or {"model": "m"}, (("ct0", b"abc"), ("ct1", b""))).seal(KEY)


@given(headers, parts)
def test_what_is_sealed_opens_again(header: dict[str, object], pairs: tuple[tuple[str, bytes], ...]) -> None:
    envelope = wire.Envelope(wire.Kind.REQUEST, header, pairs)
    assert open_(envelope.seal(KEY)) == envelope


@given(st.data())
def test_every_changed_byte_is_refused(data: st.DataObject) -> None:
    good = sealed()
    at = data.draw(st.integers(0, len(good) - 1))
    flip = data.draw(st.integers(1, 255))
    bad = good[:at] + bytes([good[at] ^ flip]) + good[at + 1 :]
    with pytest.raises(FormatError):
        open_(bad)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        open_(data)


@given(st.integers(0, 200), st.binary(min_size=1, max_size=40))
def test_cut_and_lengthened_envelopes_are_refused(cut: int, tail: bytes) -> None:
    good = sealed()
    with pytest.raises(FormatError):
        open_(good[: min(cut, len(good) - 1)])
    with pytest.raises(Truncated):
        open_(good + tail)


def test_each_direction_and_token_has_its_own_key() -> None:
    keys = {wire.mac_key(token, direction) for token in (TOKEN, TOKEN[:-1] + "B") for direction in wire.Direction}
    assert len(keys) == 4
    with pytest.raises(NotAuthentic):
        open_(sealed(), wire.mac_key(TOKEN, wire.Direction.TO_CLIENT))


def test_the_mac_is_checked_before_the_header_is_parsed() -> None:
    body = b"not json at all"
    prefix = struct.pack("<4sHHIQ", b"HEIW", 1, 2, len(body), 0)
    with pytest.raises(NotAuthentic):
        open_(prefix + body + bytes(32))


def test_lengths_are_checked_before_the_mac() -> None:
    with pytest.raises(NotThisFormat, match="at most"):
        open_(b"HEIW" + bytes(LIMIT))
    with pytest.raises(NotThisFormat, match="at most"):
        open_(struct.pack("<4sHHIQ", b"HEIW", 1, 2, wire.MAX_HEADER + 1, 0) + bytes(40))


def test_another_version_is_named() -> None:
    good = bytearray(sealed())
    good[4] = 2
    with pytest.raises(UnsupportedVersion, match="version 2"):
        open_(bytes(good))


def test_another_kind_is_refused() -> None:
    with pytest.raises(NotThisFormat, match="kind 2"):
        open_(sealed(), kind=wire.Kind.KEYS)


def forged(header: bytes, body: bytes = b"") -> bytes:
    """An envelope with a valid MAC and whatever header: what a holder of a token can send."""
    import hmac

    signed = struct.pack("<4sHHIQ", b"HEIW", 1, 2, len(header), len(body)) + header + body
    return signed + hmac.digest(KEY, signed, "sha256")


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
def test_a_malformed_header_is_refused_even_with_a_right_mac(header: bytes) -> None:
    with pytest.raises(FormatError):
        open_(forged(header))


def test_a_header_that_json_cannot_carry_is_refused_when_sealing() -> None:
    for bad in ({"a": float("nan")}, {"a": b"bytes"}, {"parts": []}):
        with pytest.raises(NotThisFormat):
            wire.Envelope(wire.Kind.REQUEST, bad, ()).seal(KEY)


def test_frozen_vectors() -> None:
    vectors = json.loads(VECTORS.read_text())
    for vector in vectors["good"]:
        key = wire.mac_key(vector["token"], wire.Direction[vector["direction"]])
        assert key.hex() == vector["mac_key"]
        pairs = tuple((name, bytes.fromhex(data)) for name, data in vector["parts"])
        envelope = wire.Envelope(wire.Kind(vector["kind"]), vector["header"], pairs)
        assert envelope.seal(key).hex() == vector["envelope"]
        data = bytes.fromhex(vector["envelope"])
        assert wire.Envelope.open(data, key, kind=envelope.kind, max_bytes=LIMIT) == envelope
    for vector in vectors["bad"]:
        key = wire.mac_key(vector["token"], wire.Direction[vector["direction"]])
        with pytest.raises(FormatError) as caught:
            wire.Envelope.open(bytes.fromhex(vector["envelope"]), key, kind=wire.Kind(vector["kind"]), max_bytes=LIMIT)
        assert type(caught.value).__name__ == vector["error"]
    for vector in vectors["receipts"]:
        assert wire.receipt_message(vector["receipt"]).hex() == vector["message"]
        pairs = tuple((name, bytes.fromhex(data)) for name, data in vector["parts"])
        assert wire.parts_digest(pairs) == vector["receipt"]["answer"]
