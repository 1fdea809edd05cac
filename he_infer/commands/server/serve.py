"""`he-infer serve`: checks the settings, then replaces this process with the server's."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from he_infer.ckks.engines.choice import EngineWish
from he_infer.commands.number_options import require_finite


def serve(
    bundles: Annotated[list[Path] | None, typer.Argument(metavar="BUNDLE...", help="Bundle files to serve.")] = None,
    *,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of database, blobs, audit log and keys (made with mode 0700).")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; loopback by default.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.")] = None,
    reuse_port: Annotated[
        bool | None, typer.Option("--reuse-port", help="Share the port with other servers: for restarts without a gap.")
    ] = None,
    port_file: Annotated[Path | None, typer.Option(help="Write the port here once connections are accepted.")] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="Take a first token from here, or make one and write it here (mode 0600).")
    ] = None,
    database_url: Annotated[
        str | None, typer.Option(help="postgresql://user@host/name; by default SQLite in the data folder.")
    ] = None,
    blob_url: Annotated[
        str | None, typer.Option(help="s3://bucket/prefix; by default a folder in the data folder.")
    ] = None,
    engine: Annotated[
        EngineWish | None,
        typer.Option(help="Evaluation engine: auto takes native where it passes its self-test, else SEAL."),
    ] = None,
    code_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of the native engine's machine code (mode 0700); by default in your cache folder."),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Number of worker processes.")] = None,
    batch: Annotated[list[int] | None, typer.Option(help="Images per request; repeat for several plans.")] = None,
    hidden_daily_queries: Annotated[
        int | None,
        typer.Option(help="Images a day with each hidden model for a client without its own limit; by default 2000."),
    ] = None,
    precision: Annotated[
        float | None, typer.Option(callback=require_finite, help="Largest error of a score that plans are made for.")
    ] = None,
    insecure_http: Annotated[
        bool | None,
        typer.Option("--insecure-http", help="Allow plain HTTP beyond loopback, behind a proxy that terminates TLS."),
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM certificate chain.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM private key of the certificate.")] = None,
    record_dir: Annotated[
        Path | None, typer.Option(help="Save all received and sent bodies here: for demonstrations and audits only.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Check the settings, print them as JSON, and end.")] = False,
) -> None:
    """Run the server: it scores encrypted features and keeps sealed images, and holds no key that opens either.

    Example: `he-infer serve pneumonia.server.hebundle --data-dir /var/lib/he-infer --port 8443`

    Every option may also stand in a TOML file (`--config`) or in the environment as HE_INFER_SERVER_<NAME>.
    """
    from he_infer.server.settings import load_settings
    from he_infer.server.stop_signals import hold_back
    from he_infer.terminal import require_packages

    require_packages("server", ("fastapi", "uvicorn", "sqlalchemy", "alembic", "obstore", "structlog", "tenseal"))
    settings = load_settings(
        config,
        bundles=tuple(bundles) if bundles else None,
        data_dir=data_dir,
        host=host,
        port=port,
        reuse_port=reuse_port,
        port_file=port_file,
        token_file=token_file,
        database_url=database_url,
        blob_url=blob_url,
        engine=engine,
        code_dir=code_dir,
        workers=workers,
        batches=tuple(batch) if batch else None,
        hidden_daily_queries=hidden_daily_queries,
        precision=precision,
        insecure_http=insecure_http,
        tls_cert=tls_cert,
        tls_key=tls_key,
        record_dir=record_dir,
    )
    if check:
        typer.echo(settings.model_dump_json(indent=2))
        return
    # A fresh interpreter in the same process: nothing that the command line loaded is in the server's memory, and its
    # workers are forked from something that never saw more than the server's own packages.
    environment = {
        # Buffers of a request (some hundred kB) come from the heap and go back to it. Either threshold, set alone,
        # freezes glibc's other one at 128 KiB, and each buffer is then mapped, zeroed by the kernel and unmapped.
        "MALLOC_ARENA_MAX": "2",
        "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
        "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
        **os.environ,
        "HE_INFER_SERVE": settings.model_dump_json(),
    }
    hold_back()  # a signal between the two programs waits for the server's own handlers
    os.execve(sys.executable, [sys.executable, "-m", "he_infer.server"], environment)  # noqa: S606 - no shell is the point
