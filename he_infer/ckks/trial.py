"""A trial evaluation of a plan on random ciphertexts, before the plan is offered.

Without a key, uniform residues cannot be told from a real ciphertext or key. The result means nothing, but the trial
runs every encoding, every operation and every scale. A head that SEAL cannot compute, such as one whose weights vanish
at the plan's scales, is therefore refused when it is published, not when the first request arrives.

With a secret key the owner can do more: encrypt zeros and compare the answer with the head's scores.
"""

import secrets
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.engines.seal import SealEngine, shape_of_fresh, shapes_for
from he_infer.ckks.evaluate import Evaluator
from he_infer.ckks.fresh_ciphertext import FreshCiphertext, write_fresh
from he_infer.ckks.layouts.ring import conjugation, galois_element
from he_infer.ckks.planning.message_sizes import SEED_BYTES
from he_infer.ckks.planning.plan import Plan
from he_infer.ckks.seal_format import CiphertextShape, KeySwitchShape, wrap, write_key_switches, write_seeded
from he_infer.errors import EngineError, HeadError, ParameterError
from he_infer.head.layers import Head


def try_plan(plan: Plan, head: Head) -> None:
    """Evaluate the head once under the plan.

    Raises:
        ParameterError: the trial evaluation fails; the message says where.
        HeadError: some scores do not depend on the features.
        UsageError: the plan was made for another head.
    """
    try:
        evaluator = Evaluator(plan, head)
        keys = evaluator.load_keys(draw_keys(plan)) if plan.needs_keys else None
        evaluator.evaluate(draw_request(plan), keys)
    except HeadError:
        raise
    except (EngineError, ValueError, RuntimeError) as error:
        raise ParameterError(
            f"The plan cannot compute the head: a trial evaluation failed ({error}). Rescale the head's weights, or "
            "ask for another precision."
        ) from error


def try_keys(plan: Plan, parts: Mapping[str, bytes]) -> None:
    """Load a key set and use each of its keys once, on a ciphertext of uniform residues.

    Raises:
        SecretKeyRefused: a part is a secret key.
        KeyProblem, FormatError: the parts are not exactly those of the plan; see `KeyShapes`.
        EngineError, ValueError, RuntimeError: a computation with a key fails.
    """
    engine = SealEngine(plan.parameters)
    keys = engine.load_keys(parts, plan.galois_elements, plan.relinearise, plan.refreshes)
    value = engine.load(draw_request(plan)[0], plan.input_scale)
    ring_size, wanted = plan.parameters.ring_size, set(plan.galois_elements)
    for steps in range(1, ring_size // 2):
        if galois_element(steps, ring_size) in wanted:
            engine.rotate(value, steps, keys)
    if conjugation(ring_size) in wanted:
        engine.conjugate(value, keys)
    if plan.relinearise:
        engine.square(value, keys)
    if plan.refreshes:
        engine.refresh(value, keys)


def draw_request(plan: Plan) -> list[bytes]:
    """Draw serialized ciphertexts of uniform residues in a request's form."""
    shape = shape_of_fresh(plan.parameters, plan.input_scale)
    return [write_fresh(FreshCiphertext(_draw_residues(shape), _draw_seed()), shape) for _ in range(plan.sources)]


def draw_keys(plan: Plan) -> Mapping[str, bytes]:
    """Draw serialized keys of uniform residues in the form of the plan's key set."""
    drawn = {}
    for name, shape in shapes_for(plan).parts.items():
        if isinstance(shape, KeySwitchShape):
            digits = [[_draw(shape.ciphertext) for _ in range(shape.digits)] for _ in shape.taken]
            drawn[name] = wrap(write_key_switches(shape, digits))
        else:
            drawn[name] = wrap(_draw(shape))
    return drawn


def _draw(shape: CiphertextShape) -> bytes:
    return write_seeded(shape, _draw_residues(shape), _draw_seed())


def _draw_residues(shape: CiphertextShape) -> NDArray[np.uint64]:
    random = np.random.default_rng(int.from_bytes(secrets.token_bytes(16), "little"))
    return np.stack([random.integers(0, prime, shape.ring_size, dtype=np.uint64) for prime in shape.primes])


def _draw_seed() -> bytes:
    return secrets.token_bytes(SEED_BYTES)
