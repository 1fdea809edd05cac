"""Seeds expand as the format says: BLAKE2Xb by a plain reference, rejected words replaced in order."""

import hashlib

import numpy as np
import pytest

from he_infer.ckks.engines.native.engine import NativeEngine
from he_infer.ckks.engines.native.kernels.entry_points import Kernels
from he_infer.ckks.engines.native.kernels.ring import internal_places
from he_infer.ckks.parameters import Parameters

BLOCK = 4096
PARAMETERS = Parameters(4096, (36, 34, 36))
IV = [
    *(0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1),
    *(0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179),
]
SIGMA = [
    [int(digit, 16) for digit in row]
    for row in (
        *("0123456789abcdef", "ea489fd61c02b753", "b8c052fdae367194", "7931dcbe265a40f8", "905724afe1bc683d"),
        *("2c6a0b834d75fe19", "c51fed4a0763928b", "db7ec13950f4862a", "6fe9b308c2d714a5", "a2847615fb9e3cd0"),
    )
]


def rotated(words: np.ndarray, bits: int) -> np.ndarray:
    return words >> np.uint64(bits) | words << np.uint64(64 - bits)


def draw_block(seed: bytes, counter: int) -> list[int]:
    """Compute the 512 words of one block of the generator, as RFC 7693 says. `hashlib` has no leaves of depth zero."""
    offset = BLOCK << 32
    root = hashlib.blake2b(counter.to_bytes(8, "little"), key=seed, digest_size=64, node_offset=offset).digest()
    message = np.frombuffer(root + bytes(64), dtype="<u8")
    state = np.repeat(np.array(IV, dtype=np.uint64)[:, None], 64, axis=1)
    state[0] ^= np.uint64(64 | 64 << 32)  # length of a digest and of a leaf
    state[1] ^= np.uint64(offset) | np.arange(64, dtype=np.uint64)
    state[2] ^= np.uint64(64 << 8)  # inner length
    v = np.concatenate([state, np.repeat(np.array(IV, dtype=np.uint64)[:, None], 64, axis=1)])
    v[12] ^= np.uint64(64)  # bytes
    v[14] = ~v[14]  # the last block
    for number in range(12):
        order = SIGMA[number % 10]
        for mix in range(8):
            column = [mix % 4 + 4 * row for row in range(4)]
            a, b, c, d = column if mix < 4 else [4 * row + (mix + row) % 4 for row in range(4)]
            for index, (first, second) in enumerate(((32, 24), (16, 63))):
                v[a] += v[b] + message[order[2 * mix + index]]
                v[d] = rotated(v[d] ^ v[a], first)
                v[c] += v[d]
                v[b] = rotated(v[b] ^ v[c], second)
    leaves = state ^ v[:8] ^ v[8:]
    return leaves.T.reshape(-1).tolist()


def expand(seed: bytes, size: int, primes: tuple[int, ...], bounds: list[int]) -> np.ndarray:
    blocks = len(primes) * size * 8 // BLOCK
    words = [word for block in range(blocks) for word in draw_block(seed, block)]
    spare: list[int] = []
    for index in range(len(words)):
        while words[index] >= bounds[index // size]:
            if not spare:
                spare = draw_block(seed, blocks)
                blocks += 1
            words[index] = spare.pop(0)
    rows = np.array(words, dtype=object).reshape(len(primes), size)
    return np.stack([row % prime for row, prime in zip(rows, primes, strict=True)]).astype(np.int64)


@pytest.mark.parametrize("share", [1.0, 0.9995, 0.5])
def test_seed_expands_to_the_reference_whatever_is_rejected(kernels: Kernels, share: float) -> None:
    """With half of the words rejected, replacements take more blocks than the eight whose roots are kept."""
    engine, seed = NativeEngine(PARAMETERS, kernels), bytes(range(64))
    bounds = [int(bound) if share == 1.0 else int(share * 2**64) for bound in engine.ring.bounds]
    engine.ring = engine.ring._replace(bounds=np.array(bounds, dtype=np.uint64))
    size, rows = engine.size, 2
    data, out = np.zeros(8 * rows * size, dtype=np.uint8), np.empty(2 * rows * size)
    sealed = np.full(3, 64, dtype=np.int64)
    held = np.frombuffer(seed, dtype=np.uint8)
    assert kernels.open_seeded(data, 0, 0, sealed, held, 0, 1, rows, size, out, 0, 0, engine.words, engine.ring)
    found = out.reshape(2, rows, size)[1][:, internal_places(size)].astype(np.int64)
    primes = engine.primes[:rows]
    assert (found % np.array(primes)[:, None] == expand(seed, size, primes, bounds)).all()


def test_residue_that_is_not_below_its_prime_is_reported(kernels: Kernels) -> None:
    engine = NativeEngine(PARAMETERS, kernels)
    size, held = engine.size, np.zeros(64, dtype=np.uint8)
    sealed, out = np.full(3, 64, dtype=np.int64), np.empty(4 * size)
    for prime, place in ((0, 0), (0, size - 1), (1, 7), (1, size - 9)):
        for above in (0, 1, 1 << 52, 1 << 63):
            words = np.zeros((2, size), dtype="<u8")
            words[prime, place] = engine.primes[prime] - 1
            for valid in (True, False):
                data = np.frombuffer(words.tobytes(), dtype=np.uint8)
                found = kernels.open_seeded(
                    data, 0, 0, sealed, held, 0, 1, 2, size, out, 0, 0, engine.words, engine.ring
                )
                assert found is valid
                words[prime, place] = engine.primes[prime] + above
