"""Matrix products of feature-major batches equal integer arithmetic, and the program's own sums."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from he_infer.ckks.compiled_head import CompiledHead
from he_infer.ckks.engines.native.engine import NativeEngine
from he_infer.ckks.engines.native.kernels.entry_points import Kernels
from he_infer.ckks.engines.native.matrix_product import MatrixProduct, Sum
from he_infer.ckks.packing import pack
from he_infer.ckks.planning.circuit import build_circuit
from he_infer.ckks.planning.cost import LEAST_MATRIX, count_primitives, estimate_cost
from he_infer.ckks.planning.search import make_plan
from he_infer.client.keys.secret_key import SecretKey
from tests.he_infer.ckks.kit import features, make_head

PRIME = (1 << 39) - 7  # arithmetic needs no prime
INPUTS, LENGTH = 150, 64


def make_sums(numbers: np.ndarray) -> list[Sum]:
    return [Sum(tuple(enumerate(map(float, row))), index * LENGTH) for index, row in enumerate(numbers)]


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    bits=st.integers(1, 26),
    extreme=st.sampled_from([None, 1, -1]),
)
def test_sums_equal_integer_arithmetic(kernels: Kernels, seed: int, bits: int, extreme: int | None) -> None:
    rng = np.random.default_rng(seed)
    numbers = rng.integers(-(1 << bits), 1 << bits, (7, INPUTS))
    values = rng.integers(-(PRIME // 2), PRIME // 2 + 1, (INPUTS, LENGTH))
    if extreme is not None:  # all of one sign and as large as they may be
        numbers[:], values[:] = extreme * (1 << bits), PRIME // 2
    sums = make_sums(numbers)
    assert MatrixProduct.suits(sums, INPUTS, PRIME) == (7 * INPUTS >= LEAST_MATRIX)
    registers = np.full(7 * LENGTH, np.nan)  # what is there must not matter

    def load(first: int, count: int, out: np.ndarray, step: int) -> None:
        for index in range(count):
            out[index * step : index * step + LENGTH] = values[first + index]

    MatrixProduct(sums, INPUTS, LENGTH, PRIME, kernels).run(load, registers)
    found = registers.reshape(7, LENGTH)
    exact = numbers.astype(object) @ values.astype(object)
    assert np.abs(found).max() <= PRIME // 2
    assert all((int(one) - other) % PRIME == 0 for one, other in zip(found.flat, exact.flat, strict=True))


@pytest.mark.parametrize(("bits", "prime"), [(28, PRIME), (22, (1 << 50) - 27)])
def test_sums_that_would_be_rounded_do_not_suit(bits: int, prime: int) -> None:
    assert not MatrixProduct.suits(make_sums(np.full((7, INPUTS), 1 << bits)), INPUTS, prime)


def test_feature_major_batch_gives_the_residues_of_its_single_sums(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = make_head((128, 9))
    plan = make_plan(head, batch=4096, policy="open")
    engine = NativeEngine(plan.parameters, kernels)
    joined = CompiledHead(plan, head, engine)
    with monkeypatch.context() as patch:
        patch.setattr(MatrixProduct, "suits", staticmethod(lambda *_: False))
        single = CompiledHead(plan, head, engine)
    assert len(joined.program.code) < len(single.program.code)
    assert joined.program.registers.size < single.program.registers.size / 2  # the inputs are not kept
    secret = SecretKey.generate(plan.parameters)
    sent = secret.encrypt(pack(plan, features(300, 128)), plan.input_scale)
    keys = engine.load_keys({}, (), relinearise=False, public=False)
    found = [value.data.copy() for value in joined.program.run(sent, keys)]
    expected = [value.data.copy() for value in single.program.run(sent, keys)]
    assert all((one == other).all() for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(("widths", "least"), [((128, 9), LEAST_MATRIX), ((64, 3), 0)])
def test_products_and_memory_of_a_feature_major_batch_are_as_predicted(
    kernels: Kernels, widths: tuple[int, int], least: int
) -> None:
    head = make_head(widths)
    plan, circuit = make_plan(head, batch=4096, policy="open"), build_circuit(head)
    counts = {each.primitive: each.times for each in count_primitives(plan, circuit, native=True)}
    assert counts["matrix" if least else "multiply"] == widths[0] * widths[1]
    assert ("matrix" in counts) != ("multiply" in counts)
    compiled = CompiledHead(plan, head, NativeEngine(plan.parameters, kernels))
    predicted = estimate_cost(plan, circuit, native=True)
    assert predicted.weight_bytes / 1.2 < compiled.weight_bytes < predicted.weight_bytes * 1.2
    # A matrix product has no instruction a product, only one an answer for the biases.
    assert len(compiled.program.code) == (widths[1] if least else 2 * widths[1])
    assert predicted.server_ms <= estimate_cost(plan, circuit).server_ms
