"""A second reader of sealed objects, written from docs/format-container.md alone, reads what the package writes."""

import hashlib
import hmac
import json
import math
import struct

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap

from cipher.algorithm.inner import decrypt_image
from cipher.container.api import Options, PixelSpan, seal_bytes
from tests.cipher import recipes

OBJECTS = json.loads(recipes.CONTAINER.read_text())["objects"]
MIB = 1 << 20


def derive(secret: bytes, length: int, salt: bytes | None, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(secret)


def read_by_the_document(sealed: bytes, vault_secret: bytes) -> tuple[bytes, dict[str, str], dict[str, str]]:
    """Payload, private names, labels."""
    magic, version, kind, h, zero = struct.unpack_from("<4sHHII", sealed)
    assert (magic, version, zero) == (b"HEIV", 1, 0)
    header, commitment = sealed[144 : 144 + h], sealed[144 + h : 176 + h]
    salt = header[24:40]
    payload, limit, p, labels_length, count = struct.unpack_from("<QQIHH", header, 72)
    at, segments = 96, []
    for _ in range(count):
        pixels, order_and_kind, size, dimensions = struct.unpack_from("<B2sBB", header, at)
        shape = struct.unpack_from(f"<{dimensions}Q", header, at + 5)
        segments.append((pixels, order_and_kind.decode() + str(size), size, shape))
        at += 5 + 8 * dimensions
    assert at + labels_length == h
    assert [pixels for pixels, *_ in segments] == {1: [1], 2: [0], 3: [0, 1, 0]}[kind]
    assert payload == sum(math.prod(shape) * size for _, _, size, shape in segments)

    slots = [sealed[16:80], sealed[80:144]]
    full = [slot for slot in slots if slot != bytes(64)]
    assert all(hashlib.sha256(slot[:56]).digest()[:8] == slot[56:] for slot in full)
    key_id = derive(vault_secret, 16, None, b"he-infer vault 1 key id")
    (slot,) = [slot for slot in full if slot[:16] == key_id]
    data_key = aes_key_unwrap(derive(vault_secret, 32, None, b"he-infer vault 1 wrap"), slot[16:56])
    keys = derive(data_key, 96, salt, b"he-infer object 1 keys")
    sealing, inner, committing = AESGCM(keys[:32]), keys[32:64], keys[64:]
    assert hmac.digest(committing, sealed[:16] + header, "sha256") == commitment

    chunks = [chunk for segment in segments for chunk in cut(segment, limit)]
    position = 176 + h
    assert len(sealed) == position + p + payload + 16 * (len(chunks) + 1)

    def record(number: int, length: int) -> bytes:
        nonlocal position
        last = bytes([number == len(chunks)])
        place = number.to_bytes(8, "little")
        body = sealed[position : position + length + 16]
        position += length + 16
        return sealing.decrypt(place + bytes(3) + last, body, commitment + place + last)

    names = record(0, p)
    plain = []
    for number, (dtype, size, shape) in enumerate(chunks):
        opened = record(number + 1, math.prod(shape) * size)
        carrier = "|u1" if dtype == "|b1" else dtype
        chunk_salt = hashlib.sha256(b"he-infer chunk 1" + salt + number.to_bytes(8, "little")).digest()[:16]
        plain.append(decrypt_image(np.frombuffer(opened, carrier).reshape(shape), inner, chunk_salt).tobytes())
    return b"".join(plain), json.loads(names.rstrip(b"\0")), json.loads(header[at:])


def cut(segment: tuple[int, str, int, tuple[int, ...]], limit: int) -> list[tuple[str, int, tuple[int, ...]]]:
    """A segment's chunks."""
    _, dtype, size, shape = segment
    if math.prod(shape) * size <= limit:
        return [(dtype, size, shape)] if math.prod(shape) else []
    axis = next(axis for axis in range(1, len(shape) + 1) if math.prod(shape[axis:]) * size <= limit)
    entries, rest = math.prod(shape[:axis]), shape[axis:]
    step = limit // (math.prod(rest) * size)
    return [(dtype, size, (min(step, entries - first), *rest)) for first in range(0, entries, step)]


@pytest.mark.parametrize("name", OBJECTS)
def test_frozen_objects_are_as_the_document_says(name: str) -> None:
    payload, names, labels = read_by_the_document(bytes.fromhex(OBJECTS[name]), recipes.vault_key().secret)
    expected = {
        "an array": recipes.image("signed 16 bit big-endian").tobytes(),
        "a boolean array": recipes.image("1 bit unpacked").tobytes(),
        "an empty file": b"",
        "a file": b"some bytes of a file",
        "labels and something bound": b"body",
        "a third version": b"v3",
        "a file rekeyed": b"rekeyed",
    }
    whole = b"before" + recipes.image("12 bit in 16").tobytes() + b"after it"
    assert payload == expected.get(name, whole)
    assert names == {"an array": {"name": "scan"}, "a file": {"name": "notes.txt"}}.get(name, {})
    assert labels == ({"Modality": "CT", "SOPInstanceUID": "1.2.3"} if name.startswith("labels") else {})


@pytest.mark.parametrize("chunk", [8, 700, 4000, 5000])
def test_chunks_are_cut_as_the_document_says(chunk: int) -> None:
    data = b"head" + recipes.image("multi-frame 16 bit").tobytes() + b"tail!"
    span = PixelSpan(4, len(data) - 9, "<u2", (3, 20, 21))
    key = recipes.vault_key()
    sealed = seal_bytes(data, key, span=span, options=Options(chunk_bytes=chunk))
    assert read_by_the_document(sealed, key.secret)[0] == data


def test_a_large_payload_is_cut_into_chunks_of_16_mib() -> None:
    for payload, limit in ((64 * MIB, 64 * MIB), (64 * MIB + 1, 16 * MIB)):
        header = seal_bytes(bytes(payload), recipes.vault_key())[144:240]
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
