"""Peak rates of this machine's core, measured: multiply-adds in double precision, and bytes from and to memory."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

_ROUNDS = 9
_STEPS = 400_000
_FEW, _MANY = 6, 10
"""Independent sums of eight numbers. Six fit into AVX2's registers; AVX-512 needs more to hide the latency."""
_WIDTH = 8
_ELEMENTS = 1 << 23
_WORD = 8


@dataclass(frozen=True)
class Peaks:
    """Rates of one core."""

    multiplications: float
    """Fused multiply-adds of single numbers a second."""
    bytes: float
    """Bytes a second of a = b + s c on arrays far larger than the caches: two are read, one is written."""

    def bound_ms(self, multiplications: int, moved_bytes: int) -> tuple[float, float]:
        """Return the milliseconds that so many multiplications, and so many bytes, take at least."""
        return 1e3 * multiplications / self.multiplications, 1e3 * moved_bytes / self.bytes


@lru_cache(maxsize=1)
def measure_peaks() -> Peaks:
    """Compile two loops and run them, some seconds; the best of several runs counts, in processor time."""
    import numba

    from he_infer.ckks.engines.native.kernels.compiling import OPTIONS
    from he_infer.ckks.engines.native.kernels.lanes import add_product, load, splat, store

    compile_: Any = numba.njit(**OPTIONS)

    def few(numbers: Any, steps: int) -> None:
        a, b = splat(numbers[0]), splat(numbers[1])
        s0, s1, s2 = load(numbers, 0), load(numbers, 8), load(numbers, 16)
        s3, s4, s5 = load(numbers, 24), load(numbers, 32), load(numbers, 40)
        for _ in range(steps):
            s0, s1, s2 = add_product(a, s0, b), add_product(a, s1, b), add_product(a, s2, b)
            s3, s4, s5 = add_product(a, s3, b), add_product(a, s4, b), add_product(a, s5, b)
        store(numbers, 0, s0 + s1 + s2 + s3 + s4 + s5)

    def many(numbers: Any, steps: int) -> None:
        a, b = splat(numbers[0]), splat(numbers[1])
        s0, s1, s2, s3, s4 = load(numbers, 0), load(numbers, 8), load(numbers, 16), load(numbers, 24), load(numbers, 32)
        s5, s6, s7 = load(numbers, 40), load(numbers, 48), load(numbers, 56)
        s8, s9 = load(numbers, 64), load(numbers, 72)
        for _ in range(steps):
            s0, s1, s2 = add_product(a, s0, b), add_product(a, s1, b), add_product(a, s2, b)
            s3, s4, s5 = add_product(a, s3, b), add_product(a, s4, b), add_product(a, s5, b)
            s6, s7, s8 = add_product(a, s6, b), add_product(a, s7, b), add_product(a, s8, b)
            s9 = add_product(a, s9, b)
        store(numbers, 0, s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9)

    def triad(a: Any, b: Any, c: Any, factor: float) -> None:
        s = splat(factor)
        for k in range(0, a.shape[0], 8):
            store(a, k, add_product(load(b, k), s, load(c, k)))

    rates = []
    for sums, loop in ((_FEW, few), (_MANY, many)):
        run = partial(compile_(loop), np.full(_MANY * _WIDTH, 0.5), _STEPS)
        rates.append(_STEPS * sums * _WIDTH / _best(run))
    streamed = _best(partial(compile_(triad), *(np.ones(_ELEMENTS) for _ in range(3)), 3.0))
    return Peaks(max(rates), 3 * _ELEMENTS * _WORD / streamed)


def _best(run: Callable[[], None]) -> float:
    taken = []
    for _ in range(_ROUNDS + 1):
        started = time.thread_time()
        run()
        taken.append(time.thread_time() - started)
    return min(taken[1:])
