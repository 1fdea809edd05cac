"""SEAL objects that lie: about what decompresses out of them, or about how much they hold."""

import struct
from collections.abc import Sequence

import numpy as np

_SEAL = struct.Struct("<2sBBBBHQ")
_MODES = {"none": 0, "zlib": 1, "zstd": 2}
_BLOCK = 128 * 1024


def seal_object(payload: bytes, mode: str) -> bytes:
    """A payload behind SEAL's 16-byte header, with the right magic, version and size."""
    return _SEAL.pack(b"\x5e\xa1", 16, 4, 3, _MODES[mode], 0, 16 + len(payload)) + payload


def zstd_zeros(size: int, before: bytes = b"") -> bytes:
    """A Zstandard frame (RFC 8878) of some bytes and `size` zeros after them: one byte a block of 128 KiB of zeros."""
    lengths = [_BLOCK] * (size // _BLOCK)
    blocks = [(len(before) << 3).to_bytes(3, "little") + before] if before else []
    blocks += [
        ((length << 3) | (1 << 1) | (index == len(lengths) - 1)).to_bytes(3, "little") + b"\0"
        for index, length in enumerate(lengths)
    ]
    window = b"\x38"  # 128 KiB
    return b"\x28\xb5\x2f\xfd" + b"\x00" + window + b"".join(blocks)


def bomb(size: int, before: bytes = b"") -> bytes:
    """A SEAL object that decompresses to 32,768 times its size; its content begins as given."""
    return seal_object(zstd_zeros(size, before), "zstd")


def boastful_ciphertext(parms_id: Sequence[int], rng: np.random.Generator) -> bytes:
    """The inside of a ciphertext with the right parameter id that claims more polynomials or numbers than it has."""
    fields = {"size": 2, "degree": 8192, "primes": 4, "count": 2 * 8192 * 4}
    fields[list(fields)[int(rng.integers(4))]] = _claim(rng)
    scale = 2.0 ** float(rng.integers(20, 60))
    head = struct.pack("<4QBQQQdQ", *parms_id, 1, fields["size"], fields["degree"], fields["primes"], scale, 1)
    return head + seal_object(struct.pack("<Q", fields["count"]) + rng.bytes(int(rng.integers(0, 4096))), "none")


def boastful_keys(parms_id: Sequence[int], rng: np.random.Generator) -> bytes:
    """The inside of evaluation keys with the right parameter id that claim more keys than they have."""
    inner = (0, 3, _claim(rng))[int(rng.integers(3))]
    return struct.pack("<4QQQ", *parms_id, _claim(rng), inner) + rng.bytes(int(rng.integers(0, 4096)))


def disguised(content: bytes, rng: np.random.Generator) -> bytes:
    """The content as a SEAL object: uncompressed, or compressed with gigabytes of zeros after it."""
    if rng.integers(2):
        return seal_object(content, "none")
    return bomb(int(rng.integers(1, 9)) << 30, content)


def _claim(rng: np.random.Generator) -> int:
    claims = (2**12, 2**16, 2**20, 2**24, 2**26, 2**28, 2**31, 2**40, 2**48, 2**60, 2**64 - 1)
    return claims[int(rng.integers(len(claims)))]
