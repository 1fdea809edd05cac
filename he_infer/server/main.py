"""Runs the server process: import guard, settings, service, uvicorn. `he-infer serve` becomes this process."""

import datetime
import gc
import json
import os
import resource
import socket
import ssl
import sys
from pathlib import Path

import structlog
import uvicorn
from cryptography import x509

from he_infer.errors import HeInferError, UsageError
from he_infer.files import write_text
from he_infer.server.evidence.telemetry import configure_logging
from he_infer.server.http.admission import Admission
from he_infer.server.http.app import build_app
from he_infer.server.http.connections import bounded
from he_infer.server.http.overload import Overload
from he_infer.server.service import Service
from he_infer.server.settings import ServerSettings
from he_infer.server.stop_signals import StopSignals
from he_infer.server.workers import import_guard
from he_infer.wire.refusals import Refused

EXPIRY_DAYS = 30
"""Days before a certificate's end from which the server warns."""
SETTINGS_VARIABLE = "HE_INFER_SERVE"


class _Server(uvicorn.Server):
    """A uvicorn server that prints a line when it is ready."""

    def __init__(self, config: uvicorn.Config, settings: ServerSettings, address: str, port: int) -> None:
        super().__init__(config)
        self.was_ready = False
        self.failure: OSError | None = None
        self._settings = settings
        self._address = address
        self._port = port

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        try:
            if self._settings.port_file is not None and not self.should_exit:
                write_text(self._settings.port_file, f"{self._port}\n")
        except OSError as error:
            self.failure = error
            self.should_exit = True
        if self.should_exit:
            await self.shutdown(sockets)  # uvicorn would leave the application as it is
            return
        sys.stdout.write(f"he-infer server ready on {self._address}\n")
        sys.stdout.flush()
        self.was_ready = True

    def finish(self) -> None:
        """End the server once it has answered what it accepted."""
        self.should_exit = True


def main(stop: StopSignals | None = None) -> None:
    """Run the server with the settings that stand as JSON in the environment; exits 0 after a graceful stop."""
    if stop is None:
        stop = StopSignals()
        stop.install()
    import_guard.install()
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    os.umask(0o077)
    configure_logging()
    try:
        serve(ServerSettings(**json.loads(os.environ[SETTINGS_VARIABLE])), stop)
    except (HeInferError, Refused) as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.strerror or error}{f': {error.filename}' if error.filename else ''}")


def serve(settings: ServerSettings, stop: StopSignals) -> None:
    """Serve until SIGTERM or SIGINT. Whatever was started has ended when this returns or raises.

    Raises:
        HeInferError, OSError, Refused: the server cannot start; the message says why.
        SystemExit: a signal came before the server was ready.
    """
    if settings.tls_cert is not None and settings.tls_key is not None:
        check_certificate(settings.tls_cert, settings.tls_key)
        warn_of_expiry(settings.tls_cert)
    if settings.port_file is not None and not settings.port_file.parent.is_dir():
        raise UsageError(f"{settings.port_file}: its folder does not exist. Make it first.")
    with listen(settings.host, settings.port, reuse_port=settings.reuse_port) as listener:
        forget_port(settings)  # of a server that was killed: whoever waits for the file must not read an old port
        service = Service(settings)
        try:
            stop.check()
            _run(settings, service, listener, stop)
        finally:
            service.stop()
            if not settings.reuse_port:  # the file may be that of the server that takes over
                forget_port(settings)


def forget_port(settings: ServerSettings) -> None:
    """Remove the port file, where there is one.

    Raises:
        OSError: it is a folder, or may not be removed.
    """
    if settings.port_file is not None:
        settings.port_file.unlink(missing_ok=True)


def _run(settings: ServerSettings, service: Service, listener: socket.socket, stop: StopSignals) -> None:
    port = int(listener.getsockname()[1])
    log = structlog.get_logger("he_infer.server")
    log.info("audit", head=service.audit.head())
    raise_descriptor_limit()
    if settings.record_dir is not None:
        log.warning("recording", note="all bodies are saved; this is an aid for demonstrations and audits")
    admission = Admission(service)
    config = uvicorn.Config(
        build_app(service, admission),
        log_config=None,
        access_log=False,
        server_header=False,
        loop="asyncio",
        http=bounded(settings.head_seconds, settings.read_seconds, Overload(service.exchanges, admission).enter),
        ws="none",  # an installed library would answer web sockets past all bounds
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        lifespan="on",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )
    scheme = "https" if settings.tls_cert else "http"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    # What the server is made of lives as long as it does: no collection needs to look at it again.
    gc.collect()
    gc.freeze()
    server = _Server(config, settings, f"{scheme}://{host}:{port}", port)
    # uvicorn handles the signals itself while it runs; before and after that, this handler passes them on to it.
    stop.call_instead(server.finish)
    server.run(sockets=[listener])
    if server.failure is not None:
        raise server.failure
    if not server.was_ready:
        raise SystemExit("error: stopped before the server was ready.")


def listen(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """Bind before anything is started, so that a taken port costs nothing.

    With `reuse_port` the kernel shares new connections out among all processes that listen so on the port.

    Raises:
        UsageError: the address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio turns Nagle's algorithm off; without, a small answer waits 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        listener.close()
        problem = (error.strerror if isinstance(error, OSError) else None) or error
        raise UsageError(
            f"Cannot listen on {host} port {port}: {problem}. Choose another port, or 0 for a free one."
        ) from error
    return listener


def raise_descriptor_limit() -> None:
    """Take as many descriptors as the system allows: each waiting connection needs one. Workers bound their own."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def check_certificate(certificate: Path, key: Path) -> None:
    """Load the certificate and its key once, so that a wrong file is named before anything is started.

    Raises:
        UsageError: they are not PEM files, or do not belong together.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except FileNotFoundError as error:
        missing = certificate if not certificate.exists() else key
        raise UsageError(f"{missing} does not exist; expected a PEM file.") from error
    except OSError as error:
        if isinstance(error, ssl.SSLError):
            raise UsageError(
                f"{certificate} and {key} are not a PEM certificate and its private key: {error.reason or error}."
            ) from error
        raise UsageError(f"{certificate} or {key} cannot be read: {error.strerror}. Expected PEM files.") from error


def warn_of_expiry(certificate: Path) -> None:
    """Log a warning where clients refuse the certificate, or will do so soon."""
    try:
        chain = x509.load_pem_x509_certificates(certificate.read_bytes())
    except (OSError, ValueError):  # OpenSSL has accepted it, and its word counts
        return
    ends = min(each.not_valid_after_utc for each in chain)
    left = ends - datetime.datetime.now(datetime.UTC)
    if left < datetime.timedelta(days=EXPIRY_DAYS):
        note = "clients refuse it" if left < datetime.timedelta() else f"clients will refuse it in {left.days} days"
        structlog.get_logger("he_infer.server").warning(
            "certificate", note=f"{note}: renew {certificate}, and restart the server", ends=ends.isoformat()
        )
