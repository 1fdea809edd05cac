"""Sealed objects count against the client's quota while their bytes arrive, all uploads together."""

import contextlib
import time

import pytest

from he_infer.client.connection.session import Session
from he_infer.errors import RequestRefused
from he_infer.server.metadata.quota import BLOCK
from tests.attacks.conftest import QUOTA
from tests.attacks.kit import Scene, begin, read_answer


def test_many_bodies_at_once_do_not_exceed_the_quota_on_disk(scene: Scene) -> None:
    spool = scene.server.data_dir / "spool"
    size = QUOTA - 1000
    with contextlib.ExitStack() as held:
        for number in range(12):
            headers = (f"Content-Length: {size}", f"X-Content-SHA256: {'0' * 64}")
            connection = held.enter_context(
                begin(scene.server, "PUT", f"/v1/objects/{number:032x}", scene.small, *headers)
            )
            with contextlib.suppress(OSError):  # refused while we still send
                connection.sendall(b"a" * (size - 1))
        time.sleep(0.5)
        assert sum(path.stat().st_size for path in spool.iterdir()) <= QUOTA
        scene.still_serves()
    deadline = time.monotonic() + 20
    while list(spool.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(spool.iterdir()) == []
    scene.no_defect()


def test_empty_objects_without_end_are_refused_by_their_number(scene: Scene) -> None:
    """An object without a byte takes a file, a block and a row all the same."""
    with Session(scene.server.url, scene.small, patience=0) as session:
        stored = [session.put_object(b"").id for _ in range(QUOTA // BLOCK)]
        with pytest.raises(RequestRefused, match="one for each 4096 bytes") as caught:
            session.put_object(b"")
        assert caught.value.code == "quota"
        for name in stored:
            session.delete_object(name)
        session.delete_object(session.put_object(b"").id)
    scene.no_defect()


def test_a_registration_beyond_the_quota_is_refused_before_its_body(scene: Scene) -> None:
    path = f"/v1/keys/{scene.honest.plan.digest}/{'cd' * 16}"
    with begin(scene.server, "PUT", path, scene.small, f"Content-Length: {QUOTA + 1}") as connection:
        status, code, _ = read_answer(connection)
    assert (status, code) in {(403, "quota"), (403, "too_large")}
