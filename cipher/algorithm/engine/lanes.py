"""Vectors of four 64-bit words for the kernels that numba compiles, where plain loops do not become good vector code.

LLVM has such vectors on every processor: where registers are shorter, it takes several.
"""

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, models, register_model

from cipher.algorithm.weights import ROTATION

LANES = 4
_WORDS = ir.VectorType(ir.IntType(64), LANES)
_HALVES = ir.VectorType(ir.IntType(32), 2 * LANES)
_LOW = ir.Constant(_WORDS, [0xFFFFFFFF] * LANES)
_HIGH = ir.Constant(_WORDS, [0xFFFFFFFF00000000] * LANES)


class _FourType(types.Type):
    pass


_FOUR = cast(Any, _FourType)("four 64-bit words")


register_model(_FourType)(lambda manager, kind: cast(Any, models.PrimitiveModel)(manager, kind, _WORDS))


def _operation(emit: Callable[..., Any], *arguments: Any) -> Any:
    """An operation of kernels on vectors: `emit` builds it from values of these types."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return emit(builder, *values)

    if len(arguments) == 1:

        def one(typing: Any, x: Any) -> Any:
            return _FOUR(*arguments), generate

        return intrinsic(one)

    def two(typing: Any, x: Any, y: Any) -> Any:
        return _FOUR(*arguments), generate

    return intrinsic(two)


def _emit_repeat(builder: Any, x: Any) -> Any:
    first = builder.insert_element(ir.Constant(_WORDS, ir.Undefined), x, ir.Constant(ir.IntType(32), 0))
    places = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(_WORDS, ir.Undefined), places)


def _emit_halves(builder: Any, x: Any, y: Any) -> Any:
    product = builder.mul(builder.bitcast(x, _HALVES), builder.bitcast(y, _HALVES))
    return builder.bitcast(product, _WORDS)


def _emit_half_sum(builder: Any, x: Any, y: Any) -> Any:
    return builder.bitcast(builder.add(builder.bitcast(x, _HALVES), builder.bitcast(y, _HALVES)), _WORDS)


def _emit_raised(builder: Any, x: Any) -> Any:
    return builder.and_(builder.add(x, builder.shl(x, _constant(_WORDS, 32))), _HIGH)


def _constant(kind: Any, count: int) -> Any:
    return ir.Constant(kind, [count] * LANES if kind == _WORDS else count)


def _activate(typing: Any, x: Any) -> Any:
    """The network's activation of one word or four: tent . rotate . logistic."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        (x,) = values

        def up(y: Any, bits: int) -> Any:
            return builder.shl(y, _constant(x.type, bits))

        def down(y: Any, bits: int) -> Any:
            return builder.lshr(y, _constant(x.type, bits))

        low, high = builder.and_(x, _constant(x.type, 0xFFFFFFFF)), down(x, 32)
        # x (2 x + 1) mod 2^64, where vector units multiply 32 bits by 32.
        x = builder.add(builder.add(up(builder.mul(low, low), 1), up(builder.mul(low, high), 34)), x)
        x = builder.or_(up(x, ROTATION), down(x, 64 - ROTATION))
        return builder.xor(up(x, 1), builder.ashr(x, _constant(x.type, 63)))

    return x(x), generate


def _place(context: Any, builder: Any, array_type: Any, array: Any, at: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), _WORDS.as_pointer())


repeat = _operation(_emit_repeat, types.uint64)
"""Four times one word."""
add = _operation(lambda builder, x, y: builder.add(x, y), _FOUR, _FOUR)
multiply_low = _operation(lambda builder, x, y: builder.mul(builder.and_(x, _LOW), builder.and_(y, _LOW)), _FOUR, _FOUR)
"""Products of the low halves, 64 bits."""
multiply_halves = _operation(_emit_halves, _FOUR, _FOUR)
"""Low half times low half and high half times high half, each mod 2^32."""
add_halves = _operation(_emit_half_sum, _FOUR, _FOUR)
"""Sums of low halves and of high halves, each mod 2^32."""
raise_halves = _operation(_emit_raised, _FOUR)
"""The sum of both halves mod 2^32, as the high half; the low one is 0."""


def _load(typing: Any, words: Any, at: Any) -> Any:
    """The four words of an array (C order, one dimension) from a place on."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.load(_place(context, builder, signature.args[0], *values), align=8)

    return _FOUR(words, types.intp), generate


def _store(typing: Any, words: Any, at: Any, four: Any) -> Any:
    """Write four words into an array from a place on."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        array, place, four = values
        builder.store(four, _place(context, builder, signature.args[0], array, place), align=8)
        return context.get_dummy_value()

    return types.void(words, types.intp, _FOUR), generate


activate: Any = intrinsic(_activate)
load: Any = intrinsic(_load)
store: Any = intrinsic(_store)
