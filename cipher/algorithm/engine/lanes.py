"""Vectors for the kernels that numba compiles, where plain loops do not become good vector code.

LLVM has such vectors on every processor: where registers are shorter, it takes several.

Kernels give the places in memory as addresses. Handing an array to an inner function would count references to it, with
atomic operations, for each row of a tile and each node of a sheet: half of the time. Whoever takes an array's address
keeps the array until the kernel returns, as Python does with a kernel's arguments.
"""

from collections.abc import Callable
from typing import Any, cast

from llvmlite import binding, ir
from numba.core import types
from numba.extending import intrinsic, models, register_model

from cipher.algorithm.weights import ROTATION

WHOLE_PRODUCTS = bool(binding.get_host_cpu_features().get("avx512dq"))
"""Whether vector units multiply 64 bits by 64; others multiply 32 by 32."""
LANES = 8 if WHOLE_PRODUCTS else 4
SPAN = 32
"""Bytes that are moved at a time."""
_WORDS = ir.VectorType(ir.IntType(64), LANES)
_HALVES = ir.VectorType(ir.IntType(32), 2 * LANES)
_LOW = ir.Constant(_WORDS, [0xFFFFFFFF] * LANES)
_HIGH = ir.Constant(_WORDS, [0xFFFFFFFF00000000] * LANES)
_NUMBER = ir.IntType(32)


class _LanesType(types.Type):
    pass


_LANES = cast(Any, _LanesType)("lanes of 64-bit words")


register_model(_LanesType)(lambda manager, kind: cast(Any, models.PrimitiveModel)(manager, kind, _WORDS))


def _operation(emit: Callable[..., Any], *arguments: Any, gives: Any = _LANES) -> Any:
    """An operation of kernels: `emit` builds it from values of these types."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        made = emit(builder, *values)
        return context.get_dummy_value() if gives is types.void else made

    if len(arguments) == 1:

        def one(typing: Any, x: Any) -> Any:
            return gives(*arguments), generate

        return intrinsic(one)

    def two(typing: Any, x: Any, y: Any) -> Any:
        return gives(*arguments), generate

    return intrinsic(two)


def _repeat(builder: Any, x: Any, kind: Any) -> Any:
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), x, ir.Constant(_NUMBER, 0))
    places = ir.Constant(ir.VectorType(_NUMBER, kind.count), [0] * kind.count)
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), places)


def _emit_low(builder: Any, x: Any, y: Any) -> Any:
    if WHOLE_PRODUCTS:
        return builder.mul(x, y)
    return builder.mul(builder.and_(x, _LOW), builder.and_(y, _LOW))


def _emit_halves(builder: Any, x: Any, y: Any) -> Any:
    if WHOLE_PRODUCTS:
        return ir.Constant(_WORDS, [0] * LANES)
    product = builder.mul(builder.bitcast(x, _HALVES), builder.bitcast(y, _HALVES))
    return builder.bitcast(product, _WORDS)


def _emit_half_sum(builder: Any, x: Any, y: Any) -> Any:
    return builder.bitcast(builder.add(builder.bitcast(x, _HALVES), builder.bitcast(y, _HALVES)), _WORDS)


def _emit_raised(builder: Any, x: Any) -> Any:
    return builder.and_(builder.add(x, builder.shl(x, _constant(_WORDS, 32))), _HIGH)


def _emit_load(builder: Any, address: Any) -> Any:
    return builder.load(builder.inttoptr(address, _WORDS.as_pointer()), align=8)


def _emit_load_repeated(builder: Any, address: Any) -> Any:
    return _repeat(builder, builder.load(builder.inttoptr(address, _WORDS.element.as_pointer())), _WORDS)


def _emit_ramp(builder: Any, begin: Any, step: Any) -> Any:
    steps = builder.mul(_repeat(builder, step, _WORDS), ir.Constant(_WORDS, list(range(LANES))))
    return builder.add(_repeat(builder, begin, _WORDS), steps)


def _emit_exchanged(builder: Any, x: Any) -> Any:
    return builder.or_(builder.shl(x, _constant(_WORDS, 32)), builder.lshr(x, _constant(_WORDS, 32)))


def _emit_store(builder: Any, address: Any, x: Any) -> None:
    builder.store(x, builder.inttoptr(address, _WORDS.as_pointer()), align=8)


def _emit_fetch(builder: Any, address: Any) -> None:
    place = ir.IntType(8).as_pointer()
    signature = ir.FunctionType(ir.VoidType(), [place, _NUMBER, _NUMBER, _NUMBER])
    reading, near, data = (ir.Constant(_NUMBER, number) for number in (0, 3, 1))
    function = builder.module.declare_intrinsic("llvm.prefetch", [place], signature)
    builder.call(function, [builder.inttoptr(address, place), reading, near, data])


def _constant(kind: Any, count: int) -> Any:
    return ir.Constant(kind, [count] * kind.count if isinstance(kind, ir.VectorType) else count)


def _activate(typing: Any, x: Any) -> Any:
    """The network's activation of one word or of lanes: tent . rotate . logistic."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        (x,) = values

        def up(y: Any, bits: int) -> Any:
            return builder.shl(y, _constant(x.type, bits))

        def down(y: Any, bits: int) -> Any:
            return builder.lshr(y, _constant(x.type, bits))

        # x (2 x + 1) mod 2^64
        if WHOLE_PRODUCTS:
            x = builder.mul(x, builder.or_(up(x, 1), _constant(x.type, 1)))
        else:
            low, high = builder.and_(x, _constant(x.type, 0xFFFFFFFF)), down(x, 32)
            x = builder.add(builder.add(up(builder.mul(low, low), 1), up(builder.mul(low, high), 34)), x)
        x = builder.or_(up(x, ROTATION), down(x, 64 - ROTATION))
        return builder.xor(up(x, 1), builder.ashr(x, _constant(x.type, 63)))

    return x(x), generate


def _copy_turned(typing: Any, target: Any, source: Any, bits: Any) -> Any:
    """Copy `SPAN` bytes from an address to another, each word of `bits`' type turned to the left by so many bits."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        target, source, turn = values
        word = ir.IntType(bits.bitwidth)
        kind = ir.VectorType(word, 8 * SPAN // bits.bitwidth)
        most = ir.Constant(word, bits.bitwidth - 1)
        up = _repeat(builder, builder.and_(turn, most), kind)
        down = _repeat(builder, builder.and_(builder.neg(turn), most), kind)
        words = builder.load(builder.inttoptr(source, kind.as_pointer()), align=1)
        turned = builder.or_(builder.shl(words, up), builder.lshr(words, down))
        builder.store(turned, builder.inttoptr(target, kind.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, bits), generate


repeat = _operation(lambda builder, x: _repeat(builder, x, _WORDS), types.uint64)
"""One word in all lanes."""
ramp = _operation(_emit_ramp, types.uint64, types.uint64)
"""A word, and a step more in each further lane."""
exclusive_or = _operation(lambda builder, x, y: builder.xor(x, y), _LANES, _LANES)
exchange_halves = _operation(_emit_exchanged, _LANES)
add = _operation(lambda builder, x, y: builder.add(x, y), _LANES, _LANES)
multiply_low = _operation(_emit_low, _LANES, _LANES)
"""Products of the low halves, 64 bits; whole products where vector units give them."""
multiply_halves = _operation(_emit_halves, _LANES, _LANES)
"""Low half times low half and high half times high half, each mod 2^32; 0 where `multiply_low` is the whole product."""
add_halves = _operation(_emit_half_sum, _LANES, _LANES)
"""Sums of low halves and of high halves, each mod 2^32."""
raise_halves = _operation(_emit_raised, _LANES)
"""The sum of both halves mod 2^32, as the high half; the low one is 0."""
load = _operation(_emit_load, types.intp)
"""The words from an address on."""
load_repeated = _operation(_emit_load_repeated, types.intp)
"""The word at an address, in all lanes."""
store = _operation(_emit_store, types.intp, _LANES, gives=types.void)
"""Write words from an address on."""
fetch = _operation(_emit_fetch, types.intp, gives=types.void)
"""Have the memory at an address brought closer; nothing waits for it."""
activate: Any = intrinsic(_activate)
copy_turned: Any = intrinsic(_copy_turned)
