"""A second reader of sealed objects, written from docs/format-container.md alone, reads what the package writes."""

import hashlib
import json
import math
import struct

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256

from cipher.algorithm.inner import decrypt_image, encrypt_image
from cipher.algorithm.words import to_words
from cipher.container.api import Options, PixelSpan, seal_bytes
from tests.cipher import by_the_document, recipes

OBJECTS = json.loads(recipes.CONTAINER.read_text())["objects"]
MIB = 1 << 20


def read_by_the_document(sealed: bytes, vault_secret: bytes) -> tuple[bytes, dict[str, str], dict[str, str]]:
    """Payload, private names, labels."""
    found = by_the_document.SealedObject(sealed, vault_secret)
    plain = []
    for number, (data, dtype, size, shape) in enumerate(found.records):
        carrier, true_size = "|u1" if dtype == "|b1" else dtype, math.prod(shape) * size
        image = np.frombuffer(data, carrier if true_size >= 16 else "|u1")
        image = image.reshape(shape) if true_size >= 16 else image
        back = decrypt_image(image, found.inner, found.chunk_salt(number)).tobytes()
        assert not any(back[true_size:])
        plain.append(back[:true_size])
    return b"".join(plain), found.names, found.labels


@pytest.mark.parametrize("name", OBJECTS)
def test_frozen_objects_are_as_the_document_says(name: str) -> None:
    payload, names, labels = read_by_the_document(bytes.fromhex(OBJECTS[name]), recipes.vault_key().secret)
    expected = {
        "an array": recipes.image("signed 16 bit big-endian").tobytes(),
        "a boolean array": recipes.image("1 bit unpacked").tobytes(),
        "an empty file": b"",
        "a file": b"some bytes of a file",
        "labels and something bound": b"body",
        "a region": b"before" + recipes.image("12 bit in 16")[3:7, 2:10].tobytes() + b"after it",
        "a third version": b"v3",
        "a file rekeyed": b"rekeyed",
        "a pixel": recipes.image("16 bit 2x4")[:1, :1].tobytes(),
        "frames in groups": recipes.image("multi-frame 16 bit").tobytes(),
        "shared with two": b"shared",
    }
    whole = b"before" + recipes.image("12 bit in 16").tobytes() + b"after it"
    assert payload == expected.get(name, whole)
    assert names == {"an array": {"name": "scan"}, "a file": {"name": "notes.txt"}}.get(name, {})
    bound = {"Modality": "CT", "SOPInstanceUID": "1.2.3"}
    region = {"holds": "region", "region": "2,3,8,4"}
    assert labels == {"labels and something bound": bound, "a region": region}.get(name, {})


@pytest.mark.parametrize("chunk", [8, 700, 4000, 5000])
def test_chunks_are_cut_as_the_document_says(chunk: int) -> None:
    data = b"head" + recipes.image("multi-frame 16 bit").tobytes() + b"tail!"
    span = PixelSpan(4, len(data) - 9, "<u2", (3, 20, 21))
    key = recipes.vault_key()
    sealed = seal_bytes(data, key, span=span, options=Options(chunk_bytes=chunk, recipient_slots=0))
    assert read_by_the_document(sealed, key.secret)[0] == data


def test_a_large_payload_is_cut_into_chunks_of_16_mib() -> None:
    for payload, limit in ((64 * MIB, 64 * MIB), (64 * MIB + 1, 16 * MIB)):
        header = seal_bytes(bytes(payload), recipes.vault_key())[656:760]
        assert struct.unpack_from("<QQ", header, 72) == (payload, limit)


def test_the_passphrase_file_is_as_the_document_says() -> None:
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
    from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    for text in json.loads(recipes.CONTAINER.read_text())["passphrase"].values():
        blob = bytes.fromhex(text)
        magic, version, algorithm, length, a, b, c, salt, nonce, commitment = struct.unpack_from(
            "<4sHBBIII16s12s16s", blob
        )
        assert (magic, version) == (b"HEIP", 1)
        assert hashlib.sha256(blob[:-8]).digest()[:8] == blob[-8:]
        secret = recipes.PASSPHRASE.encode()
        if algorithm == 2:
            root = Argon2id(salt=salt, length=32, iterations=b, lanes=c, memory_cost=a).derive(secret)
        else:
            root = Scrypt(salt=salt, length=32, n=1 << a, r=b, p=c).derive(secret)
        key = HKDFExpand(algorithm=SHA256(), length=48, info=b"he-infer passphrase 1").derive(root)
        assert key[32:] == commitment
        head = blob[: 64 + length]
        assert head[64:] == b"vault key"
        assert AESGCM(key[:32]).decrypt(nonce, blob[len(head) : -8], head) == recipes.vault_key().secret


@pytest.mark.parametrize(
    "name", ["8 bit 1xN", "8 bit odd sizes", "16 bit 31 pixels", "12 bit in 16", "RGB interleaved"]
)
def test_cipher_image_is_as_the_document_says(name: str) -> None:
    image = recipes.image(name)
    key, salt = recipes.key_and_salt(name)
    rows, columns, bits = by_the_document.fold(image.shape, image.dtype.itemsize)
    words = to_words(image).tolist()
    assert by_the_document.encipher(words, bits, rows, columns, key, salt) == encrypt_image(image, key, salt).tobytes()
