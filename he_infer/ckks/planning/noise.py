"""Size of CKKS's errors: the variance that each operation adds, and the error of a plan's scores.

`nu` is the standard deviation of the error of one coefficient, in units of the integer polynomial (not yet divided by
the scale). All coefficients' errors are taken as independent, so a slot's error is complex with variance N nu^2, and
its real part has N nu^2 / 2 (Costache, Curtis, Hales, Murphy, Ogilvie and Player, "On the precision loss in approximate
homomorphic encryption", SAC 2023, use the same heuristics). SEAL draws errors of standard deviation 3.2 and ternary
secrets, and its digits of a key switch lie in 0 .. q - 1. Their mean is therefore not zero but (q - 1) / 2 in every
coefficient, a polynomial whose value is large in the few slots with a root near one: the first slot has some fifty
times the error of the others, the same for all ciphertexts under a key. Key switches should therefore run where the
scale is large.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.layouts.last_layer import OutputLayout, Tile
from he_infer.ckks.layouts.ring import to_slots
from he_infer.ckks.parameters import Parameters
from he_infer.ckks.planning.circuit import MOMENT, Activation, Circuit, Measured
from he_infer.ckks.planning.order import Digits, Moment
from he_infer.ckks.planning.plan import Stage
from he_infer.head.layers import Linear

SIGMA = 3.2
"""Standard deviation of the error that SEAL adds to a fresh encryption."""
TYPICAL = 0.25
"""Root mean square of typical features, as a share of the input bound."""
WORST = 5.0
"""Predicted largest error in standard deviations: few of several thousand scores exceed it. For linear heads, and for
activations of degree 3 and 4 whose inputs' sizes are measured, since their slopes are bounded from above."""
WORST_OF_PRODUCTS = 8.0
"""Predicted largest error, in standard deviations, after x^2 whose inputs' sizes are measured: the error is then a
product of two values, which has longer tails. The largest errors of trained heads were 1.2 to 5.7 standard deviations
(docs/engine.md)."""
WORST_OF_UNKNOWN = 12.0
"""Predicted largest error, in standard deviations, if sizes are not measured. Independent features are then assumed,
but a trained network's features are correlated and give larger values: errors of up to 49 standard deviations were
measured, so this is not a bound."""

_ROUNDING = 1 / math.sqrt(12)
_DOUBLE = 2.0**-44
"""Standard deviation of the error, as a share of the value, that encoding and decoding in double precision leave: their
transforms round at each step. Measured for a bias: 2^-42 at most, in the slots of N = 16384."""


@lru_cache(maxsize=8)
def _mean_digits(ring_size: int) -> NDArray[np.complex128]:
    """Return the slots of the polynomial whose coefficients are all one half: the digits' mean over the prime."""
    mean = to_slots(np.full(ring_size, 0.5))
    mean.setflags(write=False)
    return mean


@dataclass(frozen=True)
class ErrorModel:
    """Standard deviations of the errors that single operations add, under one set of parameters.

    Properties and methods give the standard deviation of one coefficient's error in units of the integer polynomial.
    Methods that take a `scale` give the standard deviation of a slot's real part, divided by that scale.
    """

    parameters: Parameters
    digits: Digits = Digits.POSITIVE

    fresh: ClassVar[float] = math.hypot(SIGMA, _ROUNDING)
    """Standard deviation of one coefficient's error after a fresh symmetric encryption, encoding included."""
    encoding: ClassVar[float] = _ROUNDING
    """Standard deviation of one coefficient's error in an encoded vector: rounding to integers."""
    encoding_of_reals: ClassVar[float] = math.sqrt(2) * _ROUNDING
    """Standard deviation of one coefficient's error in an encoded vector of real numbers: its coefficients come in
    equal pairs, and so do their roundings, so that the whole error is in the slots' real parts."""

    @property
    def rescaling(self) -> float:
        """Error of a division by a prime: the rounding of c0, and of c1 times the ternary secret."""
        return _ROUNDING * math.sqrt(1 + 2 * self.parameters.ring_size / 3)

    @property
    def zero(self) -> float:
        """Error of an encryption of zero under the public key: e u + e0 + e1 s."""
        return SIGMA * math.sqrt(1 + 4 * self.parameters.ring_size / 3)

    def key_switch(self, level: int) -> float:
        """Error of a key switch at a level: digits times the key's errors over the special prime, and its rounding."""
        share = 12 if self.digits is Digits.CENTRED else 3
        squares = self._digits(level)
        return math.sqrt(self.parameters.ring_size * SIGMA**2 * squares / share + self.rescaling**2)

    def drawn_key_switch(self, level: int) -> float:
        """The part of `key_switch` that differs between ciphertexts: digits minus their mean, and the rounding."""
        squares = self._digits(level)
        return math.sqrt(self.parameters.ring_size * SIGMA**2 * squares / 12 + self.rescaling**2)

    def fixed_key_switch(self, errors: NDArray[np.complex128], level: int) -> NDArray[np.complex128]:
        """The part of a key switch's error that is the same for all ciphertexts: the mean of their digits, (slots,).

        Args:
            errors: (digits, slots) the key's own errors, one row a data prime.
            level: level of the ciphertext.
        """
        if self.digits is Digits.CENTRED:
            return np.zeros_like(errors[0])
        bits = self.parameters.modulus_bits
        shares = np.array([2.0 ** (each - bits[-1]) for each in bits[: level + 1]])
        return np.asarray(shares @ errors[: len(shares)] * _mean_digits(self.parameters.ring_size))

    def in_slot(self, nu: float) -> float:
        """The standard deviation of a slot's real part, for coefficients of standard deviation `nu`."""
        return nu * math.sqrt(self.parameters.ring_size / 2)

    def slot_of_key_switch(self, level: int, scale: float) -> float:
        """Error of a key switch at a level, in a slot."""
        return self.in_slot(self.key_switch(level)) / scale

    def slot_of_rescaling(self, scale: float) -> float:
        """Error of a rescaling, in a slot, by the scale after it."""
        return self.in_slot(self.rescaling) / scale

    def first_slot_of_key_switch(self, level: int, scale: float) -> float:
        """Error of a key switch in the first slot, where the digits' mean counts most: 1 / sin(pi / 2N) times."""
        if self.digits is Digits.CENTRED:
            return 0.0
        nu = SIGMA * math.sqrt(self._digits(level)) * self.parameters.ring_size / math.pi
        return self.in_slot(nu) / scale

    def _digits(self, level: int) -> float:
        """The sum of the squared ratios of the digits' primes to the special prime."""
        bits = self.parameters.modulus_bits
        return sum(4.0 ** (each - bits[-1]) for each in bits[: level + 1])


@dataclass(frozen=True)
class Spread:
    """Moments and errors of a layer's values for features of typical size, (values,) each."""

    mean: NDArray[np.float64]
    rms: NDArray[np.float64]
    error: NDArray[np.float64]
    """Standard deviation of the error of a slot's real part."""
    peak: NDArray[np.float64]
    """Standard deviation of the additional error in the few slots that the first slot of a key switch reaches."""
    hit: int = 0
    """Number of values of one image that have this additional error."""


def spread_features(width: int, bound: float, scale: float, model: ErrorModel) -> Spread:
    """Return the spread of freshly encrypted features of typical size."""
    rms = np.full(width, TYPICAL * bound)
    return Spread(np.zeros(width), rms, np.full(width, model.in_slot(model.fresh) / scale), np.zeros(width))


def pass_linear(
    spread: Spread, layer: Linear, stage: Stage, *, level: int, scale: float, model: ErrorModel, folds: Moment
) -> Spread:
    """Return the spread after a hidden layer's linear map on values of a level and scale."""
    layout = stage.layout
    mean, rms = _moments(layer, spread)
    earlier = spread.peak**2 * spread.hit / len(spread.peak)
    inside = spread.error**2 + earlier + (model.slot_of_key_switch(level, scale) ** 2 if layout.baby else 0.0)
    terms = layout.lanes * layout.parts * layout.diagonals * layout.places / (layout.height * layout.width)
    beyond = max(1.0, terms) if layout.shifted else 1.0
    # Complex weights are halved, and adding the conjugate doubles the real part of their products.
    encoding = model.encoding_of_reals if layout.parts == 1 else 2 * model.encoding
    rounding = (model.in_slot(encoding) / stage.weight_scale) ** 2
    variance = _spread_over(layer, inside) + rounding * beyond * float((spread.rms**2).sum())
    double = 4.0 if layout.conjugated else 1.0
    folded = 2.0 ** len(layout.folds)
    product = model.slot_of_key_switch(level, scale * stage.weight_scale) ** 2
    variance = variance + double * folded * len(layout.giant) * product
    later = double * (folded - 1) + layout.conjugated
    if folds is Moment.BEFORE:
        variance = variance + later * product
        if stage.rescaled:
            variance = variance + model.slot_of_rescaling(scale) ** 2
    else:
        variance = variance + double * folded * model.slot_of_rescaling(scale) ** 2
        variance = variance + later * model.slot_of_key_switch(level - 1, scale) ** 2
    # The first slot of each rotated input meets one weight, and a giant step carries it to a row of its own.
    peak = model.first_slot_of_key_switch(level, scale) * math.sqrt(double * len(layout.baby)) * layer.largest
    error = np.maximum(np.sqrt(variance), _DOUBLE * rms)
    return Spread(mean, rms, error, peak, (len(layout.giant) + 1) if layout.baby else 0)


def _spread_over(layer: Linear, variance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the variance of W v for independent errors of v; equal variances need no pass over the weights."""
    if np.ptp(variance) <= 1e-12 * float(variance[0]):
        return layer.norms * float(variance[0])
    return np.asarray(layer.squares @ variance)


@lru_cache(maxsize=8)
def _sum_largest_norms(layer: Linear, count: int) -> float:
    return float(np.sort(layer.norms)[-count:].sum())


@lru_cache(maxsize=8)
def _sum_largest(layer: Linear, count: int) -> NDArray[np.float64]:
    """Return (out,) the sum of each row's `count` largest squared weights."""
    return np.asarray(np.sort(layer.squares, axis=1)[:, -count:].sum(axis=1))


@lru_cache(maxsize=8)
def _compute_moments(layer: Linear, mean: bytes, rms: bytes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    before, size = np.frombuffer(mean), np.frombuffer(rms)
    after = layer.weight @ before + layer.bias
    return after, np.sqrt(after**2 + _spread_over(layer, np.maximum(size**2 - before**2, 0)))


def _moments(layer: Linear, spread: Spread) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and root mean square after a layer. They hold no scale and so are the same for every chain tried."""
    return _compute_moments(layer, spread.mean.tobytes(), spread.rms.tobytes())


def pass_activation(
    spread: Spread,
    activation: Activation,
    measured: Measured | None,
    *,
    level: int,
    scale: float,
    primes: Sequence[float],
    model: ErrorModel,
    postponed: bool,
) -> Spread:
    """Return the spread after an activation whose products are rescaled by `primes`, the first one first.

    If `postponed`, the last product is not rescaled here. The values' sizes are those of `measured`; if it is None,
    they follow from features of typical size.
    """
    rms = spread.rms if measured is None else measured.inputs
    reach = rms * MOMENT[activation.degree]
    assumed = activation.slope(rms if activation.degree == 2 else reach)
    slope = assumed if measured is None else measured.slopes
    variance = (slope * spread.error) ** 2
    current = scale
    for index, prime in enumerate(primes):
        product = current * (scale if index and activation.degree == 3 else current)
        last = index == len(primes) - 1
        added = model.slot_of_key_switch(level - index, product) ** 2
        if not (last and postponed):
            added += model.slot_of_rescaling(product / prime) ** 2
        later = 1.0 if last else (reach if activation.degree == 3 else 2 * (reach**2 + abs(activation.e))) ** 2
        variance = variance + added * later
        current = product / prime
    mean = activation(rms) if activation.degree != 3 else activation(spread.mean)
    outputs = activation.largest(reach) if measured is None else measured.outputs
    return Spread(mean, outputs, np.sqrt(variance), slope * spread.peak, spread.hit)


def predict_scores(
    spread: Spread,
    circuit: Circuit,
    output: OutputLayout,
    *,
    scale: float,
    output_scale: float,
    answer_scale: float,
    model: ErrorModel,
) -> float:
    """Predict the largest standard deviation of a score's error, before the server's noise.

    However large the scale, it is not below what double precision leaves of the score.

    Args:
        spread: moments and errors of the last layer's inputs.
        circuit: circuit of the head.
        output: the last layer's layout.
        scale: scale of the last layer's inputs.
        output_scale: scale of the last layer's weights.
        answer_scale: scale of the answer, after the last rescaling.
        model: error model of the plan's engine.
    """
    last = circuit.linear[-1]
    late = (model.zero / answer_scale) ** 2
    least = _DOUBLE * float(_moments(last, spread)[1].max())
    if isinstance(output, Tile):
        # Every coefficient has an error, so the error of a score sums those that meet the weights of all rows.
        together = float(np.add.reduceat(last.norms, np.arange(0, last.outputs, output.rows)).max())
        rounding = (model.encoding / output_scale) ** 2 * float((spread.rms**2).sum())
        return max(least, math.sqrt((model.fresh / scale) ** 2 * together + rounding + late))
    # A score of B images is read from 2 B coefficients, as a slot is, and sums the errors of all of them.
    if answer_scale < scale * output_scale:
        late += (model.rescaling / answer_scale) ** 2
    images = output.images
    copies = output.places / output.width
    own = _spread_over(last, spread.error**2)
    if spread.hit:
        own = own + _sum_largest(last, spread.hit) * float((spread.peak**2).max())
    others = float((spread.error**2).mean()) * _sum_largest_norms(last, output.rows) / copies
    rounding = (model.encoding / output_scale) ** 2 * float((spread.rms**2).mean()) * output.sources
    return max(least, math.sqrt(float(own.max()) + others + images * (rounding + late)))
