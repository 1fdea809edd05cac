"""Requests that state their length twice are refused, and a body's limit applies to the bytes that arrive."""

import contextlib

import pytest

from tests.attacks.kit import Scene, begin, read_answer, resident

CHUNK = b"100000\r\n" + b"a" * (1 << 20) + b"\r\n"
PATHS = ("classify", "keys", "objects")


def path_of(scene: Scene, kind: str) -> tuple[str, str]:
    client = scene.honest
    return {
        "classify": ("POST", f"/v1/models/{client.model.id}/classify"),
        "keys": ("PUT", f"/v1/keys/{client.plan.digest}/{'ab' * 16}"),
        "objects": ("PUT", f"/v1/objects/{'ab' * 16}"),
    }[kind]


@pytest.mark.parametrize("kind", PATHS)
def test_a_length_beside_chunks_is_refused_and_the_connection_closed(scene: Scene, kind: str) -> None:
    method, path = path_of(scene, kind)
    before = resident(scene.server.pid)
    headers = ("Content-Length: 10", "Transfer-Encoding: chunked", f"X-Content-SHA256: {'0' * 64}")
    with begin(scene.server, method, path, scene.hostile, *headers) as connection:
        with contextlib.suppress(OSError):  # the server hangs up while we still send
            for _ in range(64):
                connection.sendall(CHUNK)
        with contextlib.suppress(OSError):
            status, code, closes = read_answer(connection)
            assert (status, code, closes) in {(422, "invalid", True), (0, "closed", True), (400, "invalid", True)}
    assert resident(scene.server.pid) - before < 48 << 20
    scene.still_serves()
    scene.no_defect()


@pytest.mark.parametrize("kind", PATHS)
def test_chunks_alone_are_refused(scene: Scene, kind: str) -> None:
    method, path = path_of(scene, kind)
    headers = ("Transfer-Encoding: chunked", f"X-Content-SHA256: {'0' * 64}")
    with begin(scene.server, method, path, scene.hostile, *headers) as connection:
        connection.sendall(b"3\r\nabc\r\n0\r\n\r\n")
        assert read_answer(connection)[:2] == (411, "length_required")
    scene.no_defect()


@pytest.mark.parametrize("lengths", [("5", "6"), ("-1",), ("5, 6",), ("+5",), ("9" * 30,), ("0x10",), ("",)])
def test_lengths_that_are_not_one_number_are_refused(scene: Scene, lengths: tuple[str, ...]) -> None:
    method, path = path_of(scene, "classify")
    headers = [f"Content-Length: {length}" for length in lengths]
    with begin(scene.server, method, path, scene.hostile, *headers) as connection:
        connection.sendall(b"abcdef")
        assert read_answer(connection)[0] in (0, 400, 413, 422)
    scene.still_serves()
    scene.no_defect()
