"""The lines of a program: operations on registers, and how several are joined into cheaper ones."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from he_infer.ckks.engines.native.kernels.execution import ADD, ADD_SWITCHED, DIVIDE, FOLD, LIFT, ROTATE, ROTATE_LIFTED


@dataclass(frozen=True)
class Register:
    """A ciphertext that the program will hold: its number and the primes of its level."""

    number: int
    rows: int


@dataclass(frozen=True)
class Encoded:
    """An encoded vector in the program's block, or one number for all slots."""

    offset: int
    constant: bool


@dataclass(frozen=True)
class Instruction:
    """An operation of the compiled program: what `kernels.execution.execute` does in one turn, on registers."""

    operation: int
    out: Register
    left: tuple[Register, ...]
    right: Register | None = None
    key: int | str | None = None
    """A Galois element, or the name of another key."""
    plains: tuple[Encoded, ...] = ()

    @property
    def reads(self) -> set[int]:
        """Return the numbers of the registers that it reads."""
        return {register.number for register in (*self.left, *([self.right] if self.right else []))}


def shorten(instructions: Sequence[Instruction], kept: set[int], number: int, *, centred: bool) -> list[Instruction]:
    """Join instructions into cheaper ones.

    Args:
        instructions: the program, as it was recorded.
        kept: numbers of the registers that the program returns.
        number: number of the next register.
        centred: whether the digits of key switches are centred; with SEAL's, only what leaves all residues is joined.
    """
    if not centred:
        return join_folds(instructions, kept)
    joined = join_folds(join_sums(instructions, kept, number), kept)
    return share_digits(joined, 1 + max([number, *(each.out.number for each in joined)]))


def count_uses(instructions: Sequence[Instruction]) -> Counter[int]:
    """Count how often each register is read, by its number."""
    return Counter(
        register.number for each in instructions for register in (*each.left, *([each.right] if each.right else []))
    )


def join_folds(instructions: Sequence[Instruction], kept: set[int]) -> list[Instruction]:
    """Join each rotation with the sum that is its only use, if the other summand is the rotated register."""
    uses = count_uses(instructions)
    made = {each.out.number: each for each in instructions}
    joined: list[Instruction] = []
    gone: set[int] = set()
    for each in instructions:
        if each.operation == ADD and each.right is not None:
            rotation = made.get(each.right.number)
            if (
                rotation is not None
                and rotation.operation == ROTATE
                and rotation.left == each.left
                and uses[each.right.number] == 1
                and each.right.number not in kept
            ):
                gone.add(rotation.out.number)
                each = Instruction(FOLD, each.out, each.left, key=rotation.key)
        joined.append(each)
    return [each for each in joined if each.out.number not in gone]


def join_sums(instructions: Sequence[Instruction], kept: set[int], number: int) -> list[Instruction]:
    """Let each sum of several rotations be divided by the special prime once, where only the sum is used.

    Args:
        instructions: the program, as it was recorded.
        kept: numbers of the registers that the program returns.
        number: number of the next register.
    """
    uses = count_uses(instructions)
    made = {each.out.number: each for each in instructions}

    def find(register: Register, operation: int) -> Instruction | None:
        """Find the instruction that makes a register, if it is this operation and nothing else uses the register."""
        found = made.get(register.number)
        hidden = uses[register.number] == 1 and register.number not in kept
        return found if hidden and found is not None and found.operation == operation else None

    lines: dict[int, list[Instruction]] = {}
    for last in reversed(instructions):  # so that the longest sum is found before the sums in it
        if last.operation != ADD or last.out.number in lines:
            continue
        additions, rotations = list[Instruction](), list[Instruction]()
        step: Instruction | None = last
        base = last.out
        while step is not None and step.right is not None and (turned := find(step.right, ROTATE)) is not None:
            additions.append(step)
            rotations.append(turned)
            base = step.left[0]
            step = find(base, ADD)
        first = find(base, ROTATE)
        rotations += [first] if first is not None else []
        if len(rotations) < 2:
            continue
        total, number = Register(number, last.out.rows + 1), number + 1
        for each in rotations:
            present = None if each is rotations[-1] else total
            lines[each.out.number] = [Instruction(ADD_SWITCHED, total, each.left, present, each.key)]
        lines.update((each.out.number, []) for each in additions)
        lines[last.out.number] = [Instruction(DIVIDE, last.out, (total,), base if first is None else None)]
    return [line for each in instructions for line in lines.get(each.out.number, [each])]


def share_digits(instructions: Sequence[Instruction], number: int) -> list[Instruction]:
    """Let all rotations of one ciphertext use one set of transformed digits, made before the first of them.

    Args:
        instructions: the program, with folds joined.
        number: number of the next register.
    """
    times = Counter(each.left[0] for each in instructions if each.operation == ROTATE)
    lifted: dict[Register, Register] = {}
    shared: list[Instruction] = []
    for each in instructions:
        if each.operation == ROTATE and times[each.left[0]] > 1:
            source = each.left[0]
            if source not in lifted:
                # (rows + 1, rows, n) numbers, in units of a ciphertext's two rows.
                lifted[source] = Register(number + len(lifted), source.rows * (source.rows + 1) // 2)
                shared.append(Instruction(LIFT, lifted[source], (source,)))
            each = replace(each, operation=ROTATE_LIFTED, right=lifted[source])
        shared.append(each)
    return shared
