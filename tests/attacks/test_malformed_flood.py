"""A client that sends malformed messages without end, beside an honest one."""

import threading
import time

import httpx2

from he_infer.server.tokens import Scope
from tests.attacks.kit import Scene
from tests.he_infer.server.support.kit import add_token

COUNT, ALLOWED, RATE = 90, 60, 10
"""Messages sent; and, of the default of 600 a minute, those at once and those a second after."""


def test_a_flood_of_malformed_messages_is_answered_at_the_allowed_rate_and_the_honest_client_is_served(
    scene: Scene,
) -> None:
    token = add_token(scene.server, "noise", Scope.CLASSIFY)
    url = f"{scene.server.url}/v1/models/{scene.honest.model.id}/classify"
    statuses: list[int] = []

    def send() -> None:
        with httpx2.Client(headers={"Authorization": f"Bearer {token}"}, timeout=120) as http:
            for _ in range(COUNT // 3):
                statuses.append(http.post(url, content=b"HEIW and noise").status_code)

    began = time.monotonic()
    senders = [threading.Thread(target=send) for _ in range(3)]
    for sender in senders:
        sender.start()
    while any(sender.is_alive() for sender in senders):
        scene.still_serves()
    # Each message in progress may be counted after the next one was let in.
    assert time.monotonic() - began >= (COUNT - ALLOWED - 4) / RATE
    assert statuses == [400] * COUNT
    scene.no_defect()
