"""Keeps the inputs of a head's polynomials within the range that they were made for."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from he_infer.head.convolution import Convolution
from he_infer.head.layers import SQUARE, Head, Linear, Polynomial
from models.errors import HeadError

_ROWS = 4096


@dataclass(frozen=True)
class Range:
    """Inputs of one polynomial layer."""

    layer: int
    """Its index in the head."""
    allowed: float
    reached: float
    """The largest absolute input on the data measured."""


def inputs(head: Head, layer: int, features: NDArray[Any]) -> NDArray[np.float64]:
    """Inputs (N, values) of a layer."""
    return head.evaluate_layers(features)[layer - 1] if layer else np.asarray(features, dtype=np.float64)


def _blocks(head: Head, layer: int, features: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    """Inputs of a layer for blocks of rows, so that memory does not grow with their number."""
    return (inputs(head, layer, features[start : start + _ROWS]) for start in range(0, len(features), _ROWS))


def root_mean_squares(values: NDArray[np.float64]) -> tuple[float, ...]:
    """Root mean square of each column of (N, values), to six digits: enough for a prediction, and short in a file."""
    return _to_digits((values**2).mean(axis=0))


def _to_digits(squares: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(f"{size:.6g}") for size in np.sqrt(squares))


def _root_mean_squares(head: Head, layer: int, features: NDArray[Any]) -> tuple[float, ...]:
    """Root mean square of each input of a layer, as `root_mean_squares`."""
    total = sum((block**2).sum(axis=0) for block in _blocks(head, layer, features))
    return _to_digits(np.asarray(total) / len(features))


def measured(head: Head, features: NDArray[Any]) -> Head:
    """The same head, with the size of each polynomial's inputs for these features (N, width)."""
    layers = list(head.layers)
    for index, layer in enumerate(head.layers):
        if isinstance(layer, Polynomial):
            layers[index] = replace(layer, rms=_root_mean_squares(head, index, features))
    return Head(tuple(layers))


def into_range(head: Head, features: NDArray[Any], allowed: float, *, slack: float = 1.5) -> tuple[Head, list[Range]]:
    """Check each polynomial's inputs on some features; bring the inputs of x^2 exactly into +-allowed; note their size.

    For a pure square the rescaling is free: (s z)^2 = s^2 z^2, so the next layer's column takes up 1 / s^2.
    Each polynomial of the head returned has the root mean square of its inputs as `rms`.

    Raises:
        HeadError: a polynomial other than x^2 meets inputs beyond `slack` times what is allowed.
    """
    layers = list(head.layers)
    found = []
    for index, layer in enumerate(head.layers):
        if not isinstance(layer, Polynomial):
            continue
        before, after = layers[index - 1], layers[index + 1]
        largest = np.max([np.abs(block).max(axis=0) for block in _blocks(head, index, features)], axis=0)
        if layer.coefficients == SQUARE and not isinstance(before, Polynomial) and isinstance(after, Linear):
            # A convolution's pixels share their channel's weights, and so its factor.
            pixels = before.outputs // len(before.bias) if isinstance(before, Convolution) else 1
            channels = largest.reshape(-1, pixels).max(axis=1)
            factors = np.minimum(1.0, allowed / np.maximum(channels, 1e-12))
            scale = np.repeat(factors, pixels)
            layers[index - 1] = before.scaled(factors)
            layers[index + 1] = Linear(after.weight / scale**2, after.bias)
            largest = largest * scale
        elif largest.max() > slack * allowed:
            raise HeadError(
                f"Inputs of the polynomial in layer {index} reach {largest.max():.2f}, beyond {slack:g} times the "
                f"{allowed:g} that it was made for. Raise the training's penalty, or fit it on a wider range."
            )
        found.append(Range(index, allowed, float(largest.max())))
    return measured(Head(tuple(layers)), features), found


def share_outside(head: Head, features: NDArray[Any], allowed: float) -> float:
    """Share of the samples with at least one polynomial input beyond +-allowed; 0 for a linear head."""
    outside = np.zeros(len(features), dtype=bool)
    for index, layer in enumerate(head.layers):
        if isinstance(layer, Polynomial):
            outside |= (np.abs(inputs(head, index, features)) > allowed).any(axis=1)
    return float(outside.mean()) if len(outside) else 0.0
