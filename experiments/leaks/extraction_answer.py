"""Attacks on one answer of a linear head: by its other coefficients, and by its second polynomial.

A linear head's answer is a product of polynomials. The scores are some of its coefficients; all others are sums of
weights and features too, and for a feature vector with one entry each is a single weight. The policy `open` leaves them
as they are. `hidden` masks them, and re-randomises the second polynomial, from which the weights could be divided out.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from experiments.leaks.extraction_attack import AffineHead
from experiments.leaks.extraction_ring import divide_in_ring
from he_infer.ckks.engines.seal import parse, primes, sealapi
from he_infer.ckks.layouts.last_layer import Tile
from he_infer.ckks.layouts.ring import to_coefficients

if TYPE_CHECKING:
    from he_infer.ckks.planning.plan import Plan


def find_tile(plan: "Plan") -> Tile | None:
    """The layout of a linear head in one ciphertext each way, or None where the plan has another form."""
    answer = plan.output
    if plan.stages or not isinstance(answer, Tile) or answer.sources > 1 or answer.targets > 1:
        return None
    return answer


def read_coefficients(
    plan: "Plan", tile: Tile, zero: NDArray[np.generic], one: NDArray[np.generic], height: float
) -> AffineHead:
    """The head, from the decrypted slots of two answers: to the zero vector, and to `height` in the first feature."""
    biases = to_coefficients(zero)[tile.read(0)[0]]
    coefficients = to_coefficients(one) - to_coefficients(zero)
    return AffineHead(_weights(plan, tile, coefficients / height), biases)


def divide_ciphertexts(
    plan: "Plan", tile: Tile, request: bytes, answer: bytes, biases: NDArray[np.float64]
) -> AffineHead:
    """The head's weights from the bytes of one request and its answer, without any key; biases as they were found."""
    prime = primes(plan.parameters)[0]
    sent, got = (parse(sealapi.Ciphertext(), plan.parameters, data) for data in (request, answer))
    size = plan.parameters.ring_size
    found = divide_in_ring(_second(got, size), _second(sent, size), prime)
    return AffineHead(_weights(plan, tile, found / plan.output_scale), biases)


def _weights(plan: "Plan", tile: Tile, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
    rows = coefficients[: tile.rows * tile.chunk].reshape(tile.rows, tile.chunk)[:, ::-1]
    return np.asarray(rows[: plan.classes, : plan.width])


def _second(ciphertext: Any, size: int) -> list[int]:
    """(N,) residues of the second polynomial modulo the first prime."""
    data, start = ciphertext.dyn_array(), ciphertext.coeff_modulus_size() * size
    return [data.at(start + index) for index in range(size)]
