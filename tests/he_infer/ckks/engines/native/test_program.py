"""A plan as one compiled call gives exactly the same result as its steps one by one."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from he_infer.ckks.engines.native.engine import NativeEngine
from he_infer.ckks.engines.native.instructions import Instruction, Register, join_folds
from he_infer.ckks.engines.native.kernels.entry_points import Kernels
from he_infer.ckks.engines.native.kernels.execution import ADD, FOLD, RESCALE, ROTATE
from he_infer.ckks.engines.native.program import Program, Recorder, place_registers
from he_infer.ckks.engines.protocol import Engine, EvaluationKeys, Value
from he_infer.ckks.layouts.ring import conjugation, galois_element
from he_infer.ckks.parameters import Parameters
from he_infer.client.keys.secret_key import SecretKey
from he_infer.errors import EngineError

PARAMETERS = Parameters(4096, (30, 25, 25, 26))
SCALE = 2.0**22
ELEMENTS = (galois_element(1, 4096), galois_element(4, 4096), conjugation(4096))


class Bench:
    def __init__(self, kernels: Kernels) -> None:
        self.engine = NativeEngine(PARAMETERS, kernels)
        self.secret = SecretKey.generate(PARAMETERS)
        parts = self.secret.keys_for(ELEMENTS, relinearise=True, public=True)
        self.keys = self.engine.load_keys(parts, ELEMENTS, relinearise=True, public=True)
        self.slots = np.random.default_rng(0).normal(size=(2, 2048))
        self.sent = self.secret.encrypt(list(self.slots), SCALE)
        self.values = [self.engine.load(data, SCALE) for data in self.sent]

    def compile(self, steps: Callable[[Engine, list[Value], EvaluationKeys], list[Value]]) -> Program:
        recorder = Recorder(self.engine)
        outputs = steps(recorder, [recorder.input(SCALE), recorder.input(SCALE)], self.keys)
        return Program(recorder, outputs, elements=ELEMENTS, relinearise=True, public=True)


@pytest.fixture(scope="module")
def bench(kernels: Kernels) -> Bench:
    return Bench(kernels)


def every_operation(engine: Engine, values: list[Value], keys: EvaluationKeys) -> list[Value]:
    first, second = values
    weights = [engine.encode(np.linspace(-1, 1, 2048) * factor, 2, 2.0**20) for factor in (1.0, -0.5)]
    total = engine.dot([first, second, first], [*weights, engine.encode_constant(0.25, 2, 2.0**20)])
    total = engine.add(total, engine.rotate(total, 4, keys))
    total = engine.rescale(total)
    total = engine.add(total, engine.conjugate(total, keys))
    rotated = engine.rotate(total, 1, keys)
    total = engine.add_plain(engine.add(total, rotated), engine.encode_constant(1.5, 1, total.scale))
    total = engine.add_plain(total, engine.encode(np.ones(2048), 1, total.scale))
    product = engine.rescale(engine.multiply(total, rotated, keys))
    return [product, engine.drop(rotated, 0), engine.rescale(engine.square(total, keys))]


def test_program_gives_residues_of_its_steps(bench: Bench) -> None:
    program = bench.compile(every_operation)
    wanted = every_operation(bench.engine, bench.values, bench.keys)
    for _ in range(2):  # the second run starts with the registers of the first one
        found = program.run(bench.sent, bench.keys)
        for one, other in zip(found, wanted, strict=True):
            assert (one.level, one.scale) == (other.level, other.scale)
            # A fold sums before it reduces, so a residue near p/2 may have another representative.
            assert (bench.engine.residues(one) == bench.engine.residues(other)).all()


def test_weight_of_one_number_takes_one_number_a_prime(bench: Bench) -> None:
    """Equal slots are a constant polynomial, whose transform is the same number everywhere."""

    def steps(engine: Engine, values: list[Value], keys: EvaluationKeys) -> list[Value]:
        constant = engine.encode(np.full(2048, 0.5), 2, 2.0**20)
        other = engine.encode(np.linspace(-1, 1, 2048), 2, 2.0**20)
        return [
            engine.dot(values, [constant, other]),
            engine.add_plain(values[0], engine.encode(np.ones(2048), 2, SCALE)),
        ]

    program = bench.compile(steps)
    assert program.plains.size == 3 + 3 * 4096 + 3
    for one, other in zip(
        program.run(bench.sent, bench.keys), steps(bench.engine, bench.values, bench.keys), strict=True
    ):
        assert (bench.engine.residues(one) == bench.engine.residues(other)).all()


def test_program_does_not_record_that_answers_are_re_randomised(bench: Bench) -> None:
    with pytest.raises(EngineError, match="re-randomised"):
        bench.compile(lambda engine, values, keys: [engine.refresh(engine.drop(values[0], 0), keys)])


def test_keys_of_another_plan_are_refused(bench: Bench) -> None:
    program = bench.compile(every_operation)
    parts = bench.secret.keys_for(ELEMENTS[:2], relinearise=True, public=True)
    other = bench.engine.load_keys(parts, ELEMENTS[:2], relinearise=True, public=True)
    with pytest.raises(EngineError, match="another plan"):
        program.run(bench.sent, other)


def test_recorder_makes_the_checks_of_an_engine(bench: Bench) -> None:
    recorder = Recorder(bench.engine)
    value = recorder.input(SCALE)
    with pytest.raises(EngineError, match="cannot be combined"):
        recorder.add(value, recorder.rescale(value))


def test_rotation_that_is_used_twice_is_not_joined() -> None:
    a, b, c, d = (Register(number, 1) for number in range(4))
    rotate, add = Instruction(ROTATE, b, (a,), key=3), Instruction(ADD, c, (a,), right=b)
    assert [each.operation for each in join_folds([rotate, add], set())] == [FOLD]
    again = Instruction(ADD, d, (c,), right=b)
    assert len(join_folds([rotate, add, again], set())) == 3
    assert len(join_folds([rotate, add], {b.number})) == 2
    assert len(join_folds([rotate, Instruction(ADD, d, (c,), right=b)], set())) == 2


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_registers_that_live_together_never_overlap(data: st.DataObject) -> None:
    given_count = data.draw(st.integers(1, 4))
    registers = [Register(number, data.draw(st.integers(1, 5))) for number in range(given_count)]
    given_registers = list(registers)
    instructions = []
    for number in range(given_count, given_count + data.draw(st.integers(1, 15))):
        read = data.draw(st.lists(st.sampled_from(registers), min_size=1, max_size=3))
        registers.append(Register(number, data.draw(st.integers(1, 5))))
        instructions.append(Instruction(RESCALE, registers[-1], tuple(read)))
    kept = {register.number for register in data.draw(st.lists(st.sampled_from(registers), max_size=3))}
    offsets, size = place_registers(instructions, given_registers, kept, lambda register: register.rows)
    # Replay the run on the array: every value that is read must still be there.
    memory: list[int | None] = [None] * size
    for register in given_registers:
        memory[offsets[register.number] : offsets[register.number] + register.rows] = [register.number] * register.rows
    for each in instructions:
        for register in each.left:
            place = slice(offsets[register.number], offsets[register.number] + register.rows)
            assert memory[place] == [register.number] * register.rows
        out = slice(offsets[each.out.number], offsets[each.out.number] + each.out.rows)
        assert all(memory[out.start + k] not in each.reads for k in range(each.out.rows))
        memory[out] = [each.out.number] * each.out.rows
    for number in kept & {register.number for register in registers}:
        place = slice(offsets[number], offsets[number] + registers[number].rows)
        assert memory[place] == [number] * registers[number].rows
