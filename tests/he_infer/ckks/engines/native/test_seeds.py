"""Seeds expand as the format says: BLAKE2Xb by `hashlib`, rejected words replaced in order."""

import hashlib

import numpy as np
import pytest

from he_infer.ckks.engines.native.engine import NativeEngine
from he_infer.ckks.engines.native.kernels.entry_points import Kernels
from he_infer.ckks.engines.native.kernels.ring import internal_places
from he_infer.ckks.parameters import Parameters

BLOCK = 4096
PARAMETERS = Parameters(4096, (36, 34, 36))


def draw_block(seed: bytes, counter: int) -> list[int]:
    """Compute the 512 words of one block of the generator, by the sequential reference."""
    offset = BLOCK << 32
    root = hashlib.blake2b(counter.to_bytes(8, "little"), key=seed, digest_size=64, node_offset=offset).digest()
    leaves = [
        hashlib.blake2b(
            root, digest_size=64, fanout=0, depth=0, leaf_size=64, inner_size=64, node_offset=offset | leaf
        ).digest()
        for leaf in range(BLOCK // 64)
    ]
    return np.frombuffer(b"".join(leaves), dtype="<u8").tolist()


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
