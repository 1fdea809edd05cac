"""The second polynomial of an answer reveals no weight under a crafted public part."""

from dataclasses import replace

import numpy as np
import pytest

from experiments.leaks.extraction_answer import divide_second_polynomial, find_tile
from he_infer.ckks.answer import read_answer
from he_infer.ckks.engines.seal import shape_of_fresh
from he_infer.ckks.evaluate import Evaluator
from he_infer.ckks.fresh_ciphertext import read_fresh
from he_infer.ckks.planning.plan import AnswerForm
from he_infer.ckks.planning.search import make_plan
from he_infer.ckks.seal_format import CiphertextShape, wrap, write_seeded
from he_infer.client.keys.secret_key import SecretKey
from he_infer.errors import FormatError
from tests.attacks.crypto_kit import EXPANDED, Target, ciphertext, key_shapes, target
from tests.he_infer.ckks.kit import make_head

WIDTHS = (40, 3)


@pytest.fixture(scope="module")
def linear() -> Target:
    return target(WIDTHS)


def shape(linear: Target) -> CiphertextShape:
    found = key_shapes(linear.plan)["public"]
    assert isinstance(found, CiphertextShape)
    return found


def test_public_part_written_out_is_refused(linear: Target) -> None:
    for fill in (0, 1, None):
        part = wrap(ciphertext(shape(linear), form=EXPANDED, fill=fill))
        with pytest.raises(FormatError, match="public"):
            linear.evaluator.load_keys({"public": part})


def test_public_part_with_a_trapdoor_is_refused(linear: Target) -> None:
    """The polynomial looks uniform but is a multiple of a small one, which only a written-out polynomial can be."""
    made = shape(linear)
    prime = made.primes[0]
    # A product is pointwise in the transform: multiply another polynomial's values by the inverses of a small one's.
    random = np.random.default_rng(1)
    small = random.integers(1, prime, made.ring_size, dtype=np.uint64)
    uniform = np.array([pow(int(value), -1, prime) for value in small], dtype=np.uint64)
    body = bytearray(ciphertext(made, form=EXPANDED))
    body[-8 * made.ring_size :] = uniform.tobytes()
    with pytest.raises(FormatError, match="public"):
        linear.evaluator.load_keys({"public": wrap(bytes(body))})


def weights_found(linear: Target, parts: dict[str, bytes]) -> float:
    """Return the relative error of the weights that one division gives."""
    tile = find_tile(linear.plan)
    assert tile is not None
    x = np.zeros((1, WIDTHS[0]))
    x[0, 0] = 1.0
    sent, answer = linear.ask(x, parts)
    found = divide_second_polynomial(linear.plan, tile, sent[0], answer[0])
    true = linear.head.linear[0].weight
    return float(np.linalg.norm(found - true) / np.linalg.norm(true))


def crafted(linear: Target, fill: int, seed: bytes) -> dict[str, bytes]:
    made = shape(linear)
    first = np.full((len(made.primes), made.ring_size), fill, dtype=np.uint64)
    return {"public": wrap(write_seeded(made, first, seed))}


@pytest.mark.parametrize("fill", [0, 1, 1 << 20])
def test_first_polynomial_chosen_by_the_client_gives_no_weight(linear: Target, fill: int) -> None:
    assert weights_found(linear, crafted(linear, fill, bytes(range(64)))) > 10


def test_seed_of_the_request_gives_no_weight(linear: Target) -> None:
    """The same uniform polynomial in the request and the public part: a (u + W) is as hidden as a u."""
    tile = find_tile(linear.plan)
    assert tile is not None
    sent, _ = linear.ask(np.ones((1, WIDTHS[0])))
    seed = read_fresh(sent[0], shape_of_fresh(linear.plan.parameters, linear.plan.input_scale)).seed
    keys = linear.evaluator.load_keys(crafted(linear, 0, seed))
    answer = linear.evaluator.evaluate(sent, keys)
    found = divide_second_polynomial(linear.plan, tile, sent[0], answer[0])
    assert np.linalg.norm(found) > 10 * np.linalg.norm(linear.head.linear[0].weight)


def test_division_of_an_answer_without_noise_gives_the_weights() -> None:
    """The control: the same attack on a plan that neither re-randomises nor cuts."""
    head = make_head(WIDTHS)
    plan = make_plan(head, policy="open")
    bare = replace(plan, answer=AnswerForm(56, 0))
    open_target = Target(head, bare, Evaluator(bare, head), SecretKey.generate(plan.parameters))
    assert weights_found(open_target, {}) < 1e-2


def test_second_polynomials_of_one_request_are_fresh_and_uniform(linear: Target) -> None:
    sent, _ = linear.ask(np.ones((1, WIDTHS[0])))
    keys = linear.evaluator.load_keys(linear.honest)
    one, two = (read_answer(linear.plan, 0, linear.evaluator.evaluate(sent, keys)[0]).second for _ in range(2))
    top = np.uint64(linear.plan.answer.bits - 4)
    for values in (one, two, one - two):
        counts = np.bincount(((values >> top) & np.uint64(15)).astype(int), minlength=16)
        expected = len(values) / 16
        # Chi-square of 15 degrees: one run in ten million is above 63.
        assert ((counts - expected) ** 2 / expected).sum() < 63
