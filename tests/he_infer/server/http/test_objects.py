"""Sealed objects over HTTP."""

import hashlib
import os
import time

import pytest

from he_infer.client.connection.session import Session
from he_infer.errors import (
    RequestRefused,
)
from he_infer.local_server import LocalServer
from he_infer.wire.refusals import Code
from tests.he_infer.server.support.kit import code_of


def test_stored_objects_are_listed_read_back_and_deleted(session: Session) -> None:
    data = os.urandom(3_000_000)
    stored = session.put_object(data)
    assert (stored.size, stored.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert session.get_object(stored.id) == data
    assert session.get_range(stored.id, 1_000_000, 1_000_100) == data[1_000_000:1_000_100]
    assert stored in list(session.objects())
    session.delete_object(stored.id)
    with pytest.raises(RequestRefused) as error:
        session.get_object(stored.id)
    assert code_of(error) is Code.NOT_FOUND


def test_an_object_is_not_overwritten_but_a_repeated_put_succeeds(session: Session) -> None:
    stored = session.put_object(b"one")
    assert session.put_object(b"one", stored.id) == stored
    with pytest.raises(RequestRefused) as error:
        session.put_object(b"two", stored.id)
    assert code_of(error) is Code.EXISTS
    assert session.get_object(stored.id) == b"one"


def test_a_body_that_breaks_off_leaves_nothing(server: LocalServer, session: Session) -> None:
    import socket

    before = list(session.objects())
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as raw:
        head = (
            f"PUT /v1/objects/{'ab' * 16} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n"
            f"X-Content-SHA256: {'0' * 64}\r\nContent-Length: 100000\r\n\r\n"
        )
        raw.sendall(head.encode() + b"z" * 1000)
    deadline = time.monotonic() + 20
    while list((server.data_dir / "spool").iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list((server.data_dir / "spool").iterdir()) == []
    assert list(session.objects()) == before
