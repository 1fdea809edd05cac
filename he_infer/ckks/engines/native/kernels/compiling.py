"""Decorators that mark native functions for numba: helpers are compiled only into the kernels that call them."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numba

_P = ParamSpec("_P")
_R = TypeVar("_R")

# "numpy": a division by zero gives infinity, without a branch. Nothing here reassociates sums or products ("fastmath"):
# the reductions depend on every rounding.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


def helper(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Mark a function that kernels call."""
    compiled: Callable[_P, _R] = numba.njit(**OPTIONS)(function)
    return compiled


def inlined(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Mark a short function that is inlined into its callers."""
    compiled: Callable[_P, _R] = numba.njit(forceinline=True, **OPTIONS)(function)
    return compiled


Lanes = Any
"""Eight numbers, see `lanes`; numba has no type information for Python's checkers."""
