"""Cost of a plan: its primitives counted, and priced by a table or by a calibration of this machine."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.layouts.last_layer import Tile
from he_infer.ckks.planning.circuit import Circuit
from he_infer.ckks.planning.message_sizes import count_fresh_bytes, count_part_bytes
from he_infer.ckks.planning.order import Moment
from he_infer.ckks.planning.plan import Plan, Stage

PRIMITIVES = (
    "load", "multiply", "matrix", "constant", "rotate", "square", "product", "rescale", "add", "encode", "refresh",
    "dump",
)  # fmt: skip
"""load: parse a request's ciphertext; multiply: by an encoded vector, and add; matrix: by a number, and add, as a part
of the native engine's matrix product; constant: encode a number; rotate: also conjugate; square, product: relinearised;
encode: a vector, at run time; refresh: a fresh encryption of zero, added; dump: an answer's coefficients, cut and
packed."""

KEPT_WEIGHTS = 1 << 28
"""Largest encoded weights, in bytes, that are kept in memory; larger ones are encoded again at every request."""

LEAST_MATRIX = 1024
"""Fewest products with numbers that the native engine computes as one matrix product."""

LINK = 12.5e6
"""Assumed bandwidth in bytes a second (100 Mbit/s) when plans are compared."""

# Microseconds a data prime (linear) and a pair of primes (quadratic, for key switches), measured on one core; only the
# ratios matter for the choice of a plan. docs/engine.md has the command that measures them.
_TABLE: Mapping[int, Mapping[str, tuple[float, float]]] = {
    size: {
        "load": (load, 0.0),
        "multiply": (multiply, 0.0),
        "matrix": (0.1 * multiply, 0.0),
        "constant": (4.0 * size / 8192, 0.0),
        "rotate": switch,
        "square": (1.1 * switch[0], 1.1 * switch[1]),
        "product": (1.15 * switch[0], 1.15 * switch[1]),
        "rescale": (rescale, 0.0),
        "add": (add, 0.0),
        "encode": (encode, 0.0),
        "refresh": (refresh, 0.0),
        "dump": (dump, 0.0),
    }
    for size, load, multiply, switch, rescale, add, encode, refresh, dump in (
        (2048, 95.0, 15.5, (110.0, 10.0), 30.0, 8.0, 52.0, 260.0, 85.0),
        (4096, 135.0, 27.0, (198.0, 24.0), 65.0, 11.0, 110.0, 500.0, 120.0),
        (8192, 265.0, 53.0, (405.0, 57.0), 140.0, 19.0, 230.0, 1500.0, 250.0),
        (16384, 500.0, 105.0, (946.0, 117.0), 300.0, 36.0, 580.0, 3400.0, 400.0),
        (32768, 970.0, 215.0, (1850.0, 255.0), 700.0, 71.0, 1400.0, 7100.0, 800.0),
    )
}


@dataclass(frozen=True)
class Count:
    """Number of times that a primitive runs at a level."""

    primitive: str
    level: int
    times: int


@dataclass(frozen=True)
class Cost:
    """Cost of one evaluation and of its keys."""

    counts: tuple[Count, ...]
    server_ms: float
    bytes_up: int
    bytes_down: int
    key_bytes: int
    weight_bytes: int
    """Memory of the encoded weights."""

    @property
    def total_ms(self) -> float:
        """Server time and transfer time of a request, in milliseconds: plans are compared by it."""
        return self.server_ms + 1e3 * (self.bytes_up + self.bytes_down) / LINK


def count_primitives(plan: Plan, circuit: Circuit, *, native: bool = False) -> tuple[Count, ...]:
    """Count the primitives of one evaluation, exactly as `EncodedHead` runs them.

    With `native`, the products of a feature-major batch are counted as the native engine's matrix product.
    """
    counts = _count_once(plan, circuit)
    if native and has_single_weights(plan):
        return tuple(
            Count("matrix", each.level, each.times)
            if each.primitive == "multiply" and each.times >= LEAST_MATRIX
            else each
            for each in counts
        )
    if keeps_weights(plan, counts):
        return counts
    constant = {each.level for each in counts if each.primitive == "constant"}
    encoded = [
        Count("encode", each.level, each.times)
        for each in counts
        if each.primitive == "multiply" and each.level not in constant
    ]
    return (*counts, *encoded)


def has_single_weights(plan: Plan) -> bool:
    """Tell whether each product has one number as its weight: a feature-major batch."""
    return isinstance(plan.output, Tile) and plan.output.chunk == plan.output.rows == 1


def keeps_weights(plan: Plan, counts: tuple[Count, ...]) -> bool:
    """Whether the encoded weights are kept between requests."""
    return count_weight_bytes(plan, counts) <= KEPT_WEIGHTS


def _count_once(plan: Plan, circuit: Circuit) -> tuple[Count, ...]:
    """Count the primitives of one evaluation whose weights are already encoded."""
    times: Counter[tuple[str, int]] = Counter()
    level = plan.parameters.levels
    times["load", level] += plan.sources
    for index, (stage, linear) in enumerate(zip(plan.stages, circuit.linear, strict=False)):
        layout = stage.layout
        products = len(layout.occupied(linear.weight))
        times["multiply", level] += products
        if layout.places == 1:
            times["constant", level] += products
        times["rotate", level] += layout.sources * len(layout.baby) + layout.targets * len(layout.giant)
        times["add", level] += layout.targets * len(layout.giant)
        after = layout.targets * (len(layout.folds) + layout.conjugated)
        folded = level - 1 if stage.rescaled and plan.order.folds is Moment.AFTER else level
        times["rotate", folded] += after
        times["add", folded] += after
        if stage.rescaled:
            times["rescale", level] += layout.targets
            level -= 1
        times["add", level] += layout.targets
        postponed = index == len(plan.stages) - 1 and plan.order.output is Moment.BEFORE
        level = _count_activation(times, stage, bool(circuit.activations[index].f), level, postponed=postponed)
    times["multiply", level] += _count_filled(plan, circuit.linear[-1].weight)
    times["add", level] += plan.targets
    if level:
        times["rescale", level] += plan.targets
    if plan.refreshes:
        times["refresh", 0] += plan.targets
    times["dump", 0] += plan.targets
    return tuple(Count(primitive, at, number) for (primitive, at), number in sorted(times.items()) if number)


def _count_activation(
    times: Counter[tuple[str, int]], stage: Stage, linear_term: bool, level: int, *, postponed: bool
) -> int:
    """Count an activation's products and rescalings; returns the level after it."""
    targets = stage.layout.targets
    times["square", level] += targets
    if stage.degree > 2:
        times["rescale", level] += targets
        level -= 1
        times["add", level] += targets
        times["square" if stage.degree == 4 else "product", level] += targets
        if linear_term:
            times["multiply", level] += targets
    if not postponed:
        times["rescale", level] += targets
        level -= 1
    return level


def _count_filled(plan: Plan, weight: NDArray[np.float64]) -> int:
    """Count the last layer's products: blocks of its weights that are not zero everywhere."""
    rows, columns = _blocks(plan)
    filled = np.logical_or.reduceat(weight != 0, np.arange(0, weight.shape[0], rows), axis=0)
    return int(np.logical_or.reduceat(filled, np.arange(0, weight.shape[1], columns), axis=1).sum())


def estimate_cost(
    plan: Plan,
    circuit: Circuit,
    prices: Mapping[tuple[str, int], float] | None = None,
    *,
    native: bool = False,
) -> Cost:
    """Estimate a plan's cost for a circuit, on SEAL or on the native engine.

    Args:
        plan: the plan.
        circuit: the circuit of the plan's head.
        prices: microseconds by primitive and level; None: those of the table.
        native: whether the native engine computes the plan.
    """
    parameters = plan.parameters
    counts = count_primitives(plan, circuit, native=native)
    size, primes = parameters.ring_size, parameters.modulus_bits
    whole = size * sum(map(estimate_stored_bytes, primes))
    keys = len(plan.galois_elements) + plan.relinearise
    spent = sum(
        each.times
        * (look_up_price(size, each.primitive, each.level) if prices is None else prices[each.primitive, each.level])
        for each in counts
    )
    return Cost(
        counts,
        spent / 1e3,
        bytes_up=plan.sources * count_fresh_bytes(size, parameters.data_bits),
        bytes_down=sum(count_part_bytes(plan, target) for target in range(plan.targets)),
        key_bytes=round(keys * len(parameters.data_bits) * whole + plan.refreshes * whole),
        weight_bytes=count_weight_bytes(plan, counts, native=native) if keeps_weights(plan, counts) else 0,
    )


def count_weight_bytes(plan: Plan, counts: tuple[Count, ...], *, native: bool = False) -> int:
    """Count the bytes of the encoded weights and biases.

    Each takes N words a prime; layouts with one place keep none. The native engine keeps a weight that is one number in
    one word.
    """
    if native and has_single_weights(plan):
        words = sum(each.times for each in counts if each.primitive in ("multiply", "matrix"))
        return 8 * (words + plan.parameters.ring_size * plan.targets)
    constant = {each.level for each in counts if each.primitive == "constant"}
    kept = sum(
        (each.level + 1) * each.times for each in counts if each.primitive == "multiply" and each.level not in constant
    )
    level = plan.parameters.levels
    for stage in plan.stages:
        kept += (level - stage.rescaled + 1) * stage.layout.targets
        level -= stage.levels
    late = bool(plan.stages) and plan.order.output is Moment.BEFORE
    return 8 * plan.parameters.ring_size * (kept + (1 + late) * plan.targets)


def look_up_price(ring_size: int, primitive: str, level: int) -> float:
    """Look up a primitive's time in the table, in microseconds."""
    linear, quadratic = _TABLE[ring_size][primitive]
    primes = level + 1
    return linear * primes + quadratic * primes * (primes + 1)


_OVERHEAD = 130
"""Bytes of a serialized ciphertext besides its polynomials: headers, parameter id, scale, seed."""


@lru_cache(maxsize=64)
def estimate_stored_bytes(bits: int) -> float:
    """Estimate the bytes of one residue modulo a prime of this size in SEAL's form: 8 bytes, entropy-coded by zstd."""
    full, rest = divmod(bits, 8)
    chances = np.full(256, full / 256)
    chances[: 1 << rest] += 1 / (1 << rest)
    chances[0] += 7 - full
    chances /= 8
    entropy = float(-(chances[chances > 0] * np.log2(chances[chances > 0])).sum())
    return entropy if entropy < _INCOMPRESSIBLE else 8.0


_INCOMPRESSIBLE = 7.8


def _blocks(plan: Plan) -> tuple[int, int]:
    output = plan.output
    return output.rows, output.chunk if isinstance(output, Tile) else output.width


def log2(value: float) -> float:
    """Return log2 of a magnitude; 0 for magnitudes below one."""
    return math.log2(max(value, 1.0))
