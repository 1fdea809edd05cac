"""Bounds on a head's scores while every feature stays within the input bound.

A client checks decrypted scores against them: scores outside did not come from this head. numpy only.
"""

import numpy as np
from numpy.typing import NDArray

from he_infer.head.layers import Head, Polynomial

Array = NDArray[np.float64]
_SPECTRAL_LIMIT = 1024
"""Width of the largest hidden layer whose quadratic form is decomposed, which takes a second at this width."""


def bound_scores(head: Head, input_bound: float) -> Array:
    """Bound each score, (classes, 2): least and greatest value for features within +-`input_bound`.

    Interval arithmetic through the layers. Where the only activation has degree 2, the scores are quadratic forms of
    the features, and their eigenvalues give a second bound; the tighter of the two is taken.
    """
    low = np.full(head.width, -input_bound)
    high = -low
    activations = iter(head.activations)
    for index, layer in enumerate(head.linear):
        if index:
            low, high = _through_polynomial(next(activations), low, high)
        centre, radius = (low + high) / 2, (high - low) / 2
        middle, reach = layer.weight @ centre + layer.bias, np.abs(layer.weight) @ radius
        low, high = middle - reach, middle + reach
    ranges = np.stack([low, high], axis=1)
    if len(head.activations) == 1 and head.activations[0].degree == 2 and head.linear[0].outputs <= _SPECTRAL_LIMIT:
        other = _bound_quadratic(head, input_bound)
        ranges = np.stack([np.maximum(ranges[:, 0], other[:, 0]), np.minimum(ranges[:, 1], other[:, 1])], axis=1)
    return ranges


def _through_polynomial(polynomial: Polynomial, low: Array, high: Array) -> tuple[Array, Array]:
    """Bound a polynomial over intervals, by its values at the ends and at the extrema inside."""
    candidates = [polynomial(low), polynomial(high)]
    turning = np.polynomial.polynomial.polyroots(np.polynomial.polynomial.polyder(np.asarray(polynomial.coefficients)))
    for point in turning:
        if abs(point.imag) < 1e-9 * (1 + abs(point.real)):
            inside = np.clip(np.full_like(low, point.real), low, high)
            candidates.append(polynomial(inside))
    values = np.stack(candidates)
    return values.min(axis=0), values.max(axis=0)


def _bound_quadratic(head: Head, input_bound: float) -> Array:
    """Bound v . p(W x + b) + c over |x| <= B by eigenvalues of W' diag(v a2) W; |x|^2 is at most n B^2."""
    first, last = head.linear
    constant, slope, square = head.activations[0].coefficients
    energy = head.width * input_bound**2
    gram = first.weight @ first.weight.T
    values, vectors = np.linalg.eigh(gram)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    ranges = np.empty((last.outputs, 2))
    at_zero = constant + slope * first.bias + square * first.bias**2
    for index, row in enumerate(last.weight):
        # W' D W and root' D root have the same eigenvalues, up to zeros.
        eigenvalues = np.linalg.eigvalsh(root.T @ ((row * square)[:, None] * root))
        linear = first.weight.T @ (row * (slope + 2 * square * first.bias))
        reach = input_bound * np.abs(linear).sum()
        middle = float(row @ at_zero + last.bias[index])
        ranges[index] = (
            middle - reach + energy * min(0.0, float(eigenvalues[0])),
            middle + reach + energy * max(0.0, float(eigenvalues[-1])),
        )
    return ranges
