"""`he-infer keys rotate` and `he-infer keys prune`: replace secret keys, and delete the replaced ones."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from he_infer.commands.client.connection_options import (
    DEFAULT_URL,
    CaFile,
    ClientCert,
    InsecureHttp,
    TokenFile,
    Url,
    open_session,
)
from he_infer.commands.client.unlock_option import get_unlock
from he_infer.commands.number_options import require_finite
from he_infer.commands.passphrase_option import PassphraseFile

if TYPE_CHECKING:
    from he_infer.client.connection.session import Session
    from he_infer.client.keys.key_file import KeyFile

KeyPath = Annotated[Path, typer.Argument(metavar="KEYFILE", help="The secret key's file.")]
_DAY = 24 * 3600.0


def rotate(
    key_file: KeyPath,
    *,
    overlap_days: Annotated[
        float,
        typer.Option(
            min=0,
            callback=require_finite,
            help="Days for which the server keeps the present keys, for other copies of the key file.",
        ),
    ] = 7.0,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    client_cert: ClientCert = None,
    insecure_http: InsecureHttp = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Replace the secret keys by fresh ones for the same plans; the file opens in the same ways as before.

    The fresh evaluation keys are registered before the file is changed, so that a failure changes nothing.
    Replaced keys are deleted at the server when their overlap has ended.

    Example: `he-infer keys rotate hospital.key --overlap-days 3 --url https://cloud.example:8443`
    """
    from he_infer.client.key_rotation import rotate_keys
    from he_infer.client.keys.key_file import KeyFile

    keys = KeyFile.load(key_file, get_unlock(key_file, passphrase_file))
    with open_session(url, token_file, ca_file, client_cert, insecure_http, server_key=keys.server_key) as session:
        fresh = rotate_keys(session, keys, key_file, overlap_days * _DAY)
        typer.echo(f"{key_file} has the key set {fresh.key_set}; {keys.key_set} ends in {overlap_days:g} days.")
        _prune(session, fresh, key_file)


def prune(
    key_file: KeyPath,
    *,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    client_cert: ClientCert = None,
    insecure_http: InsecureHttp = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Delete replaced keys at the server, if their overlap has ended.

    Example: `he-infer keys prune hospital.key --url https://cloud.example:8443 --token-file cloud.token`
    """
    from he_infer.client.keys.key_file import KeyFile

    keys = KeyFile.load(key_file, get_unlock(key_file, passphrase_file))
    with open_session(url, token_file, ca_file, client_cert, insecure_http, server_key=keys.server_key) as session:
        _prune(session, keys, key_file)


def _prune(session: "Session", keys: "KeyFile", key_file: Path) -> None:
    from he_infer.client.key_rotation import prune_keys

    left = len(prune_keys(session, keys, key_file).retired)
    typer.echo(f"{len(keys.retired) - left} replaced key sets deleted at the server, {left} in their overlap.")
