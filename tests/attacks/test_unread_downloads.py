"""Many downloads that are never read: a client's open downloads are bounded, and so is what they hold in memory."""

import os
import time
from contextlib import ExitStack

from he_infer.client.connection.session import Session
from he_infer.errors import ServerBusy
from he_infer.server.http.downloads import OPEN
from tests.attacks.kit import Scene, begin, resident

SIZE = 24 << 20
TRIED = 60


def test_unread_downloads_take_bounded_memory_and_stop_nobody(scene: Scene) -> None:
    with Session(scene.server.url, scene.hostile) as session:
        stored = session.put_object(os.urandom(SIZE)).id
        before = resident(scene.server.pid)
        with ExitStack() as held:
            answers = []
            for _ in range(TRIED):
                connection = held.enter_context(begin(scene.server, "GET", f"/v1/objects/{stored}", scene.hostile))
                connection.settimeout(60)
                answers.append(connection.recv(20).split()[1])  # the rest stays unread
            assert answers.count(b"200") == OPEN
            assert answers.count(b"429") == TRIED - OPEN
            assert resident(scene.server.pid) - before < 3 * OPEN << 20
            scene.still_serves()
            with Session(scene.server.url, scene.honest.token) as honest:  # another client's downloads go on
                own = honest.put_object(b"an image").id
                assert honest.get_object(own) == b"an image"
                honest.delete_object(own)
        deadline = time.monotonic() + 30
        while True:  # once they have ended, the client may download again
            try:
                assert len(session.get_range(stored, 0, 100)) == 100
                break
            except ServerBusy:
                if time.monotonic() > deadline:
                    raise
        session.delete_object(stored)
    scene.no_defect()
