"""Keys of every wrong shape are refused at registration, by a temporary process; no worker dies."""

import secrets
import struct
from collections.abc import Callable

import numpy as np
import pytest
import zstandard

from he_infer.ckks.engines.seal import shapes_for
from he_infer.ckks.seal_format import KeySwitchShape, wrap, write_key_switches, write_seeded
from he_infer.ckks.trial import draw_keys
from he_infer.errors import HeInferError, RequestRefused
from tests.attacks.kit import FEATURES, Scene, resident
from tests.he_infer.server.support.kit import Client

Parts = dict[str, bytes]


def switches(client: Client, *, digits: int = 0, places: int = 0, taken: tuple[int, ...] | None = None) -> bytes:
    """Make Galois keys with `digits` and `places` more than the plan's, or for other elements."""
    shape = shapes_for(client.plan).parts["galois"]
    assert isinstance(shape, KeySwitchShape)
    taken = shape.taken if taken is None else taken
    made = KeySwitchShape(shape.parameters_id, shape.places + places, taken, shape.digits + digits, shape.ciphertext)
    first = np.zeros((len(shape.ciphertext.primes), shape.ciphertext.ring_size), dtype=np.uint64)
    one = write_seeded(shape.ciphertext, first, bytes(64))
    return wrap(write_key_switches(made, [[one] * made.digits for _ in made.taken]))


WRONG: dict[str, Callable[[Client], Parts]] = {
    "a digit short": lambda c: {"galois": switches(c, digits=-1)},
    "a digit more": lambda c: {"galois": switches(c, digits=1)},
    "four places more": lambda c: {"galois": switches(c, places=4)},
    "other elements": lambda c: {"galois": switches(c, taken=(0, 5))},
    "no element": lambda c: {"galois": switches(c, taken=())},
    "places beyond memory": lambda c: {"galois": wrap(c.keys["galois"][16:48] + struct.pack("<Q", 1 << 63))},
    "relin for galois": lambda c: {"galois": c.keys["relin"]},
    "galois for relin": lambda c: {"relin": c.keys["galois"]},
    "public for relin": lambda c: {"relin": c.keys["public"]},
    "nothing": lambda c: {"galois": b""},
    "cut off": lambda c: {"galois": c.keys["galois"][:-1]},
    "residues beyond the prime": lambda c: {
        "public": wrap(
            write_seeded(
                (shape := shapes_for(c.plan).parts["public"]),  # type: ignore[arg-type]  # a ciphertext's, by its name
                np.full((len(shape.primes), shape.ring_size), 2**64 - 1, dtype=np.uint64),  # type: ignore[union-attr]
                bytes(64),
            )
        )
    },
}


@pytest.mark.parametrize("kind", WRONG)
def test_keys_of_a_wrong_shape_are_refused_before_a_worker_reads_them(scene: Scene, kind: str) -> None:
    client = scene.honest
    before = scene.worker_pids()[:1]
    with pytest.raises(HeInferError) as error:
        client.session.register(client.plan, secrets.token_hex(16), {**client.keys, **WRONG[kind](client)})
    assert isinstance(error.value, RequestRefused)
    assert error.value.code in ("bad_keys", "too_large")
    assert client.scores(FEATURES).shape == (1, 3)
    assert scene.worker_pids()[:1] == before
    scene.no_defect()


def test_keys_that_inflate_beyond_the_size_in_the_plan_are_refused_unopened(scene: Scene) -> None:
    client, body = scene.honest, bytes(1 << 28)
    bomb = zstandard.ZstdCompressor(level=19).compress(body)
    packed = struct.pack("<2sBBBBHQ", b"\x5e\xa1", 16, 4, 3, 2, 0, 16 + len(bomb)) + bomb
    silent = zstandard.ZstdCompressor(level=19, write_content_size=False).compressobj()
    unsized = silent.compress(body) + silent.flush()
    hidden = struct.pack("<2sBBBBHQ", b"\x5e\xa1", 16, 4, 3, 2, 0, 16 + len(unsized)) + unsized
    before = resident(scene.server.pid)
    for part in (packed, hidden):
        with pytest.raises(RequestRefused) as error:
            client.session.register(client.plan, secrets.token_hex(16), {**client.keys, "galois": part})
        assert error.value.code == "bad_keys"
    assert resident(scene.server.pid) - before < 64 << 20
    scene.still_serves()


def test_uniform_residues_in_the_right_shape_are_keys_like_any_others(scene: Scene) -> None:
    """Keys of random residues are harmless: they are tried and stored, and give their owner meaningless scores."""
    client, key_set = scene.honest, secrets.token_hex(16)
    client.session.register(client.plan, key_set, draw_keys(client.plan))
    client.session.forget_keys(client.plan.digest, key_set)
    scene.still_serves()


def test_a_registration_larger_than_the_keys_of_the_plan_is_refused_before_its_body(scene: Scene) -> None:
    from tests.attacks.kit import begin, read_answer

    path = f"/v1/keys/{scene.honest.plan.digest}/{'cd' * 16}"
    with begin(scene.server, "PUT", path, scene.hostile, f"Content-Length: {500 << 20}") as connection:
        assert read_answer(connection)[:2] == (413, "too_large")
