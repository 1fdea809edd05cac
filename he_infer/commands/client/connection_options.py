"""The options that say how a client's commands reach a server."""

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_URL = "http://127.0.0.1:8080"

Url = Annotated[str, typer.Option(help="The server's address.", envvar="HE_INFER_URL")]
TokenFile = Annotated[Path | None, typer.Option(help="File with the token (mode 0600); else HE_INFER_TOKEN.")]
CaFile = Annotated[Path | None, typer.Option(help="PEM file of the authority behind the server's certificate.")]
ClientCert = Annotated[
    Path | None,
    typer.Option(
        help="PEM file with a certificate and its key, for a server that asks for one.", envvar="HE_INFER_CLIENT_CERT"
    ),
]
