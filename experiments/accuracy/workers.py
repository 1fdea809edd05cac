"""Worker processes: they ignore Ctrl-C, use one thread each, and end with their parent."""

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any


def start_manager() -> None:
    """In a child process: ignore Ctrl-C, and end with the parent.

    Ctrl-C goes to every process of a terminal; the parent decides what happens to its workers. If the parent is killed,
    they must not go on unnoticed.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()


def start_worker() -> None:
    """Start a worker that trains: `attend`, and one thread for torch, since several processes share the cores."""
    import torch

    start_manager()
    torch.set_num_threads(1)


def stop_pool(pool: Any) -> None:
    """End a `pebble.ProcessPool` at once, without waiting for its workers."""
    end: Callable[[], None] = pool.stop
    end()
    pool.join()


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
