"""Times of the engine's primitives on this machine: the units of a plan's predicted cost."""

import statistics
import time
from collections.abc import Callable, Iterable

import numpy as np

from he_infer.ckks.engines.choice import EngineChoice
from he_infer.ckks.engines.protocol import EvaluationKeys
from he_infer.ckks.layouts.ring import galois_element
from he_infer.ckks.parameters import Parameters
from he_infer.client.keys.secret_key import SecretKey
from he_infer.errors import UsageError

_SCALE = 2.0**12
_PRODUCTS = 4
"""Number of products in each timed sum of products."""
_SUMS = 8
"""Number of sums in the timed matrix product."""


def calibrate(
    parameters: Parameters,
    wanted: Iterable[tuple[str, int]],
    *,
    repeats: int = 15,
    engine: EngineChoice | None = None,
) -> dict[tuple[str, int], float]:
    """Median microseconds of primitives, by name and level; names as in `cost.PRIMITIVES`.

    The primitives are timed in turn, as in an evaluation: each alone in a loop would find its data in the CPU caches.
    This takes `repeats` times their total time, a fraction of a second for most plans. `engine` is SEAL by default.
    """
    bench = _Bench(parameters, engine or EngineChoice())
    primitives = {(name, level): bench.primitive(name, level) for name, level in sorted(set(wanted))}
    spent: dict[tuple[str, int], list[float]] = {key: [] for key in primitives}
    elsewhere = np.zeros(1 << 20)
    for _ in range(repeats + 1):
        # Flush the CPU caches, since a request starts with cold caches.
        elsewhere += 1.0
        for key, run in primitives.items():
            started = time.thread_time()
            run()
            spent[key].append(time.thread_time() - started)
    share = {"multiply": _PRODUCTS, "matrix": bench.matrix_products}
    return {key: 1e6 * statistics.median(times[1:]) / share.get(key[0], 1) for key, times in spent.items()}


class _Bench:
    """Operands for every level, made once."""

    def __init__(self, parameters: Parameters, choice: EngineChoice) -> None:
        self._engine = choice.make(parameters)
        self._secret = SecretKey.generate(parameters)
        random = np.random.default_rng(0)
        self._slots = random.normal(size=parameters.slots) + 1j * random.normal(size=parameters.slots)
        self._sealed = self._secret.encrypt([self._slots], _SCALE)[0]
        self._keys = self._make_keys()
        self._top = self._engine.load(self._sealed, _SCALE)
        self.matrix_products = 1
        """Number of products in the timed matrix product."""

    def primitive(self, name: str, level: int) -> Callable[[], object]:
        """A function that runs the primitive once."""
        engine, keys = self._engine, self._keys
        if name == "matrix":
            return self._multiply_matrix()
        value = engine.drop(self._top, level)
        other = engine.drop(engine.load(self._secret.encrypt([self._slots], _SCALE)[0], _SCALE), level)
        plain = engine.encode(self._slots, level, _SCALE)
        primitives: dict[str, Callable[[], object]] = {
            "load": lambda: engine.load(self._sealed, _SCALE),
            "multiply": lambda: engine.dot([value] * _PRODUCTS, [plain] * _PRODUCTS),
            "constant": lambda: engine.encode_constant(0.125, level, _SCALE),
            "rotate": lambda: engine.rotate(value, 1, keys),
            "square": lambda: engine.square(value, keys),
            "product": lambda: engine.multiply(value, other, keys),
            "rescale": lambda: engine.rescale(value),
            "add": lambda: engine.add(value, other),
            "encode": lambda: engine.encode(self._slots, level, _SCALE),
            "refresh": lambda: engine.refresh(value, keys),
            "dump": lambda: engine.read_polynomials(value),
        }
        return primitives[name]

    def _multiply_matrix(self) -> Callable[[], object]:
        """A function that multiplies one block of inputs by a matrix; the inputs stay as the first run left them."""
        from he_infer.ckks.engines.native.engine import NativeEngine
        from he_infer.ckks.engines.native.kernels.products import BLOCK
        from he_infer.ckks.engines.native.matrix_product import MatrixProduct, Sum

        engine = self._engine
        if not isinstance(engine, NativeEngine):
            raise UsageError("A matrix product is timed on the native engine alone.")
        length, prime = 2 * engine.size, engine.primes[0]
        numbers = np.random.default_rng(0).integers(-999, 1000, (_SUMS, BLOCK))
        sums = [Sum(tuple(enumerate(map(float, row))), index * length) for index, row in enumerate(numbers)]
        product = MatrixProduct(sums, BLOCK, length, prime, engine.kernels)
        registers = np.zeros(_SUMS * length)
        product.run(lambda first, count, out, step: out.fill(prime // 3), registers)
        self.matrix_products = numbers.size
        return lambda: product.run(lambda first, count, out, step: None, registers)

    def _make_keys(self) -> EvaluationKeys:
        parameters = self._secret.parameters
        elements = (galois_element(1, parameters.ring_size),) if parameters.switches_keys else ()
        switches = parameters.switches_keys
        parts = self._secret.keys_for(elements, relinearise=switches, public=True)
        return self._engine.load_keys(parts, elements, relinearise=switches, public=True)
