"""The one door through which decrypted scores leave: rounded, or flooded where they are to be shared.

CKKS decrypts to the message plus the encryption's noise, and whoever sees that noise may solve for the secret key (Li
and Micciancio, Eurocrypt 2021). So what leaves the client is rounded to the plan's precision: enough for a report to
people who hold the images anyway. Where raw scores are shown to others, normal noise is added, so large that the
encryption's own drowns in it (Li, Micciancio, Schultz and Sorrell, Crypto 2022).
"""

import math
import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from he_infer.errors import ParameterError, ShapeError

LEAST_BITS = 30
"""The least statistical security that OpenFHE's documentation recommends for noise flooding."""

_SURE = 6.0
"""Standard deviations within which each shared score's noise stays, but for one in 5e8."""


def rounded(values: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Values to the coarsest power of ten that is at least `step`; halves go to the even neighbour."""
    digits = math.floor(-math.log10(step) + 1e-9)
    return np.asarray(np.round(values, digits)) + 0.0  # no negative zero


@dataclass(frozen=True)
class Flooding:
    """Normal noise that makes scores fit to be shared.

    The deviation is sqrt(12 q) 2^(s/2) t sqrt(c), as OpenFHE documents for NOISE_FLOODING_DECRYPT, where t is the bound
    of the error of one published number and c how many numbers are published of an image. What is published is then
    within a Kullback-Leibler divergence of 2^-s / 24, over all q images together, of what could be computed from the
    exact scores alone: q c t^2 / (2 deviation^2). That is s bits in the sense of Micciancio and Walter (2018), and a
    distinguisher's advantage is at most `advantage`.

    Args:
        error: t, the largest error of a score under the plan, which must hold whatever the key and the image.
        scores: c, the scores of one image.
        queries: q, the images whose scores are shared under one secret key in its whole life.
        bits: s, the statistical security.

    Raises:
        ParameterError: numbers that make no sense, or fewer bits than LEAST_BITS.
    """

    error: float
    scores: int
    queries: int
    bits: int = LEAST_BITS

    def __post_init__(self) -> None:
        if not (0 < self.error < math.inf) or self.scores < 1 or self.queries < 1:
            raise ParameterError("Flooding needs a positive error bound, and at least one score and one image.")
        if not LEAST_BITS <= self.bits <= 128:
            raise ParameterError(
                f"Flooding was asked for with {self.bits} bits of statistical security; {LEAST_BITS} to 128 are "
                "offered."
            )

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise of each score."""
        return self._factor * self.error

    @property
    def reach(self) -> float:
        """How far a shared score may lie from the decrypted one: six deviations, and the rounding."""
        return _SURE * self.deviation + 0.5 * 10.0**-self.digits

    @property
    def digits(self) -> int:
        """Decimal places of a shared score: the first that the noise covers, so that no false ones are shown."""
        return math.ceil(-math.log10(self.deviation))

    @property
    def divergence(self) -> float:
        """Kullback-Leibler divergence of all that is shared from what shows no decryption noise."""
        return self.queries * self.scores * self.error**2 / (2 * self.deviation**2)

    @property
    def advantage(self) -> float:
        """Most that any distinguisher gains (Pinsker): 2^(-s/2) / sqrt(48)."""
        return math.sqrt(self.divergence / 2)

    def check(self, tolerance: float) -> None:
        """Refuse where the noise would leave nothing of use.

        Args:
            tolerance: the largest error of a shared score that is still of use.

        Raises:
            ParameterError: the noise reaches further; the text says what precision the plan would have to have.
        """
        if self.reach > tolerance:
            needed = tolerance / ((_SURE + 0.5) * self._factor)
            raise ParameterError(
                f"Scores of {self.queries} images cannot be shared with {self.bits} bits of statistical security: the "
                f"noise would reach {self.reach:.2g}, and {tolerance:g} is allowed. The plan's scores are good to "
                f"{self.error:.1g}; have the server make plans with '--precision {_down(needed):.0e}', share fewer "
                "images, or allow a larger error."
            )

    def apply(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Flood decrypted scores (n, c) with fresh noise from the system's generator, and round them.

        Rounding comes last, so that the low bits of a floating-point normal variate, which are not quite normal
        (Mironov 2012), do not leave either.

        Raises:
            ShapeError: another number of scores an image, or more images than the noise was made for.
        """
        if scores.ndim != 2 or scores.shape[1] != self.scores or len(scores) > self.queries:
            raise ShapeError(
                f"Scores of shape {scores.shape} cannot be shared under a setting for {self.queries} images of "
                f"{self.scores} scores."
            )
        draw = random.SystemRandom().gauss
        noise = np.array([draw(0.0, self.deviation) for _ in range(scores.size)]).reshape(scores.shape)
        return rounded(scores + noise, 10.0**-self.digits)

    @property
    def _factor(self) -> float:
        return math.sqrt(12 * self.queries * self.scores) * math.exp2(self.bits / 2)


def _down(value: float) -> float:
    """The next number below with one significant digit."""
    unit: float = 10.0 ** math.floor(math.log10(value))
    return math.floor(value / unit) * unit
