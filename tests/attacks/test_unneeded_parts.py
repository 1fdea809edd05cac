"""A registration must have exactly the plan's parts; nothing of a refused one is stored."""

import secrets

import pytest

from he_infer.errors import HeInferError
from tests.attacks.kit import Scene
from tests.he_infer.server.support.kit import client_of


@pytest.mark.parametrize("more", [{"other": b"x" * 1000}, {"public2": b""}, {"secret": b"x"}])
def test_a_part_that_the_plan_does_not_need_is_refused(scene: Scene, more: dict[str, bytes]) -> None:
    before = len(list((scene.server.data_dir / "blobs").rglob("*")))
    with client_of(scene.server, scene.hostile) as hostile:
        made = len(list((scene.server.data_dir / "blobs").rglob("*")))
        assert made > before
        with pytest.raises(HeInferError):
            hostile.session.register(hostile.plan, secrets.token_hex(16), {**hostile.keys, **more})
        assert len(list((scene.server.data_dir / "blobs").rglob("*"))) == made
        hostile.session.forget_keys(hostile.plan.digest, hostile.key_set)
    scene.no_defect()


@pytest.mark.parametrize("missing", ["galois", "relin", "public"])
def test_a_registration_without_a_needed_part_is_refused(scene: Scene, missing: str) -> None:
    client = scene.honest
    if missing not in client.keys:
        pytest.skip("the plan does not use it")
    parts = {name: data for name, data in client.keys.items() if name != missing}
    with pytest.raises(HeInferError):
        client.session.register(client.plan, secrets.token_hex(16), parts)
