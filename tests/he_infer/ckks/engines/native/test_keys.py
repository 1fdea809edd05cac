"""The native engine reads a client's keys: keys other than the plan's are refused before they are inflated."""

import struct
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import zstandard

from he_infer.ckks.engines.native.engine import NativeEngine
from he_infer.ckks.engines.native.expanded import name_level, read_out, write_out
from he_infer.ckks.engines.native.kernels.entry_points import Kernels
from he_infer.ckks.engines.seal import SealEngine
from he_infer.ckks.layouts.ring import conjugation, galois_element
from he_infer.ckks.parameters import Parameters
from he_infer.client.keys.secret_key import SecretKey
from he_infer.errors import FormatError, KeyProblem, MissingKey, NotThisFormat, SecretKeyRefused

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


def test_level_id_equals_that_of_seal() -> None:
    seal = SealEngine(PARAMETERS)
    for level, words in enumerate(seal._ids):
        assert name_level(SIZE, seal.primes[: level + 1]) == np.array(list(words), "<u8").tobytes()


def test_written_ciphertext_is_read_by_seal(engine: NativeEngine, client: Client) -> None:
    value = engine.load(client.ciphertext, SCALE)
    written = engine.dump(value)
    assert (read_out(written, SIZE, engine.primes[:2]) == engine.residues(value)).all()
    opened = client.secret.decrypt([written])[0]
    assert np.abs(opened - np.linspace(-1, 1, SIZE // 2)).max() < 1e-4


def test_compression_bomb_is_refused_before_it_is_inflated(engine: NativeEngine, client: Client) -> None:
    bomb = compressed(bytes(1 << 28))
    assert len(bomb) < 1 << 16
    tracemalloc.start()
    try:
        with pytest.raises(NotThisFormat, match="size"):
            load_keys(engine, client.parts | {"public": bomb})
        assert tracemalloc.get_traced_memory()[1] < 1 << 21
    finally:
        tracemalloc.stop()


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
    expanded = write_out(zeros, 1.0, engine.primes)
    with pytest.raises(NotThisFormat):
        load_keys(engine, client.parts | {"public": expanded})
