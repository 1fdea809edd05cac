"""Loads the native engine's machine code into the fork server, so that all workers share its memory.

Loaded by the fork server, which has read the folder's name from its environment. Where the code cannot be loaded, each
worker notices that by itself and reports it.
"""

import os
from pathlib import Path

from he_infer.errors import HeInferError
from he_infer.server.workers.clean_environment import CODE_VARIABLE


def load_named() -> None:
    """Load the machine code of the folder that the environment names, where it names one."""
    folder = os.environ.get(CODE_VARIABLE)
    if folder is None:
        return
    try:
        from he_infer.ckks.engines.native.code_cache import leave_scipy_out, load_kernels

        leave_scipy_out()
        load_kernels(Path(folder))
    except (ImportError, HeInferError, OSError):
        return


load_named()
