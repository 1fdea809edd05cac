"""Runs the web server of the page on loopback until it is interrupted."""

import socket
import sys
import threading
from collections.abc import Callable

import uvicorn

from he_infer.client.console.access import Access
from he_infer.client.console.app import Console
from he_infer.client.console.office import Office


def serve(office: Office, port: int, say: Callable[[str], None]) -> None:
    """Serve the page. Shows the login link, and a new link for every line on standard input.

    Args:
        office: the page's state, locked or open.
        port: TCP port; 0 for any free port.
        say: shows a line in the terminal.

    Raises:
        OSError: the port is taken.
    """
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen()  # a browser that is faster than the server waits, and is not refused
        access = Access(int(listening.getsockname()[1]))
        console = Console(office, access)
        say(access.new_link())

        def new_links() -> None:
            for _ in sys.stdin:
                say(access.new_link())

        threading.Thread(target=new_links, daemon=True).start()
        config = uvicorn.Config(console.app, log_level="warning", access_log=False, server_header=False, ws="none")
        try:
            uvicorn.Server(config).run([listening])
        finally:
            office.lock()
