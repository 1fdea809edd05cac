"""Facts about this machine that several parts ask for."""

import os


def usable_cores() -> int:
    """Number of processor cores that this process may use, at least 1.

    Linux lets an administrator bind a process to some of the cores; macOS and Windows have no such call.
    """
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)
