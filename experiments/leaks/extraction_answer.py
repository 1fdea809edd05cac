"""Attacks on a linear head's answer with a changed client: features beyond the bound, and crafted keys.

- `heights`: two features in one query, at heights so far apart that both weights can be read from one score. It halves
  the queries where a score leaves with all its bits, and is why the bound counts bits and not queries.
- `crafted key`: a public part whose first polynomial is zero, registered in the only form that a server accepts. If the
second polynomial of an answer were readable then, one division by the request's would give the weights.
"""

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from experiments.leaks.extraction_attack import AffineHead
from experiments.leaks.extraction_ring import divide_in_ring, find_least_root, invert_transform
from he_infer.ckks.answer import read_answer
from he_infer.ckks.engines.seal import parse, primes, sealapi, shape_of_fresh, shapes_for
from he_infer.ckks.fresh_ciphertext import read_fresh
from he_infer.ckks.key_shapes import PUBLIC
from he_infer.ckks.layouts.last_layer import Tile
from he_infer.ckks.seal_format import CiphertextShape, wrap, write_seeded

if TYPE_CHECKING:
    from he_infer.ckks.planning.plan import Plan


def find_tile(plan: "Plan") -> Tile | None:
    """The layout of a linear head in one ciphertext each way, or None where the plan has another form."""
    output = plan.output
    if plan.stages or not isinstance(output, Tile) or output.sources > 1 or output.targets > 1:
        return None
    return output


def choose_heights(plan: "Plan", largest_weight: float) -> tuple[float, float]:
    """The heights of two features whose weights stand one above the other in one score.

    The higher one is as high as the modulus allows for a weight of that size. A weight is encoded in whole units, so
    the other feature lies where all of its weight is below one unit of the higher one.
    """
    prime = float(primes(plan.parameters)[0])
    high = prime / (4 * plan.input_scale * plan.output_scale * plan.gain * largest_weight)
    return high, high * _unit(plan) / (4 * largest_weight)


def _unit(plan: "Plan") -> float:
    return 1 / (plan.output_scale * plan.gain)


def list_pairs(width: int, high: float, low: float) -> NDArray[np.float64]:
    """(1 + ceil(width / 2), width): the origin, then two features a query, far beyond any honest bound."""
    queries = np.zeros((1 + math.ceil(width / 2), width))
    for query in range(1, len(queries)):
        first = 2 * (query - 1)
        queries[query, first] = high
        if first + 1 < width:
            queries[query, first + 1] = low
    return queries


def split_pairs(plan: "Plan", answers: NDArray[np.float64], high: float, low: float) -> AffineHead:
    """The head from the answers to `list_pairs`: the higher weight in whole units, the lower one from what is left."""
    biases, unit = answers[0], _unit(plan)
    weight = np.zeros((answers.shape[1], 2 * (len(answers) - 1)))
    for query, scores in enumerate(answers[1:] - biases):
        upper = np.rint(scores / high / unit) * unit
        weight[:, 2 * query], weight[:, 2 * query + 1] = upper, (scores - upper * high) / low
    return AffineHead(weight[:, : plan.width], biases)


def craft_public_part(plan: "Plan", seed: bytes) -> bytes:
    """A public part whose first polynomial is zero, in its seeded form."""
    shape = shapes_for(plan).parts[PUBLIC]
    if not isinstance(shape, CiphertextShape):
        raise TypeError("A public part is a ciphertext.")
    return wrap(write_seeded(shape, np.zeros((len(shape.primes), shape.ring_size), dtype=np.uint64), seed))


def divide_second_polynomial(plan: "Plan", tile: Tile, request: bytes, answer: bytes) -> NDArray[np.float64]:
    """Weights from an answer's second polynomial divided by the request's; right where the server added no noise."""
    prime, size = primes(plan.parameters)[0], plan.parameters.ring_size
    shape = shape_of_fresh(plan.parameters, plan.input_scale)
    read = read_fresh(request, shape)
    sent = parse(sealapi.Ciphertext(), plan.parameters, wrap(write_seeded(shape, read.first, read.seed)))
    data = sent.dyn_array()
    factor = [data.at(size + index) for index in range(size)]
    cut = read_answer(plan, 0, answer).second
    coefficients = [round(int(value) * prime / 2**plan.answer.bits) % prime for value in cut]
    found = divide_in_ring(_transform(coefficients, prime), factor, prime) / plan.output_scale
    rows = found[: tile.rows * tile.chunk].reshape(tile.rows, tile.chunk)[:, ::-1]
    return np.asarray(rows[: plan.classes, : plan.width])


def _transform(coefficients: list[int], prime: int) -> list[int]:
    """Values in SEAL's order: the inverse of `invert_transform`, by its own butterflies backwards."""
    size = len(coefficients)
    psi = find_least_root(2 * size, prime)
    work = [value * pow(psi, index, prime) % prime for index, value in enumerate(coefficients)]
    half = size // 2
    while half:
        step = pow(psi, size // half, prime)
        twiddle = [1] * half
        for index in range(1, half):
            twiddle[index] = twiddle[index - 1] * step % prime
        for start in range(0, size, 2 * half):
            for index in range(half):
                low, high = work[start + index], work[start + index + half]
                work[start + index] = (low + high) % prime
                work[start + index + half] = (low - high) * twiddle[index] % prime
        half //= 2
    assert invert_transform(work, prime) == coefficients  # noqa: S101 - an attack that computes wrongly shows nothing
    return work
