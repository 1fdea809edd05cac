"""How large CKKS's errors are: the variances of each operation, and what they add up to at a plan's scores.

`nu` is the standard deviation of the error of one coefficient, in units of the integer polynomial (not yet divided by
the scale). All coefficients' errors are taken as independent, so a slot's error is complex with variance N nu^2, and
its real part has N nu^2 / 2 (Costache, Curtis, Hales, Murphy, Ogilvie and Player, "On the precision loss in approximate
homomorphic encryption", SAC 2023, use the same heuristics). SEAL draws errors with a deviation of 3.2 and ternary
secrets, and its digits of a key switch lie in 0 .. q - 1. Their mean is therefore not zero but (q - 1) / 2 in every
coefficient, a polynomial whose value is large in the few slots with a root near one: the first slot has some fifty
times the error of the others, the same for all ciphertexts under a key. So key switches belong where the scale
is large.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.layouts.last_layer import Tile, Trace
from he_infer.ckks.layouts.ring import to_slots
from he_infer.ckks.planning.circuit import MOMENT, Activation, Circuit, Measured
from he_infer.ckks.planning.plan import Stage
from he_infer.head.layers import Linear

SIGMA = 3.2
"""Deviation of the error that SEAL adds to a fresh encryption."""
TYPICAL = 0.25
"""Typical features have this share of the bound as their root mean square."""
WORST = 5.0
"""The predicted error is so many deviations: a few thousand scores rarely have one beyond. For linear heads, and for
activations of degree 3 and 4 whose inputs' sizes are measured, since their slopes are taken from above."""
WORST_OF_PRODUCTS = 8.0
"""The same after x^2 whose inputs' sizes are measured: an error is there a product of two values and has longer tails
than one. The largest errors of trained heads lay at 1.2 to 5.7 deviations (docs/engine.md)."""
WORST_OF_UNKNOWN = 12.0
"""The same where sizes are not measured. The values of a trained network hang together and reach further than those of
independent features, which is what is then assumed: up to 49 deviations were seen, so this is no bound."""

_ROUNDING = 1 / math.sqrt(12)
_MASK_GRID = 2.0**-48
"""Rounding of a mask in double precision, as a share of the modulus."""


def fresh() -> float:
    """Of a fresh symmetric encryption, with the rounding of its encoding."""
    return math.hypot(SIGMA, _ROUNDING)


def rescaled(ring_size: int) -> float:
    """Of a division by a prime: the rounding of c0, and of c1 times the ternary secret."""
    return _ROUNDING * math.sqrt(1 + 2 * ring_size / 3)


def _digits(data_bits: Sequence[int], special_bits: int) -> float:
    """The squares of the digits' moduli over the special prime's, summed."""
    return sum(4.0 ** (bits - special_bits) for bits in data_bits)


def switched(ring_size: int, data_bits: Sequence[int], special_bits: int) -> float:
    """Of a key switch with these primes: digits times the key's errors over the special prime, and its rounding."""
    ratio = _digits(data_bits, special_bits)
    return math.sqrt(ring_size * SIGMA**2 * ratio / 3 + rescaled(ring_size) ** 2)


def drawn(ring_size: int, data_bits: Sequence[int], special_bits: int) -> float:
    """The part of `switched` that differs between ciphertexts: of the digits less their mean, and the rounding."""
    ratio = _digits(data_bits, special_bits)
    return math.sqrt(ring_size * SIGMA**2 * ratio / 12 + rescaled(ring_size) ** 2)


@lru_cache(maxsize=8)
def _mean_digits(ring_size: int) -> NDArray[np.complex128]:
    """The slots of the polynomial whose coefficients are all one half: the mean of the digits, by their modulus."""
    mean = to_slots(np.full(ring_size, 0.5))
    mean.setflags(write=False)
    return mean


def of_the_mean(errors: NDArray[np.complex128], data_bits: Sequence[int], special_bits: int) -> NDArray[np.complex128]:
    """The part of a key switch's error that is the same for all ciphertexts: of the mean of their digits, (slots,).

    Args:
        errors: (digits, slots) the key's own errors, one row a data prime.
        data_bits: of the primes that the ciphertext has.
        special_bits: of the special prime.
    """
    shares = np.array([2.0 ** (bits - special_bits) for bits in data_bits])
    return np.asarray(shares @ errors[: len(shares)] * _mean_digits(2 * errors.shape[1]))


def zero(ring_size: int) -> float:
    """Of an encryption of zero under the public key: e u + e0 + e1 s."""
    return SIGMA * math.sqrt(1 + 4 * ring_size / 3)


def encoded() -> float:
    """Of an encoded vector: rounding to integers."""
    return _ROUNDING


@dataclass(frozen=True)
class Spread:
    """What a layer's values are like for features of typical size, (values,) each."""

    mean: NDArray[np.float64]
    rms: NDArray[np.float64]
    error: NDArray[np.float64]
    """Deviation of the error of the real part of a slot."""
    peak: NDArray[np.float64]
    """Of the error that comes on top in the few slots which the first slot of a key switch reaches."""
    hit: int = 0
    """In how many values of one image that is."""


@dataclass(frozen=True)
class Chain:
    """What the errors depend on besides the head."""

    ring_size: int
    modulus_bits: tuple[int, ...]

    def slot(self, nu: float) -> float:
        """Deviation of the real part of a slot."""
        return nu * math.sqrt(self.ring_size / 2)

    def switch(self, level: int, scale: float) -> float:
        """Of a key switch at a level, as a slot's real part over the scale."""
        nu = switched(self.ring_size, self.modulus_bits[: level + 1], self.modulus_bits[-1])
        return self.slot(nu) / scale

    def peak(self, level: int, scale: float) -> float:
        """Of a key switch in the first slot, where the mean of the digits is largest: 1 / sin(pi / 2N) of one's."""
        ratio = _digits(self.modulus_bits[: level + 1], self.modulus_bits[-1])
        return self.slot(SIGMA * math.sqrt(ratio) * self.ring_size / math.pi) / scale

    def rescale(self, scale: float) -> float:
        """Of a rescaling, by the scale after it."""
        return self.slot(rescaled(self.ring_size)) / scale


def typical(width: int, bound: float, scale: float, chain: Chain) -> Spread:
    """Fresh features."""
    rms = np.full(width, TYPICAL * bound)
    return Spread(np.zeros(width), rms, np.full(width, chain.slot(fresh()) / scale), np.zeros(width))


def through_linear(spread: Spread, layer: Linear, stage: Stage, *, level: int, scale: float, chain: Chain) -> Spread:
    """The spread after a hidden layer's linear map on values of a level and scale."""
    layout = stage.layout
    mean, rms = _moments(layer, spread)
    earlier = spread.peak**2 * spread.hit / len(spread.peak)
    inside = spread.error**2 + earlier + (chain.switch(level, scale) ** 2 if layout.baby else 0.0)
    terms = layout.lanes * layout.parts * layout.diagonals * layout.places / (layout.height * layout.width)
    beyond = max(1.0, terms) if layout.shifted else 1.0
    rounding = (chain.slot(encoded()) / stage.weight_scale * layout.parts) ** 2
    variance = _spread_over(layer, inside) + rounding * beyond * float((spread.rms**2).sum())
    double = 4.0 if layout.conjugated else 1.0
    folded = 2.0 ** len(layout.folds)
    switches = double * folded * len(layout.giant) + double * (folded - 1) + layout.conjugated
    variance = variance + switches * chain.switch(level, scale * stage.weight_scale) ** 2
    if stage.rescaled:
        variance = variance + chain.rescale(scale) ** 2
    # The first slot of each rotated input meets one weight, and a giant step carries it to a row of its own.
    peak = chain.peak(level, scale) * math.sqrt(double * len(layout.baby)) * layer.largest
    return Spread(mean, rms, np.sqrt(variance), peak, (len(layout.giant) + 1) if layout.baby else 0)


def _spread_over(layer: Linear, variance: NDArray[np.float64]) -> NDArray[np.float64]:
    """The variance of W v for independent errors of v: without a pass over the weights where all are alike."""
    if np.ptp(variance) <= 1e-12 * float(variance[0]):
        return layer.norms * float(variance[0])
    return np.asarray(layer.weight**2 @ variance)


@lru_cache(maxsize=8)
def _kept(layer: Linear, mean: bytes, rms: bytes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    before, size = np.frombuffer(mean), np.frombuffer(rms)
    after = layer.weight @ before + layer.bias
    return after, np.sqrt(after**2 + _spread_over(layer, np.maximum(size**2 - before**2, 0)))


def _moments(layer: Linear, spread: Spread) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and root mean square after a layer. No scale is in them, so that they are the same for every chain tried."""
    return _kept(layer, spread.mean.tobytes(), spread.rms.tobytes())


def through_activation(
    spread: Spread,
    activation: Activation,
    measured: Measured | None,
    *,
    level: int,
    scale: float,
    primes: Sequence[float],
    chain: Chain,
) -> Spread:
    """The spread after an activation whose products are rescaled by `primes`, the first one first.

    `measured` is the circuit's, where it knows the values' sizes; else those follow from features of typical size.
    """
    rms = spread.rms if measured is None else measured.inputs
    reach = rms * MOMENT[activation.degree]
    assumed = activation.slope(rms if activation.degree == 2 else reach)
    slope = assumed if measured is None else measured.slopes
    variance = (slope * spread.error) ** 2
    current = scale
    for index, prime in enumerate(primes):
        product = current * (scale if index and activation.degree == 3 else current)
        added = chain.switch(level - index, product) ** 2 + chain.rescale(product / prime) ** 2
        last = index == len(primes) - 1
        later = 1.0 if last else (reach if activation.degree == 3 else 2 * (reach**2 + abs(activation.e))) ** 2
        variance = variance + added * later
        current = product / prime
    mean = activation(rms) if activation.degree != 3 else activation(spread.mean)
    outputs = activation.largest(reach) if measured is None else measured.outputs
    return Spread(mean, outputs, np.sqrt(variance), slope * spread.peak, spread.hit)


def at_scores(
    spread: Spread, circuit: Circuit, answer: Tile | Trace, *, scale: float, answer_scale: float, chain: Chain
) -> float:
    """The largest deviation of a score's error."""
    last = circuit.linear[-1]
    size = chain.ring_size
    norms = last.norms
    product = scale * answer_scale
    masking = math.hypot(zero(size), _MASK_GRID * 2.0 ** chain.modulus_bits[0]) / product
    if isinstance(answer, Tile):
        # Every coefficient has an error, so that of a score meets the weights of all rows beside it.
        together = max(float(norms[row : row + answer.rows].sum()) for row in range(0, len(norms), answer.rows))
        variance = (fresh() / scale) ** 2 * together + (encoded() / answer_scale) ** 2 * float((spread.rms**2).sum())
        return math.sqrt(variance + masking**2)
    # A score of B images is read from 2 B coefficients, as a slot is, and meets the errors of all of them.
    images = answer.images
    copies = answer.places / answer.width
    own = _spread_over(last, spread.error**2)
    if spread.hit:
        own = own + np.sort((last.weight * spread.peak) ** 2, axis=1)[:, -spread.hit :].sum(axis=1)
    others = float((spread.error**2).mean()) * float(np.sort(norms)[-answer.rows :].sum()) / copies
    rounding = (encoded() / answer_scale) ** 2 * float((spread.rms**2).mean()) * answer.sources
    return math.sqrt(float(own.max()) + others + images * (rounding + masking**2))
