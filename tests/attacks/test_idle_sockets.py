"""Connections that announce large bodies and send little: they take no resources from other clients."""

import contextlib
import time

from tests.attacks.kit import Scene, begin, read_answer, resident


def test_idle_announcements_block_no_other_client(scene: Scene) -> None:
    client = scene.honest
    with contextlib.ExitStack() as held:
        for number in range(24):
            path = f"/v1/keys/{client.plan.digest}/{number:032x}"
            held.enter_context(
                begin(scene.server, "PUT", path, scene.hostile, f"Content-Length: {client.stored.bytes}")
            )
        for _ in range(3):
            scene.still_serves()


def test_a_slow_body_is_ended(scene: Scene) -> None:
    path = f"/v1/models/{scene.honest.model.id}/classify"
    begun = time.monotonic()
    with begin(scene.server, "POST", path, scene.hostile, "Content-Length: 100000") as connection:
        connection.settimeout(0.5)
        while time.monotonic() - begun < 30:
            try:
                connection.sendall(b"a")
                assert read_answer(connection)[:2] == (408, "body_timeout")
            except TimeoutError:
                continue
            break
    assert time.monotonic() - begun < 20
    scene.still_serves()


def test_bodies_of_one_client_leave_room_for_those_of_others(scene: Scene) -> None:
    """Sixty bodies of 4 MB lack their last byte: one client may hold an eighth of the memory, which stays bounded."""
    path = f"/v1/models/{scene.honest.model.id}/classify"
    before = resident(scene.server.pid)
    with contextlib.ExitStack() as held:
        for _ in range(60):
            connection = held.enter_context(
                begin(scene.server, "POST", path, scene.hostile, f"Content-Length: {4 << 20}")
            )
            with contextlib.suppress(OSError):
                connection.sendall(b"a" * ((4 << 20) - 1))
        scene.still_serves()
        assert resident(scene.server.pid) - before < 300 << 20
    scene.no_defect()
