"""Numbers of options: finite fractions, and seeds that every generator of random numbers takes."""

import math

import typer

MOST_SEED = 2**32 - 1
"""Largest seed of numpy's, torch's and scikit-learn's generators."""


def require_finite(value: float | None) -> float | None:
    """Callback of an option: refuses NaN and infinity, which pass the bounds of an option.

    Raises:
        BadParameter: the value is one of them.
    """
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no finite number; expected one, such as 0.5.")
    return value
