"""Tallies: each takes cipher images key by key and gives its lines at the end. They know no cipher and no key."""

import math

import numpy as np
from numpy.typing import NDArray

from cipher.analysis import correlation, differential, entropy, histogram, probability, quality, sensitivity
from cipher.analysis.line import Criterion, Line, deviates_p, series
from cipher.analysis.pixels import Image, flat, highest, octets, words

CORRELATION = "adjacent-pixel correlation"
HISTOGRAM = "histogram"
ENTROPY = "entropy"
SIMILARITY = "likeness to the plain image"

ALPHA = 0.05
"""Level of a single NPCR or UACI, as Wu, Noonan and Agaian take it."""

WU = "Wu, Noonan, Agaian 2011"
_TABLE_2 = "paper, Table 2 and Fig. 4; Anderson 1942"


class Flatness:
    """Chi-square and entropy of each byte of the images given."""

    def __init__(self, group: str = "", label: str = "") -> None:
        self._group, self._label = group, f"{label}, " if label else ""
        self._chi_square: dict[str, list[float]] = {}
        self._entropy: dict[str, list[float]] = {}
        self._pixels = 0

    def add(self, image: Image) -> None:
        """Count one image."""
        self._pixels = image.size
        for name, values in octets(image).items():
            counts = histogram.counts(values)
            self._chi_square.setdefault(name, []).append(histogram.statistic(counts))
            self._entropy.setdefault(name, []).append(entropy.shannon(counts))

    def lines(self, *, with_entropy: bool = True) -> list[Line]:
        """Chi-square of each byte and, unless told otherwise, its entropy."""
        result = []
        for name, values in self._chi_square.items():
            low, high = histogram.interval()
            criterion = Criterion(
                "p in [0.001, 0.999], two-sided",
                "Pearson 1900; paper, Fig. 3",
                histogram.FREEDOM,
                low,
                high,
                histogram.SIGNIFICANCE,
            )
            pooled = histogram.p_value(sum(values), len(values))
            label = f"{self._label}chi-square, {name}"
            result.append(series(self._group or HISTOGRAM, label, values, criterion, pooled))
        for name, values in self._entropy.items() if with_entropy else ():
            low, high = entropy.interval(self._pixels)
            criterion = Criterion(
                f"the entropy of {self._pixels} random bytes, at 0.2 %",
                "Shannon 1948; Miller 1955; exact moments",
                entropy.expected(self._pixels),
                low,
                high,
                entropy.SIGNIFICANCE,
            )
            pooled = entropy.p_value(values, self._pixels)
            label = f"{self._label}bits a byte, {name}"
            result.append(series(self._group or ENTROPY, label, values, criterion, pooled))
        return result


class Neighbours:
    """Adjacent-pixel correlation, of whole pixels and, where they have several bytes, of the low byte apart."""

    def __init__(self, group: str = CORRELATION, label: str = "") -> None:
        self._group, self._label = group, f"{label}, " if label else ""
        self._found: dict[tuple[str, str], list[correlation.Correlation]] = {}

    def add(self, image: Image) -> None:
        """Measure one image."""
        views = {"": words(image)}
        parts = octets(image)
        if len(parts) > 1:
            views[", low byte"] = parts["low byte"]
        for suffix, view in views.items():
            for result in correlation.adjacent(view):
                self._found.setdefault((result.direction, suffix), []).append(result)

    def lines(self) -> list[Line]:
        """Lines of the table, one for each direction."""
        result = []
        for (direction, suffix), found in sorted(self._found.items(), key=lambda item: item[0][1]):
            bound = found[0].bound
            criterion = Criterion(
                "|r| < 3.29 / sqrt(pairs), all pairs", _TABLE_2, 0.0, -bound, bound, correlation.SIGNIFICANCE
            )
            pooled = deviates_p([r.deviate for r in found])
            label = f"{self._label}{direction}{suffix}"
            result.append(series(self._group, label, [r.r for r in found], criterion, pooled))
        return result


class Differences:
    """NPCR and UACI of pairs of cipher images (of whole pixels and of each byte), and the share of changed bits."""

    def __init__(self, group: str, *, pixelwise: bool = True) -> None:
        self._group, self._pixelwise = group, pixelwise
        self._changed: dict[str, list[int]] = {}
        self._uaci: dict[str, list[float]] = {}
        self._bits: list[int] = []
        self._image: Image | None = None
        self._unchanged: NDArray[np.int32] | None = None

    def add(self, first: Image, second: Image) -> None:
        """Compare one pair."""
        self._image = first
        self._bits.append(sensitivity.changed_bits(first, second))
        if not self._pixelwise:
            return
        unchanged = (flat(first) == flat(second)).astype(np.int32)
        self._unchanged = unchanged if self._unchanged is None else self._unchanged + unchanged
        for name, (a, b) in self._views(first, second).items():
            self._changed.setdefault(name, []).append(differential.changed(a, b))
            self._uaci.setdefault(name, []).append(differential.uaci(a, b))

    def lines(self) -> list[Line]:
        """NPCR and UACI lines, then the avalanche's."""
        if self._image is None:
            return []
        pixels = self._image.size
        maxima = {name: highest(view) for name, (view, _) in self._views(self._image, self._image).items()}
        result = [self._npcr(name, changed, pixels, maxima[name]) for name, changed in self._changed.items()]
        result += [self._uaci_line(name, values, pixels, maxima[name]) for name, values in self._uaci.items()]
        return [*result, self._avalanche(), *self._evenness()]

    @staticmethod
    def _views(first: Image, second: Image) -> dict[str, tuple[Image, Image]]:
        left, right = octets(first), octets(second)
        views: dict[str, tuple[Image, Image]] = {name: (left[name], right[name]) for name in left}
        if len(left) > 1:
            views = {"whole pixel": (words(first), words(second)), **views}
        return views

    def _npcr(self, name: str, changed: list[int], pixels: int, maximum: int) -> Line:
        interval = differential.npcr_interval(pixels, maximum, ALPHA)
        criterion = Criterion(
            f"two-sided critical values at {ALPHA:.0%}, exact binomial",
            WU,
            differential.npcr_expected(maximum),
            interval.low,
            interval.high,
            interval.size,
        )
        pooled = differential.npcr_p_value(sum(changed), pixels * len(changed), maximum)
        customary = differential.npcr_one_sided(pixels, maximum, ALPHA)
        above = sum(count / pixels > customary for count in changed)
        return series(
            self._group,
            f"NPCR, {name}",
            [count / pixels for count in changed],
            criterion,
            pooled,
            f"customary one-sided bound {customary:.4%}: {above} of {len(changed)} above",
        )

    def _uaci_line(self, name: str, values: list[float], pixels: int, maximum: int) -> Line:
        interval = differential.uaci_interval(pixels, maximum, ALPHA)
        criterion = Criterion(
            f"two-sided critical values at {ALPHA:.0%}",
            WU,
            differential.uaci_expected(maximum),
            interval.low,
            interval.high,
            interval.size,
        )
        pooled = deviates_p([differential.uaci_deviate(v, pixels, maximum) for v in values])
        return series(self._group, f"UACI, {name}", values, criterion, pooled)

    def _avalanche(self) -> Line:
        total = sensitivity.bits(self._image) if self._image is not None else 1
        reach = 2.575829 * math.sqrt(0.25 / total)
        criterion = Criterion(
            "half of the bits, two-sided at 1 %",
            "Webster, Tavares 1985",
            0.5,
            0.5 - reach,
            0.5 + reach,
            sensitivity.SIGNIFICANCE,
        )
        deviates = [(count - total / 2) / math.sqrt(total / 4) for count in self._bits]
        shares = [count / total for count in self._bits]
        return series(self._group, "bits changed", shares, criterion, deviates_p(deviates))

    def _evenness(self) -> list[Line]:
        """Whether every byte of the cipher image stays unchanged equally often: finds places that no change reaches.

        The counts over K keys are binomial with p = 1/256 each. Their summed squared deviates over n bytes have mean
        n and variance n (2 + (1 - 6pq) / (K p q)).
        """
        if self._unchanged is None:
            return []
        keys, spread = len(self._bits), 255 / 256**2
        squares = float(((self._unchanged - keys / 256) ** 2 / (keys * spread)).mean())
        deviation = math.sqrt((2 + (1 - 6 * spread) / (keys * spread)) / self._unchanged.size)
        line = Line(
            self._group,
            "evenness of the change over positions",
            squares,
            "1, the dispersion of equal chances",
            "binomial dispersion test, Cochran 1954",
            expected=1.0,
            keys=keys,
            p_pooled=probability.normal((squares - 1) / deviation),
        )
        return [line]


class BitPlanes:
    """Counts of changed bit planes in the cipher image when one bit of a given place in a plain pixel changes.

    It finds what byte counts hide: modular addition and multiplication carry a change upwards only, so that without
    rotations the low bits of a cipher image do not depend on the high bits of the plain one.
    """

    def __init__(self, group: str) -> None:
        self._group = group
        self._changed: dict[int, list[NDArray[np.int64]]] = {}
        self._pixels = 1

    def add(self, bit: int, first: Image, second: Image) -> None:
        """Count one pair of cipher images whose plain images differ in bit `bit` of one pixel."""
        difference = words(first) ^ words(second)
        self._pixels = difference.size
        width = 8 * difference.dtype.itemsize
        planes = [int(np.count_nonzero(difference & (1 << place))) for place in range(width)]
        self._changed.setdefault(bit, []).append(np.array(planes, dtype=np.int64))

    def lines(self) -> list[Line]:
        """Line of the table: the summed squared deviates of all pairs of plain and cipher bit."""
        deviates = []
        for counts in self._changed.values():
            trials = self._pixels * len(counts)
            deviates.append((np.sum(counts, axis=0) - trials / 2) / math.sqrt(trials / 4))
        cells = np.concatenate(deviates)
        line = Line(
            self._group,
            "each plain bit to each cipher bit plane",
            float((cells**2).mean()),
            "chi-square over all pairs of bits, mean 1",
            "strict avalanche criterion, Webster, Tavares 1985",
            expected=1.0,
            keys=sum(len(counts) for counts in self._changed.values()),
            p_pooled=probability.spread(cells),
            note=f"{cells.size} pairs, the farthest {float(np.abs(cells).max()):.2f} standard deviations off",
        )
        return [line]


class Likeness:
    """MSE, and correlation pixel by pixel, of the plain image and its cipher images."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self._mse: list[float] = []
        self._r: list[float] = []

    def add(self, cipher_image: Image) -> None:
        """Compare one cipher image."""
        self._mse.append(quality.mse(self._image, cipher_image))
        self._r.append(correlation.pearson(words(self._image), words(cipher_image)))

    def lines(self) -> list[Line]:
        """PSNR and correlation; without the latter for a constant image, which has none."""
        mean, deviation = quality.random_mse(self._image)
        top = highest(self._image)
        reach = 3.290527 * deviation
        criterion = Criterion(
            "that of a random image, two-sided at 0.1 %",
            "exact moments of (p - U)^2",
            quality.psnr(mean, top),
            quality.psnr(mean + reach, top),
            quality.psnr(mean - reach, top),
            0.001,
        )
        deviates = [(value - mean) / deviation for value in self._mse]
        values = [quality.psnr(value, top) for value in self._mse]
        result = [series(SIMILARITY, "PSNR, dB", values, criterion, deviates_p(deviates))]
        if int(words(self._image).min()) != int(words(self._image).max()):
            bound = correlation.bound(self._image.size)
            criterion = Criterion("|r| < 3.29 / sqrt(N)", _TABLE_2, 0.0, -bound, bound, correlation.SIGNIFICANCE)
            deviates = [r * math.sqrt(self._image.size) for r in self._r]
            result.append(series(SIMILARITY, "pixel by pixel correlation", self._r, criterion, deviates_p(deviates)))
        return result


class Matches:
    """Bytes that two images have in common by chance: one in 256."""

    def __init__(self, group: str, name: str, source: str) -> None:
        self._group, self._name, self._source = group, name, source
        self._counts: list[int] = []
        self._total = 1

    def add(self, first: Image, second: Image) -> None:
        """Compare two images."""
        self._total = first.nbytes
        agree = sum(
            int(np.count_nonzero(a == b)) for a, b in zip(octets(first).values(), octets(second).values(), strict=True)
        )
        self._counts.append(agree)

    def lines(self) -> list[Line]:
        """Judge the share of equal bytes, in one line."""
        ideal = differential.npcr_interval(self._total, 255, 0.01)
        criterion = Criterion(
            "1/256, exact binomial, two-sided at 1 %", self._source, 1 / 256, 1 - ideal.high, 1 - ideal.low, ideal.size
        )
        pooled = probability.binomial(sum(self._counts), self._total * len(self._counts), 1 / 256)
        shares = [count / self._total for count in self._counts]
        return [series(self._group, self._name, shares, criterion, pooled)]
