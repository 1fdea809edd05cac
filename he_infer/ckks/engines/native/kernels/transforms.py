"""Number-theoretic transforms of one polynomial modulo one prime: two stages a pass, depth first.

Depth first: once blocks have BLOCK coefficients, each goes through all its remaining stages while it is in the L1
cache. The last three stages work on transposed blocks of eight. Results are reduced; inputs are any integers below
2^53. Sources: Harvey, "Faster arithmetic for number-theoretic transforms" (2014), for the butterflies; the order is
SEAL's except for the last transposition, see `ring`.
"""

from he_infer.ckks.engines.native.kernels.compiling import helper
from he_infer.ckks.engines.native.kernels.lanes import load, splat, store
from he_infer.ckks.engines.native.kernels.modular import reduced, times, times_constant, transposed
from he_infer.ckks.engines.native.kernels.ring import Doubles

BLOCK = 2048


@helper
def count_stages(n: int) -> int:
    """Count the stages before the last three."""
    stages = 0
    while (8 << stages) < n:
        stages += 1
    return stages


@helper
def forward(
    source: Doubles,
    at: int,
    work: Doubles,
    out: Doubles,
    to: int,
    n: int,
    roots: Doubles,
    shares: Doubles,
    last: Doubles,
    prime: float,
    reciprocal: float,
) -> None:
    """Transform source[at : at + n] into out[to : to + n]; the source is kept, work (n,) is overwritten."""
    if count_stages(n) % 2:
        _enter_by_two(source, at, work, n, roots, shares, prime, reciprocal)
        blocks, t = 2, n // 2
    else:
        _enter_by_four(source, at, work, n, roots, shares, prime, reciprocal)
        blocks, t = 4, n // 4
    while t > BLOCK:
        t //= 4
        _pass_forward(work, roots, shares, prime, reciprocal, blocks, t, 0, blocks)
        blocks *= 4
    for block in range(blocks):
        inside, step = 1, t
        while step > 8:
            step //= 4
            _pass_forward(
                work, roots, shares, prime, reciprocal, blocks * inside, step, block * inside, (block + 1) * inside
            )
            inside *= 4
        _leave_forward(work, out, to, last, prime, reciprocal, n // 8, block * inside, (block + 1) * inside)


@helper
def inverse(
    source: Doubles,
    at: int,
    out: Doubles,
    to: int,
    n: int,
    roots: Doubles,
    shares: Doubles,
    last: Doubles,
    sizes: Doubles,
    prime: float,
    reciprocal: float,
) -> None:
    """Compute the coefficients out[to : to + n] of the transform source[at : at + n]; `sizes` (4,) divide by n."""
    top = 2 if count_stages(n) % 2 else 1
    blocks, t = top, n // top
    while t > BLOCK:
        t //= 4
        blocks *= 4
    for block in range(blocks):
        inside, step = t // 8, 8
        _enter_inverse(source, at, out, to, last, prime, reciprocal, n // 8, block * inside, (block + 1) * inside)
        inside = t // 32
        while blocks * inside >= 2 and inside >= 1:
            _pass_inverse(
                out, to, roots, shares, prime, reciprocal, blocks * inside, step, block * inside, (block + 1) * inside
            )
            inside //= 4
            step *= 4
    blocks //= 4
    while blocks >= 2:
        _pass_inverse(out, to, roots, shares, prime, reciprocal, blocks, t, 0, blocks)
        blocks //= 4
        t *= 4
    if top == 1:
        _leave_inverse_by_four(out, to, n, roots, shares, sizes, prime, reciprocal)
    else:
        _leave_inverse_by_two(out, to, n, sizes, prime, reciprocal)


@helper
def _enter_by_two(
    source: Doubles, at: int, work: Doubles, n: int, roots: Doubles, shares: Doubles, prime: float, reciprocal: float
) -> None:
    p, r = splat(prime), splat(reciprocal)
    w, v = splat(roots[1]), splat(shares[1])
    t = n // 2
    for j in range(0, t, 8):
        a = reduced(load(source, at + j), p, r)
        c = times_constant(reduced(load(source, at + j + t), p, r), w, v, p)
        store(work, j, a + c)
        store(work, j + t, a - c)


@helper
def _enter_by_four(
    source: Doubles, at: int, work: Doubles, n: int, roots: Doubles, shares: Doubles, prime: float, reciprocal: float
) -> None:
    p, r = splat(prime), splat(reciprocal)
    w1, v1 = splat(roots[1]), splat(shares[1])
    w2, v2 = splat(roots[2]), splat(shares[2])
    w3, v3 = splat(roots[3]), splat(shares[3])
    t = n // 4
    for j in range(0, t, 8):
        a0 = reduced(load(source, at + j), p, r)
        a1 = reduced(load(source, at + j + t), p, r)
        c2 = times_constant(reduced(load(source, at + j + 2 * t), p, r), w1, v1, p)
        c3 = times_constant(reduced(load(source, at + j + 3 * t), p, r), w1, v1, p)
        y0, y2 = a0 + c2, a0 - c2
        y1 = times_constant(a1 + c3, w2, v2, p)
        y3 = times_constant(a1 - c3, w3, v3, p)
        store(work, j, y0 + y1)
        store(work, j + t, y0 - y1)
        store(work, j + 2 * t, y2 + y3)
        store(work, j + 3 * t, y2 - y3)


@helper
def _pass_forward(
    x: Doubles,
    roots: Doubles,
    shares: Doubles,
    prime: float,
    reciprocal: float,
    m: int,
    t: int,
    first: int,
    end: int,
) -> None:
    """Run the stages of m and of 2 m blocks, on the blocks from `first` to `end`; t is half a block of the second."""
    p, r = splat(prime), splat(reciprocal)
    for i in range(first, end):
        w1, v1 = splat(roots[m + i]), splat(shares[m + i])
        w2, v2 = splat(roots[2 * (m + i)]), splat(shares[2 * (m + i)])
        w3, v3 = splat(roots[2 * (m + i) + 1]), splat(shares[2 * (m + i) + 1])
        start = 4 * i * t
        for j in range(start, start + t, 8):
            a0 = reduced(load(x, j), p, r)
            a1 = load(x, j + t)
            c2 = times_constant(load(x, j + 2 * t), w1, v1, p)
            c3 = times_constant(load(x, j + 3 * t), w1, v1, p)
            y0, y2 = a0 + c2, a0 - c2
            y1 = times_constant(a1 + c3, w2, v2, p)
            y3 = times_constant(a1 - c3, w3, v3, p)
            store(x, j, y0 + y1)
            store(x, j + t, y0 - y1)
            store(x, j + 2 * t, y2 + y3)
            store(x, j + 3 * t, y2 - y3)


@helper
def _leave_forward(
    x: Doubles, out: Doubles, to: int, last: Doubles, prime: float, reciprocal: float, s: int, first: int, end: int
) -> None:
    """Run the last three stages on the blocks of eight from `first` to `end`, in the transposed order."""
    p, r = splat(prime), splat(reciprocal)
    for i in range(first, end, 8):
        b = 8 * i
        a0, a1, a2, a3, a4, a5, a6, a7 = transposed(
            load(x, b),
            load(x, b + 8),
            load(x, b + 16),
            load(x, b + 24),
            load(x, b + 32),
            load(x, b + 40),
            load(x, b + 48),
            load(x, b + 56),
        )
        a0 = reduced(a0, p, r)
        w = load(last, i)
        c0, c1 = times(a4, w, p, r), times(a5, w, p, r)
        c2, c3 = times(a6, w, p, r), times(a7, w, p, r)
        b0, b4 = a0 + c0, a0 - c0
        b1, b5 = a1 + c1, a1 - c1
        b2, b6 = a2 + c2, a2 - c2
        b3, b7 = a3 + c3, a3 - c3
        w = load(last, s + i)
        d2, d3 = times(b2, w, p, r), times(b3, w, p, r)
        w = load(last, 2 * s + i)
        d6, d7 = times(b6, w, p, r), times(b7, w, p, r)
        e0, e2 = b0 + d2, b0 - d2
        e1, e3 = b1 + d3, b1 - d3
        e4, e6 = b4 + d6, b4 - d6
        e5, e7 = b5 + d7, b5 - d7
        f1 = times(e1, load(last, 3 * s + i), p, r)
        f3 = times(e3, load(last, 4 * s + i), p, r)
        f5 = times(e5, load(last, 5 * s + i), p, r)
        f7 = times(e7, load(last, 6 * s + i), p, r)
        k = to + i
        store(out, k, reduced(e0 + f1, p, r))
        store(out, k + s, reduced(e0 - f1, p, r))
        store(out, k + 2 * s, reduced(e2 + f3, p, r))
        store(out, k + 3 * s, reduced(e2 - f3, p, r))
        store(out, k + 4 * s, reduced(e4 + f5, p, r))
        store(out, k + 5 * s, reduced(e4 - f5, p, r))
        store(out, k + 6 * s, reduced(e6 + f7, p, r))
        store(out, k + 7 * s, reduced(e6 - f7, p, r))


@helper
def _enter_inverse(
    y: Doubles,
    at: int,
    x: Doubles,
    to: int,
    last: Doubles,
    prime: float,
    reciprocal: float,
    s: int,
    first: int,
    end: int,
) -> None:
    """Invert `_leave_forward`."""
    p, r = splat(prime), splat(reciprocal)
    for i in range(first, end, 8):
        k = at + i
        y0, y1, y2, y3 = load(y, k), load(y, k + s), load(y, k + 2 * s), load(y, k + 3 * s)
        y4, y5, y6, y7 = load(y, k + 4 * s), load(y, k + 5 * s), load(y, k + 6 * s), load(y, k + 7 * s)
        e0, f1 = y0 + y1, times(y0 - y1, load(last, 3 * s + i), p, r)
        e2, f3 = y2 + y3, times(y2 - y3, load(last, 4 * s + i), p, r)
        e4, f5 = y4 + y5, times(y4 - y5, load(last, 5 * s + i), p, r)
        e6, f7 = y6 + y7, times(y6 - y7, load(last, 6 * s + i), p, r)
        w = load(last, s + i)
        g0, g2 = e0 + e2, times(e0 - e2, w, p, r)
        g1, g3 = f1 + f3, times(f1 - f3, w, p, r)
        w = load(last, 2 * s + i)
        g4, g6 = e4 + e6, times(e4 - e6, w, p, r)
        g5, g7 = f5 + f7, times(f5 - f7, w, p, r)
        w = load(last, i)
        h0, h4 = reduced(g0 + g4, p, r), times(g0 - g4, w, p, r)
        h1, h5 = reduced(g1 + g5, p, r), times(g1 - g5, w, p, r)
        h2, h6 = reduced(g2 + g6, p, r), times(g2 - g6, w, p, r)
        h3, h7 = reduced(g3 + g7, p, r), times(g3 - g7, w, p, r)
        h0, h1, h2, h3, h4, h5, h6, h7 = transposed(h0, h1, h2, h3, h4, h5, h6, h7)
        b = to + 8 * i
        store(x, b, h0)
        store(x, b + 8, h1)
        store(x, b + 16, h2)
        store(x, b + 24, h3)
        store(x, b + 32, h4)
        store(x, b + 40, h5)
        store(x, b + 48, h6)
        store(x, b + 56, h7)


@helper
def _pass_inverse(
    x: Doubles,
    to: int,
    roots: Doubles,
    shares: Doubles,
    prime: float,
    reciprocal: float,
    m: int,
    t: int,
    first: int,
    end: int,
) -> None:
    """Invert `_pass_forward`."""
    p, r = splat(prime), splat(reciprocal)
    for i in range(first, end):
        w1, v1 = splat(roots[m + i]), splat(shares[m + i])
        w2, v2 = splat(roots[2 * (m + i)]), splat(shares[2 * (m + i)])
        w3, v3 = splat(roots[2 * (m + i) + 1]), splat(shares[2 * (m + i) + 1])
        start = to + 4 * i * t
        for j in range(start, start + t, 8):
            a0, a1, a2, a3 = load(x, j), load(x, j + t), load(x, j + 2 * t), load(x, j + 3 * t)
            y0, y1 = a0 + a1, times_constant(a0 - a1, w2, v2, p)
            y2, y3 = a2 + a3, times_constant(a2 - a3, w3, v3, p)
            store(x, j, reduced(y0 + y2, p, r))
            store(x, j + t, reduced(y1 + y3, p, r))
            store(x, j + 2 * t, times_constant(y0 - y2, w1, v1, p))
            store(x, j + 3 * t, times_constant(y1 - y3, w1, v1, p))


@helper
def _leave_inverse_by_four(
    x: Doubles, to: int, n: int, roots: Doubles, shares: Doubles, sizes: Doubles, prime: float, reciprocal: float
) -> None:
    p, r = splat(prime), splat(reciprocal)
    w2, v2 = splat(roots[2]), splat(shares[2])
    w3, v3 = splat(roots[3]), splat(shares[3])
    unit, unit_share, turned, turned_share = splat(sizes[0]), splat(sizes[1]), splat(sizes[2]), splat(sizes[3])
    t = n // 4
    for j in range(to, to + t, 8):
        a0, a1, a2, a3 = load(x, j), load(x, j + t), load(x, j + 2 * t), load(x, j + 3 * t)
        y0, y1 = a0 + a1, times_constant(a0 - a1, w2, v2, p)
        y2, y3 = a2 + a3, times_constant(a2 - a3, w3, v3, p)
        store(x, j, reduced(times_constant(y0 + y2, unit, unit_share, p), p, r))
        store(x, j + t, reduced(times_constant(y1 + y3, unit, unit_share, p), p, r))
        store(x, j + 2 * t, reduced(times_constant(y0 - y2, turned, turned_share, p), p, r))
        store(x, j + 3 * t, reduced(times_constant(y1 - y3, turned, turned_share, p), p, r))


@helper
def _leave_inverse_by_two(x: Doubles, to: int, n: int, sizes: Doubles, prime: float, reciprocal: float) -> None:
    p, r = splat(prime), splat(reciprocal)
    unit, unit_share, turned, turned_share = splat(sizes[0]), splat(sizes[1]), splat(sizes[2]), splat(sizes[3])
    t = n // 2
    for j in range(to, to + t, 8):
        a, b = load(x, j), load(x, j + t)
        store(x, j, reduced(times_constant(a + b, unit, unit_share, p), p, r))
        store(x, j + t, reduced(times_constant(a - b, turned, turned_share, p), p, r))
