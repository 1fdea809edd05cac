"""A server under attack, shared by the short attacks: an honest client, and a hostile one with an ordinary token."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from he_infer.local_server import LocalServer
from he_infer.server.metadata import Quotas
from he_infer.server.tokens import Scope
from tests.attacks.kit import Scene
from tests.he_infer.server.support.kit import add_token, client_of, write_bundle

QUOTA = 1 << 20


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A server of one worker, an honest client with registered keys, and a hostile client's token."""
    folder = tmp_path_factory.mktemp("attacks")
    bundle = write_bundle(folder / "toy.hebundle")
    monkey = pytest.MonkeyPatch()
    monkey.setenv("HE_INFER_SERVER_BODY_SECONDS", "3")
    for limit in ("MALFORMED_PER_MINUTE", "REGISTRATIONS_PER_HOUR"):
        monkey.delenv(f"HE_INFER_SERVER_{limit}", raising=False)
    monkey.setenv("AWS_SECRET_ACCESS_KEY", "a secret of the object store")
    monkey.setenv("PGPASSWORD", "a secret of the database")
    try:
        with LocalServer([bundle], folder / "data", options=["--workers", "1"]) as server:
            hostile = add_token(server, "hostile", Scope.CLASSIFY, Scope.STORE)
            small = add_token(server, "small", Scope.CLASSIFY, Scope.STORE, quotas=Quotas(storage_quota=QUOTA))
            with client_of(server) as honest:
                yield Scene(server, honest, hostile, small, Path(bundle))
    finally:
        monkey.undo()
