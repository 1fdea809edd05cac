"""Decorators that mark native functions for numba: helpers are compiled only into the kernels that call them."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numba
from numba import types as _types

_P = ParamSpec("_P")
_R = TypeVar("_R")

types: Any = _types
# "numpy": a division by zero gives infinity, without a branch. Nothing here reassociates sums or products ("fastmath"):
# the reductions depend on every rounding.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


def helper(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Mark a function that kernels call.

    numba would compile it once more for every argument that is written as a number, such as an offset of 0.
    """
    compiled: Any = numba.njit(**OPTIONS)(function)
    find_template = compiled.get_call_template

    def find_plain_template(args: tuple[Any, ...], kws: dict[str, Any]) -> Any:
        return find_template(
            tuple(map(types.unliteral, args)), {name: types.unliteral(each) for name, each in kws.items()}
        )

    compiled.get_call_template = find_plain_template
    marked: Callable[_P, _R] = compiled
    return marked


def inlined(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Mark a short function that is inlined into its callers."""
    compiled: Callable[_P, _R] = numba.njit(forceinline=True, **OPTIONS)(function)
    return compiled


Lanes = Any
"""Eight numbers, see `lanes`; numba has no type information for Python's checkers."""
