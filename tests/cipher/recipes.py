"""Recipes of the frozen vectors, and a check of their results.

    python -m tests.cipher.recipes          checks the vectors, on this Python and numpy, with every engine
    python -m tests.cipher.recipes write    makes them anew: only when a new format version is meant

Needs numpy and `cryptography` alone, so that it also runs beside another numpy than the tests'.
"""

import hashlib
import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest import mock

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from cipher.algorithm.engine import Engine, by_name
from cipher.algorithm.geometry import grid_of
from cipher.algorithm.inner import encrypt_image
from cipher.algorithm.key_schedule import Stage, extract_key, update_key
from cipher.algorithm.network import create_network
from cipher.container import recipients as slots
from cipher.container.api import ObjectVersion, Options, PixelSpan, rekey_bytes, seal_array, seal_bytes
from cipher.container.header import Kind, Segment
from cipher.container.sealing import seal_segments
from cipher.keys import passphrase
from cipher.keys.recipient_key import RecipientKey
from cipher.keys.vault_key import VaultKey

FOLDER = Path(__file__).parents[1] / "vectors"
INNER = FOLDER / "cipher-inner-v2.json"
CONTAINER = FOLDER / "cipher-container-v2.json"
PASSPHRASE = "correct horse battery staple"

# name: (type, shape, mask of the bits in use or none)
IMAGES: dict[str, tuple[str, tuple[int, ...], int | None]] = {
    "8 bit 4x4": ("|u1", (4, 4), None),
    "8 bit 17 pixels": ("|u1", (17,), None),
    "8 bit 1xN": ("|u1", (1, 97), None),
    "8 bit Nx1": ("|u1", (97, 1), None),
    "8 bit 3x7": ("|u1", (3, 7), None),
    "8 bit odd sizes": ("|u1", (35, 61), None),
    "8 bit 31 pixels": ("|u1", (31, 31), None),
    "8 bit 33 pixels": ("|u1", (33, 33), None),
    "8 bit 31 by 33": ("|u1", (31, 33), None),
    "8 bit several tiles": ("|u1", (150, 700), None),
    "16 bit 2x4": ("<u2", (2, 4), None),
    "16 bit 1xN": ("<u2", (1, 97), None),
    "16 bit Nx1": ("<u2", (97, 1), None),
    "16 bit odd sizes": ("<u2", (35, 61), None),
    "16 bit 31 pixels": ("<u2", (31, 31), None),
    "16 bit 33 pixels": ("<u2", (33, 33), None),
    "16 bit several tiles": ("<u2", (170, 401), None),
    "16 bit big-endian": (">u2", (33, 40), None),
    "12 bit in 16": ("<u2", (40, 50), 0x0FFF),
    "signed 8 bit": ("|i1", (40, 50), None),
    "signed 16 bit": ("<i2", (40, 50), None),
    "signed 16 bit big-endian": (">i2", (40, 50), None),
    "signed 12 bit in 16": ("<i2", (40, 50), 0x07FF),
    "32 bit": ("<u4", (33, 35), None),
    "32 bit big-endian": (">u4", (33, 35), None),
    "signed 32 bit": ("<i4", (33, 35), None),
    "64 bit": ("<u8", (20, 21), None),
    "half float": ("<f2", (33, 35), None),
    "float": ("<f4", (33, 35), None),
    "double big-endian": (">f8", (20, 21), None),
    "1 bit unpacked": ("|b1", (33, 40), 1),
    "1 bit packed": ("|u1", (40, 5), None),
    "RGB interleaved": ("|u1", (33, 40, 3), None),
    "RGB planar": ("|u1", (3, 33, 40), None),
    "RGB 16 bit interleaved": ("<u2", (33, 40, 3), None),
    "palette indices": ("|u1", (33, 40), 0x0F),
    "multi-frame 8 bit": ("|u1", (5, 33, 34), None),
    "multi-frame 16 bit": ("<u2", (3, 20, 21), None),
    "multi-frame RGB": ("|u1", (4, 20, 21, 3), None),
    "bytes": ("|u1", (1000,), None),
    "a prime number of bytes": ("|u1", (1009,), None),
    "black": ("<u2", (64, 64), 0),
}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def image(name: str) -> NDArray[np.generic]:
    """The image of a recipe: SHAKE256 of its name, masked."""
    dtype, shape, mask = IMAGES[name]
    count = math.prod(shape)
    raw = hashlib.shake_256(name.encode()).digest(count * int(dtype[2:]))
    values = np.frombuffer(raw, "<u" + dtype[2:] if dtype[2:] != "1" else "|u1")
    if mask is not None:
        values = values & values.dtype.type(mask)
    little = dtype.replace(">", "<")
    return values.astype(values.dtype).view(little).reshape(shape).astype(dtype, copy=False)


def key_and_salt(name: str) -> tuple[bytes, bytes]:
    return hashlib.sha256(b"key " + name.encode()).digest(), hashlib.sha256(b"salt " + name.encode()).digest()[:16]


def inner_vectors(engine: Engine) -> dict[str, dict[str, str]]:
    """Digest and first bytes of every recipe's cipher image."""
    vectors = {}
    for name, (dtype, shape, _) in IMAGES.items():
        plain = image(name)
        enciphered = encrypt_image(plain, *key_and_salt(name), engine=engine)
        vectors[name] = {
            "dtype": dtype,
            "shape": "x".join(map(str, shape)),
            "plain_sha256": digest(plain.tobytes()),
            "cipher_sha256": digest(enciphered.tobytes()),
            "cipher_begins": enciphered.tobytes()[:16].hex(),
        }
    return vectors


def network_vector(engine: Engine) -> dict[str, str]:
    """The steps on the way to a key stream, for whoever writes another implementation."""
    key, salt = key_and_salt("network")
    (subkey,) = update_key(extract_key(key, salt), Stage.LOWER, grid_of((64, 48), 2), features=bytes(128))
    network = create_network(subkey, 5, 6, engine)
    sheets = np.zeros(3 * network.sheet_bytes // 8, np.uint64)
    engine.add_stream(network, 0, sheets)
    return {
        "key": key.hex(),
        "salt": salt.hex(),
        "subkey": subkey.hex(),
        "seeds": network.seeds.astype("<u8").tobytes().hex(),
        "weights_sha256": digest(network.weights.astype("<u8").tobytes()),
        "biases_sha256": digest(network.biases.astype("<u8").tobytes()),
        "first_words": sheets[:4].astype("<u8").tobytes().hex(),
        "three_sheets_sha256": digest(sheets.astype("<u8").tobytes()),
    }


@contextmanager
def fixed_random(seed: str) -> Iterator[None]:
    """Replace the operating system's generator by a counter under SHAKE256, for vectors only."""
    calls = iter(range(1 << 20))

    def urandom(size: int) -> bytes:
        return hashlib.shake_256(f"{seed} {next(calls)}".encode()).digest(size)

    def generate() -> X25519PrivateKey:
        return X25519PrivateKey.from_private_bytes(urandom(32))

    with mock.patch.object(os, "urandom", urandom), mock.patch.object(slots, "generate_ephemeral", generate):
        yield


def vault_key(name: str = "vault") -> VaultKey:
    return VaultKey(hashlib.sha256(name.encode()).digest())


def recipient_key(name: str) -> RecipientKey:
    return RecipientKey(X25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest()))


def _file() -> bytes:
    return b"before" + image("12 bit in 16").tobytes() + b"after it"


def _region() -> bytes:
    target = io.BytesIO()
    pixels = np.ascontiguousarray(image("12 bit in 16")[3:7, 2:10])
    segments = (Segment("|u1", (6,), pixels=False), Segment("<u2", (4, 8)), Segment("|u1", (8,), pixels=False))
    options = Options(labels={"holds": "region", "region": "2,3,8,4"}, associated=b"the image around it")
    payload = memoryview(b"before" + pixels.tobytes() + b"after it")
    seal_segments(payload, target, vault_key(), Kind.REGION, segments, options)
    return target.getvalue()


OBJECTS: dict[str, Callable[[], bytes]] = {
    "an array": lambda: seal_array(image("signed 16 bit big-endian"), vault_key(), name="scan"),
    "a boolean array": lambda: seal_array(image("1 bit unpacked"), vault_key()),
    "an empty file": lambda: seal_bytes(b"", vault_key()),
    "a file": lambda: seal_bytes(b"some bytes of a file", vault_key(), name="notes.txt"),
    "a file with pixels": lambda: seal_bytes(_file(), vault_key(), span=PixelSpan(6, 4000, "<u2", (40, 50))),
    "a file in chunks": lambda: seal_bytes(
        _file(), vault_key(), span=PixelSpan(6, 4000, "<u2", (40, 50)), options=Options(chunk_bytes=1024)
    ),
    "a pixel": lambda: seal_array(image("16 bit 2x4")[:1, :1], vault_key()),
    "frames in groups": lambda: seal_array(
        image("multi-frame 16 bit"), vault_key(), options=Options(frames=2, recipient_slots=0)
    ),
    "shared with two": lambda: seal_bytes(
        b"shared",
        vault_key(),
        options=Options(recipients=((recipient_key("one").public, False), (recipient_key("two").public, True))),
    ),
    "labels and something bound": lambda: seal_bytes(
        b"body",
        vault_key(),
        options=Options(labels={"SOPInstanceUID": "1.2.3", "Modality": "CT"}, associated=b"attributes"),
    ),
    "a region": lambda: _region(),
    "a third version": lambda: seal_bytes(b"v3", vault_key(), options=Options(replaces=ObjectVersion("ab" * 16, 2))),
    "a file rekeyed": lambda: rekey_bytes(seal_bytes(b"rekeyed", vault_key("old")), vault_key("old"), vault_key()),
}

BLOBS: dict[str, passphrase.Cost] = {
    "Argon2id": passphrase.Cost(passphrase.ARGON2ID, 64, 2, 2),
    "scrypt": passphrase.Cost(passphrase.SCRYPT, 10, 8, 1),
}


def container_vectors() -> dict[str, dict[str, str]]:
    """Whole sealed objects and passphrase-protected blobs, under fixed randomness."""
    objects = {}
    for name, make in OBJECTS.items():
        with fixed_random(name):
            objects[name] = make().hex()
    blobs = {}
    for name, cost in BLOBS.items():
        with fixed_random(name):
            blobs[name] = passphrase.seal(vault_key().secret, PASSPHRASE, "vault key", cost=cost).hex()
    return {"objects": objects, "passphrase": blobs}


def engines() -> list[Engine]:
    """Every engine that is installed."""
    found = [by_name("numpy")]
    with suppress(ValueError):
        found.append(by_name("numba"))
    return found


def main(arguments: list[str]) -> int:
    if arguments == ["write"]:
        engine = by_name("numpy")
        inner = {"network": network_vector(engine), "images": inner_vectors(engine)}
        INNER.write_text(json.dumps(inner, indent=1) + "\n")
        CONTAINER.write_text(json.dumps(container_vectors(), indent=1) + "\n")
    inner = json.loads(INNER.read_text())
    wrong = 0
    for engine in engines():
        same = inner == {"network": network_vector(engine), "images": inner_vectors(engine)}
        wrong += not same
        print(f"numpy {np.__version__}, engine {engine.name}: inner cipher {'as frozen' if same else 'DIFFERS'}")
    same = json.loads(CONTAINER.read_text()) == container_vectors()
    wrong += not same
    print(f"numpy {np.__version__}: container {'as frozen' if same else 'DIFFERS'}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
