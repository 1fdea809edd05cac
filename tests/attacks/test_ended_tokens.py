"""A token that is revoked or expires while its request waits or runs: nothing is stored, and no answer leaves."""

import hashlib
import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from he_infer.server import tokens
from he_infer.server.metadata import Metadata
from he_infer.server.service import DATABASE_FILE
from he_infer.server.tokens import Scope
from he_infer.wire import envelope as wire
from he_infer.wire.key_set import new_key_set
from he_infer.wire.refusals import Code
from tests.attacks.kit import FEATURES, Scene, begin, read_answer
from tests.he_infer.server.support.kit import Client, add_token, client_of, refusal
from tests.he_infer.server.support.processes import only_worker

ENDS = ("revoked", "expired")
REFUSED = (401, Code.UNAUTHORISED.value)
SIZE = 64 << 20


@dataclass
class Ending:
    """A client of the server whose token ends during the test."""

    scene: Scene
    client: Client
    database: Metadata
    token_id: str
    client_id: str

    def end(self, how: str) -> None:
        """Let the token end."""
        if how == "revoked":
            self.database.tokens.revoke(self.token_id)
        else:  # what a rotation leaves of the old token
            self.database.tokens.rotate(self.token_id, tokens.new_token(), grace=0.01, lifetime=None)
            time.sleep(0.1)

    def images(self) -> int:
        """Images that were counted for the client today."""
        return self.database.queries.count(self.client_id, int(time.time() // 86_400))

    def send(self, method: str, path: str, body: bytes, how: str | None, *headers: str) -> tuple[int, str]:
        """Send a body of which the last byte comes only after the token has ended; returns status and code."""
        stated = (f"Content-Length: {len(body)}", *headers)
        with begin(self.scene.server, method, path, self.client.token, *stated) as connection:
            connection.sendall(body[:-1])
            time.sleep(0.5)  # the token is checked with the head
            if how is not None:
                self.end(how)
            connection.sendall(body[-1:])
            return read_answer(connection)[:2] if how is not None else (int(connection.recv(12).split()[1]), "")


@pytest.fixture
def ending(scene: Scene) -> Iterator[Ending]:
    text = add_token(scene.server, f"ending {secrets.token_hex(4)}", Scope.CLASSIFY, Scope.STORE)
    database = Metadata.sqlite(scene.server.data_dir / DATABASE_FILE)
    token_id = tokens.token_id(text) or ""
    found = database.tokens.find(token_id)
    assert found is not None
    with client_of(scene.server, text, patience=0) as client:
        yield Ending(scene, client, database, token_id, found[1].client_id)
    database.close()
    scene.no_defect()


def question_of(client: Client) -> tuple[str, str, bytes]:
    return "POST", f"/v1/models/{client.model.id}/classify", client.enveloped(client.encrypt(FEATURES))


def registration_of(client: Client) -> tuple[str, str, bytes]:
    named = new_key_set()
    stamp = {"nonce": secrets.token_hex(16), "time": int(time.time() * 1000)}
    header = {"plan": client.plan.digest, "key_set": named, **stamp}
    body = wire.Envelope(wire.Kind.KEYS, header, tuple(sorted(client.keys.items()))).encode()
    return "PUT", f"/v1/keys/{client.plan.digest}/{named}", body


def test_a_token_that_stays_valid_is_answered_however_slow_its_body(ending: Ending) -> None:
    assert ending.send(*question_of(ending.client), None)[0] == 200
    assert ending.send(*registration_of(ending.client), None)[0] == 201


@pytest.mark.parametrize("how", ENDS)
def test_a_question_whose_token_ends_while_its_body_comes_is_refused_and_not_counted(ending: Ending, how: str) -> None:
    assert ending.send(*question_of(ending.client), how) == REFUSED
    assert ending.images() == 0


@pytest.mark.parametrize("how", ENDS)
def test_keys_whose_token_ends_while_they_come_are_not_stored(ending: Ending, how: str) -> None:
    assert ending.send(*registration_of(ending.client), how) == REFUSED
    stored = ending.database.keys.list_all(ending.client_id)
    assert [record.key_set for record in stored] == [ending.client.key_set]


@pytest.mark.parametrize("how", ENDS)
def test_an_object_whose_token_ends_while_it_comes_is_not_stored(ending: Ending, how: str) -> None:
    data = os.urandom(100_000)
    digest = f"X-Content-SHA256: {hashlib.sha256(data).hexdigest()}"
    assert ending.send("PUT", f"/v1/objects/{secrets.token_hex(16)}", data, how, digest) == REFUSED
    assert ending.database.objects.list_page(ending.client_id, "", 10) == []


def test_an_upload_ends_soon_after_its_token(ending: Ending) -> None:
    """It would fill the disk for as long as the quota and the least rate allow."""
    headers = (f"Content-Length: {SIZE}", f"X-Content-SHA256: {'0' * 64}")
    path = f"/v1/objects/{secrets.token_hex(16)}"
    with begin(ending.scene.server, "PUT", path, ending.client.token, *headers) as connection:
        connection.sendall(bytes(1 << 20))
        time.sleep(0.5)
        ending.end("revoked")
        connection.sendall(bytes(1 << 20))
        assert read_answer(connection)[:2] == REFUSED


def test_a_download_ends_soon_after_its_token(ending: Ending) -> None:
    stored = ending.client.session.put_object(os.urandom(SIZE)).id
    with begin(ending.scene.server, "GET", f"/v1/objects/{stored}", ending.client.token) as connection:
        assert connection.recv(12).endswith(b" 200")
        ending.end("revoked")
        received = 0
        while piece := connection.recv(1 << 20):
            received += len(piece)
    assert received < SIZE


@pytest.mark.parametrize("how", ENDS)
def test_no_answer_leaves_to_a_token_that_ended_while_its_question_waited_or_ran(ending: Ending, how: str) -> None:
    """The worker stands still meanwhile, with one question in it and one that waits for it."""
    worker = only_worker(ending.scene.server)
    bodies = [question_of(ending.client)[2] for _ in range(2)]
    codes: list[Code] = []
    os.kill(worker, signal.SIGSTOP)
    try:
        asking = [
            threading.Thread(target=lambda body=body: codes.append(refusal(ending.client.post(body))))
            for body in bodies
        ]
        for thread in asking:
            thread.start()
            time.sleep(0.5)
        ending.end(how)
    finally:
        os.kill(worker, signal.SIGCONT)
    for thread in asking:
        thread.join()
    assert codes == [Code.UNAUTHORISED] * 2
    ending.scene.still_serves()
