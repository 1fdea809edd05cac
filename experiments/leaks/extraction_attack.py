"""Model extraction: recovers a head from a client's own queries. Numpy only.

Source: Tramer, Zhang, Juels, Reiter and Ristenpart, "Stealing Machine Learning Models via Prediction APIs" (USENIX
Security 2016): an affine function of d values is known after d + 1 queries. A quadratic one has (d + 1)(d + 2) / 2
coefficients and is known after as many queries.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class AffineHead:
    """Scores = weight x + bias; weight (classes, d), bias (classes,)."""

    weight: Matrix
    bias: Matrix

    def evaluate(self, x: Matrix) -> Matrix:
        """(n, d) -> (n, classes)."""
        return x @ self.weight.T + self.bias


@dataclass(frozen=True, eq=False)
class QuadraticHead:
    """Scores as polynomials of degree 2; coefficients (classes, (d + 1)(d + 2) / 2) of the monomials of x / scale."""

    coefficients: Matrix
    scale: float

    def evaluate(self, x: Matrix) -> Matrix:
        """(n, d) -> (n, classes)."""
        return expand_monomials(x / self.scale) @ self.coefficients.T


@dataclass(frozen=True)
class ExtractionRow:
    """Result of an attack after a number of queries."""

    attack: str
    """`scores`: chosen queries and their scores alone. `heights`: two features in one query, at two heights beyond the
    bound. `crafted key`: the second polynomial of an answer under a public part made to give it away."""
    head: str
    policy: str
    width: int
    unknowns: int
    """Number of coefficients of one score, which the queries have to determine."""
    queries: int
    limited: bool
    """True where the server's daily limit ended the attack."""
    weight_error: float | None
    """Relative error (Frobenius) of a linear head's weights; null for a quadratic form, which has many factorings."""
    score_error: float
    """Relative error of the scores of the test images."""
    label_agreement: float
    """Share of the test images that the stolen head gives the true head's label."""


def count_unknowns(width: int, degree: int) -> int:
    """Coefficients of one score that is a polynomial of degree 1 or 2 in `width` values."""
    return width + 1 if degree == 1 else (width + 1) * (width + 2) // 2


def expand_monomials(x: Matrix) -> Matrix:
    """(n, d) -> (n, (d + 1)(d + 2) / 2): 1, every x_i, and every x_i x_j with i <= j."""
    first, second = np.triu_indices(x.shape[1])
    return np.hstack([np.ones((len(x), 1)), x, x[:, first] * x[:, second]])


def make_affine_queries(width: int, bound: float, random: np.random.Generator) -> Matrix:
    """(width + 1, width): the origin, and orthogonal directions as long as the bound on a feature allows."""
    orthogonal, _ = np.linalg.qr(random.normal(size=(width, width)))
    directions = 0.999 * bound * orthogonal / np.abs(orthogonal).max(axis=1, keepdims=True)
    return np.vstack([np.zeros((1, width)), directions])


def make_quadratic_queries(width: int, bound: float, count: int, random: np.random.Generator) -> Matrix:
    """(count, width): points in general position within the bound."""
    return 0.999 * bound * random.uniform(-1, 1, (count, width))


def recover_affine(queries: Matrix, answers: Matrix) -> AffineHead:
    """The least-squares solution of smallest norm; exact up to the answers' error after width + 1 queries.

    Args:
        queries: (n, d), the origin first.
        answers: (n, classes).
    """
    bias = answers[0]
    weight = np.linalg.lstsq(queries[1:], answers[1:] - bias, rcond=None)[0].T if len(queries) > 1 else None
    if weight is None:
        weight = np.zeros((answers.shape[1], queries.shape[1]))
    return AffineHead(weight, bias)


def recover_quadratic(queries: Matrix, answers: Matrix, bound: float) -> QuadraticHead:
    """Fit polynomials of degree 2 to queries (n, d) within +-bound and answers (n, classes)."""
    rows = expand_monomials(queries / bound)
    return QuadraticHead(np.asarray(np.linalg.lstsq(rows, answers, rcond=1e-12)[0].T, dtype=np.float64), bound)


def compute_relative_error(found: Matrix, true: Matrix) -> float:
    """Frobenius norm of the difference, as a share of the truth's norm."""
    return float(np.linalg.norm(found - true) / np.linalg.norm(true))


def compute_label_agreement(found: Matrix, true: Matrix) -> float:
    """Share of the images (n, classes) that get the same label."""
    return float((found.argmax(axis=1) == true.argmax(axis=1)).mean())
