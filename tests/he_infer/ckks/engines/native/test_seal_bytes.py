"""SEAL's bytes read without SEAL: the same residues, and everything else refused before it is inflated."""

import struct
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from he_infer.ckks.engines.native import seal_bytes
from he_infer.ckks.engines.native.engine import NativeEngine
from he_infer.ckks.engines.native.kernels.entry_points import Kernels
from he_infer.ckks.engines.seal import SealEngine, dump, parse, sealapi
from he_infer.ckks.layouts.ring import conjugation, galois_element
from he_infer.ckks.parameters import Parameters
from he_infer.client.keys.secret_key import SecretKey
from he_infer.errors import FormatError, KeyProblem, MissingKey, NotThisFormat, SecretKeyRefused, Truncated

PARAMETERS = Parameters(4096, (36, 34, 36))
SIZE, SCALE = 4096, 2.0**30
ELEMENTS = (galois_element(3, SIZE), conjugation(SIZE))
_HEADER = struct.Struct("<HBBBBHQ")


class Client:
    def __init__(self) -> None:
        self.secret = SecretKey.generate(PARAMETERS)
        self.parts = self.secret.keys_for(ELEMENTS, relinearise=True, public=True)
        self.ciphertext = self.secret.encrypt([np.linspace(-1, 1, SIZE // 2)], SCALE)[0]


@pytest.fixture(scope="module")
def client() -> Client:
    return Client()


@pytest.fixture(scope="module")
def engine(kernels: Kernels) -> NativeEngine:
    return NativeEngine(PARAMETERS, kernels)


def inflate(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(data[16:])


def stored(body: bytes) -> bytes:
    return _HEADER.pack(0xA15E, 16, 4, 3, 0, 0, 16 + len(body)) + body


def compressed(body: bytes) -> bytes:
    squeezed = zstandard.ZstdCompressor().compress(body)
    return _HEADER.pack(0xA15E, 16, 4, 3, 2, 0, 16 + len(squeezed)) + squeezed


def replaced(body: bytes, at: int, new: bytes) -> bytes:
    return body[:at] + new + body[at + len(new) :]


def test_level_has_name_of_seal() -> None:
    seal = SealEngine(PARAMETERS)
    for level, words in enumerate(seal._ids):
        assert seal_bytes.parameters_id(SIZE, seal.primes[: level + 1]) == np.array(list(words), "<u8").tobytes()


def test_uncompressed_and_compressed_ciphertext_are_the_same(engine: NativeEngine, client: Client) -> None:
    body = inflate(client.ciphertext)
    one, two = engine.load(stored(body), SCALE), engine.load(client.ciphertext, SCALE)
    assert (one.data == two.data).all()


def test_written_ciphertext_is_read_by_seal(engine: NativeEngine, client: Client) -> None:
    seal, value = SealEngine(PARAMETERS), engine.load(client.ciphertext, SCALE)
    again = parse(sealapi.Ciphertext(), PARAMETERS, engine.dump(value))
    assert (seal_bytes.read_residues(dump(again), SIZE, seal.primes[:2]) == engine.residues(value)).all()


# Offsets in a ciphertext's body: id 0, transformed 32, polynomials 33, N 41, primes 49, scale 57, correction 65, then
# the array's header 73, count 89, residues 97; after 2 * 8 * 4096 bytes of them the seed's header of 16, kind, seed.
_SEED = 97 + 2 * 8 * SIZE
CASES: dict[str, Callable[[bytes], bytes]] = {
    "other parameters": lambda body: replaced(body, 0, bytes(32)),
    "not transformed": lambda body: replaced(body, 32, b"\0"),
    "three polynomials": lambda body: replaced(body, 33, struct.pack("<Q", 3)),
    "another ring": lambda body: replaced(body, 41, struct.pack("<Q", 8192)),
    "another level": lambda body: replaced(body, 49, struct.pack("<Q", 1)),
    "another scale": lambda body: replaced(body, 57, struct.pack("<d", SCALE * 1.01)),
    "scale of NaN": lambda body: replaced(body, 57, struct.pack("<d", float("nan"))),
    "infinite scale": lambda body: replaced(body, 57, struct.pack("<d", float("inf"))),
    "nested magic": lambda body: replaced(body, 73, b"\0\0"),
    "nested compression": lambda body: replaced(body, 78, b"\2"),
    "nested size": lambda body: replaced(body, 81, struct.pack("<Q", 1 << 60)),
    "count of residues": lambda body: replaced(body, 89, struct.pack("<Q", 1 << 60)),
    "residue is the prime": lambda body: replaced(body, 97, b"\xff" * 7 + b"\0"),
    "negative residue": lambda body: replaced(body, 97 + 8 * SIZE, b"\xff" * 8),
    "last residue": lambda body: replaced(body, _SEED - 8, b"\xff" * 8),
    "seed header": lambda body: replaced(body, _SEED, b"\0"),
    "another generator": lambda body: replaced(body, _SEED + 16, b"\2"),
    "cut": lambda body: body[:-1],
    "longer": lambda body: body + b"\0",
    "empty": lambda body: b"",
    "expanded": lambda body: body[:89] + struct.pack("<Q", 4 * SIZE) + bytes(4 * 8 * SIZE),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("wrap", [stored, compressed])
def test_malformed_ciphertext_is_refused(
    engine: NativeEngine, client: Client, name: str, wrap: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(FormatError):
        engine.load(wrap(CASES[name](inflate(client.ciphertext))), SCALE)


def test_bomb_is_refused_before_it_is_inflated(engine: NativeEngine) -> None:
    bomb = compressed(bytes(1 << 28))
    assert len(bomb) < 1 << 16
    tracemalloc.start()
    try:
        with pytest.raises(Truncated, match="more bytes"):
            engine.load(bomb, SCALE)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@settings(deadline=None, max_examples=60)
@given(at=st.integers(0, 16 + 60_000), bit=st.integers(0, 7))
def test_flipped_bit_is_refused_or_gives_other_residues(kernels: Kernels, at: int, bit: int) -> None:
    data = bytearray(_client().ciphertext)
    data[at % len(data)] ^= 1 << bit
    try:
        NativeEngine(PARAMETERS, kernels).load(bytes(data), SCALE)
    except FormatError:
        return


def _client(held: list[Client] = []) -> Client:  # noqa: B006 - kept between the examples of one test
    if not held:
        held.append(Client())
    return held[0]


def load_keys(engine: NativeEngine, parts: dict[str, bytes]) -> None:
    engine.load_keys(parts, ELEMENTS, relinearise=True, public=True)


@pytest.mark.parametrize("part", ["galois", "relin", "public"])
def test_missing_part_is_named(engine: NativeEngine, client: Client, part: str) -> None:
    with pytest.raises(MissingKey, match=f"'{part}'"):
        load_keys(engine, {name: data for name, data in client.parts.items() if name != part})


@pytest.mark.parametrize("part", ["galois", "relin", "public"])
def test_secret_key_in_place_of_a_part_is_refused_by_name(engine: NativeEngine, client: Client, part: str) -> None:
    secret = client.secret.to_bytes()[5 + len(PARAMETERS.modulus_bits) :]
    with pytest.raises(SecretKeyRefused):
        load_keys(engine, client.parts | {part: secret})


@pytest.mark.parametrize(
    "elements", [ELEMENTS[:1], (*ELEMENTS, galois_element(5, SIZE)), (ELEMENTS[0], galois_element(5, SIZE))]
)
def test_keys_for_other_rotations_are_refused(engine: NativeEngine, client: Client, elements: tuple[int, ...]) -> None:
    galois = client.secret.keys_for(elements, relinearise=False, public=False)["galois"]
    with pytest.raises((KeyProblem, FormatError)):
        load_keys(engine, client.parts | {"galois": galois})


@pytest.mark.parametrize(
    "change",
    [
        lambda body: replaced(body, 0, bytes(32)),
        lambda body: replaced(body, 32, struct.pack("<Q", 1 << 60)),
        lambda body: replaced(body, 40, struct.pack("<Q", 1 << 60)),
        lambda body: replaced(body, 40, struct.pack("<Q", 1)),
        lambda body: replaced(body, 40 + 8 * SIZE - 8, struct.pack("<Q", 2)),
        lambda body: body[:-1],
        lambda body: body + bytes(8),
        lambda body: bytes(len(body)),
        lambda body: body[:40] + b"\xff" * (len(body) - 40),
    ],
)
def test_malformed_galois_keys_are_refused(
    engine: NativeEngine, client: Client, change: Callable[[bytes], bytes]
) -> None:
    body = inflate(client.parts["galois"])
    with pytest.raises((KeyProblem, FormatError)):
        load_keys(engine, client.parts | {"galois": compressed(change(body))})


def test_public_key_that_is_not_seeded_is_refused(engine: NativeEngine, client: Client) -> None:
    zeros = np.zeros((2, 3, SIZE), dtype=np.uint64)
    expanded = seal_bytes.write_ciphertext(zeros, 1.0, engine.primes)
    with pytest.raises(Truncated):
        load_keys(engine, client.parts | {"public": expanded})


def test_unknown_compression_is_refused_by_name(engine: NativeEngine, client: Client) -> None:
    data = bytearray(client.ciphertext)
    data[5] = 1
    with pytest.raises(NotThisFormat, match="method 1"):
        engine.load(bytes(data), SCALE)
