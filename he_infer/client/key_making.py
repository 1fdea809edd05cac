"""Makes a key file for a published model, registers its key set and proves it with test questions."""

from dataclasses import dataclass
from pathlib import Path

from he_infer.client.connection.session import Session
from he_infer.client.key_registration import prove_keys, register_keys
from he_infer.client.keys.key_file import KeyFile
from he_infer.client.model import ClientModel


@dataclass(frozen=True)
class MadeKeys:
    """Keys that were made, registered and proved."""

    keys: KeyFile
    registered_bytes: int
    """Bytes of the evaluation keys that the server was sent."""


def make_key_file(
    path: str | Path,
    passphrase: str,
    *,
    server_url: str,
    model: str | Path,
    token: str,
    ca_file: Path | None = None,
    client_cert: Path | None = None,
    insecure_http: bool = False,
) -> MadeKeys:
    """Make secret keys for all plans of a model in a file, and register their evaluation keys with a server.

    The file pins the server's signing key and the model's publisher, as with `he-infer keys new`. Test questions prove
    keys and model together.

    Args:
        path: the new key file; no file is overwritten.
        passphrase: the file's passphrase.
        server_url: the server's address.
        model: the client's part of the model.
        token: the bearer token.
        ca_file: see `Client`.
        client_cert: see `Client`.
        insecure_http: see `Client`.

    Raises:
        UsageError: the file exists, or the server does not offer the model.
        WrongAnswer, NotAuthentic, RequestRefused, ServerError: see `register_keys` and `prove_keys`. The file is kept.
        FormatError, OSError: the model cannot be read or the file not written.
    """
    loaded = ClientModel.load(Path(model))
    with Session(server_url, token, ca_file=ca_file, client_cert=client_cert, insecure_http=insecure_http) as session:
        served = loaded.expect(session.models())
        keys = KeyFile.new(served.plans, server_key=session.server_key, publisher=loaded.publisher)
        keys.save(Path(path), passphrase)
        size = register_keys(session, keys)
        prove_keys(session, keys, loaded, served)
    return MadeKeys(keys, size)
