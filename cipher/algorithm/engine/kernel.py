"""Loops compiled by numba. A cut or missing cache on disk is rebuilt and never ends the work.

The machine code is kept beside the module, or in the user's cache folder; where neither can be written, it is compiled
in each process.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numba

_P = ParamSpec("_P")
_R = TypeVar("_R")

_LOG = logging.getLogger(__name__)


def inner(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile a function that kernels call, for the types of each call."""
    return cast(Callable[_P, _R], _jit(function, cache=False))


def kernel(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile a function that Python calls; without the interpreter's lock, so that threads run side by side."""
    return cast(Callable[_P, _R], _Kernel(function))


class _Kernel:
    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._compiled = _jit(function, cache=True)
        self._rebuilt = False

    def __call__(self, *arguments: Any) -> Any:
        if self._rebuilt:
            return self._compiled(*arguments)
        try:
            return self._compiled(*arguments)
        except Exception as error:  # a cut cache is unpickled, and fails in whatever way its bytes lead it to
            # Kernels themselves raise nothing, so no loop has run yet and all can be tried again.
            self._rebuild(error)
            return self._compiled(*arguments)

    def _rebuild(self, error: Exception) -> None:
        self._rebuilt = True
        folder = getattr(self._compiled.stats, "cache_path", None)
        if folder is None:
            raise error
        stem = Path(self._function.__code__.co_filename).stem
        for path in [*Path(folder).glob(f"{stem}.*.nbi"), *Path(folder).glob(f"{stem}.*.nbc")]:
            with suppress(OSError):
                path.unlink()
        left = list(Path(folder).glob(f"{stem}.*.nbi"))
        self._compiled = _jit(self._function, cache=not left)
        what = "cannot be removed, and is not used" if left else "is made again"
        _LOG.warning("The cache of compiled code in %s is damaged (%s) and %s.", folder, type(error).__name__, what)


def _jit(function: Callable[..., Any], *, cache: bool) -> Any:
    try:
        return numba.njit(cache=cache, nogil=True, boundscheck=False)(function)
    except RuntimeError:  # numba found no folder that it could write
        return numba.njit(nogil=True, boundscheck=False)(function)
