"""Uniform polynomials from SEAL's 64-byte seeds: BLAKE2Xb in counter mode, rejection sampling, residues.

The result equals SEAL's bit for bit. SEAL's generator fills 4096 bytes at a time with BLAKE2Xb of a counter, keyed with
the seed: a root, and 64 leaves of 64 bytes. Eight compressions run at a time, for eight roots or eight leaves. Source:
Aumasson, Neves, Wilcox-O'Hearn and Winnerlein, "BLAKE2X" (2016); RFC 7693.

Eight leaves are eight vectors, each with one word of every leaf. In the order of `ring` these are eight pieces of a
polynomial, so nothing is transposed.
"""

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.engines.native.kernels.compiling import Lanes, helper, inlined
from he_infer.ckks.engines.native.kernels.lanes import (
    any_at_least,
    high_halves,
    load_words,
    rotate_16,
    rotate_24,
    rotate_32,
    rotate_63,
    splat,
    splat_word,
    store,
    store_words,
    to_doubles,
)
from he_infer.ckks.engines.native.kernels.modular import reduced, times_constant
from he_infer.ckks.engines.native.kernels.ring import Doubles, Ring

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]

_BLOCK_BYTES = 4096
_BLOCK_WORDS = _BLOCK_BYTES // 8
_LEAVES = _BLOCK_WORDS // 8

# Places in the working memory behind a polynomial's words.
_SPARE = 0
"""(512,) a block whose words replace rejected ones, in the order of a ring of 512."""
_STATE = _SPARE + _BLOCK_WORDS
"""(8, 8) a chaining value, a vector a word."""
_MESSAGE = _STATE + 64
"""(16, 8)."""
_ROOTS = _MESSAGE + 128
"""(8, 8) the roots of eight blocks, a vector a word."""
WORKING_WORDS = _ROOTS + 64

# BLAKE2b's initial state and the order of message words in its twelve rounds, RFC 7693.
_IV = np.array(
    [
        0x6A09E667F3BCC908,
        0xBB67AE8584CAA73B,
        0x3C6EF372FE94F82B,
        0xA54FF53A5F1D36F1,
        0x510E527FADE682D1,
        0x9B05688C2B3E6C1F,
        0x1F83D9ABFB41BD6B,
        0x5BE0CD19137E2179,
    ],
    dtype=np.uint64,
)
_ROUNDS = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
    (14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3),
    (11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4),
    (7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8),
    (9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13),
    (2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9),
    (12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11),
    (13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10),
    (6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5),
    (10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0),
)
_ORDER = 8 * np.array([*_ROUNDS, *_ROUNDS[:2]], dtype=np.int64)
# A root's parameter block: 64 bytes out, a key of 64 bytes, fan-out and depth 1, output of 4096.
_ROOT_0 = np.uint64(int(_IV[0]) ^ (64 | 64 << 8 | 1 << 16 | 1 << 24))
_ROOT_1 = np.uint64(int(_IV[1]) ^ (_BLOCK_BYTES << 32))
# A leaf's: 64 bytes out, no fan-out or depth, leaves of 64 bytes, inner length 64, output of 4096.
_LEAF_0 = np.uint64(int(_IV[0]) ^ (64 | 64 << 32))
_LEAF_2 = np.uint64(int(_IV[2]) ^ (64 << 8))
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_NONE = np.uint64(0)
_KEY_BYTES = np.uint64(128)
_KEY_AND_COUNTER_BYTES = np.uint64(136)
_ROOT_BYTES = np.uint64(64)
_LANES = np.arange(8, dtype=np.uint64)
_LOW_HALF = np.uint64(0xFFFFFFFF)


@inlined
def _mix(a: Lanes, b: Lanes, c: Lanes, d: Lanes, x: Lanes, y: Lanes) -> tuple[Lanes, Lanes, Lanes, Lanes]:
    a = a + b + x
    d = rotate_32(d ^ a)
    c = c + d
    b = rotate_24(b ^ c)
    a = a + b + y
    d = rotate_16(d ^ a)
    c = c + d
    b = rotate_63(b ^ c)
    return a, b, c, d


@helper
def compress(words: Words, work: int, count: np.uint64, final: np.uint64, to: int, stride: int) -> None:
    """Compress eight message blocks into their chaining values; word w of the results goes to words[to + w stride].

    count is the number of bytes up to this block's end, final is all ones for the last block and else zero.
    """
    h, m = work + _STATE, work + _MESSAGE
    v0, v1, v2, v3 = (
        load_words(words, h),
        load_words(words, h + 8),
        load_words(words, h + 16),
        load_words(words, h + 24),
    )
    v4, v5, v6, v7 = (
        load_words(words, h + 32),
        load_words(words, h + 40),
        load_words(words, h + 48),
        load_words(words, h + 56),
    )
    v8, v9, v10, v11 = splat_word(_IV[0]), splat_word(_IV[1]), splat_word(_IV[2]), splat_word(_IV[3])
    v12, v13 = splat_word(_IV[4] ^ count), splat_word(_IV[5])
    v14, v15 = splat_word(_IV[6] ^ final), splat_word(_IV[7])
    for number in range(12):
        o = _ORDER[number]
        v0, v4, v8, v12 = _mix(v0, v4, v8, v12, load_words(words, m + o[0]), load_words(words, m + o[1]))
        v1, v5, v9, v13 = _mix(v1, v5, v9, v13, load_words(words, m + o[2]), load_words(words, m + o[3]))
        v2, v6, v10, v14 = _mix(v2, v6, v10, v14, load_words(words, m + o[4]), load_words(words, m + o[5]))
        v3, v7, v11, v15 = _mix(v3, v7, v11, v15, load_words(words, m + o[6]), load_words(words, m + o[7]))
        v0, v5, v10, v15 = _mix(v0, v5, v10, v15, load_words(words, m + o[8]), load_words(words, m + o[9]))
        v1, v6, v11, v12 = _mix(v1, v6, v11, v12, load_words(words, m + o[10]), load_words(words, m + o[11]))
        v2, v7, v8, v13 = _mix(v2, v7, v8, v13, load_words(words, m + o[12]), load_words(words, m + o[13]))
        v3, v4, v9, v14 = _mix(v3, v4, v9, v14, load_words(words, m + o[14]), load_words(words, m + o[15]))
    store_words(words, to, load_words(words, h) ^ v0 ^ v8)
    store_words(words, to + stride, load_words(words, h + 8) ^ v1 ^ v9)
    store_words(words, to + 2 * stride, load_words(words, h + 16) ^ v2 ^ v10)
    store_words(words, to + 3 * stride, load_words(words, h + 24) ^ v3 ^ v11)
    store_words(words, to + 4 * stride, load_words(words, h + 32) ^ v4 ^ v12)
    store_words(words, to + 5 * stride, load_words(words, h + 40) ^ v5 ^ v13)
    store_words(words, to + 6 * stride, load_words(words, h + 48) ^ v6 ^ v14)
    store_words(words, to + 7 * stride, load_words(words, h + 56) ^ v7 ^ v15)


@helper
def find_roots(seed: Bytes, at: int, first: int, words: Words, work: int) -> None:
    """Compute the roots of the generator's blocks `first` to `first + 7` from the seed at seed[at : at + 64]."""
    h, m = work + _STATE, work + _MESSAGE
    for word in range(8):
        store_words(words, h + 8 * word, splat_word(_IV[word]))
        held = _NONE
        for byte in range(8):
            held |= np.uint64(seed[at + 8 * word + byte]) << np.uint64(8 * byte)
        store_words(words, m + 8 * word, splat_word(held))
        store_words(words, m + 64 + 8 * word, splat_word(_NONE))
    store_words(words, h, splat_word(_ROOT_0))
    store_words(words, h + 8, splat_word(_ROOT_1))
    compress(words, work, _KEY_BYTES, _NONE, h, 8)
    store_words(words, m, splat_word(np.uint64(first)) + load_words(_LANES, 0))
    for word in range(1, 8):
        store_words(words, m + 8 * word, splat_word(_NONE))
    compress(words, work, _KEY_AND_COUNTER_BYTES, _ALL, work + _ROOTS, 8)


@helper
def fill_block(block: int, words: Words, work: int, to: int, stride: int) -> None:
    """Write the 512 words of a block, whose root is among the present eight.

    Word w of leaf l goes to words[to + w stride + l].
    """
    h, m = work + _STATE, work + _MESSAGE
    for word in range(8):
        store_words(words, m + 8 * word, splat_word(words[work + _ROOTS + 8 * word + block % 8]))
        store_words(words, h + 8 * word, splat_word(_IV[word]))
    store_words(words, h, splat_word(_LEAF_0))
    store_words(words, h + 16, splat_word(_LEAF_2))
    for leaf in range(0, _LEAVES, 8):
        number = splat_word(np.uint64(leaf)) + load_words(_LANES, 0)
        store_words(words, h + 8, splat_word(_ROOT_1) ^ number)
        compress(words, work, _ROOT_BYTES, _ALL, to + leaf, stride)


@helper
def expand(seed: Bytes, at: int, rows: int, n: int, out: Doubles, to: int, words: Words, ring: Ring) -> None:
    """Expand the seed's polynomial (rows, n) modulo the first primes, in the order of `ring`.

    words (n + WORKING_WORDS,) is working memory.
    """
    s = n // 8
    blocks, spare_block, spare, roots = n // _BLOCK_WORDS, rows * n // _BLOCK_WORDS, _BLOCK_WORDS, -1
    for j in range(rows):
        for block in range(blocks):
            number = j * blocks + block
            if number // 8 != roots:
                roots = number // 8
                find_roots(seed, at, 8 * roots, words, n)
            fill_block(number, words, n, block * _LEAVES, s)
        bound = ring.bounds[j]
        bounds = splat_word(bound)
        p, r = splat(ring.primes[j]), splat(ring.reciprocals[j])
        w, share = splat(ring.halves[j, 0]), splat(ring.halves[j, 1])
        for start in range(0, s, 8):
            rejected = False
            for k in range(start, n, s):
                if any_at_least(load_words(words, k), bounds):
                    rejected = True
            if rejected:
                for leaf in range(start, start + 8):
                    for place in range(leaf, n, s):  # in the order in which SEAL draws
                        while words[place] >= bound:
                            if spare == _BLOCK_WORDS:
                                if spare_block // 8 != roots:
                                    roots = spare_block // 8
                                    find_roots(seed, at, 8 * roots, words, n)
                                fill_block(spare_block, words, n, n + _SPARE, _LEAVES)
                                spare_block += 1
                                spare = 0
                            words[place] = words[n + _SPARE + spare % 8 * _LEAVES + spare // 8]
                            spare += 1
            for k in range(start, n, s):
                store(out, to + j * n + k, _residues(load_words(words, k), w, share, p, r))


@inlined
def _residues(word: Lanes, w: Lanes, share: Lanes, p: Lanes, r: Lanes) -> Lanes:
    high = times_constant(to_doubles(high_halves(word)), w, share, p)
    return reduced(high + to_doubles(word & splat_word(_LOW_HALF)), p, r)
