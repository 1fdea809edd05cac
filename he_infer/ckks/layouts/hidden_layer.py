"""A hidden linear layer in slots: hybrid diagonals over blocks of images, on copies that the client has shifted.

A ciphertext's n slots are S = n / B places of B images each: slot = place * B + image. One image is the case B = 1, and
one feature a ciphertext is the case S = 1. Let P and H be the layer's inputs and outputs padded to powers of two, at
most S; longer vectors take several ciphertexts (chunks). Place s of an output chunk is row s mod H.

- Unshifted (input from a layer before): place s of a chunk holds x[s mod P]. Diagonal t of D = min(P, H) multiplies the
  places rotated by t with W[s mod H, (s + t) mod P]; the folds H, 2H, ..., P/2 sum the terms of each row.
- Shifted (input from the client): the places hold K copies of the chunk, and the client shifts copy k by k*D before it
  encrypts. Only D = min(P, H) / K diagonals are left, and the folds are H, 2H, ..., S/2. Further ciphertexts (`lanes`)
  and the imaginary parts (`parts` = 2) hold more copies; the products of imaginary parts come out as real parts, and
  adding the conjugate at the end removes the imaginary part.

Rotations are shared by baby and giant steps: diagonal t = g + b rotates the input by b and the sum of products by g.
Diagonals that are zero everywhere are left out, so that a convolution written as a matrix stays cheap.

Sources: Halevi and Shoup (CRYPTO 2014) for diagonals with baby and giant steps; Juvekar et al. (Gazelle, 2018) for the
hybrid with folds; the client's shifted copies replace rotations.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def padded(count: int) -> int:
    """The next power of two."""
    return 1 << (count - 1).bit_length()


@dataclass(frozen=True)
class Term:
    """A product: input ciphertext `source`, rotated by `baby` places; `target` sums it, rotated by `giant` places."""

    target: int
    source: int
    giant: int
    baby: int


@dataclass(frozen=True)
class HiddenLayout:
    """The layout of one linear layer.

    Args:
        inputs, outputs: widths of the layer, not padded.
        slots: n, slots of a ciphertext.
        images: B, a power of two.
        shifted: whether the input comes from the client, in shifted copies.
        lanes: ciphertexts a chunk of inputs; 1 if not shifted.
        parts: 2 where imaginary parts carry copies as well, else 1.
        size: baby steps are the rotations below `size`, giant steps its multiples.
        baby, giant: the rotations that occur, in places, ascending, without 0.
    """

    inputs: int
    outputs: int
    slots: int
    images: int
    shifted: bool
    lanes: int = 1
    parts: int = 1
    size: int = 1
    baby: tuple[int, ...] = ()
    giant: tuple[int, ...] = ()

    @property
    def places(self) -> int:
        """S."""
        return self.slots // self.images

    @property
    def width(self) -> int:
        """P: inputs in a chunk."""
        return min(padded(self.inputs), self.places)

    @property
    def height(self) -> int:
        """H: outputs in a chunk."""
        return min(padded(self.outputs), self.places)

    @property
    def chunks(self) -> int:
        """Number of chunks of inputs."""
        return -(-self.inputs // self.width)

    @property
    def sources(self) -> int:
        """Number of input ciphertexts."""
        return self.chunks * self.lanes

    @property
    def targets(self) -> int:
        """Number of output ciphertexts."""
        return -(-self.outputs // self.height)

    @property
    def diagonals(self) -> int:
        """D."""
        window = min(self.width, self.height)
        return max(1, window // (self.copies * self.lanes * self.parts)) if self.shifted else window

    @property
    def copies(self) -> int:
        """Number of shifted copies in the real part, and in the imaginary part, of a ciphertext."""
        return self.places // max(self.width, self.height) if self.shifted else 1

    @property
    def folds(self) -> tuple[int, ...]:
        """Rotations, in places, that sum the terms of each row."""
        end = self.places if self.shifted else max(self.width, self.height)
        folds, step = [], self.height
        while step < end:
            folds.append(step)
            step *= 2
        return tuple(folds)

    @property
    def conjugated(self) -> bool:
        """Whether the conjugate is added at the end, to drop imaginary parts."""
        return self.parts == 2

    @property
    def key_switches(self) -> int:
        """Number of rotations and conjugations in one evaluation."""
        return self.sources * len(self.baby) + self.targets * (len(self.giant) + len(self.folds) + self.conjugated)

    def rotations(self) -> set[int]:
        """Return all different rotations, in slots."""
        return {step * self.images for step in (*self.baby, *self.giant, *self.folds)}

    def pack(self, values: NDArray[np.float64]) -> list[NDArray[np.generic]]:
        """Pack values (images, inputs) into the slots of the input ciphertexts, chunk by chunk, lane by lane."""
        full = np.zeros((self.images, self.chunks * self.width))
        full[: len(values), : self.inputs] = values
        vectors: list[NDArray[np.generic]] = []
        for source in range(self.sources):
            chunk = full[:, source // self.lanes * self.width :][:, : self.width]
            parts = [chunk[:, self._list_inputs(source, part)].T.reshape(-1) for part in range(self.parts)]
            vectors.append(parts[0] if self.parts == 1 else parts[0] + 1j * parts[1])
        return vectors

    def occupied(self, weight: NDArray[np.float64]) -> tuple[tuple[int, int, int], ...]:
        """List the (target, source, diagonal) whose products are not zero everywhere, in order."""
        return _find_occupied(replace(self, size=1, baby=(), giant=()), _Same(weight))

    def terms(self, weight: NDArray[np.float64]) -> Iterator[Term]:
        """List the products of an evaluation."""
        for target, source, diagonal in self.occupied(weight):
            baby = diagonal % self.size
            yield Term(target, source, diagonal - baby, baby)

    def vector(self, weight: NDArray[np.float64], term: Term) -> NDArray[np.generic]:
        """Return the (slots,) weights of one product, real or complex."""
        place = np.arange(self.places)
        row = term.target * self.height + place % self.height
        moved = (place + term.giant + term.baby) % self.places
        start = term.source // self.lanes * self.width
        parts = []
        for part in range(self.parts):
            column = start + self._list_inputs(term.source, part)[moved]
            inside = (row < self.outputs) & (column < self.inputs) & self._mark_counted(term.source, part)[moved]
            values = np.zeros(self.places)
            values[inside] = weight[row[inside], column[inside]]
            parts.append(values)
        # Re((x + iy)(v - iw)) = xv + yw, and adding the conjugate doubles it.
        held = parts[0] if self.parts == 1 else (parts[0] - 1j * parts[1]) / 2
        return np.repeat(np.roll(held, term.giant), self.images)

    def constant(self, values: NDArray[np.float64], target: int) -> NDArray[np.float64]:
        """Return the (slots,) vector that adds one number to each row, in every slot that the next layer reads."""
        full = np.zeros(self.targets * self.height)
        full[: self.outputs] = values
        chunk = full[target * self.height :][: self.height]
        return np.repeat(chunk[np.arange(self.places) % self.height], self.images)

    def _list_inputs(self, source: int, part: int) -> NDArray[np.int64]:
        """(places,) the index within its chunk of the input that each place holds."""
        place = np.arange(self.places)
        if not self.shifted:
            return place % self.width
        return (place + self.diagonals * self._copy(source, part)) % self.width

    def _copy(self, source: int, part: int) -> NDArray[np.int64]:
        """(places,) the number of the copy that each place belongs to, counted over places, parts and lanes."""
        first = (source % self.lanes * self.parts + part) * self.copies
        return np.asarray(first + np.arange(self.places) // max(self.width, self.height))

    def _mark_counted(self, source: int, part: int) -> NDArray[np.bool_]:
        """(places,) False for surplus copies: if one diagonal is left, they would count every input again."""
        if not self.shifted:
            return np.ones(self.places, dtype=bool)
        return np.asarray(self._copy(source, part) * self.diagonals < min(self.width, self.height))


@dataclass(frozen=True, eq=False)
class _Same:
    """An array compared by identity: a key of a cache that keeps the array alive."""

    array: NDArray[np.float64]

    def __hash__(self) -> int:
        return id(self.array)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.array is other.array


@lru_cache(maxsize=64)
def _find_occupied(layout: HiddenLayout, weight: _Same) -> tuple[tuple[int, int, int], ...]:
    """Compute `HiddenLayout.occupied`, cached: a search needs it for many layouts that differ only in their steps."""
    window = min(layout.width, layout.height)
    rows, columns = np.nonzero(weight.array)
    offset = (columns % layout.width - rows % layout.height) % window
    found = np.zeros((layout.targets, layout.sources, layout.diagonals), dtype=bool)
    lane = offset // (layout.diagonals * layout.copies * layout.parts) if layout.shifted else 0
    source = columns // layout.width * layout.lanes + lane
    found[rows // layout.height, source, offset % layout.diagonals] = True
    return tuple((int(target), int(source), int(diagonal)) for target, source, diagonal in np.argwhere(found))
