"""How a linear layer lies in slots: which input each slot holds, and which weights multiply it at each step.

Let p and h be the layer's inputs and outputs, padded to powers of two, n the slots, and s a slot.

- `shifted` (first layer): the client writes copies of the vector, copy c moved on by c*B places: slot s holds
  x[f(s)] with f(s) = (s + B*(s div max(p, h))) mod p. Diagonal t of B multiplies the slots rotated by t with
  W[s mod h, f(s + t)]; folding by h, 2h, ..., n/2 then sums everything of one row, in every slot s = row (mod h).
- `diagonals`: the vector repeats with period p in all slots; the same with f(s) = s mod p and all h (or p, where fewer)
  diagonals; the folds are h, 2h, ..., p/2.
- `blocks` (last layer): the vector repeats with period p; block q of p slots multiplies it with row q of W; folding by
  1, 2, ..., p/2 leaves the score of row q in slot q*p. No baby steps at all.

Sources: Halevi and Shoup (CRYPTO 2014) for diagonals and baby-step giant-step; Juvekar et al. (Gazelle, 2018) for the
hybrid with folds; the client's shifted copies replace giant steps.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

KINDS = ("shifted", "diagonals", "blocks")


def padded(count: int) -> int:
    """The next power of two."""
    return 1 << (count - 1).bit_length()


@dataclass(frozen=True)
class Layout:
    """One linear layer in slots."""

    kind: str
    inputs: int
    """Padded: p."""
    outputs: int
    """Padded: h."""
    slots: int
    baby: int
    """Number of baby steps: rotations of the input by 0 .. baby-1."""
    giant: int
    """Number of giant steps: rotations of partial sums by multiples of `baby`."""
    folds: tuple[int, ...]

    @property
    def diagonals(self) -> int:
        """Products with encoded weights."""
        return self.baby * self.giant

    @property
    def _period(self) -> int:
        return max(self.inputs, self.outputs)

    def held(self) -> NDArray[np.int64]:
        """(slots,) the index of the input that each slot holds before the layer."""
        slot = np.arange(self.slots)
        if self.kind == "shifted":
            return (slot + self.diagonals * (slot // self._period)) % self.inputs
        return slot % self.inputs

    def weights(self, weight: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """The (slots,) vectors that multiply the rotated inputs, giant step by giant step, baby step by baby step."""
        full = np.zeros((self.outputs, self.inputs))
        full[: weight.shape[0], : weight.shape[1]] = weight
        slot = np.arange(self.slots)
        held = self.held()
        if self.kind == "blocks":
            return [full[(slot // self.inputs) % self.outputs, held] * (slot // self.inputs < self.outputs)]
        vectors = []
        counted = np.ones(self.slots, dtype=bool)
        if self.kind == "shifted":
            # With fewer diagonals than copies the last copies would count every input again.
            counted = slot // self._period < min(self.inputs, self.outputs) // self.diagonals
        for step in range(self.diagonals):
            row = slot % self.outputs
            vector = full[row, held[(slot + step) % self.slots]] * counted
            vectors.append(np.roll(vector, step - step % self.baby))
        return vectors

    def bias(self, bias: NDArray[np.float64]) -> NDArray[np.float64]:
        """The (slots,) vector of biases, right in every slot that the next layer or the client reads."""
        full = np.zeros(self.outputs)
        full[: len(bias)] = bias
        slot = np.arange(self.slots)
        if self.kind == "blocks":
            return np.where(slot % self.inputs == 0, full[(slot // self.inputs) % self.outputs], 0.0) * (
                slot // self.inputs < self.outputs
            )
        # Where the client sums, every slot is added up, so the bias stands in the first ones alone.
        summed_later = self.kind == "shifted" and not self.folds and self.slots > self.outputs
        return full[slot % self.outputs] * ((slot < self.outputs) if summed_later else 1.0)

    def rotations(self) -> list[int]:
        """The rotations that an evaluation makes, in order."""
        steps = list(range(1, self.baby))
        steps += [self.baby * giant for giant in range(1, self.giant)]
        return steps + list(self.folds)


def shifted(inputs: int, outputs: int, slots: int) -> Layout:
    """The first layer's layout."""
    p, h = padded(inputs), padded(outputs)
    baby, giant = _split(max(1, p * h // slots))
    return Layout("shifted", p, h, slots, baby, giant, _folds(h, slots))


def diagonals(inputs: int, outputs: int, slots: int) -> Layout:
    """An inner layer's layout."""
    p, h = padded(inputs), padded(outputs)
    baby, giant = _split(min(h, p))
    return Layout("diagonals", p, h, slots, baby, giant, _folds(h, p))


def blocks(inputs: int, outputs: int, slots: int) -> Layout:
    """A last layer's layout, where inputs times outputs fit the slots."""
    p = padded(inputs)
    return Layout("blocks", p, outputs, slots, 1, 1, _folds(1, p))


def _split(count: int) -> tuple[int, int]:
    baby = 1 << ((count.bit_length()) // 2)
    return baby, count // baby


def _folds(first: int, end: int) -> tuple[int, ...]:
    folds = []
    while first < end:
        folds.append(first)
        first *= 2
    return tuple(folds)
