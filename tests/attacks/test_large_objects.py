"""Many large objects of one client whose last bytes come at once: few are in memory at a time."""

import hashlib
import secrets
from contextlib import ExitStack

from he_infer.client.connection.session import Session
from he_infer.server.http.large_puts import AT_A_TIME
from tests.attacks.kit import Scene, begin
from tests.he_infer.server.support.processes import peak_megabytes

SIZE = 40 << 20
TRIED = 12


def test_large_objects_that_end_at_once_are_written_a_few_at_a_time(scene: Scene) -> None:
    data = bytes(SIZE)
    headers = (f"Content-Length: {SIZE}", f"X-Content-SHA256: {hashlib.sha256(data).hexdigest()}")
    names = [secrets.token_hex(16) for _ in range(TRIED)]
    with Session(scene.server.url, scene.hostile) as session, ExitStack() as held:
        connections = []
        for name in names:
            connection = held.enter_context(begin(scene.server, "PUT", f"/v1/objects/{name}", scene.hostile, *headers))
            connection.settimeout(300)
            connection.sendall(data[:-1])
            connections.append(connection)
        before = peak_megabytes(scene.server.pid)
        for connection in connections:
            connection.sendall(data[-1:])
        assert [connection.recv(12).split()[1] for connection in connections] == [b"201"] * TRIED
        assert peak_megabytes(scene.server.pid) - before < 3 * AT_A_TIME * (SIZE >> 20)
        for entry in list(session.objects()):
            session.delete_object(entry.id)
    scene.still_serves()
    scene.no_defect()
