"""The last linear layer: scores are read off as coefficients, so that it takes no rotation and no key.

Slotwise products need rotations to be summed. A polynomial's coefficients need none: a product of polynomials *is* a
sum of products. Both layouts put each score into a coefficient of its own; the other coefficients hold sums that are
nobody's business and are masked under the policy `hidden`.

- `Tile` (a head of one linear layer): the client writes features into coefficients. With m features a chunk, R rows and
  B images, x[b, j] stands at X^(b m R + j) and W[r, j] at X^(r m + m - 1 - j), so that X^(b m R + r m + m - 1) of the
  product is the score of image b and row r (Huang et al., Cheetah, USENIX Security 2022). B = 1 is a single image,
  m = 1 is one feature a ciphertext (feature-major), between them lies everything else (block-feature-major).
- `Trace` (after hidden layers): values come in slots, in u = S / H equal copies of H places of B images, so they are
  polynomials in X^u. Multiplied by weights of the same period and by X^r with r < u, a class takes the coefficients
  r mod u, and no two meet. Those at r mod S alone are a polynomial in X^S of B slots: the mean over places, image by
  image. Two classes share it as real and imaginary part. For B = 1 the places are averaged in two halves, since complex
  numbers need a subring of at least two slots: the rotations' generator is 3, which does not fix i = X^(N/2).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.layouts.hidden_layer import padded
from he_infer.ckks.layouts.ring import monomial, to_coefficients, to_slots


@dataclass(frozen=True)
class Tile:
    """Features in coefficients.

    Args:
        inputs, outputs: of the layer.
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

    def vector(self, weight: NDArray[np.float64], target: int, source: int) -> NDArray[np.generic] | None:
        """The (slots,) weights of one product, or None where all are zero."""
        block = weight[target * self.rows :, source * self.chunk :][: self.rows, : self.chunk]
        if not block.any():
            return None
        full = np.zeros((self.rows, self.chunk))
        full[: len(block), : block.shape[1]] = block
        coefficients = np.zeros(self.ring_size)
        coefficients[: full.size] = full[:, ::-1].reshape(-1)
        return to_slots(coefficients)

    def read(self, target: int) -> NDArray[np.int64]:
        """The coefficients of an answer that hold scores, (images, rows); all others are masked."""
        rows = min(self.rows, self.outputs - target * self.rows)
        image = np.arange(self.images)[:, None] * (self.rows * self.chunk)
        return np.asarray(image + np.arange(rows) * self.chunk + self.chunk - 1)

    def constant(self, values: NDArray[np.float64], target: int) -> NDArray[np.float64]:
        """The (coefficients,) that add one number a row."""
        coefficients = np.zeros(self.ring_size)
        coefficients[self.read(target)] = values[target * self.rows :][: self.rows]
        return coefficients

    def unpack(self, answers: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        """The coefficients of all answers into scores (images, outputs)."""
        found = [coefficients[self.read(target)] for target, coefficients in enumerate(answers)]
        return np.concatenate(found, axis=1)


@dataclass(frozen=True)
class Trace:
    """Values in slots, scores in coefficients.

    Args:
        inputs, outputs: of the layer.
        ring_size: N.
        images: B, a power of two: images that the slots are laid out for.
        used: images a request; slots of the others get no score.
    """

    inputs: int
    outputs: int
    ring_size: int
    images: int
    used: int

    @property
    def places(self) -> int:
        """S: places of B images in the slots."""
        return self.ring_size // 2 // self.images

    @property
    def width(self) -> int:
        """H: inputs in a ciphertext."""
        return max(min(padded(self.inputs), self.places), self._grain // self.images)

    @property
    def _grain(self) -> int:
        """Slots of the subring that a class pair is read from."""
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

    def vector(self, weight: NDArray[np.float64], target: int, source: int) -> NDArray[np.generic] | None:
        """The (slots,) weights of one product, or None where all are zero."""
        block = weight[target * self.rows :, source * self.width :][: self.rows, : self.width]
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

    def read(self, target: int) -> NDArray[np.int64]:
        """The coefficients of an answer that hold scores, (pairs, 2 max(2, B)); all others are masked."""
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
        coefficients[self.read(target)] = to_coefficients(held * present)
        return coefficients

    def unpack(self, answers: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        """The coefficients of all answers into scores (used, outputs)."""
        scores = []
        for target, coefficients in enumerate(answers):
            slots = to_slots(coefficients[self.read(target)])
            pairs = slots.reshape(len(slots), -1, self.images).mean(axis=1)
            scores += [part[: self.used] for pair in pairs for part in (pair.real, pair.imag)]
        return np.stack(scores[: self.outputs], axis=1)


OutputLayout = Tile | Trace
