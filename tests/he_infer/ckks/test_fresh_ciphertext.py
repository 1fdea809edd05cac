"""A request's ciphertext has exact bytes and the same residues on both engines; other bytes are refused."""

import struct
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from he_infer.ckks.engines.native.engine import NativeEngine
from he_infer.ckks.engines.native.support import find_obstacle
from he_infer.ckks.engines.protocol import Value
from he_infer.ckks.engines.seal import SealEngine, dump, sealapi, shape_of_fresh
from he_infer.ckks.fresh_ciphertext import read_fresh, write_fresh
from he_infer.ckks.parameters import Parameters
from he_infer.ckks.planes import count_plane_bytes, pack_planes, split_planes, unpack_planes
from he_infer.ckks.planning.message_sizes import count_fresh_bytes
from he_infer.client.keys.secret_key import SecretKey
from he_infer.errors import FormatError, NotThisFormat, UnsupportedVersion

PARAMETERS = Parameters(4096, (37, 25, 36))
SIZE, SCALE = 4096, 2.0**22
SHAPE = shape_of_fresh(PARAMETERS, SCALE)
BYTES = 4 + SIZE * (37 + 25) // 8 + 64


class Client:
    def __init__(self) -> None:
        self.secret = SecretKey.generate(PARAMETERS)
        self.slots = np.linspace(-1, 1, SIZE // 2)
        self.sent = self.secret.encrypt([self.slots], SCALE)[0]


@pytest.fixture(scope="module")
def client() -> Client:
    return Client()


@pytest.fixture(scope="module", params=["seal", "native"])
def engine(request: pytest.FixtureRequest) -> SealEngine | NativeEngine:
    if request.param == "seal":
        return SealEngine(PARAMETERS)
    if obstacle := find_obstacle():
        pytest.skip(f"no native engine here: {obstacle}")
    return NativeEngine(PARAMETERS)


@given(bits=st.integers(1, 63), groups=st.integers(1, 9), data=st.data())
def test_numbers_come_back_from_their_planes(bits: int, groups: int, data: st.DataObject) -> None:
    wanted = np.array(
        data.draw(st.lists(st.integers(0, (1 << bits) - 1), min_size=8 * groups, max_size=8 * groups)), dtype=np.uint64
    )
    packed = pack_planes(wanted, bits)
    assert len(packed) == count_plane_bytes(len(wanted), bits) == bits * groups
    assert (unpack_planes(packed, len(wanted), bits) == wanted).all()


@given(bits=st.integers(1, 63), data=st.data())
def test_every_bit_string_is_read_and_written_alike(bits: int, data: st.DataObject) -> None:
    """There is no padding and no second encoding: the bytes of 16 numbers are read and written as the same bytes."""
    packed = data.draw(st.binary(min_size=2 * bits, max_size=2 * bits))
    assert pack_planes(unpack_planes(packed, 16, bits), bits) == packed


def test_planes_stand_as_documented() -> None:
    assert split_planes(50) == [(32, 0), (16, 32), (2, 48)]
    numbers = np.arange(8, dtype=np.uint64) + np.uint64(0x3FFFF_01020304 & ((1 << 50) - 1))
    data = pack_planes(numbers, 50)
    assert data[:4] == b"\x04\x03\x02\x01"
    assert data[32:34] == b"\xff\xff"
    assert data[48:] == b"\xff\xff"
    assert pack_planes(np.array([1, 0, 1, 1, 0, 0, 0, 1], dtype=np.uint64), 1) == bytes([0b10001101])
    assert pack_planes(np.array([1, 2, 3, 4, 5, 6, 7, 8], dtype=np.uint64), 4) == b"\x21\x43\x65\x87"


def test_ciphertext_has_its_exact_length_and_opens(engine: SealEngine | NativeEngine, client: Client) -> None:
    assert len(client.sent) == BYTES == count_fresh_bytes(SIZE, PARAMETERS.data_bits)
    value = engine.load(client.sent, SCALE)
    assert np.abs(client.secret.decrypt([engine.dump(value)])[0] - client.slots).max() < 1e-3


def test_both_engines_read_the_same_residues(client: Client) -> None:
    if obstacle := find_obstacle():
        pytest.skip(f"no native engine here: {obstacle}")
    polynomials = []
    for made in (SealEngine(PARAMETERS), NativeEngine(PARAMETERS)):
        value: Value = made.drop(made.load(client.sent, SCALE), 0)
        polynomials.append(made.read_polynomials(value))
    assert (polynomials[0] == polynomials[1]).all()


def replaced(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


_SECOND_PRIME = 4 + SIZE * 37 // 8
CASES: dict[str, tuple[type[FormatError], Callable[[bytes], bytes]]] = {
    "empty": (NotThisFormat, lambda data: b""),
    "magic alone": (NotThisFormat, lambda data: data[:4]),
    "cut": (NotThisFormat, lambda data: data[:-1]),
    "longer": (NotThisFormat, lambda data: data + b"\0"),
    "without seed": (NotThisFormat, lambda data: data[:-64]),
    "another format": (NotThisFormat, lambda data: replaced(data, 0, b"HEA")),
    "an older version": (UnsupportedVersion, lambda data: replaced(data, 3, b"\1")),
    "a newer version": (UnsupportedVersion, lambda data: replaced(data, 3, b"\3")),
    "version cut off": (UnsupportedVersion, lambda data: data[:3]),
    "an object of SEAL": (UnsupportedVersion, lambda data: dump(sealapi.Ciphertext())),
    "residues of all ones": (NotThisFormat, lambda data: replaced(data, 4, b"\xff" * (SIZE * 37 // 8))),
    "last residue of all ones": (
        NotThisFormat,
        lambda data: replaced(
            replaced(replaced(data, 4 + 4 * SIZE - 4, b"\xff" * 4), 4 + 4 * SIZE + SIZE // 2 - 1, b"\xff"),
            _SECOND_PRIME - 1,
            b"\xff",
        ),
    ),
    "second prime of all ones": (
        NotThisFormat,
        lambda data: replaced(data, _SECOND_PRIME, b"\xff" * (SIZE * 25 // 8)),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_malformed_ciphertext_is_refused(engine: SealEngine | NativeEngine, client: Client, name: str) -> None:
    error, change = CASES[name]
    with pytest.raises(error):
        engine.load(change(client.sent), SCALE)


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_any_bytes_are_read_whole_or_refused(data: st.DataObject) -> None:
    """A changed ciphertext is refused, or is read and written as the same bytes: there is no second encoding."""
    sent = bytearray(_client().sent)
    for _ in range(data.draw(st.integers(1, 4))):
        sent[data.draw(st.integers(0, len(sent) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read_fresh(bytes(sent), SHAPE)
    except FormatError:
        return
    assert write_fresh(found, SHAPE) == bytes(sent)


@settings(deadline=None, max_examples=50)
@given(data=st.binary(max_size=300))
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        read_fresh(data, SHAPE)


def _client(held: list[Client] = []) -> Client:  # noqa: B006 - kept between the examples of one test
    if not held:
        held.append(Client())
    return held[0]


def test_long_bytes_are_refused_before_anything_is_allocated(engine: SealEngine | NativeEngine) -> None:
    data = b"HEC\2" + bytes(1 << 26)
    tracemalloc.start()
    try:
        with pytest.raises(NotThisFormat, match=f"{len(data)} bytes"):
            engine.load(data, SCALE)
        assert tracemalloc.get_traced_memory()[1] < 1 << 16
    finally:
        tracemalloc.stop()


def test_seed_of_all_zeros_is_expanded_like_any_other(engine: SealEngine | NativeEngine, client: Client) -> None:
    """Seeds are hashed: none gives a second polynomial of zeros, which would make the ciphertext transparent."""
    value = engine.drop(engine.load(client.sent[:-64] + bytes(64), SCALE), 0)
    second = engine.read_polynomials(value)[1]
    assert len(np.unique(second)) > SIZE * 0.99
    assert struct.pack("<Q", int(second[0])) != bytes(8)
