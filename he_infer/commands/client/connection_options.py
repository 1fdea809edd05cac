"""Options for the connection of a client's commands to a server, and the session that they open."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from he_infer.client.connection.session import Session

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
InsecureHttp = Annotated[
    bool,
    typer.Option(
        "--insecure-http",
        help="Allow plain http to another host: anybody on the network path can read the token.",
        envvar="HE_INFER_INSECURE_HTTP",
    ),
]
AcceptNewServerKey = Annotated[
    bool,
    typer.Option(
        "--accept-new-server-key",
        help="Pin the server's new signing key. Compare it with the operator's statement first.",
    ),
]
OptionalModelFile = Annotated[
    Path | None,
    typer.Option(
        "--bundle",
        metavar="PART",
        help="The client's part of the model. Without it no test question is asked, and no publisher is pinned.",
    ),
]
ModelFile = Annotated[
    Path,
    typer.Option(
        "--bundle",
        metavar="PART",
        help="The client's part of the model (X.client.hebundle), or a whole bundle.",
    ),
]


def open_session(
    url: str,
    token_file: Path | None,
    ca_file: Path | None,
    client_cert: Path | None,
    insecure_http: bool,
    *,
    server_key: str | None = None,
) -> "Session":
    """Open a session with the server that these options name.

    Raises:
        UsageError, NotThisFormat, ServerUnreachable, OSError: an option is not usable.
    """
    from he_infer.client.connection.session import Session
    from he_infer.commands.client.token_option import get_token

    return Session(
        url,
        get_token(token_file),
        ca_file=ca_file,
        client_cert=client_cert,
        server_key=server_key,
        insecure_http=insecure_http,
    )
