"""The error model compared with SEAL, operation by operation: `python -m tests.he_infer.ckks.planning.noise_table`.

Each row measures the standard deviation of the error that an operation adds to a slot's real part, over all slots (for
a key switch without the first few), in units of a slot at scale one. The predicted figure stands beside it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from he_infer.ckks.engines.protocol import EvaluationKeys, Value
from he_infer.ckks.engines.seal import SealEngine, dump
from he_infer.ckks.layouts.ring import galois_element
from he_infer.ckks.parameters import Parameters
from he_infer.ckks.planning.noise import SIGMA, ErrorModel
from he_infer.client.keys.secret_key import SecretKey

PARAMETERS = Parameters(8192, (50, 36, 36, 50))
ONE_PRIME = Parameters(8192, (50,))
SCALE = 2.0**30
_SMALL_SCALE = 2.0**18
"""Scale of products, which are opened in double precision: it must leave enough low bits to the error."""
STEP = 3
_FIRST = 64
"""Number of first and of last slots in which the mean of a key switch's digits shows."""


@dataclass(frozen=True)
class NoiseRow:
    """Measured and predicted error of an operation."""

    operation: str
    measured: float
    predicted: float

    @property
    def ratio(self) -> float:
        """Measured error divided by predicted error."""
        return self.measured / self.predicted


class _Bench:
    def __init__(self, parameters: Parameters) -> None:
        self.engine, self.secret = SealEngine(parameters), SecretKey.generate(parameters)
        switches = parameters.switches_keys
        elements = (galois_element(STEP, parameters.ring_size),) if switches else ()
        parts = self.secret.keys_for(elements, relinearise=switches, public=True)
        self.keys: EvaluationKeys = self.engine.load_keys(parts, elements, relinearise=switches, public=True)
        self.x = np.random.default_rng(1).normal(size=parameters.slots)

    def value(self, slots: np.ndarray | None = None, scale: float = SCALE) -> Value:
        return self.engine.load(self.secret.encrypt([self.x if slots is None else slots], scale)[0], scale)

    def open(self, value: Value) -> np.ndarray:
        return self.secret.decrypt([dump(value.data)])[0]


def measure_noise(repeats: int = 4) -> list[NoiseRow]:
    """Measure every operation that the model has a figure for."""
    bench, model = _Bench(PARAMETERS), ErrorModel(PARAMETERS)
    single = _Bench(ONE_PRIME)
    engine, top = bench.engine, PARAMETERS.levels
    prime = float(engine.primes[top])

    def fresh() -> np.ndarray:
        return (bench.open(bench.value()) - bench.x) * SCALE

    def encode(imaginary: float) -> np.ndarray:
        # A product with encoded weights, minus the product of the decrypted value.
        random = np.random.default_rng(2)
        weights = random.normal(size=PARAMETERS.slots) + 1j * imaginary * random.normal(size=PARAMETERS.slots)
        value = bench.value(np.ones(PARAMETERS.slots))
        product = engine.multiply_plain(value, engine.encode(weights, top, 2.0**8))
        return (bench.open(product) - bench.open(value) * weights) * 2.0**8

    def rescaling() -> np.ndarray:
        value = bench.value(scale=_SMALL_SCALE)
        product = engine.multiply_plain(value, engine.encode(bench.x, top, 2.0**36))
        return (bench.open(engine.rescale(product)) - bench.open(product)) * _SMALL_SCALE * 2.0**36 / prime

    def rotation() -> np.ndarray:
        value = bench.value()
        added = (bench.open(engine.rotate(value, STEP, bench.keys)) - np.roll(bench.open(value), -STEP)) * SCALE
        return added[_FIRST:-_FIRST]

    def lower_rotation() -> np.ndarray:
        value = engine.drop(bench.value(), 0)
        added = (bench.open(engine.rotate(value, STEP, bench.keys)) - np.roll(bench.open(value), -STEP)) * SCALE
        return added[_FIRST:-_FIRST]

    def relinearisation() -> np.ndarray:
        value = bench.value(scale=_SMALL_SCALE)
        added = bench.open(engine.square(value, bench.keys)) - bench.open(value) ** 2
        return (added * _SMALL_SCALE**2)[_FIRST:-_FIRST]

    def zero() -> np.ndarray:
        value = single.value()
        return (single.open(single.engine.refresh(value, single.keys)) - single.open(value)) * SCALE

    rows: list[tuple[str, Callable[[], np.ndarray], float]] = [
        ("fresh encryption", fresh, model.in_slot(model.fresh)),
        ("encoded vector, real", lambda: encode(0.0), model.in_slot(model.encoding_of_reals)),
        ("encoded vector, complex", lambda: encode(1.0), model.in_slot(model.encoding)),
        ("rescaling", rescaling, model.in_slot(model.rescaling)),
        ("key switch of a rotation, three primes", rotation, _predict_key_switch(model, top)),
        ("key switch of a rotation, one prime", lower_rotation, _predict_key_switch(model, 0)),
        ("relinearisation, three primes", relinearisation, _predict_key_switch(model, top)),
        ("encryption of zero, one prime", zero, ErrorModel(ONE_PRIME).in_slot(ErrorModel(ONE_PRIME).zero)),
    ]
    return [
        NoiseRow(
            name, float(np.sqrt(np.mean(np.concatenate([measure().real for _ in range(repeats)]) ** 2))), predicted
        )
        for name, measure, predicted in rows
    ]


def _predict_key_switch(model: ErrorModel, level: int) -> float:
    """Predict the error that differs between ciphertexts, and the digits' mean in the slots that are measured."""
    errors = np.ones((len(PARAMETERS.data_bits), PARAMETERS.slots), dtype=np.complex128)
    reached = [model.fixed_key_switch(errors * np.eye(len(errors))[:, [prime]], level) for prime in range(level + 1)]
    squares = sum(float(np.mean(np.abs(each[_FIRST:-_FIRST]) ** 2)) for each in reached)
    return float(np.hypot(model.in_slot(model.drawn_key_switch(level)), model.in_slot(SIGMA) * np.sqrt(squares)))


def main() -> None:
    print("| operation | SEAL | model | ratio |\n| --- | --- | --- | --- |")
    for row in measure_noise():
        print(f"| {row.operation} | {row.measured:.3g} | {row.predicted:.3g} | {row.ratio:.2f} |")


if __name__ == "__main__":
    main()
