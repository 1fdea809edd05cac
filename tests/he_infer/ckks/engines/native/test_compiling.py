"""Helpers are compiled once for the types of their arguments, however these are written."""

from typing import Any

import numba
import numpy as np

from he_infer.ckks.engines.native.kernels.compiling import OPTIONS, helper


def test_helper_is_compiled_once_for_numbers_and_variables() -> None:
    @helper
    def place(values: Any, offset: int, step: int) -> float:
        return float(values[offset + step])

    compiled: Any = numba.njit

    @compiled(**OPTIONS)
    def kernel(values: Any, offset: int) -> float:
        return place(values, 0, 1) + place(values, offset, 2) + place(values, offset, step=offset)

    assert kernel(np.arange(4.0), 1) == 1 + 3 + 2
    dispatcher: Any = place
    assert len(dispatcher.signatures) == 1
