"""Vectors of eight numbers as numba values: eight float64 (`F64x8`) or eight uint64 (`U64x8`).

LLVM makes one AVX-512 register, two AVX2 or four NEON registers of each. Kernels written with these values do not
depend on LLVM's loop vectoriser, which gives up on loops of this kind (run-time alias checks, gathers).

Indices are flat element indices into contiguous arrays and are not checked: callers check sizes before a kernel runs.
"""

import operator
from collections.abc import Callable, Iterable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.core.datamodel.registry import register_default
from numba.extending import intrinsic as _intrinsic
from numba.extending import overload


def intrinsic(function: Callable[..., Any]) -> Any:
    """Apply numba's decorator; to Python's type checkers the result is untyped."""
    made: Any = _intrinsic
    return made(function)


WIDTH = 8

_DOUBLES = ir.VectorType(ir.DoubleType(), WIDTH)
_WORDS = ir.VectorType(ir.IntType(64), WIDTH)
_INDICES = ir.VectorType(ir.IntType(32), WIDTH)
_INDEX = ir.IntType(32)
_BYTE_ALIGNED = 1
_ELEMENT_ALIGNED = 8


class F64x8(types.Type):
    """numba's type of eight float64."""

    def __init__(self) -> None:
        super().__init__(name="f64x8")


class U64x8(types.Type):
    """numba's type of eight uint64."""

    def __init__(self) -> None:
        super().__init__(name="u64x8")


_doubles_type: Any = F64x8
_words_type: Any = U64x8
f64x8, u64x8 = _doubles_type(), _words_type()


@register_default(F64x8)
class _DoublesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _DOUBLES)  # type: ignore[no-untyped-call]  # numba does not describe it


@register_default(U64x8)
class _WordsModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _WORDS)  # type: ignore[no-untyped-call]  # numba does not describe it


_Generator = Callable[[Any, Any, Any, Any], Any]


def _data(context: Any, builder: Any, array_type: Any, array: Any) -> Any:
    return context.make_array(array_type)(context, builder, array).data


def _element(context: Any, builder: Any, sig: Any, args: Any, to: Any) -> Any:
    pointer = builder.gep(_data(context, builder, sig.args[0], args[0]), [args[1]], inbounds=True)
    return builder.bitcast(pointer, to.as_pointer())


def _splat(builder: Any, scalar: Any, vector: Any) -> Any:
    empty = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(empty, scalar, ir.Constant(_INDEX, 0))
    return builder.shuffle_vector(first, empty, ir.Constant(_INDICES, [0] * WIDTH))


def _call(builder: Any, name: str, vector: Any, args: Any) -> Any:
    kind = ir.FunctionType(vector, [vector] * len(args))
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(function, args)


def _loader(value: Any, vector: Any) -> Any:
    def load(typingctx: Any, array: Any, index: Any) -> tuple[Any, _Generator]:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            loaded = builder.load(_element(context, builder, sig, args, vector))
            loaded.align = _ELEMENT_ALIGNED
            return loaded

        return value(array, types.intp), generate

    return intrinsic(load)


def _storer(value: Any, vector: Any) -> Any:
    def store(typingctx: Any, array: Any, index: Any, lanes: Any) -> tuple[Any, _Generator]:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            stored = builder.store(args[2], _element(context, builder, sig, args, vector))
            stored.align = _ELEMENT_ALIGNED
            return context.get_dummy_value()

        return types.void(array, types.intp, value), generate

    return intrinsic(store)


def _splatter(value: Any, vector: Any, scalar: Any) -> Any:
    def splat(typingctx: Any, number: Any) -> tuple[Any, _Generator]:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return _splat(builder, args[0], vector)

        return value(scalar), generate

    return intrinsic(splat)


load, store, splat = _loader(f64x8, _DOUBLES), _storer(f64x8, _DOUBLES), _splatter(f64x8, _DOUBLES, types.float64)
load_words, store_words = _loader(u64x8, _WORDS), _storer(u64x8, _WORDS)
splat_word = _splatter(u64x8, _WORDS, types.uint64)


def _binary(operation: Callable[..., Any], value: Any, method: str) -> None:
    """Define a Python operator for two vectors of one type."""

    def combine(typingctx: Any, left: Any, right: Any) -> tuple[Any, _Generator]:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return getattr(builder, method)(*args)

        return value(value, value), generate

    made = intrinsic(combine)

    def choose(left: Any, right: Any) -> Any:
        def apply(left: Any, right: Any) -> Any:
            return made(left, right)

        return apply if left is value and right is value else None

    overload(operation)(choose)


for _operation, _method in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul")):
    _binary(_operation, f64x8, _method)
for _operation, _method in (
    (operator.add, "add"),
    (operator.sub, "sub"),
    (operator.xor, "xor"),
    (operator.and_, "and_"),
    (operator.or_, "or_"),
    (operator.lshift, "shl"),
    (operator.rshift, "lshr"),
):
    _binary(_operation, u64x8, _method)


@intrinsic
def multiply_subtract(typingctx: Any, a: Any, b: Any, c: Any) -> tuple[Any, _Generator]:
    """A b - c, rounded once."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _call(builder, "llvm.fma.v8f64", _DOUBLES, [args[0], args[1], builder.fneg(args[2])])

    return f64x8(f64x8, f64x8, f64x8), generate


@intrinsic
def add_product(typingctx: Any, c: Any, a: Any, b: Any) -> tuple[Any, _Generator]:
    """C + a b, rounded once."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _call(builder, "llvm.fma.v8f64", _DOUBLES, [args[1], args[2], args[0]])

    return f64x8(f64x8, f64x8, f64x8), generate


@intrinsic
def subtract_product(typingctx: Any, c: Any, a: Any, b: Any) -> tuple[Any, _Generator]:
    """C - a b, rounded once."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _call(builder, "llvm.fma.v8f64", _DOUBLES, [builder.fneg(args[1]), args[2], args[0]])

    return f64x8(f64x8, f64x8, f64x8), generate


@intrinsic
def nearest(typingctx: Any, a: Any) -> tuple[Any, _Generator]:
    """Round to the nearest integers, halves to even."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _call(builder, "llvm.rint.v8f64", _DOUBLES, list(args))

    return f64x8(f64x8), generate


def _shuffled(mask: Iterable[int]) -> Any:
    chosen = list(mask)

    def shuffle(typingctx: Any, a: Any, b: Any) -> tuple[Any, _Generator]:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.shuffle_vector(args[0], args[1], ir.Constant(_INDICES, chosen))

        return f64x8(f64x8, f64x8), generate

    return intrinsic(shuffle)


low_fours = _shuffled((0, 1, 2, 3, 8, 9, 10, 11))
high_fours = _shuffled((4, 5, 6, 7, 12, 13, 14, 15))
low_twos = _shuffled((0, 1, 8, 9, 4, 5, 12, 13))
high_twos = _shuffled((2, 3, 10, 11, 6, 7, 14, 15))
low_ones = _shuffled((0, 8, 2, 10, 4, 12, 6, 14))
high_ones = _shuffled((1, 9, 3, 11, 5, 13, 7, 15))


@intrinsic
def gather(typingctx: Any, array: Any, offset: Any, indices: Any, at: Any) -> tuple[Any, _Generator]:
    """array[offset + indices[at + k]] for k from 0 to 7; `indices` is an int32 array."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = builder.gep(_data(context, builder, sig.args[0], args[0]), [args[1]], inbounds=True)
        places = _data(context, builder, sig.args[2], args[2])
        lanes = ir.Constant(_DOUBLES, ir.Undefined)
        for lane in range(WIDTH):
            place = builder.gep(places, [builder.add(args[3], ir.Constant(args[3].type, lane))], inbounds=True)
            index = builder.zext(builder.load(place), ir.IntType(64))
            number = builder.load(builder.gep(data, [index], inbounds=True))
            lanes = builder.insert_element(lanes, number, ir.Constant(_INDEX, lane))
        return lanes

    return f64x8(array, types.intp, indices, types.intp), generate


def _rotated(bits: int) -> Any:
    def rotate(typingctx: Any, a: Any) -> tuple[Any, _Generator]:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            by = ir.Constant(_WORDS, [bits] * WIDTH)
            return _call(builder, "llvm.fshr.v8i64", _WORDS, [args[0], args[0], by])

        return u64x8(u64x8), generate

    return intrinsic(rotate)


rotate_32, rotate_24, rotate_16, rotate_63 = _rotated(32), _rotated(24), _rotated(16), _rotated(63)


@intrinsic
def high_halves(typingctx: Any, a: Any) -> tuple[Any, _Generator]:
    """The upper 32 bits of each word."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.lshr(args[0], ir.Constant(_WORDS, [32] * WIDTH))

    return u64x8(u64x8), generate


@intrinsic
def to_doubles(typingctx: Any, a: Any) -> tuple[Any, _Generator]:
    """Words as float64: exact below 2^53."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.uitofp(args[0], _DOUBLES)

    return f64x8(u64x8), generate


_MANTISSA = 1 << 52
_TWO_52 = float(_MANTISSA)


@intrinsic
def short_to_doubles(typingctx: Any, a: Any) -> tuple[Any, _Generator]:
    """Words below 2^52 as float64: two instructions, where a conversion of any word takes several."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.or_(args[0], ir.Constant(_WORDS, [0x433 << 52] * WIDTH))
        return builder.fsub(builder.bitcast(bits, _DOUBLES), ir.Constant(_DOUBLES, [_TWO_52] * WIDTH))

    return f64x8(u64x8), generate


@intrinsic
def doubles_to_short(typingctx: Any, a: Any) -> tuple[Any, _Generator]:
    """Whole numbers of 0 .. 2^52 - 1 as words."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.bitcast(builder.fadd(args[0], ir.Constant(_DOUBLES, [_TWO_52] * WIDTH)), _WORDS)
        return builder.and_(bits, ir.Constant(_WORDS, [_MANTISSA - 1] * WIDTH))

    return u64x8(f64x8), generate


@intrinsic
def positive(typingctx: Any, a: Any, p: Any) -> tuple[Any, _Generator]:
    """A where it is not negative, else a + p."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        zero = ir.Constant(_DOUBLES, [0.0] * WIDTH)
        return builder.fadd(args[0], builder.select(builder.fcmp_ordered("<", args[0], zero), args[1], zero))

    return f64x8(f64x8, f64x8), generate


@intrinsic
def join_bits(typingctx: Any, a: Any) -> tuple[Any, _Generator]:
    """The bitwise or of all eight words."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        name, word = "llvm.vector.reduce.or.v8i64", ir.IntType(64)
        kind = ir.FunctionType(word, [_WORDS])
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        return builder.call(function, list(args))

    return types.uint64(u64x8), generate


@intrinsic
def any_at_least(typingctx: Any, a: Any, b: Any) -> tuple[Any, _Generator]:
    """Tell whether any word of a is at least b's, compared as unsigned numbers."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lanes = builder.bitcast(builder.icmp_unsigned(">=", args[0], args[1]), ir.IntType(WIDTH))
        return builder.icmp_unsigned("!=", lanes, ir.Constant(ir.IntType(WIDTH), 0))

    return types.boolean(u64x8, u64x8), generate


def _byte_loader(bits: int) -> Any:
    """Make a loader of eight little-endian numbers of 8, 16, 32 or 64 bits at a byte of a uint8 array."""
    narrow = ir.VectorType(ir.IntType(bits), WIDTH)

    def load_bytes(typingctx: Any, array: Any, byte: Any) -> tuple[Any, _Generator]:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            loaded = builder.load(_element(context, builder, sig, args, narrow))
            loaded.align = _BYTE_ALIGNED
            return builder.zext(loaded, _WORDS)

        return u64x8(array, types.intp), generate

    return intrinsic(load_bytes)


def _byte_storer(bits: int) -> Any:
    """Make the inverse of `_byte_loader`: the lowest bits of eight words."""
    narrow = ir.VectorType(ir.IntType(bits), WIDTH)

    def store_bytes(typingctx: Any, array: Any, byte: Any, words: Any) -> tuple[Any, _Generator]:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            stored = builder.store(builder.trunc(args[2], narrow), _element(context, builder, sig, args[:2], narrow))
            stored.align = _BYTE_ALIGNED
            return context.get_dummy_value()

        return types.void(array, types.intp, u64x8), generate

    return intrinsic(store_bytes)


load_8, load_16, load_32, load_64 = (_byte_loader(bits) for bits in (8, 16, 32, 64))
store_8, store_16, store_32 = (_byte_storer(bits) for bits in (8, 16, 32))
