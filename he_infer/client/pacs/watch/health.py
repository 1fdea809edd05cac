"""`/healthz` on loopback: tells monitoring on the same machine whether watcher, archive and server work."""

import json
import threading
from collections.abc import Callable
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from he_infer.client.pacs.watch.watcher import Status

HEALTHY = ("starting", "working", "watching")
_HOSTS = ("127.0.0.1", "localhost")


class Health:
    """Serves the status on 127.0.0.1 while open: 200 if all is well, 503 while archive or server do not answer.

    Args:
        port: TCP port; 0 for any free port.
        status: called at each request for the present status.

    Raises:
        OSError: the port is in use.
    """

    def __init__(self, port: int, status: Callable[[], Status]) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = 5.0

            def do_GET(self) -> None:
                host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
                if host not in _HOSTS:  # DNS rebinding by a page in a browser
                    self.send_error(403, "Ask 127.0.0.1 or localhost")
                elif self.path != "/healthz":
                    self.send_error(404)
                else:
                    now = status()
                    body = json.dumps(asdict(now)).encode()
                    self.send_response(200 if now.state in HEALTHY else 503)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(body)))
                    self.send_header("Cache-Control", "no-store")
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Log nothing: monitoring asks every few seconds."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True, name="healthz").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
