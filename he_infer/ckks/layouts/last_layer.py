"""The last linear layer: scores are read as coefficients, so that it takes no rotation and no key.

Slotwise products need rotations to be summed. A polynomial's coefficients need none: a product of polynomials *is* a
sum of products. Both layouts put each score into a coefficient of its own, or into a few. The other coefficients hold
partial sums that reveal more of the weights, and do not leave the server. A `Selection` lists the coefficients that do.

- `Tile` (a head of one linear layer): the client writes features into coefficients. With m features a chunk, R rows and
  B images, x[b, j] stands at X^(b m R + j) and W[r, j] at X^(r m + m - 1 - j), so that X^(b m R + r m + m - 1) of the
  product is the score of image b and row r (Huang et al., Cheetah, USENIX Security 2022). B = 1 is a single image,
  m = 1 is one feature a ciphertext (feature-major); all other cases lie between them (block-feature-major).
- `Trace` (after hidden layers): values come in slots, in u = S / H equal copies of H places of B images, so they are
  polynomials in X^u. Multiplied by weights of the same period and by X^r with r < u, a class takes the coefficients
  r mod u, and no two meet. Those at r mod S alone are a polynomial in X^S of B slots: the mean over places, image by
  image. Two classes share it as real and imaginary part. For B = 1 the places are averaged in two halves, since complex
  numbers need a subring of at least two slots: the rotations' generator is 3, which does not fix i = X^(N/2).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.layouts.hidden_layer import padded
from he_infer.ckks.layouts.ring import monomial, to_coefficients, to_slots

CHECKS = 2
"""Number of check coefficients in an answer. An honest evaluation leaves only noise in them: the client checks by them
that it opened the answer to its own request."""


@dataclass(frozen=True)
class Selection:
    """The numbers of an answer that are sent: each is a coefficient of its first polynomial, or the sum of two."""

    first: NDArray[np.int64]
    """(numbers,)"""
    second: NDArray[np.int64]
    """(numbers,) index of the coefficient that is added; -1 if none is."""
    checks: int
    """Number of checks, which are the last numbers, from coefficients that hold no score."""

    @property
    def scores(self) -> int:
        """Number of numbers that hold scores."""
        return len(self.first) - self.checks

    def take(self, coefficients: NDArray[Any]) -> NDArray[Any]:
        """Select the numbers (numbers,) from an answer's coefficients (N,); integer sums wrap around as their type."""
        second = np.where(self.second >= 0, coefficients[self.second], 0).astype(coefficients.dtype)
        return np.asarray(coefficients[self.first] + second)


def _select(first: NDArray[np.int64], second: NDArray[np.int64] | None, checks: list[int]) -> Selection:
    flat = first.reshape(-1)
    added = np.full(len(flat), -1) if second is None else second.reshape(-1)
    held = np.array(checks, dtype=np.int64)
    return Selection(np.concatenate([flat, held]), np.concatenate([added, np.full(len(held), -1)]), len(held))


@dataclass(frozen=True)
class Tile:
    """Features in coefficients.

    Args:
        inputs, outputs: widths of the layer.
        ring_size: N; chunk * rows * images is at most N.
        images: B, images a request.
        chunk: m, features of an image in one ciphertext.
        rows: R, scores of an image in one answer.
    """

    inputs: int
    outputs: int
    ring_size: int
    images: int
    chunk: int
    rows: int

    @property
    def sources(self) -> int:
        """Input ciphertexts."""
        return -(-self.inputs // self.chunk)

    @property
    def targets(self) -> int:
        """Answer ciphertexts."""
        return -(-self.outputs // self.rows)

    def pack(self, values: NDArray[np.float64]) -> list[NDArray[np.generic]]:
        """Values (images, inputs) into the slots of the input ciphertexts."""
        full = np.zeros((self.images, self.sources * self.chunk))
        full[: len(values), : self.inputs] = values
        packed: list[NDArray[np.generic]] = []
        for source in range(self.sources):
            tiles = np.zeros((self.images, self.rows * self.chunk))
            tiles[:, : self.chunk] = full[:, source * self.chunk :][:, : self.chunk]
            coefficients = np.zeros(self.ring_size)
            coefficients[: tiles.size] = tiles.reshape(-1)
            packed.append(to_slots(coefficients))
        return packed

    def occupied(self, weight: NDArray[np.float64], target: int, source: int) -> bool:
        """Whether a product has a weight that is not zero."""
        return bool(self._block(weight, target, source).any())

    def _block(self, weight: NDArray[np.float64], target: int, source: int) -> NDArray[np.float64]:
        return weight[target * self.rows :, source * self.chunk :][: self.rows, : self.chunk]

    def vector(self, weight: NDArray[np.float64], target: int, source: int) -> NDArray[np.generic] | None:
        """The (slots,) weights of one product, or None where all are zero."""
        block = self._block(weight, target, source)
        if not block.any():
            return None
        full = np.zeros((self.rows, self.chunk))
        full[: len(block), : block.shape[1]] = block
        coefficients = np.zeros(self.ring_size)
        coefficients[: full.size] = full[:, ::-1].reshape(-1)
        return to_slots(coefficients)

    def selection(self, target: int) -> Selection:
        """Select an answer's numbers: scores (images, rows), then checks beyond the last coefficient in use."""
        free = self.images * self.rows * self.chunk + self.chunk - 1
        return _select(self._places(target), None, list(range(free, min(free + CHECKS, self.ring_size))))

    def _places(self, target: int) -> NDArray[np.int64]:
        """(images, rows) the coefficients that hold scores."""
        rows = min(self.rows, self.outputs - target * self.rows)
        image = np.arange(self.images)[:, None] * (self.rows * self.chunk)
        return np.asarray(image + np.arange(rows) * self.chunk + self.chunk - 1)

    def constant(self, values: NDArray[np.float64], target: int) -> NDArray[np.float64]:
        """The (coefficients,) that add one number a row."""
        coefficients = np.zeros(self.ring_size)
        coefficients[self._places(target)] = values[target * self.rows :][: self.rows]
        return coefficients

    def unpack(self, numbers: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        """The score numbers of all answers into scores (images, outputs)."""
        return np.concatenate([each.reshape(self.images, -1) for each in numbers], axis=1)


@dataclass(frozen=True)
class Trace:
    """Values in slots, scores in coefficients.

    Args:
        inputs, outputs: widths of the layer.
        ring_size: N.
        images: B, a power of two: images that the slots have room for.
        used: images a request; the slots beyond them get no score.
    """

    inputs: int
    outputs: int
    ring_size: int
    images: int
    used: int

    @property
    def places(self) -> int:
        """S: number of places, of B images each, in the slots."""
        return self.ring_size // 2 // self.images

    @property
    def width(self) -> int:
        """H: inputs in a ciphertext."""
        return max(min(padded(self.inputs), self.places), self._grain // self.images)

    @property
    def _grain(self) -> int:
        """Number of slots of the subring that a pair of classes is read from."""
        return max(2, self.images)

    @property
    def sources(self) -> int:
        """Input ciphertexts."""
        return -(-self.inputs // self.width)

    @property
    def rows(self) -> int:
        """Scores of an image in one answer: two for each of the u copies."""
        return 2 * (self.places // self.width)

    @property
    def targets(self) -> int:
        """Answer ciphertexts."""
        return -(-self.outputs // self.rows)

    def occupied(self, weight: NDArray[np.float64], target: int, source: int) -> bool:
        """Whether a product has a weight that is not zero."""
        return bool(self._block(weight, target, source).any())

    def _block(self, weight: NDArray[np.float64], target: int, source: int) -> NDArray[np.float64]:
        return weight[target * self.rows :, source * self.width :][: self.rows, : self.width]

    def vector(self, weight: NDArray[np.float64], target: int, source: int) -> NDArray[np.generic] | None:
        """The (slots,) weights of one product, or None where all are zero."""
        block = self._block(weight, target, source)
        if not block.any():
            return None
        full = np.zeros((2 * -(-len(block) // 2), self.width))
        full[: len(block), : block.shape[1]] = block * self.width
        present = np.arange(self.images) < self.used
        slots = np.zeros(self.ring_size // 2, dtype=np.complex128)
        for pair in range(len(full) // 2):
            values = full[2 * pair] + 1j * full[2 * pair + 1]
            held = (values[:, None] * present).reshape(-1)
            slots += np.tile(held, self.places // self.width) * monomial(pair, self.ring_size)
        return slots

    def selection(self, target: int) -> Selection:
        """Select an answer's numbers: scores, then checks in coefficients that no score takes, if there are any.

        For one image a score is one number: the even class of a pair is one coefficient, the odd class is the sum of
        two, divided by the square root of two. For more images, the numbers are the 2 B coefficients of each pair.
        """
        places = self._places(target)
        copies = self.places // self.width
        free = copies - 1
        checks = [free, free + copies] if len(places) < copies else []
        if self._grain == self.images:
            return _select(places, None, checks)
        count = min(self.rows, self.outputs - target * self.rows)
        first, second = places[:, :2].reshape(-1)[:count], np.full(count, -1)
        second[1::2] = places[:, 3][: count // 2]
        return _select(first, second, checks)

    def _places(self, target: int) -> NDArray[np.int64]:
        """(pairs, 2 max(2, B)) the coefficients that hold scores."""
        count = min(self.rows, self.outputs - target * self.rows)
        step = self.ring_size // 2 // self._grain
        return np.asarray(np.arange(-(-count // 2))[:, None] + step * np.arange(2 * self._grain))

    def constant(self, values: NDArray[np.float64], target: int) -> NDArray[np.float64]:
        """The (coefficients,) that add one number a row."""
        part = values[target * self.rows :][: self.rows]
        pairs = np.zeros(2 * -(-len(part) // 2))
        pairs[: len(part)] = part
        coefficients = np.zeros(self.ring_size)
        held = np.repeat((pairs[::2] + 1j * pairs[1::2])[:, None], self._grain, axis=1)
        present = np.arange(self._grain) % self.images < self.used
        coefficients[self._places(target)] = to_coefficients(held * present)
        return coefficients

    def unpack(self, numbers: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        """The score numbers of all answers into scores (used, outputs)."""
        if self._grain != self.images:
            scores = np.concatenate([each / np.where(np.arange(len(each)) % 2, math.sqrt(2), 1.0) for each in numbers])
            return scores[None]
        parts = []
        for each in numbers:
            pairs = to_slots(each.reshape(-1, 2 * self._grain))[:, : self.used]
            parts += [part for pair in pairs for part in (pair.real, pair.imag)]
        return np.stack(parts[: self.outputs], axis=1)


OutputLayout = Tile | Trace
