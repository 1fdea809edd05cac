"""Statements of the reduction page about the diffusion, and the attack on the variant that it warns against."""

from collections.abc import Callable

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cipher.algorithm import diffusion
from cipher.algorithm.diffusion import DiffusionKeys, alter, restore
from cipher.algorithm.engine import Engine, by_name
from cipher.algorithm.geometry import Geometry
from cipher.algorithm.key_schedule import extract_key

ENGINE = by_name("numpy")
KEYS = DiffusionKeys.derive(extract_key(bytes(range(32)), bytes(16)), Geometry(1, 4096, 0, 8))


def run(step: Callable[[memoryview, DiffusionKeys, Engine], None], data: bytes) -> bytes:
    changed = bytearray(data)
    step(memoryview(changed), KEYS, ENGINE)
    return bytes(changed)


def xor(first: bytes, second: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(first, second, strict=True))


def streams_overlap() -> bool:
    """Whether the streams of two cipher images with equal bodies and heads one bit apart overlap by a block."""
    body = bytes(4096 - 16)
    for last in range(2):
        heads = [bytes(15) + bytes([last]), bytes(15) + bytes([last ^ 1])]
        one, two = (run(restore, head + body)[16:] for head in heads)
        if one[16:] == two[:-16] or two[16:] == one[:-16]:
            return True
    return False


def test_streams_of_related_heads_do_not_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not streams_overlap()

    def counter_from_head(body: memoryview, root: bytes, head: bytes, engine: Engine) -> None:
        Cipher(algorithms.AES(root), modes.CTR(head)).encryptor().update_into(body, body)

    monkeypatch.setattr(diffusion, "add_streams", counter_from_head)
    found = False
    for seed in range(16):  # the heads' difference carries into one block's shift for half of all keys
        keys = DiffusionKeys.derive(extract_key(bytes([seed]) * 32, bytes(16)), Geometry(1, 4096, 0, 8))
        monkeypatch.setattr(f"{__name__}.KEYS", keys)
        found = found or streams_overlap()
    assert found, "the attack works on the variant"


def test_network_of_zeros_leaves_a_permutation_that_spreads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strength does not rest on the network: with its stream left out a changed bit still changes half of all bits."""
    real = ENGINE

    class Silent:
        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        def add_stream(self, *_: object) -> None:
            """Adds nothing."""

    monkeypatch.setattr(f"{__name__}.ENGINE", Silent())
    for step in (alter, restore):
        one = run(step, bytes(4096))
        other = run(step, bytes(4000) + b"\1" + bytes(95))
        changed = sum(byte.bit_count() for byte in xor(one, other))
        assert abs(changed - 16_384) < 5 * 90.5
    assert run(restore, run(alter, bytes(range(256)) * 16)) == bytes(range(256)) * 16


def test_hash_difference_does_not_depend_on_the_constant() -> None:
    """GMAC at a fixed nonce is GHASH plus a constant: differences are linear in the bodies' difference."""
    rng = np.random.default_rng(1)
    key, delta = rng.bytes(32), rng.bytes(160)

    def gmac(body: bytes) -> bytes:
        return AESGCM(key).encrypt(bytes(12), b"", body)

    bodies = [rng.bytes(160) for _ in range(4)]
    differences = {xor(gmac(body), gmac(xor(body, delta))) for body in bodies}
    assert len(differences) == 1
    assert differences != {bytes(16)}
