"""A plan as a compiled program: one call a request, which releases the GIL and allocates nothing.

A feature-major batch begins with a `MatrixProduct`, and the compiled program does the rest. Re-randomising is not part
of a program: `answer_writer` does it as it serializes the answers.

`Recorder` is an engine that computes nothing: it records operations as a list of instructions on registers. So a plan's
order of operations is defined in one place, `encoded_head`, for every engine. `Program` places the registers in one
array, by the last use of each, and the encoded weights in another.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.engines.native.engine import NativeEngine
from he_infer.ckks.engines.native.instructions import (
    Encoded,
    Instruction,
    Register,
    shorten,
)
from he_infer.ckks.engines.native.kernels.execution import (
    ADD,
    ADD_ENCODED,
    ADD_SWITCHED,
    COLUMNS,
    DIVIDE,
    DROP,
    MULTIPLY,
    RESCALE,
    ROTATE,
    SUM_PRODUCTS,
)
from he_infer.ckks.engines.native.kernels.ring import Doubles, galois_places
from he_infer.ckks.engines.native.matrix_product import MatrixProduct, Sum
from he_infer.ckks.engines.protocol import Engine, EvaluationKeys, Value
from he_infer.ckks.key_shapes import RELIN
from he_infer.ckks.layouts.ring import conjugation, galois_element
from he_infer.errors import EngineError


class Recorder(Engine):
    """Records operations instead of running them. It does encode, with the engine that the program is for."""

    def __init__(self, native: NativeEngine) -> None:
        super().__init__(native.parameters, native.primes)
        self.digits = native.digits
        self.native = native
        self.instructions: list[Instruction] = []
        self.blocks: list[Doubles] = []
        self.inputs: list[Register] = []
        self._registers = 0
        self._encoded = 0

    def input(self, scale: float) -> Value:
        """Return a register for the next ciphertext of a request."""
        register = self._new(self.parameters.levels + 1)
        self.inputs.append(register)
        return Value(self.parameters.levels, scale, self.parameters.id, register)

    def count_registers(self) -> int:
        """Return how many registers there are: the number of the next one."""
        return self._registers

    def _new(self, rows: int) -> Register:
        self._registers += 1
        return Register(self._registers - 1, rows)

    def _record(
        self,
        operation: int,
        rows: int,
        *left: Register,
        right: Register | None = None,
        key: int | str | None = None,
        plains: tuple[Encoded, ...] = (),
    ) -> Register:
        out = self._new(rows)
        self.instructions.append(Instruction(operation, out, left, right, key, plains))
        return out

    def _keep(self, block: Doubles, *, constant: bool) -> Encoded:
        self.blocks.append(block)
        self._encoded += block.size
        return Encoded(self._encoded - block.size, constant)

    def _encode(self, slots: NDArray[np.generic], level: int, scale: float) -> Encoded:
        data = self.native.encode(slots, level, scale).data
        rows = data.reshape(level + 1, -1)
        # A constant polynomial's transform is the constant everywhere: so are the weights of feature-major batches.
        if (rows == rows[:, :1]).all():
            return self._keep(rows[:, 0].copy(), constant=True)
        return self._keep(data, constant=False)

    def _encode_constant(self, number: float, level: int, scale: float) -> Encoded:
        return self._keep(self.native.encode_constant(number, level, scale).data, constant=True)

    def _dot(self, values: list[Any], plains: list[Any]) -> Register:
        return self._record(SUM_PRODUCTS, values[0].rows, *values, plains=tuple(plains))

    def _add(self, left: Any, right: Any) -> Register:
        return self._record(ADD, left.rows, left, right=right)

    def _add_plain(self, value: Any, plain: Any) -> Register:
        return self._record(ADD_ENCODED, value.rows, value, plains=(plain,))

    def _rotate(self, value: Any, steps: int, keys: EvaluationKeys) -> Register:
        return self._record(ROTATE, value.rows, value, key=galois_element(steps, self.native.size))

    def _conjugate(self, value: Any, keys: EvaluationKeys) -> Register:
        return self._record(ROTATE, value.rows, value, key=conjugation(self.native.size))

    def _multiply(self, left: Any, right: Any, keys: EvaluationKeys) -> Register:
        return self._record(MULTIPLY, left.rows, left, right=right, key=RELIN)

    def _refresh(self, value: Any, level: int, keys: EvaluationKeys) -> Register:
        raise EngineError("A program ends before its answers are re-randomised.")

    def _rescale(self, value: Any) -> Register:
        return self._record(RESCALE, value.rows - 1, value)

    def _drop(self, value: Any, level: int) -> Register:
        return self._record(DROP, level + 1, value)


class Program:
    """A recorded program, ready to run. One thread at a time: it has one set of registers.

    Args:
        recorder: the recorder, after the recording.
        outputs: the values that a run returns.
        elements, relinearise, public: the keys that a client registers for the plan.
    """

    def __init__(
        self,
        recorder: Recorder,
        outputs: Sequence[Value],
        *,
        elements: Sequence[int],
        relinearise: bool,
        public: bool,
    ) -> None:
        self.native = recorder.native
        self._outputs = list(outputs)
        self._keys = self.native.key_offsets(elements, relinearise=relinearise, public=public)
        self.plains = np.concatenate(recorder.blocks) if recorder.blocks else np.zeros(1)
        kept = {value.data.number for value in outputs}
        instructions = shorten(recorder.instructions, kept, recorder.count_registers(), centred=self.native.centred)
        sums = self._find_sums(instructions, recorder.inputs)
        # They read inputs alone, so they may come first.
        rest = [each for each in instructions if each not in sums]
        self._offsets, size = place_registers(
            [*(replace(each, left=()) for each in sums), *rest],  # the product has its own memory for inputs
            [] if sums else recorder.inputs,
            kept,
            lambda register: 2 * register.rows * self.native.size,
        )
        self.registers = np.zeros(size)
        self.places = [self._offsets[value.data.number] for value in outputs]
        """Offsets of the outputs in the registers."""
        self._packed = np.zeros(len(recorder.inputs) * self.native.fresh_bytes, dtype=np.uint8)
        self._input_step = 2 * (self.native.parameters.levels + 1) * self.native.size
        rotations = sorted({each.key for each in rest if isinstance(each.key, int)})
        places = [galois_places(element, self.native.size) for element in rotations]
        self._places = np.stack(places) if places else np.zeros((1, 1), dtype=np.int32)
        self._product = self._make_product(sums, recorder.inputs)
        self.code, self._terms = self._assemble(rest, rotations)
        """Instructions of one run, without the matrix product's; columns: see `kernels.execution`."""

    def run(self, parts: Sequence[bytes], keys: EvaluationKeys) -> list[Value]:
        """Evaluate one request.

        Args:
            parts: the serialized inputs.
            keys: keys from `NativeEngine.load_keys`, for the program's plan.

        Returns:
            The outputs; the next run overwrites their registers.

        Raises:
            EngineError: the keys are of another plan.
            FormatError: a part is not a fresh ciphertext of the program's parameters.
        """
        if keys.parameters_id != self.native.parameters.id or keys.data["offsets"] != self._keys:
            raise EngineError("Evaluation keys of another plan were handed to the engine.")
        native, size = self.native, self.native.size
        self._take(parts)
        if self._product is None:
            native.open_fresh(self._packed, 0, len(parts), self.registers, self._input_step)
        else:
            self._product.run(partial(native.open_fresh, self._packed), self.registers)
        held = self.registers
        native.kernels.execute(
            self.code,
            self._terms,
            held,
            held,
            held,
            self.plains,
            keys.data["block"],
            self._places,
            size,
            native.ring,
            native.scratch,
            native.centred,
        )
        return [replace(value, data=self._view(value.data)) for value in self._outputs]

    def _take(self, parts: Sequence[bytes]) -> None:
        """Check a request's ciphertexts, and copy them one after another."""
        size, view = self.native.fresh_bytes, self._packed.data
        for index, part in enumerate(parts):
            self.native.check_fresh(part)
            view[index * size : (index + 1) * size] = part

    def _find_sums(self, instructions: Sequence[Instruction], inputs: Sequence[Register]) -> list[Instruction]:
        """Find the instructions that one matrix product replaces: all of them, or none where it does not suit."""
        given = {register.number for register in inputs}
        found = [
            each
            for each in instructions
            if each.operation == SUM_PRODUCTS
            and all(plain.constant for plain in each.plains)
            and all(register.rows == 1 and register.number in given for register in each.left)
        ]
        others = {number for each in instructions if each not in found for number in each.reads}
        if given & (others | {value.data.number for value in self._outputs}):
            return []
        sums = [self._to_sum(each, inputs, 0) for each in found]
        return found if sums and MatrixProduct.suits(sums, len(inputs), self.native.primes[0]) else []

    def _make_product(self, found: Sequence[Instruction], inputs: Sequence[Register]) -> MatrixProduct | None:
        sums = [self._to_sum(each, inputs, self._offsets[each.out.number]) for each in found]
        length, prime = 2 * self.native.size, self.native.primes[0]
        return MatrixProduct(sums, len(inputs), length, prime, self.native.kernels) if sums else None

    def _to_sum(self, each: Instruction, inputs: Sequence[Register], out: int) -> Sum:
        places = {register.number: index for index, register in enumerate(inputs)}
        terms = zip(each.left, each.plains, strict=True)
        return Sum(tuple((places[register.number], float(self.plains[plain.offset])) for register, plain in terms), out)

    def _view(self, register: Register) -> Doubles:
        start = self._offsets[register.number]
        return self.registers[start : start + 2 * register.rows * self.native.size]

    def _assemble(
        self, instructions: Sequence[Instruction], rotations: Sequence[int]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        code, terms = np.zeros((len(instructions), COLUMNS), dtype=np.int64), [(0, 0, 0)]
        for line, each in enumerate(instructions):
            first = second = 0
            right = self._offsets[each.right.number] if each.right else 0
            if each.operation == SUM_PRODUCTS:
                first = len(terms)
                terms += [
                    (self._offsets[register.number], plain.offset, int(plain.constant))
                    for register, plain in zip(each.left, each.plains, strict=True)
                ]
                second = len(terms)
            elif each.operation == ADD_ENCODED:
                right, first = each.plains[0].offset, int(each.plains[0].constant)
            elif isinstance(each.key, int):
                first = rotations.index(each.key)
                second = int(each.operation == ADD_SWITCHED and each.right is not None)
            elif each.operation == DIVIDE:
                first = int(each.right is not None)
            elif each.operation == DROP:
                first = each.out.rows
            key = self._keys[each.key] if each.key is not None else 0
            left = each.left[0]
            code[line] = (
                each.operation,
                self._offsets[each.out.number],
                self._offsets[left.number],
                right,
                each.out.rows if each.operation == DIVIDE else left.rows,
                key,
                first,
                second,
            )
        return code, np.array(terms, dtype=np.int64)


def place_registers(
    instructions: Sequence[Instruction],
    given: Sequence[Register],
    kept: set[int],
    size_of: Callable[[Register], int],
) -> tuple[dict[int, int], int]:
    """Return each register's offset in one array, and the array's size; a place is reused after the last use."""
    last: dict[int, int] = {}
    for line, each in enumerate(instructions):
        for number in each.reads:
            last[number] = line
    free: list[tuple[int, int]] = []
    offsets: dict[int, int] = {}
    held: dict[int, int] = {}
    end = 0

    def take(register: Register) -> None:
        nonlocal end
        size = size_of(register)
        for index, (start, length) in enumerate(free):
            if length >= size:
                free[index : index + 1] = [(start + size, length - size)] if length > size else []
                break
        else:
            start, end = end, end + size
        offsets[register.number], held[register.number] = start, size

    def release(number: int) -> None:
        free.append((offsets[number], held[number]))
        free.sort()
        merged: list[tuple[int, int]] = []
        for start, length in free:
            if merged and sum(merged[-1]) == start:
                merged[-1] = (merged[-1][0], merged[-1][1] + length)
            else:
                merged.append((start, length))
        free[:] = merged

    for register in given:
        take(register)
    for line, each in enumerate(instructions):
        # Before its operands are released: an instruction does not write over what it reads. A sum in several
        # instructions has its place since the first one.
        if each.out.number not in offsets:
            take(each.out)
        for number in {*each.reads, each.out.number}:
            if last.get(number, line) == line and number not in kept:
                release(number)
    return offsets, max(1, end)
