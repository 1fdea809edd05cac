"""Re-randomises and serializes the answers of a compiled head in one call; see `kernels.answers`."""

from collections.abc import Sequence

import numpy as np

from he_infer.ckks.answer import MAGIC, mask_for, widths_of_noise
from he_infer.ckks.engines.native.engine import NativeEngine
from he_infer.ckks.engines.native.kernels.answers import NOT_REFRESHED
from he_infer.ckks.engines.native.kernels.drawing import random_bytes
from he_infer.ckks.engines.native.kernels.ring import Doubles
from he_infer.ckks.engines.protocol import EvaluationKeys
from he_infer.ckks.key_shapes import PUBLIC
from he_infer.ckks.planning.message_sizes import count_part_bytes
from he_infer.ckks.planning.plan import Plan

_WORD = 8
_NO_SAMPLES = np.zeros(1)


class AnswerWriter:
    """Writes a plan's answers. One thread at a time: it has one set of working memory."""

    def __init__(self, plan: Plan, native: NativeEngine) -> None:
        self._native, self._refreshes, self._bits = native, plan.refreshes, plan.answer.bits
        selections = [plan.output.selection(target) for target in range(plan.output.targets)]
        self._first = np.concatenate([each.first for each in selections]).astype(np.int64)
        self._second = np.concatenate([each.second for each in selections]).astype(np.int64)
        self._starts = np.cumsum([0, *(len(each.first) for each in selections)]).astype(np.int64)
        widths = widths_of_noise(plan.answer.noise)
        self._noise = np.array([*widths, *map(mask_for, widths)], dtype=np.uint64)
        # At least every second number is taken.
        self._noise_bytes = _WORD * (3 * len(self._first) + 64) if plan.answer.noise else 1
        self._scale = 2.0**plan.answer.bits / native.primes[0]
        sizes = [count_part_bytes(plan, target) for target in range(plan.output.targets)]
        self._ends = np.cumsum(sizes).astype(np.int64)
        self._out = np.zeros(self._ends[-1], dtype=np.uint8)
        self._to = self._ends - sizes + len(MAGIC)
        for to in self._to:
            self._out[to - len(MAGIC) : to] = np.frombuffer(MAGIC, dtype=np.uint8)

    def write(self, registers: Doubles, places: Sequence[int], keys: EvaluationKeys) -> list[bytes]:
        """Serialize the answers at these offsets of the registers, at level 0."""
        native = self._native
        samples = native.draw_zeros(len(places)) if self._refreshes else _NO_SAMPLES
        key = keys.data["offsets"][PUBLIC] if self._refreshes else NOT_REFRESHED
        written = False
        while not written:
            written = native.kernels.write_answers(
                registers,
                np.array(places, dtype=np.int64),
                keys.data["block"],
                key,
                samples,
                random_bytes(self._noise_bytes),
                self._first,
                self._second,
                self._starts,
                self._noise,
                self._bits,
                self._scale,
                self._out,
                self._to,
                native.size,
                native.ring,
                native.scratch,
                native.words,
            )
        parts, begin = [], 0
        for end in self._ends.tolist():
            parts.append(self._out[begin:end].tobytes())
            begin = end
        return parts
