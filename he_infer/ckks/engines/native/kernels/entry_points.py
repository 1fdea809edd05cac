"""The compiled entry points: loaded from a folder of machine code, or compiled into it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
from numba import types as _types

from he_infer.ckks.engines.native.kernels import answers, drawing, execution, packing, products
from he_infer.ckks.engines.native.kernels.compiling import OPTIONS
from he_infer.ckks.engines.native.kernels.ring import Ring
from he_infer.ckks.engines.native.kernels.scratch import Scratch

types: Any = _types
_doubles, _matrix, _cube = types.float64[::1], types.float64[:, ::1], types.float64[:, :, ::1]
_words, _integers = types.uint64[::1], types.int64[::1]
_bytes = types.uint8[::1]
_given = types.Array(types.uint8, 1, "C", readonly=True)
_ring = types.NamedTuple(
    [*(_doubles,) * 2, *(_words,) * 2, *(_matrix,) * 9, _cube],
    Ring,
)
_scratch = types.NamedUniTuple(_doubles, len(Scratch._fields), Scratch)
_offset = types.int64


@dataclass(frozen=True)
class Kernels:
    """Compiled functions, documented at the functions of the same name. All release the GIL."""

    execute: Callable[..., None]
    open_seeded: Callable[..., bool]
    add_block: Callable[..., None]
    fill_zeros: Callable[..., bool]
    write_answers: Callable[..., bool]


def compile_kernels(*, cache: bool) -> Kernels:
    """Compile every entry point; with `cache`, through numba's cache as it is currently set up."""
    return Kernels(
        execute=_compiled(
            execution.execute,
            types.void(
                types.int64[:, ::1],
                types.int64[:, ::1],
                _doubles,
                _doubles,
                _doubles,
                _doubles,
                _doubles,
                types.int32[:, ::1],
                _offset,
                _ring,
                _scratch,
                types.boolean,
            ),
            cache,
        ),
        open_seeded=_compiled(
            packing.open_seeded,
            types.boolean(
                _given,
                _offset,
                _offset,
                _integers,
                _given,
                _offset,
                _offset,
                _offset,
                _offset,
                _doubles,
                _offset,
                _offset,
                _words,
                _ring,
            ),
            cache,
        ),
        add_block=_compiled(
            products.add_block,
            types.void(
                _doubles,
                _offset,
                _offset,
                _offset,
                _matrix,
                _offset,
                _doubles,
                _integers,
                _doubles,
                types.float64,
                types.float64,
                types.float64,
            ),
            cache,
        ),
        fill_zeros=_compiled(
            drawing.fill_zeros,
            types.boolean(_given, _offset, _offset, _doubles),
            cache,
        ),
        write_answers=_compiled(
            answers.write_answers,
            types.boolean(
                _doubles,
                _integers,
                _doubles,
                _offset,
                _doubles,
                _given,
                _integers,
                _integers,
                _integers,
                _words,
                _offset,
                types.float64,
                _bytes,
                _integers,
                _offset,
                _ring,
                _scratch,
                _words,
            ),
            cache,
        ),
    )


def _compiled(function: Any, signature: Any, cache: bool) -> Any:
    compiled: Any = numba.njit
    return compiled(signature, cache=cache, **OPTIONS)(function)
