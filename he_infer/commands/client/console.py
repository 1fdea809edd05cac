"""`he-infer console`: a local web page for classifying images."""

import os
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from he_infer.commands.client.archive_options import (
    ArchiveCa,
    ArchiveCredentials,
    ArchiveInsecureHttp,
    open_archive,
)
from he_infer.commands.client.connection_options import (
    DEFAULT_URL,
    CaFile,
    ClientCert,
    InsecureHttp,
    ModelFile,
    TokenFile,
    Url,
)


def console(
    *,
    bundle_file: ModelFile,
    key_file: Annotated[Path, typer.Option("--key", help="Secret key file; if it is missing, the page makes it.")],
    state: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder of the encrypted history; the user's data folder by default."),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 for a free one.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
    to_archive: Annotated[
        str | None, typer.Option(metavar="URL", help="DICOMweb archive in which reports can be stored.")
    ] = None,
    vault_key: Annotated[str, typer.Option(help="Key file of the image vault, to prefill the form.")] = "",
    archive_credentials: ArchiveCredentials = None,
    archive_ca: ArchiveCa = None,
    archive_insecure_http: ArchiveInsecureHttp = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    client_cert: ClientCert = None,
    insecure_http: InsecureHttp = False,
) -> None:
    """Open the page: drop images, read results with their reports and receipts, see what the server received.

    The page listens only on 127.0.0.1 and opens with a one-time login link; press Enter for another link. It asks for
    the passphrase, and makes the keys if there are none yet. It is no medical device.

    Example: `he-infer console --bundle chest.client.hebundle --key hospital.key --url https://cloud.example:8443`
    """
    from he_infer.terminal import require_packages

    require_packages("console", ["fastapi", "uvicorn", "multipart", "platformdirs"])
    from platformdirs import user_data_path

    from he_infer.client.console.office import Office, Settings
    from he_infer.client.console.serve import serve
    from he_infer.client.keys.key_file import read_wrappings
    from he_infer.client.model import ClientModel
    from he_infer.commands.client.token_option import get_token
    from he_infer.commands.client.unlock_option import MODULE_VARIABLE

    if key_file.exists():
        read_wrappings(key_file)
    ClientModel.load(bundle_file)
    connect = {
        "token": get_token(token_file),
        "ca_file": ca_file,
        "client_cert": client_cert,
        "insecure_http": insecure_http,
    }
    archive = None
    if to_archive is not None:
        archive = open_archive(to_archive, archive_credentials, archive_ca, archive_insecure_http)
    folder = state or user_data_path("he-infer", appauthor=False) / "console"
    module = os.environ.get(MODULE_VARIABLE)
    office = Office(
        Settings(url, bundle_file, key_file, folder, connect, archive, vault_key, None if not module else Path(module))
    )
    opened = not browser

    def say(link: str) -> None:
        nonlocal opened
        typer.echo(f"Open {link}")
        if not opened:
            opened = True
            webbrowser.open(link)

    serve(office, port, say)
