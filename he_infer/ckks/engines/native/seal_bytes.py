"""SEAL 4.3's serialized ciphertexts and keys, read and written without SEAL.

A size follows from the parameters, so that nothing is inflated or allocated before it is known to be right: what is
longer or shorter is refused, as are nested headers and counts that say otherwise. docs/format-plan.md has the bytes.
"""

import hashlib
import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import zstandard
from numpy.typing import NDArray

from he_infer.ckks.engines.native.kernels.seeds import SEED_BYTES
from he_infer.ckks.engines.seal_format import SEAL_VERSION, check_header
from he_infer.errors import MissingKey, NotThisFormat, SecretKeyRefused, Truncated

_HEADER = struct.Struct("<HBBBBHQ")
_MAGIC = 0xA15E
_STORED, _ZSTD = 0, 2
_CKKS = 2
_BLAKE2XB = 1
_MEMBERS = struct.Struct("<32sBQQQdQ")
"""Parameters id, whether transformed, polynomials, N, primes, scale, correction factor."""
_COUNT = struct.Struct("<Q")
_SEED_OBJECT = _HEADER.size + 1 + SEED_BYTES
_PLAINTEXT = struct.Struct("<32sQd")
_WINDOW = 1 << 27


@dataclass(frozen=True)
class Seeded:
    """A ciphertext whose second polynomial is a seed. `data` at `at` holds the first one, 64 bits a residue."""

    data: bytes
    at: int
    seed: bytes
    scale: float


def parameters_id(size: int, primes: Sequence[int]) -> bytes:
    """SEAL's 32-byte name of a level: BLAKE2b of scheme, ring size, primes and an absent plain modulus."""
    words = (_CKKS, size, *primes, 0)
    return hashlib.blake2b(struct.pack(f"<{len(words)}Q", *words), digest_size=32).digest()


def read_ciphertext(data: bytes, size: int, primes: Sequence[int]) -> Seeded:
    """Parse a seeded ciphertext at the level of these primes.

    Raises:
        NotThisFormat, UnsupportedVersion, Truncated: anything else.
    """
    body = _inflate(data, _ciphertext_bytes(size, len(primes)))
    return _read_members(body, 0, size, primes)


def read_keys(
    data: bytes, size: int, primes: Sequence[int], indices: Collection[int], count: int
) -> dict[int, list[Seeded]]:
    """Parse seeded key-switching keys: for each index one ciphertext a digit.

    Args:
        data: SEAL's object.
        size: N.
        primes: all, special one last; a key has a digit for each of the others.
        indices: which of the keys must be there, and no others.
        count: places for keys in the object: N for Galois keys, 1 for a relinearisation key.

    Raises:
        MissingKey: a key of the plan is missing, or one is there that the plan does not have.
        SecretKeyRefused: a secret key.
        NotThisFormat, UnsupportedVersion, Truncated: anything else.
    """
    digits = len(primes) - 1
    one = _HEADER.size + _ciphertext_bytes(size, len(primes))
    head = 32 + _COUNT.size
    body = _inflate(data, head + count * _COUNT.size + len(indices) * digits * one, secret=_secret_bytes(size, primes))
    if body[:32] != parameters_id(size, primes) or _COUNT.unpack_from(body, 32)[0] != count:
        raise NotThisFormat("The evaluation keys were made for other parameters.")
    at = head
    found: dict[int, list[Seeded]] = {}
    for index in range(count):
        if at + _COUNT.size > len(body):
            raise Truncated("The evaluation keys end inside one of them.")
        (held,) = _COUNT.unpack_from(body, at)
        at += _COUNT.size
        if held == 0:
            continue
        if index not in indices:
            raise MissingKey(
                "The evaluation keys hold one that the plan does not use; they were made for another plan."
            )
        if held != digits:
            raise NotThisFormat(f"An evaluation key has {held} digits; the parameters have {digits}.")
        found[index] = []
        if at + digits * one > len(body):
            raise Truncated("The evaluation keys end inside one of them.")
        for _ in range(digits):
            _check_nested(body, at, one)
            found[index].append(_read_members(body, at + _HEADER.size, size, primes))
            at += one
    if len(found) != len(indices) or at != len(body):
        raise MissingKey("The evaluation keys lack one of the plan; they were made for another plan.")
    return found


def read_public(data: bytes, size: int, primes: Sequence[int]) -> Seeded:
    """Parse a seeded encryption of zero modulo all primes: what a client registers as its public key.

    Raises:
        SecretKeyRefused: a secret key.
        NotThisFormat, UnsupportedVersion, Truncated: anything else.
    """
    body = _inflate(data, _ciphertext_bytes(size, len(primes)), secret=_secret_bytes(size, primes))
    return _read_members(body, 0, size, primes)


def read_residues(data: bytes, size: int, primes: Sequence[int]) -> NDArray[np.uint64]:
    """The residues (2, primes, N) of a ciphertext that is not seeded, in SEAL's order.

    Raises:
        NotThisFormat, UnsupportedVersion, Truncated: anything else.
    """
    held = 2 * len(primes) * size
    start = _MEMBERS.size + _HEADER.size + _COUNT.size
    body = _inflate(data, start + 8 * held)
    _check_members(body, 0, size, primes)
    _check_nested(body, _MEMBERS.size, _HEADER.size + _COUNT.size + 8 * held)
    return np.frombuffer(body, dtype="<u8", count=held, offset=start).reshape(2, len(primes), size)


def write_ciphertext(residues: NDArray[np.uint64], scale: float, primes: Sequence[int]) -> bytes:
    """Residues (2, primes, N) in SEAL's order as SEAL's uncompressed object."""
    count, rows, size = residues.shape
    members = _MEMBERS.pack(parameters_id(size, primes), 1, count, size, rows, scale, 1)
    array = _COUNT.pack(residues.size) + residues.astype("<u8").tobytes()
    return _object(members + _object(array))


def write_seeded(residues: NDArray[np.uint64], seed: bytes, scale: float, primes: Sequence[int]) -> bytes:
    """The first polynomial's residues (primes, N) and the second one's seed as SEAL's uncompressed object."""
    rows, size = residues.shape
    members = _MEMBERS.pack(parameters_id(size, primes), 1, 2, size, rows, scale, 1)
    array = _COUNT.pack(residues.size) + residues.astype("<u8").tobytes()
    return _object(members + _object(array) + _object(bytes([_BLAKE2XB]) + seed))


def write_keys(keys: dict[int, list[bytes]], size: int, primes: Sequence[int], count: int) -> bytes:
    """Key-switching keys from their digits' seeded objects (`write_seeded`), by index."""
    parts = [parameters_id(size, primes), _COUNT.pack(count)]
    for index in range(count):
        digits = keys.get(index, [])
        parts += [_COUNT.pack(len(digits)), *digits]
    return _object(b"".join(parts))


def _object(body: bytes) -> bytes:
    return _HEADER.pack(_MAGIC, _HEADER.size, *SEAL_VERSION, _STORED, 0, _HEADER.size + len(body)) + body


def _ciphertext_bytes(size: int, rows: int) -> int:
    return _MEMBERS.size + _HEADER.size + _COUNT.size + 8 * rows * size + _SEED_OBJECT


def _secret_bytes(size: int, primes: Sequence[int]) -> int:
    return _PLAINTEXT.size + _HEADER.size + _COUNT.size + 8 * len(primes) * size


def _inflate(data: bytes, wanted: int, secret: int | None = None) -> bytes:
    """The object's body, which has exactly `wanted` bytes; no more than one further is ever inflated."""
    check_header(data)
    compression = data[5]
    if compression == _STORED:
        body = data[_HEADER.size :]
    elif compression == _ZSTD:
        try:
            with zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(data[_HEADER.size :]) as reader:
                body = reader.read(wanted + 1)
        except (zstandard.ZstdError, MemoryError) as error:
            raise NotThisFormat("The SEAL object's compressed bytes are damaged.") from error
    else:
        raise NotThisFormat(f"The SEAL object is compressed by method {compression}; expected none or zstd.")
    if len(body) == secret and body[_PLAINTEXT.size :][:2] == _MAGIC.to_bytes(2, "little"):
        raise SecretKeyRefused("A secret key was sent; it was discarded. Never send one: make new keys.")
    if len(body) != wanted:
        size = "more" if len(body) > wanted else f"only {len(body)}"
        raise Truncated(f"The SEAL object holds {size} bytes; for these parameters, seeded, {wanted} are expected.")
    return body


def _read_members(body: bytes, at: int, size: int, primes: Sequence[int]) -> Seeded:
    scale = _check_members(body, at, size, primes)
    held = len(primes) * size
    at += _MEMBERS.size
    _check_nested(body, at, _HEADER.size + _COUNT.size + 8 * held)
    at += _HEADER.size
    if _COUNT.unpack_from(body, at) != (held,):
        raise NotThisFormat("The ciphertext's count of residues is not that of its parameters.")
    first = at + _COUNT.size
    at = first + 8 * held
    _check_nested(body, at, _SEED_OBJECT)
    at += _HEADER.size
    if body[at] != _BLAKE2XB:
        raise NotThisFormat("The ciphertext's seed is for another generator than BLAKE2Xb.")
    return Seeded(body, first, body[at + 1 : at + 1 + SEED_BYTES], scale)


def _check_members(body: bytes, at: int, size: int, primes: Sequence[int]) -> float:
    """Check a ciphertext's members, and return its scale."""
    name, transformed, count, degree, rows, scale, _ = _MEMBERS.unpack_from(body, at)
    if (transformed, count, degree, rows) != (1, 2, size, len(primes)) or name != parameters_id(size, primes):
        raise NotThisFormat("The ciphertext is not one of these parameters at the top of the modulus chain.")
    return float(scale)


def _check_nested(body: bytes, at: int, total: int) -> None:
    if _HEADER.unpack_from(body, at) != (_MAGIC, _HEADER.size, *SEAL_VERSION, _STORED, 0, total):
        raise NotThisFormat("A header inside the SEAL object contradicts its parameters.")
