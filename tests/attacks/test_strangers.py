"""Requests without a token, and with tokens that nobody has, from several connections without end."""

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest

from tests.attacks.kit import FEATURES, Scene

SECONDS = 4.0


@contextmanager
def knocking(scene: Scene, path: str, *, tokens: bool) -> Iterator[list[int]]:
    """Ask from four connections until the context ends; gives the statuses of the answers."""
    statuses: list[int] = []
    done = threading.Event()

    def knock() -> None:
        with httpx2.Client(timeout=60.0) as http:
            while not done.is_set():
                token = f"hei_{secrets.token_hex(8)}_{secrets.token_urlsafe(32)}"
                headers = {"Authorization": f"Bearer {token}"} if tokens else {}
                statuses.append(http.get(scene.server.url + path, headers=headers).status_code)

    threads = [threading.Thread(target=knock) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        done.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize(
    ("path", "tokens"),
    [("/readyz", False), ("/healthz", False), ("/v1/info", False), ("/openapi.json", False), ("/v1/models", True)],
)
def test_strangers_are_answered_at_the_allowed_rate_and_the_honest_client_is_served(
    scene: Scene, path: str, tokens: bool
) -> None:
    began = time.monotonic()
    with knocking(scene, path, tokens=tokens) as statuses:
        answered = 0
        while time.monotonic() < began + SECONDS:
            assert scene.honest.scores(FEATURES).shape == (1, 3)
            answered += 1
    took = time.monotonic() - began
    assert set(statuses) <= {200, 401}
    assert answered > 0
    # 600 malformed messages a minute and a tenth of it at once, a stranger's request being half of one.
    assert len(statuses) <= 2 * (60 + 10 * took) + 8
    scene.no_defect()
