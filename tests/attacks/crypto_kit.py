"""Tools of the attacks on the encryption: a plan's evaluator, crafted keys, and SEAL objects of any content."""

import struct
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from he_infer.ckks.engines.seal import shapes_for
from he_infer.ckks.evaluate import Evaluator
from he_infer.ckks.packing import pack
from he_infer.ckks.planning.plan import Plan
from he_infer.ckks.planning.search import make_plan
from he_infer.ckks.seal_format import CiphertextShape, KeySwitchShape, wrap
from he_infer.client.keys.secret_key import SecretKey
from he_infer.head.layers import Head
from tests.he_infer.ckks.kit import make_head

SEEDED, EXPANDED = "seeded", "expanded"


@dataclass(frozen=True)
class Target:
    """A head under a plan, and a client's key."""

    head: Head
    plan: Plan
    evaluator: Evaluator
    secret: SecretKey

    @property
    def honest(self) -> dict[str, bytes]:
        """Return the keys that the client's own code makes."""
        return self.secret.evaluation_keys(self.plan)

    def ask(self, x: np.ndarray, keys: dict[str, bytes] | None = None) -> tuple[list[bytes], list[bytes]]:
        """Return the ciphertexts of features (n, width) and the parts of their answer."""
        sent = self.secret.encrypt(pack(self.plan, x), self.plan.input_scale)
        return sent, self.evaluator.evaluate(sent, self.evaluator.load_keys(self.honest if keys is None else keys))


@lru_cache(maxsize=4)
def target(widths: tuple[int, ...], batch: int = 1, policy: str = "hidden") -> Target:
    """Make a random head with its plan and a client's key."""
    head = make_head(widths)
    plan = make_plan(head, batch=batch, policy=policy)
    return Target(head, plan, Evaluator(plan, head), SecretKey.generate(plan.parameters))


def ciphertext(
    shape: CiphertextShape,
    *,
    form: str = SEEDED,
    polynomials: int = 2,
    transformed: int = 1,
    fill: int | None = None,
    seed: bytes = bytes(64),
    scale: float | None = None,
) -> bytes:
    """Write the body of a ciphertext of any shape: random residues, or one number everywhere."""
    random = np.random.default_rng(3)
    count = polynomials if form == EXPANDED else 1
    rows = [
        np.full(shape.ring_size, fill, dtype=np.uint64)
        if fill is not None
        else random.integers(0, prime, shape.ring_size, dtype=np.uint64)
        for _ in range(count)
        for prime in shape.primes
    ]
    words = np.concatenate(rows).astype("<u8").tobytes()
    head = struct.pack(
        "<32sBQQQdQ",
        shape.parameters_id,
        transformed,
        polynomials,
        shape.ring_size,
        len(shape.primes),
        shape.scale if scale is None else scale,
        1,
    )
    end = wrap(b"\1" + seed) if form == SEEDED else b""
    return head + wrap(struct.pack("<Q", len(words) // 8) + words) + end


def key_switches(shape: KeySwitchShape, key: bytes, *, places: int, taken: set[int], digits: int) -> bytes:
    """Write the body of key-switching keys in which all digits of all keys are equal."""
    parts = [shape.parameters_id, struct.pack("<Q", places)]
    for place in range(min(places, shape.places + 8)):
        held = digits if place in taken else 0
        parts += [struct.pack("<Q", held), *[wrap(key)] * held]
    return b"".join(parts)


def key_shapes(plan: Plan) -> dict[str, CiphertextShape | KeySwitchShape]:
    """Return the shapes of the plan's parts, by name."""
    return dict(shapes_for(plan).parts)


def at_data_level(shape: CiphertextShape) -> CiphertextShape:
    """Return the shape without the special prime."""
    return replace(shape, primes=shape.primes[:-1])
