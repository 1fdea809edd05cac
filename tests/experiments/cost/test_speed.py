"""The speed experiment's rows have consistent figures, and TenSEAL's path computes the same head."""

import pytest

from experiments.cost.speed import Job, make_head, measure
from experiments.cost.speed_peer import milliseconds
from experiments.cost.work import count_forward, count_inverse, count_work
from he_infer.ckks.engines.native.support import find_obstacle
from he_infer.ckks.planning.circuit import build_circuit
from he_infer.ckks.planning.order import Digits
from he_infer.ckks.planning.search import make_plan
from he_infer.head.layers import Head
from tests.he_infer.ckks.kit import features


@pytest.mark.parametrize("job", [Job("linear", (20, 3), "open"), Job("mlp", (20, 6, 3), "hidden", 4)])
def test_speed_rows_have_consistent_figures(job: Job) -> None:
    rows = measure(job, 3, (100.0, 0.0))
    assert rows[0].engine == "SEAL"
    assert len({row.engine for row in rows}) == len(rows)
    for row in rows:
        assert row.server_ms_low <= row.server_ms <= row.server_ms_high
        assert row.over_limit == pytest.approx(row.server_ms / row.limit_ms)
        assert row.ratio == pytest.approx(100.0 * job.batch / row.server_ms)
        assert row.max_abs_error <= row.predicted_error
        assert (row.evaluation_key_bytes == 0) == (job.policy == "open")
        assert row.weight_bytes < row.predicted_weight_bytes * 1.2
        assert row.engine != "SEAL" or row.weight_bytes > row.predicted_weight_bytes / 1.2
        assert row.bytes_up == row.predicted_bytes_up
        assert (row.transforms > 100) == (row.key_switches > 0)
        assert row.moved_bytes > row.key_bytes_read + row.bytes_up + row.bytes_down
        if row.fma_bound_ms is not None and row.memory_bound_ms is not None:
            assert row.fma_bound_ms > 0
            assert row.memory_bound_ms > 0


def test_work_of_a_key_switch_is_that_of_its_primes() -> None:
    """512 to 64, squared, to 10: counted by hand for the plan's eight folds and rotations and two products."""
    head = make_head((512, 64, 10))
    plan = make_plan(head)
    work = count_work(plan, build_circuit(head))
    by_primes = {primes: (primes + 1) * (primes + 2) for primes in (1, 2, 3)}
    assert by_primes == {1: 6, 2: 12, 3: 20}
    assert work.transforms >= plan.key_switches * by_primes[1]
    assert work.key_bytes % (2 * plan.parameters.ring_size * 8) == 0


@pytest.mark.skipif(find_obstacle() is not None, reason="no native engine on this machine")
@pytest.mark.parametrize(
    ("widths", "batch"), [((512, 10), 1), ((512, 64, 10), 1), ((512, 64, 10), 64), ((40, 200, 3), 8)]
)
def test_counted_transforms_are_those_of_the_compiled_program(widths: tuple[int, ...], batch: int) -> None:
    from he_infer.ckks.compiled_head import CompiledHead
    from he_infer.ckks.engines.native.engine import NativeEngine
    from he_infer.ckks.engines.native.kernels import execution

    head = make_head(widths)
    plan = make_plan(head, batch=batch, precision=1e-2, digits=Digits.CENTRED)
    program = CompiledHead(plan, head, NativeEngine(plan.parameters)).program
    transforms = 3 * plan.targets  # an encryption of zero, and two inverse transforms an answer
    for operation, *_, primes in program.code[:, :5].tolist():
        match operation:
            case execution.ROTATE | execution.FOLD | execution.MULTIPLY:
                transforms += (primes + 1) * (primes + 2)
            case execution.LIFT | execution.ADD_SWITCHED:
                transforms += primes * (primes + 1)
            case execution.ROTATE_LIFTED | execution.DIVIDE:
                transforms += 2 * (primes + 1)
            case execution.RESCALE:
                transforms += 2 * primes
    assert count_work(plan, build_circuit(head)).transforms == transforms


@pytest.mark.parametrize("size", [2048, 4096, 8192])
def test_multiplications_of_a_transform_are_those_of_its_butterflies_and_reductions(size: int) -> None:
    """A butterfly takes four; a reduction takes two, and there are between one and two a residue and pass."""
    stages = size.bit_length() - 1
    butterflies = 4 * stages * size // 2
    for count in (count_forward(size), count_inverse(size)):
        assert butterflies + 2 * size <= count <= butterflies + 2 * size * stages


def test_linear_head_is_counted_by_hand() -> None:
    """512 to 10 modulo one prime: parsing, products, biases, and for each answer a zero and two inverse transforms."""
    head = make_head((512, 10))
    plan = make_plan(head)
    work, size = count_work(plan, build_circuit(head)), plan.parameters.ring_size
    assert work.transforms == 3 * plan.targets
    answer = (4 + 12 + 1) * size + count_forward(size) + 2 * count_inverse(size)
    products = 12 * size * plan.sources * plan.targets
    assert work.multiplications == 8 * size * plan.sources + products + answer * plan.targets
    assert work.key_bytes == 0


def test_tenseal_computes_the_same_head() -> None:
    head = make_head((20, 6, 3))
    assert isinstance(head, Head)
    taken, error = milliseconds(head, features(1, 20), 1)
    assert taken > 0
    assert error < 1e-2
