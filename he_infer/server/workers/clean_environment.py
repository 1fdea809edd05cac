"""Restarts the fork server with an environment that holds only what Python and its libraries need.

Loaded first by the fork server. The server's own environment may hold the passwords of the database and of the object
store; a worker must not find them, not even in `/proc/self/environ`, which only a new program image clears.
"""

import os
import sys

CODE_VARIABLE = "HE_INFER_NATIVE_CODE"
"""Names the folder of the native engine's machine code to the fork server, see `native_code`."""

_NAMES = frozenset(
    {"PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "XDG_CACHE_HOME"}
    | {CODE_VARIABLE}
)
_PREFIXES = ("LC_", "PYTHON", "OMP_", "OPENBLAS_", "MKL_", "MALLOC_", "NUMBA_")


def is_needed(name: str) -> bool:
    """Tell whether a variable of this name may reach a worker."""
    return name in _NAMES or name.startswith(_PREFIXES)


def begin_again() -> None:
    """Execute this program again with a clean environment, where it is a fork server without one."""
    if not any("multiprocessing.forkserver" in argument for argument in sys.orig_argv):
        return
    if all(map(is_needed, os.environ)):
        return
    kept = {name: value for name, value in os.environ.items() if is_needed(name)}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], kept)  # noqa: S606 - the same program, no shell


begin_again()
