"""Key sets that are registered and deleted in a loop: the client's registrations an hour are counted."""

import secrets
from pathlib import Path

import pytest

from he_infer.ckks.trial import draw_keys
from he_infer.client.connection.session import Session
from he_infer.errors import ServerBusy
from he_infer.local_server import LocalServer
from he_infer.server.metadata import Quotas
from he_infer.server.tokens import Scope
from tests.attacks.kit import FEATURES, Scene, begin, read_answer
from tests.he_infer.server.support.kit import add_token, client_of


def try_to_register(session: Session) -> bool:
    plan = session.models()[0].plans[0]
    name = secrets.token_hex(16)
    try:
        session.register(plan, name, draw_keys(plan))
    except ServerBusy:
        return False
    session.forget_keys(plan.digest, name)
    return True


def test_registrations_beyond_the_limit_are_refused_and_others_go_on(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HE_INFER_SERVER_REGISTRATIONS_PER_HOUR", "3")
    options = ["--workers", "1"]
    with LocalServer([scene.bundle], tmp_path / "data", options=options) as server:
        hostile = add_token(server, "hostile", Scope.CLASSIFY)
        with Session(server.url, hostile, patience=0) as session:
            assert [try_to_register(session) for _ in range(5)] == [True, True, True, False, False]
            with pytest.raises(ServerBusy, match="3 key sets an hour"):
                session.register(session.models()[0].plans[0], "0" * 32, {})
        with client_of(server) as honest:  # it registers its own key set
            assert honest.scores(FEATURES).shape == (1, 3)
    with LocalServer([scene.bundle], tmp_path / "data", options=options) as server:  # a restart forgets nothing
        with Session(server.url, hostile, patience=0) as session:
            assert not try_to_register(session)
        large = add_token(server, "large", Scope.CLASSIFY, quotas=Quotas(registrations_per_hour=5))
        with Session(server.url, large, patience=0) as session:
            assert [try_to_register(session) for _ in range(6)] == [True] * 5 + [False]


def test_registrations_whose_body_never_comes_are_counted_too(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal comes before the body, so no attempt makes the server read more than the limit allows."""
    monkeypatch.setenv("HE_INFER_SERVER_REGISTRATIONS_PER_HOUR", "2")
    with LocalServer([scene.bundle], tmp_path / "data", options=["--workers", "1"]) as server:
        hostile = add_token(server, "hostile", Scope.CLASSIFY)
        path = f"/v1/keys/{scene.honest.plan.digest}"
        held = [begin(server, "PUT", f"{path}/{number:032x}", hostile, "Content-Length: 1000") for number in range(2)]
        with Session(server.url, hostile, patience=0) as session:
            while try_to_register(session):  # the two above may be counted after this one
                pass
        with begin(server, "PUT", f"{path}/{9:032x}", hostile, "Content-Length: 1000") as connection:
            assert read_answer(connection)[:2] == (429, "rate_limit")
        for connection in held:
            connection.close()
