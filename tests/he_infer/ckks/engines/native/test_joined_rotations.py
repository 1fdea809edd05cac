"""Rotations that a compiled program joins: shared digits change no residue, and a sum is divided and rounded once."""

from collections import Counter
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from he_infer.ckks.engines.native.engine import NativeEngine
from he_infer.ckks.engines.native.instructions import Instruction, Register, join_sums, share_digits
from he_infer.ckks.engines.native.kernels.entry_points import Kernels
from he_infer.ckks.engines.native.kernels.execution import (
    ADD,
    ADD_SWITCHED,
    DIVIDE,
    INVERT,
    LIFT,
    ROTATE,
    ROTATE_LIFTED,
)
from he_infer.ckks.engines.native.program import Program, Recorder
from he_infer.ckks.engines.protocol import Engine, EvaluationKeys, Value
from he_infer.ckks.layouts.ring import conjugation, galois_element
from he_infer.ckks.parameters import Parameters
from tests.he_infer.ckks.engines.native.oracle import STEPS, Oracle, Pair

CHAINS = (Parameters(4096, (36, 34, 36)), Parameters(4096, (30, 25, 25, 26)), Parameters(8192, (50, 40, 50, 50)))
SCALE = 2.0**22
CONJUGATE = "conjugate"
TURNS = (*STEPS, CONJUGATE)
Steps = Callable[[Engine, list[Value], EvaluationKeys], list[Value]]


@lru_cache(maxsize=3)
def make_oracle(parameters: Parameters, kernels: Kernels) -> Oracle:
    return Oracle(parameters, kernels)


def turn(engine: Engine, value: Value, by: int | str, keys: EvaluationKeys) -> Value:
    return engine.rotate(value, by, keys) if isinstance(by, int) else engine.conjugate(value, keys)


def compile_steps(engine: NativeEngine, steps: Steps, count: int, keys: EvaluationKeys) -> Program:
    recorder = Recorder(engine)
    outputs = steps(recorder, [recorder.input(SCALE) for _ in range(count)], keys)
    size = engine.size
    elements = (*(galois_element(step, size) for step in STEPS), conjugation(size))
    return Program(recorder, outputs, elements=elements, relinearise=True, public=True)


def count_operations(program: Program) -> Counter[int]:
    return Counter(int(line[0]) for line in program.code)


def encrypt(oracle: Oracle, count: int, seed: int) -> list[bytes]:
    slots = np.random.default_rng(seed).normal(size=(count, oracle.parameters.slots))
    return oracle.secret.encrypt(list(slots), SCALE)


@st.composite
def shared_turns(draw: st.DrawFn) -> list[tuple[int, bool, str | int]]:
    """Rotations of few ciphertexts, fresh ones and rescaled ones: (input, whether it is rescaled first, rotation)."""
    sources = st.tuples(st.integers(0, 1), st.booleans())
    chosen = draw(st.lists(st.tuples(sources, st.sampled_from(TURNS)), min_size=1, max_size=8))
    return [(source, lower, by) for (source, lower), by in chosen]


def turn_all(turns: list[tuple[int, bool, str | int]]) -> Steps:
    def steps(engine: Engine, values: list[Value], keys: EvaluationKeys) -> list[Value]:
        lower = [engine.rescale(value) for value in values]
        return [turn(engine, (lower if low else values)[source], by, keys) for source, low, by in turns]

    return steps


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(turns=shared_turns(), parameters=st.sampled_from(CHAINS), seed=st.integers(0, 2**32 - 1))
def test_rotations_that_share_a_ciphertext_give_the_residues_of_single_ones(
    kernels: Kernels, turns: list[tuple[int, bool, str | int]], parameters: Parameters, seed: int
) -> None:
    oracle = make_oracle(parameters, kernels)
    engine, keys, steps = oracle.centred, oracle.centred_keys, turn_all(turns)
    program = compile_steps(engine, steps, 2, keys)
    sources = Counter(turned[:2] for turned in turns)
    found = count_operations(program)
    assert found[LIFT] == sum(times > 1 for times in sources.values())
    assert found[ROTATE_LIFTED] == sum(times for times in sources.values() if times > 1)
    assert found[ROTATE] == sum(times == 1 for times in sources.values())
    sent = encrypt(oracle, 2, seed)
    wanted = steps(engine, [engine.load(data, SCALE) for data in sent], keys)
    for _ in range(2):  # the second run starts with the registers of the first one
        for one, other in zip(program.run(sent, keys), wanted, strict=True):
            assert (engine.residues(one) == engine.residues(other)).all()


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(turns=shared_turns(), parameters=st.sampled_from(CHAINS), seed=st.integers(0, 2**32 - 1))
def test_program_with_seals_digits_gives_seals_residues(
    kernels: Kernels, turns: list[tuple[int, bool, str | int]], parameters: Parameters, seed: int
) -> None:
    """Digits between 0 and p change under a rotation, so none are shared, and no sum of rotations is joined."""
    oracle, steps = make_oracle(parameters, kernels), add_all(turns)
    program = compile_steps(oracle.native, steps, 2, oracle.native_keys)
    assert not {LIFT, ROTATE_LIFTED, ADD_SWITCHED, DIVIDE} & set(count_operations(program))
    sent = encrypt(oracle, 2, seed)
    wanted = steps(oracle.seal, [oracle.seal.load(data, SCALE) for data in sent], oracle.seal_keys)
    for one, other in zip(program.run(sent, oracle.native_keys), wanted, strict=True):
        assert oracle.differing(Pair(other, one)) == 0


def add_all(turns: list[tuple[int, bool, str | int]], base: bool = False) -> Steps:
    """The sums of all rotations at each level; with `base`, of the second input too."""

    def steps(engine: Engine, values: list[Value], keys: EvaluationKeys) -> list[Value]:
        turned = turn_all(turns)(engine, values, keys)
        totals: dict[int, Value] = {}
        if base:
            totals[values[1].level] = values[1]
        for value in turned:
            totals[value.level] = engine.add(totals[value.level], value) if value.level in totals else value
        return list(totals.values())

    return steps


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    turns=shared_turns(),
    base=st.booleans(),
    parameters=st.sampled_from(CHAINS),
    seed=st.integers(0, 2**32 - 1),
)
def test_sum_of_rotations_is_rounded_once(
    kernels: Kernels, turns: list[tuple[int, bool, str | int]], base: bool, parameters: Parameters, seed: int
) -> None:
    """One rounded quotient of a sum of T quotients is within (T + 1) / 2 of the sum of T rounded ones."""
    oracle = make_oracle(parameters, kernels)
    engine, keys, steps = oracle.centred, oracle.centred_keys, add_all(turns, base)
    program = compile_steps(engine, steps, 2, keys)
    levels = Counter(lower for _, lower, _ in turns)
    found = count_operations(program)
    assert found[DIVIDE] == sum(times > 1 for times in levels.values())
    assert found[ADD_SWITCHED] == sum(times for times in levels.values() if times > 1)
    assert LIFT not in found
    sent = encrypt(oracle, 2, seed)
    wanted = steps(engine, [engine.load(data, SCALE) for data in sent], keys)
    for _ in range(2):
        for one, other in zip(program.run(sent, keys), wanted, strict=True):
            times = levels[one.level < parameters.levels]
            differences = find_differences(engine, one, other)
            assert np.abs(differences).max() <= (times + 1) / 2 if times > 1 else not differences.any()
            assert (differences == differences[:, :1]).all()  # the same integers modulo every prime


def find_differences(engine: NativeEngine, one: Value, other: Value) -> np.ndarray:
    """The coefficients (2, primes, N) of the difference of two ciphertexts, each between -p/2 and p/2."""
    rows, size = one.level + 1, engine.size
    moduli = np.array(engine.primes[:rows], dtype=np.float64)[:, None]
    difference = one.data.reshape(2, rows, size) - other.data.reshape(2, rows, size)
    difference -= moduli * np.rint(difference / moduli)
    out = np.empty_like(difference)
    for component in range(2):
        engine.run(
            INVERT,
            np.ascontiguousarray(difference[component]).reshape(-1),
            rows,
            out[component].reshape(-1),
            first=size,
        )
    return out


A, B, C, D, E, F = (Register(number, 3) for number in range(6))
TURN_B, TURN_D = Instruction(ROTATE, B, (A,), key=3), Instruction(ROTATE, D, (C,), key=5)


def test_digits_are_lifted_before_the_first_of_several_rotations() -> None:
    again, other = Instruction(ROTATE, C, (A,), key=5), Instruction(ADD, D, (B,), right=C)
    single = Instruction(ROTATE, E, (D,), key=3)
    shared = share_digits([TURN_B, again, other, single], 5)
    assert [each.operation for each in shared] == [LIFT, ROTATE_LIFTED, ROTATE_LIFTED, ADD, ROTATE]
    assert (shared[0].out, shared[0].left) == (Register(5, 6), (A,))
    assert all(each.right == shared[0].out and each.left == (A,) for each in shared[1:3])
    assert shared[3:] == [other, single]


def test_sum_is_gathered_where_its_rotations_were_and_divided_where_it_was() -> None:
    total = Register(6, 4)
    first, last = Instruction(ADD, E, (A,), right=B), Instruction(ADD, F, (E,), right=D)
    assert join_sums([TURN_B, first, TURN_D, last], set(), 6) == [
        Instruction(ADD_SWITCHED, total, (A,), key=3),
        Instruction(ADD_SWITCHED, total, (C,), total, 5),
        Instruction(DIVIDE, F, (total,), A),
    ]
    bare = Instruction(ADD, F, (B,), right=D)
    assert join_sums([TURN_B, TURN_D, bare], set(), 6)[-1] == Instruction(DIVIDE, F, (total,))


@pytest.mark.parametrize("kept", [B, D, E])
def test_sum_with_a_part_that_is_needed_elsewhere_is_not_joined(kept: Register) -> None:
    first, last = Instruction(ADD, E, (A,), right=B), Instruction(ADD, F, (E,), right=D)
    program = [TURN_B, first, TURN_D, last]
    assert join_sums(program, {kept.number}, 6) == program
    reader = Instruction(ADD, Register(7, 3), (kept,), right=A)
    assert join_sums([*program, reader], set(), 8) == [*program, reader]
