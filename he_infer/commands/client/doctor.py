"""`he-infer doctor`: checks whether this machine is ready, and whether the server answers as it should."""

from pathlib import Path
from typing import Annotated

import typer

from he_infer.commands.client.connection_options import CaFile, ClientCert, InsecureHttp, TokenFile, open_session
from he_infer.commands.json_option import JsonFile
from he_infer.commands.passphrase_option import PassphraseFile


def doctor(
    *,
    url: Annotated[str | None, typer.Option(help="The server's address.", envvar="HE_INFER_URL")] = None,
    bundle_file: Annotated[Path | None, typer.Option("--bundle", help="The client's part of the model.")] = None,
    key_file: Annotated[
        Path | None, typer.Option("--key", help="Secret key file; it is opened if you give a passphrase.")
    ] = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    client_cert: ClientCert = None,
    insecure_http: InsecureHttp = False,
    passphrase_file: PassphraseFile = None,
    json_file: JsonFile = None,
) -> None:
    """Check Python, packages, codecs, disk, files; and a server: TLS, clock, signing key, token, model, key set.

    Checks for options that are not given are skipped. With a passphrase (file or HE_INFER_PASSPHRASE) the key file is
    opened too. Exit code 1: a check failed.

    Example: `he-infer doctor --url https://cloud.example:8443 --token-file cloud.token --key hospital.key`
    """
    import os

    from he_infer.client import doctor as checks
    from he_infer.client.keys.key_file import KeyFile
    from he_infer.client.model import ClientModel
    from he_infer.commands.client.unlock_option import get_unlock
    from he_infer.commands.passphrase_option import VARIABLE
    from he_infer.errors import HeInferError
    from he_infer.files import PRIVATE, write_json
    from he_infer.terminal import PlainTable, make_console

    found = list(checks.check_machine())
    model = keys = None
    if bundle_file is not None:
        try:
            model = ClientModel.load(bundle_file)
            publisher = model.publisher or "a whole bundle, which is not signed"
            found.append(checks.Check("model file", "ok", f"{bundle_file}, published by {publisher}"))
        except (HeInferError, OSError) as error:
            found.append(checks.Check("model file", "failed", str(error)))
    if key_file is not None:
        found.append(checks.check_secret_file(key_file, "key file"))
        if key_file.is_file() and (passphrase_file is not None or VARIABLE in os.environ):
            try:
                keys = KeyFile.load(key_file, get_unlock(key_file, passphrase_file))
                found.append(checks.Check("key file's content", "ok", f"key set {keys.key_set}"))
            except (HeInferError, OSError) as error:
                found.append(checks.Check("key file's content", "failed", str(error)))
    if model is not None and keys is not None:
        found.append(checks.check_publisher(keys, model))
    if token_file is not None:
        found.append(checks.check_secret_file(token_file, "token file"))
    if url is not None:
        if certificate := checks.check_certificate(url, ca_file, client_cert):
            found.append(certificate)
        try:
            with open_session(url, token_file, ca_file, client_cert, insecure_http) as session:
                found += checks.check_server(session, keys, model)
        except (HeInferError, OSError) as error:
            found.append(checks.Check("server", "failed", str(error)))
    table = PlainTable("check", "state", "found")
    for check in found:
        table.add_row(check.name, check.state, check.text)
    make_console().print(table)
    failed = sum(check.state == "failed" for check in found)
    warned = sum(check.state == "warning" for check in found)
    typer.echo(f"{len(found)} checks: {failed} failed, {warned} with a warning.")
    if json_file is not None:
        rows = [{"check": check.name, "state": check.state, "found": check.text} for check in found]
        write_json(json_file, {"checks": rows, "failed": failed, "warnings": warned}, mode=PRIVATE)
    if failed:
        raise typer.Exit(1)
