"""A compiled head's answers are, byte for byte, what the step-by-step path writes from the same random numbers."""

from collections.abc import Sequence

import numpy as np
import pytest

from he_infer.ckks import answer
from he_infer.ckks.answer import mask_for, widths_of_noise, write_answer
from he_infer.ckks.compiled_head import CompiledHead
from he_infer.ckks.encoded_head import EncodedHead
from he_infer.ckks.engines.native import answer_writer
from he_infer.ckks.engines.native.engine import NativeEngine
from he_infer.ckks.engines.native.kernels.drawing import random_bytes
from he_infer.ckks.engines.native.kernels.entry_points import Kernels
from he_infer.ckks.layouts.last_layer import Selection
from he_infer.ckks.packing import pack
from he_infer.ckks.planning.search import make_plan
from he_infer.client.keys.secret_key import SecretKey
from tests.he_infer.ckks.kit import features, make_head

CASES = [
    pytest.param((20, 3), 1, id="tile"),
    pytest.param((512, 100), 1, id="tile, several answers"),
    pytest.param((33, 7), 50, id="tile, batch"),
    pytest.param((20, 6, 3), 1, id="trace"),
    pytest.param((20, 6, 5), 3, id="trace, batch"),
]


class Bench:
    """A head, compiled and step by step on one engine, with one client's keys and request."""

    def __init__(self, kernels: Kernels, widths: Sequence[int], batch: int, policy: str) -> None:
        head = make_head(widths)
        self.plan = make_plan(head, batch=batch, policy=policy, precision=1e-2)
        self.engine = NativeEngine(self.plan.parameters, kernels)
        self.compiled, self.steps = (
            CompiledHead(self.plan, head, self.engine),
            EncodedHead(self.plan, head, self.engine),
        )
        secret = SecretKey.generate(self.plan.parameters)
        self.keys = self.engine.load_keys(
            secret.evaluation_keys(self.plan), self.plan.galois_elements, self.plan.relinearise, self.plan.refreshes
        )
        self.sent = secret.encrypt(pack(self.plan, features(batch, widths[0])), self.plan.input_scale)

    def answer_step_by_step(self) -> list[bytes]:
        values = [self.engine.load(part, self.plan.input_scale) for part in self.sent]
        found = [self.engine.read_polynomials(value) for value in self.steps.run(values, self.keys)]
        return [write_answer(self.plan, target, each, self.engine.primes[0]) for target, each in enumerate(found)]


@pytest.mark.parametrize(("widths", "batch"), CASES)
def test_open_answers_equal_those_of_single_steps(kernels: Kernels, widths: Sequence[int], batch: int) -> None:
    bench = Bench(kernels, widths, batch, "open")
    for _ in range(2):
        assert bench.compiled.answer(bench.sent, bench.keys) == bench.answer_step_by_step()


@pytest.mark.parametrize(("widths", "batch"), CASES)
def test_hidden_answers_equal_those_of_single_steps_with_the_same_random_numbers(
    kernels: Kernels, widths: Sequence[int], batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(kernels, widths, batch, "hidden")
    size, drawn = bench.engine.size, {"zeros": 0, "noise": 0}
    zeros, raw = bench.engine.draw_zeros(bench.plan.targets), random_bytes(1 << 17)
    words = np.frombuffer(raw.tobytes(), dtype="<u8")

    def draw_zeros(count: int) -> np.ndarray:
        start = drawn["zeros"]
        drawn["zeros"] += 3 * count * size
        return zeros[start : drawn["zeros"]]

    def draw_noise(width: int, selection: Selection) -> np.ndarray:
        noise = []
        for second in selection.second.tolist():
            bound = widths_of_noise(width)[second >= 0]
            number = bound
            while number >= bound:
                number = int(words[drawn["noise"]]) & mask_for(bound)
                drawn["noise"] += 1
            noise.append(number)
        return np.array(noise, dtype=np.uint64)

    monkeypatch.setattr(bench.engine, "draw_zeros", draw_zeros)
    monkeypatch.setattr(answer, "draw_noise", draw_noise)
    monkeypatch.setattr(answer_writer, "random_bytes", lambda count: raw)
    compiled = bench.compiled.answer(bench.sent, bench.keys)
    drawn["zeros"] = 0
    assert compiled == bench.answer_step_by_step()
    assert drawn["noise"] > 0


def test_answers_are_fresh_in_every_run(kernels: Kernels) -> None:
    bench = Bench(kernels, (20, 3), 1, "hidden")
    one, other = (bench.compiled.answer(bench.sent, bench.keys)[0] for _ in range(2))
    bits = bench.plan.answer.bits
    body = bench.engine.size * bits // 8
    same = [np.frombuffer(each[4 : 4 + body], dtype=np.uint8) for each in (one, other)]
    assert (same[0] == same[1]).mean() < 0.01
    assert one[4 + body :] != other[4 + body :]


def test_noise_is_drawn_again_until_bytes_suffice(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(kernels, (20, 3), 1, "hidden")
    counts: list[int] = []

    def draw(count: int) -> np.ndarray:
        counts.append(count)
        return np.full(count, 255 if len(counts) < 3 else 0, dtype=np.uint8)

    assert widths_of_noise(bench.plan.answer.noise)[0] <= mask_for(bench.plan.answer.noise)  # so all ones are rejected
    monkeypatch.setattr(answer_writer, "random_bytes", draw)
    bench.compiled.answer(bench.sent, bench.keys)
    assert len(counts) == 3
