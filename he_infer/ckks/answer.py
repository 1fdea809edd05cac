"""Serialized form of an answer: the whole second polynomial, and only the selected coefficients of the first.

A ciphertext at level 0 is a pair of polynomials (c0, c1) modulo the first prime q; it decrypts to c0 + c1 s under the
secret s. A coefficient of that sum needs the same coefficient of c0, and all of c1. So an answer is

- c1, all N coefficients, and
- the numbers that the layout selects from c0: a coefficient for each score, or the sum of two, and the checks.

No client can read a coefficient that is not sent, with any keys. Under the policy `hidden` the engine has added a fresh
encryption of zero, so that c1 is pseudorandom, and this module adds noise to every number of c0, uniform and as wide as
the published precision: a number then reveals at most log2(q / noise) bits, see `planning.leakage`.

At the end both are switched to the modulus 2^r, round(c 2^r / q): the lower bits hold only noise and are not sent.

Bytes: MAGIC, then the N coefficients of c1, then the numbers of c0 and zeros up to a multiple of eight numbers, both
as `planes` packs them.
"""

import math
import secrets
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.layouts.last_layer import Selection
from he_infer.ckks.planes import count_plane_bytes, pack_planes, unpack_planes
from he_infer.ckks.planning.message_sizes import count_part_bytes, pad_count
from he_infer.ckks.planning.plan import Plan
from he_infer.errors import NotThisFormat, UnsupportedVersion

MAGIC = b"HEA\x02"
"""Four bytes: three letters and the format's version."""


@dataclass(frozen=True)
class SwitchedAnswer:
    """An answer modulo 2^bits."""

    second: NDArray[np.uint64]
    """(N,) all coefficients of c1."""
    numbers: NDArray[np.uint64]
    """(numbers,) the numbers selected from c0."""


@dataclass(frozen=True)
class OpenedAnswer:
    """An answer, opened with the secret key, in units of scores."""

    scores: NDArray[np.float64]
    """(numbers,) the numbers that the layout turns into scores."""
    checks: NDArray[np.float64]
    """(checks,) numbers that are near zero in the right answer under the right key."""


def write_answer(plan: Plan, target: int, polynomials: NDArray[np.uint64], prime: int) -> bytes:
    """Serialize an answer.

    Args:
        plan: the plan that the answer was computed with.
        target: index of the answer among the plan's answers.
        polynomials: (2, N) coefficients of c0 and c1, below the prime.
        prime: the first prime of the chain.
    """
    selection = plan.output.selection(target)
    numbers = _sum_modulo(selection, polynomials[0], prime)
    if plan.answer.noise:
        numbers = (numbers + draw_noise(plan.answer.noise, selection)) % np.uint64(prime)
    bits = plan.answer.bits
    second, held = (_pack(_switch(each, prime, bits), bits) for each in (polynomials[1], numbers))
    return MAGIC + second + held


def read_answer(plan: Plan, target: int, data: bytes) -> SwitchedAnswer:
    """Parse a serialized answer.

    Raises:
        UnsupportedVersion: the answer has another version.
        NotThisFormat: the bytes are not an answer of this plan.
    """
    if data[:3] == MAGIC[:3] and data[3:4] != MAGIC[3:]:
        raise UnsupportedVersion(
            f"The answer has version {data[3] if len(data) > 3 else '?'}; this release reads 2. Install the same "
            "release on client and server."
        )
    if data[:4] != MAGIC or len(data) != count_part_bytes(plan, target):
        raise NotThisFormat("The answer does not have the plan's form: it is truncated, or of another plan.")
    bits, size = plan.answer.bits, plan.parameters.ring_size
    end = len(MAGIC) + count_plane_bytes(size, bits)
    count = len(plan.output.selection(target).first)
    return SwitchedAnswer(_unpack(data[len(MAGIC) : end], size, bits), _unpack(data[end:], count, bits))


def draw_noise(width: int, selection: Selection) -> NDArray[np.uint64]:
    """Draw (numbers,) uniform integers below `width`, or below sqrt(2) `width` for sums of two coefficients.

    They come from the operating system's generator and are not centred: the client subtracts their mean,
    `shift_of_noise`, when it opens the answer.
    """
    doubled = selection.second >= 0
    single, wide = widths_of_noise(width)
    noise = np.empty(len(doubled), dtype=np.uint64)
    noise[~doubled] = draw_below(single, int((~doubled).sum()))
    noise[doubled] = draw_below(wide, int(doubled.sum()))
    return noise


def widths_of_noise(width: int) -> tuple[int, int]:
    """Return the bounds of the noise of a coefficient and of a sum of two."""
    return width, round(width * math.sqrt(2))


def draw_below(bound: int, count: int) -> NDArray[np.uint64]:
    """Draw (count,) uniform integers of 0 .. bound - 1, bound at most 2^63, from the operating system's generator.

    Rejection sampling: reducing modulo the bound would be biased towards small numbers.
    """
    below = np.uint64(mask_for(bound))
    numbers = np.frombuffer(secrets.token_bytes(8 * count), dtype="<u8") & below
    while (outside := numbers >= np.uint64(bound)).any():
        drawn = np.frombuffer(secrets.token_bytes(8 * int(outside.sum())), dtype="<u8")
        numbers[outside] = drawn & below
    return numbers.astype(np.uint64)


def mask_for(bound: int) -> int:
    """Return the mask under which uniform words are drawn until one is below the bound."""
    return (1 << max(bound - 1, 1).bit_length()) - 1


def shift_of_noise(width: int, selection: Selection) -> NDArray[np.float64]:
    """Return (numbers,) the mean of `draw_noise`, in residues."""
    single, wide = widths_of_noise(width)
    return np.asarray(np.maximum(np.where(selection.second >= 0, wide, single) - 1, 0) / 2)


def _sum_modulo(selection: Selection, coefficients: NDArray[np.uint64], prime: int) -> NDArray[np.uint64]:
    return np.asarray(selection.take(coefficients) % np.uint64(prime))


def _switch(residues: NDArray[np.uint64], prime: int, bits: int) -> NDArray[np.uint64]:
    """round(c 2^bits / q) modulo 2^bits; double precision errs by 2^(bits - 52) of a unit."""
    switched = np.rint(residues.astype(np.float64) * (2.0**bits / prime)).astype(np.uint64)
    return np.asarray(switched & np.uint64((1 << bits) - 1))


def _pack(values: NDArray[np.uint64], bits: int) -> bytes:
    """Pack numbers as planes, after appending zeros up to a multiple of eight numbers."""
    padded = np.zeros(pad_count(len(values)), dtype=np.uint64)
    padded[: len(values)] = values
    return pack_planes(padded, bits)


def _unpack(data: bytes, count: int, bits: int) -> NDArray[np.uint64]:
    values = unpack_planes(data, pad_count(count), bits)
    if values[count:].any():
        raise NotThisFormat("The answer's padding is not zero.")
    return values[:count]
