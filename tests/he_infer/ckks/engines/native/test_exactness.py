"""With SEAL's digits, every residue equals SEAL's, for any operations, in any order, at all levels."""

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from he_infer.ckks.engines.native.kernels.entry_points import Kernels
from he_infer.ckks.parameters import Parameters
from tests.he_infer.ckks.engines.native.oracle import STEPS, Oracle, Pair

SHORT: tuple[Parameters, ...] = (
    Parameters(2048, (26, 27)),
    Parameters(2048, (48,)),
    Parameters(4096, (36, 34, 36)),
    Parameters(4096, (20, 21, 22, 20)),
)
LONG = (
    Parameters(8192, (50, 36, 36, 50)),
    Parameters(8192, (50, 50, 50, 50)),
    Parameters(8192, (30, 20, 25, 40, 49, 50)),
    Parameters(16384, (50, 40, 40, 40, 40, 50)),
    Parameters(16384, (50,) * 8),
    Parameters(32768, (50, *(40,) * 10, 50)),
    Parameters(32768, (50,) * 17),
)
OPERATIONS = ("rotate", "conjugate", "square", "multiply", "add", "rescale", "drop", "dot", "add_plain", "constant")


@lru_cache(maxsize=2)
def oracle(parameters: Parameters, kernels: Kernels) -> Oracle:
    return Oracle(parameters, kernels)


def carry_out(sides: Oracle, operations: list[tuple[str, int]], seed: int) -> None:
    """Run operations that fit on both engines, and compare every result."""
    rng = np.random.default_rng(seed)
    engine, slots = sides.native, sides.parameters.slots
    start = 2.0 ** min(20, sum(sides.parameters.data_bits) // 2 - 3)
    fresh = sides.encrypt(rng.normal(size=slots) + 1j * rng.normal(size=slots), start)
    assert sides.differing(fresh) == 0
    value = fresh
    switches = sides.parameters.switches_keys
    for name, number in operations:
        level, scale = value.native.level, value.native.scale
        room = float(np.log2(engine.primes[: level + 1]).sum()) - 1
        if name in ("rotate", "conjugate", "square", "multiply") and not switches:
            continue
        if name in ("square", "multiply") and 2 * np.log2(scale) >= room:
            continue
        if name == "rotate":
            value = sides.apply("rotate", value, steps=STEPS[number % len(STEPS)])
        elif name in ("conjugate", "square"):
            value = sides.apply(name, value)
        elif name == "multiply":
            value = sides.apply("multiply", value, sides.apply("conjugate", value))
        elif name == "add":
            value = sides.apply("add", value, value)
        elif name == "rescale" and level and scale / engine.primes[level] >= 1:
            value = sides.apply("rescale", value)
        elif name == "drop" and level and np.log2(scale) < room - 50:
            value = sides.apply("drop", value, level=level - 1)
        elif name in ("dot", "add_plain", "constant"):
            value = combine_plain(sides, name, value, number, room)
        assert sides.differing(value) == 0, f"{name} at level {level} of {sides.parameters}"


def combine_plain(sides: Oracle, name: str, value: Pair, number: int, room: float) -> Pair:
    level, scale = value.native.level, value.native.scale
    rng = np.random.default_rng(number)
    if name == "add_plain":
        if np.log2(scale) >= min(room, 50):
            return value
        plains = sides.encode(rng.normal(size=sides.parameters.slots), level, scale)
        return Pair(sides.seal.add_plain(value.seal, plains[0]), sides.native.add_plain(value.native, plains[1]))
    weight = 2.0 ** min(15, room - np.log2(scale) - 2)
    if weight < 2.0**12:  # a small vector's coefficients would all round to zero, and SEAL refuses such a product
        return value
    if name == "constant":
        seal, native = (engine.encode_constant(-1.5, level, weight) for engine in (sides.seal, sides.native))
    else:
        seal, native = sides.encode(rng.normal(size=sides.parameters.slots), level, weight)
    count = 1 + number % 3
    return Pair(
        sides.seal.dot([value.seal] * count, [seal] * count),
        sides.native.dot([value.native] * count, [native] * count),
    )


sequences = st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 100)), min_size=1, max_size=8)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parameters=st.sampled_from(SHORT), operations=sequences, seed=st.integers(0, 2**32))
def test_operations_in_any_order_give_residues_of_seal(
    kernels: Kernels, parameters: Parameters, operations: list[tuple[str, int]], seed: int
) -> None:
    carry_out(oracle(parameters, kernels), operations, seed)


@pytest.mark.slow  # minutes: rings up to N = 32768, where SEAL takes most of the time
@pytest.mark.parametrize("parameters", [*SHORT, *LONG], ids=str)
def test_operations_in_any_order_give_residues_of_seal_in_all_rings(kernels: Kernels, parameters: Parameters) -> None:
    @settings(deadline=None, max_examples=40)
    @given(operations=sequences, seed=st.integers(0, 2**32))
    def run(operations: list[tuple[str, int]], seed: int) -> None:
        carry_out(oracle(parameters, kernels), operations, seed)

    run()


def test_every_switch_at_every_level_gives_residues_of_seal(kernels: Kernels) -> None:
    """Random operations seldom reach all levels, so this test goes down a whole chain with every key switch."""
    sides = oracle(Parameters(8192, (50, 36, 36, 50)), kernels)
    value = sides.encrypt(np.ones(4096), 2.0**30)
    for level in (2, 1, 0):
        assert value.native.level == level
        for step in STEPS:
            assert sides.differing(sides.apply("rotate", value, steps=step)) == 0
        assert sides.differing(sides.apply("conjugate", value)) == 0
        if level:
            value = sides.apply("rescale", sides.apply("square", value))


def test_centred_digits_keep_first_slot_as_exact_as_the_others(kernels: Kernels) -> None:
    sides = oracle(Parameters(8192, (50, 36, 36, 50)), kernels)
    rng = np.random.default_rng(1)
    errors: dict[str, np.ndarray] = {}
    x = rng.normal(size=4096)
    data = sides.secret.encrypt([x], 2.0**30)[0]
    for name, engine, keys in (
        ("seal", sides.native, sides.native_keys),
        ("centred", sides.centred, sides.centred_keys),
    ):
        rotated = engine.rotate(engine.load(data, 2.0**30), 3, keys)
        errors[name] = np.abs(sides.decrypt(rotated) - np.roll(x, -3)) * 2.0**30
    assert errors["seal"][0] > 5 * errors["centred"][0]
    assert errors["centred"][0] < 8 * np.sqrt((errors["centred"] ** 2).mean())
